"""Prediction files as the FreiHAND benchmark takes them: `[xyz, verts]` in metres, one entry per image.

Source: Zimmermann et al. 2019, FreiHAND, `pred.py` of its public toolbox. `verts` may be an empty list here.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cliphand.arrays import FloatArray
from cliphand.data.plausible import EXTENT_M
from cliphand.errors import InputError
from cliphand.files import json_fault, require_file, short_integer, whole_file
from cliphand.hand import N_JOINTS, N_VERTICES

MAX_EXTENT_M = 3.0  # between ten hands in metres and the smallest hand in centimetres


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """What a model says of N images, in their order.

    Attributes:
        xyz: (N, 21, 3) joints, metres, camera frame.
        verts: (N, 778, 3) vertices, metres, camera frame, or None.
    """

    xyz: FloatArray
    verts: FloatArray | None


def read_predictions(path: Path) -> Predictions:
    """Read and check a prediction file.

    Raises:
        InputError: the file is missing or is not `[xyz, verts]`, the counts differ, or an entry has a wrong shape or
            value; the sentence names file, field and entry.
    """
    require_file(path, advice="give a prediction file")
    try:
        value = json.loads(path.read_bytes(), parse_int=short_integer)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); give a prediction file.") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not readable as JSON ({json_fault(error)}); write it again.") from None
    if not isinstance(value, list) or len(value) != 2 or not all(isinstance(field, list) for field in value):
        raise InputError(f"{path} is not a JSON list [xyz, verts] of two lists; write it in that form.")
    xyz_entries, verts_entries = value
    if not xyz_entries:
        raise InputError(f"{path}: field 'xyz' has no entries; it needs one per image.")
    if verts_entries and len(verts_entries) != len(xyz_entries):
        raise InputError(
            f"{path}: field 'verts' has {len(verts_entries)} entries but 'xyz' has {len(xyz_entries)}; "
            "'verts' must have as many or none."
        )
    xyz = np.stack(list(_points(path, "xyz", xyz_entries, N_JOINTS)))
    verts = np.stack(list(_points(path, "verts", verts_entries, N_VERTICES))) if verts_entries else None
    return Predictions(xyz, verts)


def doubt_about_unit(xyz: FloatArray) -> str | None:
    """What the size of predicted hands says of their unit; alignment hides a wrong one from every aligned figure.

    Args:
        xyz: (N, 21, 3).

    Returns:
        A sentence where the median hand's extent is none that a hand can have, else None.

    Raises:
        InputError: hands of more than MAX_EXTENT_M, which are in another unit than metres.
    """
    extent_m = float(np.median(np.linalg.norm(np.ptp(xyz, axis=1), axis=-1)))
    low, high = EXTENT_M
    if extent_m > MAX_EXTENT_M:
        raise InputError(
            f"the predicted hands measure {extent_m:.4g} m (median); predictions must be in metres: divide millimetres "
            "by 1000."
        )
    if low <= extent_m <= high:
        return None
    return f"the predicted hands measure {extent_m:.4g} m (median), where hands have {low:g} to {high:g} m"


def write_predictions(path: Path, xyz: FloatArray, verts: FloatArray | None = None) -> None:
    """Write a prediction file, atomically, image by image: the text of a whole test set takes 200 MB.

    Args:
        path: the file.
        xyz: (N, 21, 3) joints, metres, camera frame.
        verts: (N, 778, 3) vertices, metres, camera frame; None writes an empty list.

    Raises:
        ValueError: the shapes are not (N, 21, 3) and (N, 778, 3), or a number is not finite.
    """
    if xyz.shape != (len(xyz), N_JOINTS, 3) or (verts is not None and verts.shape != (len(xyz), N_VERTICES, 3)):
        raise ValueError(f"xyz is {xyz.shape}, verts is {None if verts is None else verts.shape}.")
    with whole_file(path, None) as temporary, temporary.open("w") as stream:
        stream.write("[[")
        stream.writelines(_json_entries(xyz))
        stream.write("], [")
        stream.writelines(_json_entries(() if verts is None else verts))
        stream.write("]]\n")


def _json_entries(entries: FloatArray | tuple[()]) -> Iterator[str]:
    for index, entry in enumerate(entries):
        yield (", " if index else "") + json.dumps(entry.tolist(), allow_nan=False)


def _points(path: Path, field: str, entries: list[object], n_points: int) -> Iterator[FloatArray]:
    """Each entry as (n_points, 3), checked."""
    for index, entry in enumerate(entries):
        where = f"{path}: field '{field}', entry {index}"
        try:
            points = np.asarray(entry)
        except ValueError:
            raise InputError(f"{where} has rows of unequal length; it must be ({n_points}, 3) numbers.") from None
        if points.shape != (n_points, 3):
            raise InputError(f"{where} has the shape {points.shape}; it must be ({n_points}, 3).")
        if points.dtype.kind not in "iuf":
            raise InputError(f"{where} holds something else than numbers; it must be ({n_points}, 3) numbers.")
        if not np.isfinite(points).all():
            raise InputError(f"{where} holds NaN or infinity; every coordinate must be finite.")
        yield points.astype(np.float64)
