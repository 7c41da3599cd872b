"""What belongs together: a run and its data, as hashes, and labels and the hand whose mesh they hold.

Labels count byte by byte. Images, masks and layers count by number and size in bytes: reading 130,000 photographs
would take minutes at every start, and other photographs practically never have the same sizes.
"""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from cliphand.camera import MM_PER_M
from cliphand.data.freihand import FreiHand, Split, label_path
from cliphand.data.label_file import FIELD_SHAPES
from cliphand.data.plausible import HAND, read_allowed
from cliphand.errors import InputError
from cliphand.files import sha256_of
from cliphand.hand import HandTopology, topology_sha256

LABELS_SEEN = 64
# FreiHAND's joints lie up to 3 mm from those of its meshes; fingertips alone differ by 10 mm between conventions.
MAX_APART_MM = 10.0


def data_identity(data: FreiHand, topology: HandTopology) -> dict[str, str]:
    """What a run's results depend on beside its configs, as JSON values.

    Args:
        data: an open split.
        topology: of the mesh in its labels.

    Returns:
        SHA-256 of the file of each label field that is there, of the sizes of images, masks and layers, and of the
        hand.

    Raises:
        InputError: a file cannot be read any more.
    """
    images = _sizes_sha256(data.image_path(index) for index in range(len(data)))
    masks = {"masks": _sizes_sha256(_masks(data))} if data.has_masks else {}
    layers = {"layers": _sizes_sha256(data.layers.files())} if data.layers is not None else {}
    return {**label_identity(data.root, data.split), "images": images, **masks, **layers, **hand_identity(topology)}


def label_identity(root: Path, split: Split) -> dict[str, str]:
    """The part of `data_identity` that is in labels: known within a moment, because none is parsed."""
    paths = {field: label_path(root, split, field) for field in FIELD_SHAPES}
    return {field: sha256_of(path) for field, path in paths.items() if path.exists()}


def hand_identity(topology: HandTopology) -> dict[str, str]:
    """The part of `data_identity` that is the hand."""
    return {HAND: topology_sha256(topology)}


def refuse_other_data(before: object, now: Mapping[str, str], *, run: Path, whole: bool = True) -> None:
    """Refuse to go on with a run on other data or another hand.

    Args:
        before: what `data_identity` gave when the run began, as its JSON file holds it.
        now: what it gives now, or a part of that.
        run: the run folder, named in errors.
        whole: whether what is not in `now` differs.

    Raises:
        InputError: they differ, or the run has no record of its data.
    """
    if not isinstance(before, Mapping):
        raise InputError(
            f"{run} does not say which data it began with, so it cannot be told whether these are the same; "
            "start again in a new folder."
        )
    names = {**now, **before} if whole else now
    other = [name for name in names if before.get(name) != now.get(name)]
    if other:
        what = "another hand.npz" if other == [HAND] else f"other data ({', '.join(other)} differ)"
        raise InputError(
            f"{run} was started with {what}; resume with what it was started with, or start a new run in another "
            "folder."
        )


def refuse_other_hand(data: FreiHand, topology: HandTopology, *, source: Path | str) -> None:
    """Refuse a hand whose joint regressor does not find the labels' joints in the labels' vertices.

    Args:
        data: an open split; without joints and vertices nothing can be told.
        topology: the hand.
        source: its file, or what it is, named in errors.

    Raises:
        InputError: they differ by far more than datasets' own conventions do, and the folder does not allow it.
    """
    if data.xyz is None or data.verts is None or HAND in read_allowed(data.root):
        return
    seen = np.unique(np.linspace(0, data.n_labels - 1, LABELS_SEEN).round().astype(int))
    apart = np.linalg.norm(topology.joint_regressor @ data.verts[seen] - data.xyz[seen], axis=-1)
    apart_mm = MM_PER_M * float(np.median(apart.mean(axis=-1)))
    if apart_mm > MAX_APART_MM:
        raise InputError(
            f"{source} is not the hand of these labels: the joints that it finds in {data.label_path('verts')} lie "
            f"{apart_mm:.1f} mm from those of {data.label_path('xyz').name}, where {MAX_APART_MM:g} mm are allowed; "
            f"give the hand.npz of this data. If it is meant so: cliphand data allow {data.root} {HAND}"
        )


def _masks(data: FreiHand) -> Iterator[Path]:
    for label in range(data.n_labels):
        path = data.mask_path(label)
        if path is not None:
            yield path


def _sizes_sha256(paths: Iterator[Path]) -> str:
    whole = hashlib.sha256()
    for path in paths:
        try:
            whole.update(f"{path.name} {path.stat().st_size}\n".encode())
        except OSError as error:
            raise InputError(f"{path} cannot be read ({error.strerror}); repair the data.") from None
    return whole.hexdigest()
