"""Whether labels can be those of right hands in metres: told from their numbers, whenever a data set is opened.

What fails is refused, unless `plausibility.json` in the data folder allows that check by name. The exception belongs to
the data, so that training, calibration, gate and bench agree on it.

Bounds: measured on FreiHAND, Ge's real photographs, RHD and rendered hands (extent 0.10 to 0.26 m, bone 65 to 117 mm,
joint to mesh up to 24 mm, thumb at least 0.08 bones before the palm), with room for children and large hands.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cliphand.arrays import BoolArray, FloatArray, IntArray
from cliphand.camera import MM_PER_M, root_and_bone
from cliphand.errors import InputError
from cliphand.files import read_json_object, write_json
from cliphand.hand import INDEX_MCP, LITTLE_MCP, MIDDLE_MCP, MIDDLE_PIP, THUMB_PIP, WRIST

ALLOWED_NAME = "plausibility.json"
EXTENT_M = (0.08, 0.35)  # diagonal of the box around the joints
PER_M = {"millimetres": 1000.0, "centimetres": 100.0}
BONE_MM = (40.0, 160.0)
# FreiHAND's versions 1 and 2 differ by 0.6 mm on average; other units or another sample's label by far more.
MAX_SCALE_DIFFERENCE_MM = 5.0
MAX_JOINT_TO_MESH_M = 0.04
MAX_MESH_BEYOND_JOINTS_M = 0.08  # flesh, and the part of the forearm that a mesh may have
MIN_THUMB_BEFORE_PALM = -0.08  # of the bone 0-9; mirrored, every right hand that was measured lies beyond it
STRAY_THUMBS = 1e-3  # share of samples: a label fitted to a hidden thumb may twist it
NEAREST_SAMPLES = 512  # on which distances of all joints to all vertices are computed
BLOCK = 1024  # samples at a time, since 32,560 meshes do not fit into the processor's cache


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """What there is of N samples' labels: joints (N, 21, 3) and vertices (N, 778, 3) in metres, lengths (N,)."""

    xyz: FloatArray | None = None
    verts: FloatArray | None = None
    scale: FloatArray | None = None


class Fault(NamedTuple):
    """What one check found.

    Attributes:
        field: whose file the sentence names.
        samples: indices of what fails, at least one.
        says: of the first of them.
    """

    field: str
    samples: IntArray
    says: str


def check_plausible(labels: Labels, *, root: Path, place: Callable[[str], Path]) -> None:
    """Refuse labels that cannot be right hands in metres.

    Args:
        labels: of one split.
        root: the data folder, whose `plausibility.json` may allow checks to fail.
        place: the file of a field.

    Raises:
        InputError: a check fails that is not allowed to; the sentence names file, sample and the check.
    """
    allowed = read_allowed(root)
    for name, check in CHECKS.items():
        fault = None if name in allowed else check(labels)
        if fault is not None:
            raise implausible(name, fault, root=root, path=place(fault.field))


def implausible(name: str, fault: Fault, *, root: Path, path: Path) -> InputError:
    """The error for what a check found."""
    more = f" ({len(fault.samples) - 1} more samples fail too)" if len(fault.samples) > 1 else ""
    return InputError(
        f"{path}: field '{fault.field}', entry {int(fault.samples[0])} {fault.says}{more}. If the labels are meant so, "
        f"allow it by name: cliphand data allow {root} {name}"
    )


def read_allowed(root: Path) -> tuple[str, ...]:
    """The checks that a data folder allows to fail.

    Raises:
        InputError: its `plausibility.json` is not readable or names no such check.
    """
    path = root / ALLOWED_NAME
    if not path.exists():
        return ()
    names = read_json_object(path).get("allow")
    if not isinstance(names, list) or not set(map(str, names)) <= set(NAMES):
        raise InputError(
            f'{path} must hold {{"allow": [...]}} with names of {", ".join(NAMES)}; write it with '
            "`cliphand data allow`."
        )
    return tuple(names)


def write_allowed(root: Path, names: tuple[str, ...]) -> Path:
    """Allow exactly these checks to fail in a data folder; return the file that says so.

    Raises:
        InputError: a name is no check's, or the file that stands there is no such file.
    """
    unknown = sorted(set(names) - set(NAMES))
    if unknown:
        raise InputError(f"there is no check {unknown[0]!r}; valid are {', '.join(NAMES)}.")
    read_allowed(root)
    write_json(root / ALLOWED_NAME, {"allow": sorted(set(names))}, None)
    return root / ALLOWED_NAME


def _extent(labels: Labels) -> Fault | None:
    if labels.xyz is None:
        return None
    extent_m = np.linalg.norm(np.ptp(labels.xyz, axis=1), axis=-1)
    low, high = EXTENT_M
    return _fault(
        "xyz",
        (extent_m < low) | (extent_m > high),
        lambda i: (
            f"is a hand of {extent_m[i]:.4g} m, where hands measure {low:g} to {high:g} m: labels must be in metres"
            f"{_looks_like(extent_m[i])}"
        ),
    )


def _looks_like(extent: float) -> str:
    """The unit in which a number of this size is a hand's extent, for a sentence; nothing where there is none."""
    low, high = EXTENT_M
    units = (unit for unit, per_m in PER_M.items() if low <= extent / per_m <= high)
    return "".join(f"; these look like {unit}" for unit in units)


