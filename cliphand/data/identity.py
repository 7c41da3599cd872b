"""Which data a run was trained on, as hashes: a run that goes on with other data is another run.

Labels count byte by byte. Images and masks count by number and size in bytes: reading 130,000 photographs would take
minutes at every start, and other photographs practically never have the same sizes.
"""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from cliphand.data.freihand import FreiHand
from cliphand.data.label_file import FIELD_SHAPES
from cliphand.errors import InputError
from cliphand.files import sha256_of
from cliphand.hand import HandTopology, topology_sha256

HAND = "hand"


def data_identity(data: FreiHand, topology: HandTopology) -> dict[str, str]:
    """What a run's results depend on beside its configs, as JSON values.

    Args:
        data: an open split.
        topology: of the mesh in its labels.

    Returns:
        SHA-256 of the file of each label field that is there, of the images' and the masks' sizes, and of the hand.

    Raises:
        InputError: a file cannot be read any more.
    """
    fields = {field: sha256_of(data.label_path(field)) for field in FIELD_SHAPES if getattr(data, field) is not None}
    images = _sizes_sha256(data.image_path(index) for index in range(len(data)))
    masks = {"masks": _sizes_sha256(_masks(data))} if data.has_masks else {}
    return {**fields, "images": images, **masks, HAND: topology_sha256(topology)}


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
