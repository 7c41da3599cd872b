"""The hand's joints and the topology of its mesh.

Joint order is FreiHAND's: the wrist, then thumb, index, middle, ring and little finger, each from base to tip
(Zimmermann et al. 2019).
"""

import hashlib
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cliphand.arrays import FloatArray, IntArray
from cliphand.claims import FileKind, mark_archive
from cliphand.errors import InputError
from cliphand.files import require_file, whole_file

HAND_NAME = "hand.npz"  # of the file in a data set and in an export
N_JOINTS = 21
N_VERTICES = 778
N_FACES = 1538
WRIST = 0
THUMB_PIP = 2
INDEX_MCP = 5
MIDDLE_MCP = 9
MIDDLE_PIP = 10
LITTLE_MCP = 17
FINGERS = ("thumb", "index", "middle", "ring", "little")
SEGMENTS = ("MCP", "PIP", "DIP", "fingertip")
JOINT_NAMES = ("wrist", *(f"{finger} {segment}" for finger in FINGERS for segment in SEGMENTS))
PARENTS = (-1, *(0 if joint % 4 == 1 else joint - 1 for joint in range(1, N_JOINTS)))
BONES = tuple((parent, joint) for joint, parent in enumerate(PARENTS) if parent >= 0)


@dataclass(frozen=True, slots=True)
class HandTopology:
    """What a hand mesh needs beside its vertices.

    Attributes:
        faces: (1538, 3) int64, indices into the 778 vertices, counter-clockwise seen from outside; (0, 3) where they
            are not known, as with released weights, which hold none.
        template: (778, 3) float64, metres, the flat hand at rest.
        joint_regressor: (21, 778) float64, rows sum to 1; joints in FreiHAND order = joint_regressor @ vertices.
    """

    faces: IntArray
    template: FloatArray
    joint_regressor: FloatArray


_SHAPES: dict[str, tuple[tuple[int, int], str]] = {
    "faces": ((N_FACES, 3), "iu"),
    "template": ((N_VERTICES, 3), "f"),
    "joint_regressor": ((N_JOINTS, N_VERTICES), "f"),
}
_NO_FACES = (0, 3)
MAX_BYTES = 4 * 2**20  # a hand has 190 kB
_BROKEN = (
    ValueError,
    OSError,
    EOFError,
    LookupError,
    TypeError,
    NotImplementedError,  # an unknown compression
    RuntimeError,  # an encrypted entry
    MemoryError,  # an array that declares more than there is
    OverflowError,
    SyntaxError,
    zipfile.BadZipFile,
    zlib.error,
)


def check_topology(arrays: Mapping[str, object], *, source: str) -> HandTopology:
    """Check names, shapes, kinds and ranges of the three arrays.

    Raises:
        InputError: something is missing, mis-shaped, not finite or out of range; the sentence names `source`.
    """
    checked = {name: _check_array(arrays, name, source=source) for name in _SHAPES}
    faces = checked["faces"].astype(np.int64)
    if faces.size and (faces.min() < 0 or faces.max() >= N_VERTICES):
        raise InputError(f"{source}: 'faces' points outside the {N_VERTICES} vertices.")
    rows = checked["joint_regressor"].sum(axis=1)
    if np.abs(rows - 1).max() > 1e-2:
        raise InputError(f"{source}: rows of 'joint_regressor' sum to {rows.min():.3f}..{rows.max():.3f}, not 1.")
    return HandTopology(
        faces=faces,
        template=checked["template"].astype(np.float64),
        joint_regressor=checked["joint_regressor"].astype(np.float64),
    )


def _check_array(arrays: Mapping[str, object], name: str, *, source: str) -> FloatArray | IntArray:
    shape, kinds = _SHAPES[name]
    if name not in arrays:
        raise InputError(f"{source} has no array '{name}'; it needs faces, template and joint_regressor.")
    array = arrays[name]
    shapes = (shape, _NO_FACES) if name == "faces" else (shape,)
    if not isinstance(array, np.ndarray) or array.shape not in shapes or array.dtype.kind not in kinds:
        have = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else "no array"
        raise InputError(f"{source}: '{name}' is {have}; it must be {shape}.")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InputError(f"{source}: '{name}' holds NaN or infinity; every number must be finite.")
    return array


def topology_sha256(topology: HandTopology) -> str:
    """Hash of what a topology says, whatever file it came from: the same for every packing of the same arrays."""
    whole = hashlib.sha256()
    for array, kind in ((topology.faces, "<i8"), (topology.template, "<f8"), (topology.joint_regressor, "<f8")):
        whole.update(np.ascontiguousarray(array, kind).tobytes())
    return whole.hexdigest()


def load_hand(path: Path) -> HandTopology:
    """Read a topology from `hand.npz` (keys faces, template, joint_regressor). Never unpickles.

    Raises:
        InputError: the file is missing, is not an npz archive, or fails `check_topology`.
    """
    require_file(path, advice="`cliphand hand MANO_RIGHT.pkl --out hand.npz` writes such a file")
    try:
        _refuse_large(path)
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in _SHAPES if name in archive.files}
    except _BROKEN as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"{path} is not a readable npz archive ({reason[:200]}); write it again with `cliphand hand`."
        ) from None
    return check_topology(arrays, source=str(path))


def _refuse_large(path: Path) -> None:
    """Refuse an archive whose arrays are larger than a hand's before anything in it is unpacked."""
    with zipfile.ZipFile(path) as archive:
        declared = sum(entry.file_size for entry in archive.infolist())
    if declared > MAX_BYTES:
        raise ValueError(f"it declares {declared} bytes, where a hand has less than {MAX_BYTES}")


def save_hand(topology: HandTopology, path: Path, kind: FileKind | None = None) -> None:
    """Write `hand.npz`, atomically and with the mark of its kind, which is all that may be overwritten."""
    with whole_file(path, kind) as temporary:
        with temporary.open("wb") as stream:
            np.savez_compressed(
                stream,
                faces=topology.faces,
                template=topology.template,
                joint_regressor=topology.joint_regressor,
            )
        if kind is not None:
            mark_archive(temporary, kind.writer)