def _bone(labels: Labels) -> Fault | None:
    if labels.xyz is None:
        return None
    bone_mm = MM_PER_M * root_and_bone(labels.xyz)[1]
    low, high = BONE_MM
    return _fault(
        "xyz",
        (bone_mm < low) | (bone_mm > high),
        lambda i: (
            f"has a bone 0-9 (wrist to middle MCP) of {bone_mm[i]:.4g} mm, where {low:g} to {high:g} mm are possible: "
            "joints come in FreiHAND's order, in metres"
        ),
    )


def _scale(labels: Labels) -> Fault | None:
    if labels.xyz is None or labels.scale is None:
        return None
    scale_m = labels.scale
    bones_m = np.linalg.norm(labels.xyz[:, MIDDLE_MCP] - labels.xyz[:, MIDDLE_PIP], axis=-1)
    return _fault(
        "scale",
        np.abs(bones_m - scale_m) * MM_PER_M > MAX_SCALE_DIFFERENCE_MM,
        lambda i: (
            f"is {scale_m[i]:.6g} m but joints 9 and 10 of the labels 'xyz' are {bones_m[i]:.6g} m apart; they "
            f"must agree within {MAX_SCALE_DIFFERENCE_MM:g} mm"
        ),
    )


def _agreement(labels: Labels) -> Fault | None:
    """Joints lie in the mesh: all against the mesh's box, some against the nearest vertex."""
    if labels.xyz is None or labels.verts is None:
        return None
    xyz, verts = labels.xyz, labels.verts
    beyond_m, around_m, distance_m = (np.zeros(len(xyz)) for _ in range(3))
    for start in range(0, len(xyz), BLOCK):
        part = slice(start, start + BLOCK)
        joints_low, joints_high = xyz[part].min(axis=1), xyz[part].max(axis=1)
        mesh_low, mesh_high = verts[part].min(axis=1), verts[part].max(axis=1)
        beyond_m[part] = np.maximum(mesh_low - joints_low, joints_high - mesh_high).max(axis=1)
        around_m[part] = np.maximum(joints_low - mesh_low, mesh_high - joints_high).max(axis=1)
    for i in np.unique(np.linspace(0, len(xyz) - 1, NEAREST_SAMPLES).round().astype(int)):
        squared = ((xyz[i][:, None] - verts[i]) ** 2).sum(axis=-1)
        distance_m[i] = np.sqrt(squared.min(axis=1).max())
    apart_m = np.maximum(beyond_m, distance_m)
    return _fault(
        "verts",
        (apart_m > MAX_JOINT_TO_MESH_M) | (around_m > MAX_MESH_BEYOND_JOINTS_M),
        lambda i: (
            f"is a mesh that does not hold its sample's joints: they are up to {max(apart_m[i], around_m[i]):.4g} m "
            "apart; 'xyz' and 'verts' must be of the same sample, in metres, in the camera frame"
        ),
    )


def _chirality(labels: Labels) -> Fault | None:
    """The thumb's second joint lies before the palm's plane, whatever the fingers do."""
    if labels.xyz is None:
        return None
    thumb = thumb_before_palm(labels.xyz)
    left = thumb < MIN_THUMB_BEFORE_PALM
    return _fault(
        "xyz",
        left if left.mean() > STRAY_THUMBS else np.zeros_like(left),
        lambda i: (
            "is a left hand (its thumb lies behind the palm of a right one), or mirrored; the hands of a data set are "
            "right ones: flip left ones, image and labels both"
        ),
    )


def thumb_before_palm(xyz: FloatArray) -> FloatArray:
    """How far the thumb's second joint lies before the plane of wrist, index MCP and little MCP, in bones 0-9.

    Args:
        xyz: (N, 21, 3).

    Returns:
        (N,), positive in right hands.
    """
    wrist = xyz[:, WRIST]
    normal = np.cross(xyz[:, INDEX_MCP] - wrist, xyz[:, LITTLE_MCP] - wrist)
    length = np.linalg.norm(normal, axis=-1) * np.linalg.norm(xyz[:, MIDDLE_MCP] - wrist, axis=-1)
    return np.asarray(((xyz[:, THUMB_PIP] - wrist) * normal).sum(axis=-1) / np.maximum(length, 1e-300))


def _fault(field: str, bad: BoolArray, says: Callable[[int], str]) -> Fault | None:
    samples = np.flatnonzero(bad)
    return Fault(field, samples, says(int(samples[0]))) if samples.size else None


CHECKS: dict[str, Callable[[Labels], Fault | None]] = {
    "extent": _extent,
    "bone": _bone,
    "scale": _scale,
    "agreement": _agreement,
    "chirality": _chirality,
}
PROJECTION = "projection"  # needs the images' sizes
HAND = "hand"  # needs the mesh's topology
NAMES = (*CHECKS, PROJECTION, HAND)
# The label fields that each check compares; where one is absent, it is not made.
NEEDS: dict[str, tuple[str, ...]] = {
    "extent": ("xyz",),
    "bone": ("xyz",),
    "scale": ("xyz", "scale"),
    "agreement": ("xyz", "verts"),
    "chirality": ("xyz",),
    PROJECTION: ("K", "xyz"),
    HAND: ("xyz", "verts"),
}
