"""Folders in FreiHAND's layout (version 2).

`<root>/{training,evaluation}/rgb/%08d.jpg`, `<split>/mask/%08d.jpg` and `<split>_{K,xyz,verts,scale}.json`. Image
`i` carries the labels of `i % n_labels`: the training set shows each sample in up to 4 versions of its background.

Source: Zimmermann et al. 2019, FreiHAND, and its public toolbox.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from cliphand.arrays import BoolArray, FloatArray, IntArray
from cliphand.data.label_file import FIELD_SHAPES, read_labels
from cliphand.data.layers.scenery import LayerFolder, open_layers
from cliphand.data.layers.store import FOLDER
from cliphand.data.photograph import image_size
from cliphand.data.plausible import PROJECTION, Fault, Labels, check_plausible, implausible, read_allowed
from cliphand.data.synthetic.record import refuse_lost_layers, refuse_unfinished
from cliphand.errors import InputError
from cliphand.files import require_folder

Split = Literal["training", "evaluation"]
SPLITS: tuple[Split, ...] = ("training", "evaluation")
MAX_VERSIONS = 4
MIN_INSIDE = 0.75  # share of a split's joints in their images: all in FreiHAND's, Ge's and RHD's samples measured
SHAPES_SEEN = 16  # images whose size is compared with their labels whenever a split is opened
REQUIRED_FIELDS: dict[Split, tuple[str, ...]] = {"training": ("K", "xyz"), "evaluation": ("K",)}
_IMAGE_NAME = re.compile(r"(\d{8})\.jpg")


@dataclass(frozen=True, slots=True, eq=False)
class FreiHand:
    """One split of a FreiHAND-format folder: its labels, and the places of its files.

    Attributes:
        root: the folder.
        split: `training` or `evaluation`.
        n_labels: unique samples N.
        n_versions: images per sample.
        K: (N, 3, 3) camera frame to source pixels.
        xyz: (N, 21, 3) joints, metres, camera frame.
        verts: (N, 778, 3) vertices, metres, camera frame.
        scale: (N,) length of bone 9-10 in metres.
        has_masks: whether there is a hand mask for every sample.
        layers: what its training views are composed from, where the hands were rendered in layers.
    """

    root: Path
    split: Split
    n_labels: int
    n_versions: int
    K: FloatArray
    xyz: FloatArray | None
    verts: FloatArray | None
    scale: FloatArray | None
    has_masks: bool = False
    layers: LayerFolder | None = None

    def __len__(self) -> int:
        """The number of images."""
        return self.n_labels * self.n_versions

    def image_path(self, index: int) -> Path:
        """The file of image `index`."""
        return self.root / self.split / "rgb" / f"{index:08d}.jpg"

    def mask_path(self, index: int) -> Path | None:
        """The hand mask of image `index`: one file serves all versions of a sample."""
        return self.root / self.split / "mask" / f"{self.label_index(index):08d}.jpg" if self.has_masks else None

    def label_path(self, field: str) -> Path:
        """The file that holds, or would hold, a field's labels."""
        return label_path(self.root, self.split, field)

    def label_index(self, index: int) -> int:
        """The sample that image `index` shows."""
        return index % self.n_labels

    def joints_uv(self, label: int) -> FloatArray | None:
        """The joints of one sample in source pixels, (21, 2), or None where the split has no joints."""
        if self.xyz is None:
            return None
        homogeneous = self.xyz[label] @ self.K[label].T
        return np.asarray(homogeneous[:, :2] / homogeneous[:, 2:])

    def image_indices(self, labels: Sequence[int] | IntArray) -> IntArray:
        """The images of the given samples, in all versions, version by version."""
        versions = self.n_labels * np.arange(self.n_versions, dtype=np.int64)
        return (versions[:, None] + np.asarray(labels, np.int64)).ravel()


def label_path(root: Path, split: Split, field: str) -> Path:
    """`<root>/<split>_<field>.json`."""
    return root / f"{split}_{field}.json"


def require_split(root: Path, split: Split, *, also: Sequence[str] = ()) -> None:
    """Refuse a folder that holds no such split; a look at the names alone, before anything that takes long.

    Args:
        root: the folder.
        split: `training` or `evaluation`.
        also: fields of labels that are needed beside those of every such split.

    Raises:
        InputError: the folder, a file of labels, or the layers of a set that was rendered in layers is missing, or the
            set is still in the making.
    """
    require_folder(root, advice="give a folder in FreiHAND's layout")
    refuse_unfinished(root)
    for field in (*REQUIRED_FIELDS[split], *also):
        path = label_path(root, split, field)
        if not path.exists():
            raise InputError(
                f"{path} does not exist; the {split} split needs the field '{field}': give a folder in FreiHAND's "
                "layout."
            )
    if split == "training":
        refuse_lost_layers(root, root / split / FOLDER)


