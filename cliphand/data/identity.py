"""What belongs together: a run and its data, as hashes, and labels and the hand whose mesh they hold.

Labels count byte by byte. Images, masks and layers count by number and size in bytes: reading 130,000 photographs
would take minutes at every start, and other photographs practically never have the same sizes.
"""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from cliphand.camera import MM_PER_M
from cliphand.data.freihand import FreiHand
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
    fields = {field: sha256_of(data.label_path(field)) for field in FIELD_SHAPES if getattr(data, field) is not None}
    images = _sizes_sha256(data.image_path(index) for index in range(len(data)))
    masks = {"masks": _sizes_sha256(_masks(data))} if data.has_masks else {}
    layers = {"layers": _sizes_sha256(data.layers.files())} if data.layers is not None else {}
    return {**fields, "images": images, **masks, **layers, HAND: topology_sha256(topology)}


def refuse_other_data(before: object, now: Mapping[str, str], *, run: Path) -> None:
    """Refuse to go on with a run on other data or another hand.

    Args:
        before: what `data_identity` gave when the run began, as its JSON file holds it.
        now: what it gives now.
        run: the run folder, named in errors.

    Raises:
        InputError: they differ, or the run has no record of its data.
    """
    if not isinstance(before, Mapping):
        raise InputError(
            f"{run} does not say which data it began with, so it cannot be told whether these are the same; "
            "start again in a new folder."
        )
    other = [name for name in {**now, **before} if before.get(name) != now.get(name)]
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