def open_freihand(root: Path, split: Split) -> FreiHand:
    """Read and check the labels of a split and count its images; of some images the header is read, none is decoded.

    Args:
        root: the folder that holds `<split>/rgb` and `<split>_K.json`.
        split: `training` or `evaluation`.

    Raises:
        InputError: a file is missing, a label is wrong or cannot be a right hand's in metres, or the counts do not
            fit; the sentence names the file and field, or the folder and counts.
    """
    require_split(root, split)
    labels = {field: _read_field(root, split, field) for field in FIELD_SHAPES}
    K = labels["K"]
    assert K is not None  # noqa: S101  # a required field
    n_labels = len(K)
    for field, array in labels.items():
        if array is not None and len(array) != n_labels:
            raise InputError(
                f"{label_path(root, split, field)}: field '{field}' has {len(array)} entries but "
                f"{label_path(root, split, 'K').name} has {n_labels}; both need one per sample."
            )
    check_plausible(
        Labels(labels["xyz"], labels["verts"], labels["scale"]),
        root=root,
        place=lambda field: label_path(root, split, field),
    )
    data = FreiHand(
        root=root,
        split=split,
        n_labels=n_labels,
        n_versions=_count_versions(root / split / "rgb", n_labels),
        K=K,
        xyz=labels["xyz"],
        verts=labels["verts"],
        scale=labels["scale"],
        has_masks=_has_masks(root / split / "mask", n_labels),
        layers=open_layers(root, split, n_labels),
    )
    if data.xyz is not None and PROJECTION not in read_allowed(root):
        for label in np.unique(np.linspace(0, n_labels - 1, SHAPES_SEEN).round().astype(int)).tolist():
            refuse_outside(data, label, image_size(data.image_path(label)))
    return data


def refuse_outside(data: FreiHand, index: int, image_shape: tuple[int, int]) -> None:
    """Refuse labels whose hand is nowhere in its image.

    Args:
        data: a split with joints.
        index: of the image.
        image_shape: its height and width.

    Raises:
        InputError: no joint projects into it.
    """
    label = data.label_index(index)
    uv = data.joints_uv(label)
    if uv is None or inside(uv, image_shape).any():
        return
    u, v = uv.mean(axis=0)
    height, width = image_shape
    fault = Fault(
        "K",
        np.array([label]),
        f"projects the hand to pixel ({u:.0f}, {v:.0f}), outside of its image {data.image_path(index).name} of "
        f"{width} x {height} pixels; K must belong to the images as they are stored",
    )
    raise implausible(PROJECTION, fault, root=data.root, path=data.label_path("K"))


def refuse_few_inside(data: FreiHand, share: float) -> None:
    """Refuse a split too few of whose joints project into their images: its camera is of other pixels.

    Args:
        data: a split with joints.
        share: of them that fall inside.

    Raises:
        InputError: it is less than MIN_INSIDE.
    """
    if share >= MIN_INSIDE:
        return
    fault = Fault(
        "K",
        np.array([0]),
        f"and the others project only {100 * share:.0f} % of the joints into their images, where at least "
        f"{100 * MIN_INSIDE:.0f} % are expected; K must belong to the images as they are stored",
    )
    raise implausible(PROJECTION, fault, root=data.root, path=data.label_path("K"))


def inside(uv: FloatArray, image_shape: tuple[int, int]) -> BoolArray:
    """Which points (..., 2) lie on a pixel of an image of this height and width."""
    height, width = image_shape
    return np.asarray(((uv >= -0.5) & (uv < (width - 0.5, height - 0.5))).all(axis=-1))


def validation_split(n_labels: int, fraction: float, seed: int) -> tuple[IntArray, IntArray]:
    """Hold out a random share of the unique samples, with all their versions.

    Args:
        n_labels: unique samples.
        fraction: share to hold out, in [0, 1); more than 0 holds out at least one sample.
        seed: the same seed gives the same split.

    Returns:
        Sorted sample indices for training and for validation, without overlap.

    Raises:
        InputError: the fraction is out of range or leaves no sample for training.
    """
    if not 0 <= fraction < 1:
        raise InputError(f"the validation fraction is {fraction}; valid are 0 up to, not including, 1.")
    held_out = max(round(n_labels * fraction), 1) if fraction > 0 else 0
    if held_out >= n_labels:
        raise InputError(f"a validation fraction of {fraction} leaves none of {n_labels} samples for training.")
    order = np.random.default_rng(seed).permutation(n_labels)
    return np.sort(order[held_out:]), np.sort(order[:held_out])


def _read_field(root: Path, split: Split, field: str) -> FloatArray | None:
    path = label_path(root, split, field)
    return read_labels(path, field) if path.exists() else None


def _count_versions(folder: Path, n_labels: int) -> int:
    n_images = _count_numbered(folder)
    versions, rest = divmod(n_images, n_labels)
    if rest or not 1 <= versions <= MAX_VERSIONS:
        raise InputError(
            f"{folder} holds {n_images} images for {n_labels} labels; it must hold 1 to {MAX_VERSIONS} times as many "
            "images as labels."
        )
    return versions


def _has_masks(folder: Path, n_labels: int) -> bool:
    if not folder.is_dir():
        return False
    n_masks = _count_numbered(folder)
    if n_masks != n_labels:
        raise InputError(f"{folder} holds {n_masks} masks for {n_labels} labels; it must hold one for each label.")
    return True


def _count_numbered(folder: Path) -> int:
    """How many files 00000000.jpg, 00000001.jpg, ... a folder holds; a gap or another JPEG name is an error."""
    require_folder(folder, advice="it must hold the images 00000000.jpg, 00000001.jpg, ...")
    names = os.listdir(folder)  # noqa: PTH208  # 130,240 names: no Path for each
    matches = {name: _IMAGE_NAME.fullmatch(name) for name in names if name.lower().endswith((".jpg", ".jpeg"))}
    strange = sorted(name for name, match in matches.items() if match is None and not name.startswith("."))
    if strange:
        raise InputError(f"{folder} holds {strange[0]}; its images must be named 00000000.jpg, 00000001.jpg, ...")
    numbers = sorted(int(match[1]) for match in matches.values() if match)
    for expected, number in enumerate(numbers):
        if number != expected:
            raise InputError(
                f"{folder} holds {len(numbers)} images but no {expected:08d}.jpg; they must be numbered from 0 "
                "without a gap."
            )
    return len(numbers)
