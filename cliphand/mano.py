"""The hand's topology from the user's own `MANO_RIGHT.pkl`, read without executing or importing any of it.

The file is a Python 2 pickle with chumpy objects and a scipy sparse matrix; neither library is needed. Joints are
put into FreiHAND's order and the five fingertips, which MANO's regressor lacks, are taken from vertices.

Source: Romero, Tzionas and Black 2017, Embodied Hands (MANO); the user brings the file under its licence.
"""

import math
from pathlib import Path

import numpy as np

from cliphand.arrays import FloatArray
from cliphand.errors import InputError
from cliphand.files import require_file
from cliphand.hand import FINGERS, N_FACES, N_JOINTS, N_VERTICES, HandTopology, check_topology
from cliphand.pickle_tree import Stored, read_pickle_tree

MAX_BYTES = 64 * 2**20  # MANO_RIGHT.pkl has 4 MB
N_MANO_JOINTS = 16
MANO_FIRST_JOINT = {"thumb": 13, "index": 1, "middle": 4, "ring": 10, "little": 7}  # three each, base to tip
# CLIP-Hand3D's and MobRecon's choice. Others: FreiHAND's toolbox 744/320/443/555/672, smplx 744/320/443/554/671,
# METRO 745/317/445/556/673. On one mesh the choice alone moves PA-PJPE by 0.5 to 1.3 mm.
FINGERTIP_VERTICES = {"thumb": 744, "index": 333, "middle": 444, "ring": 555, "little": 672}

_ARRAY = frozenset({"numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct"})
_ENCODE = "_codecs.encode"
_SPARSE = frozenset({"scipy.sparse.csc.csc_matrix", "scipy.sparse._csc.csc_matrix"})
_NEW_OBJECT = frozenset({"copy_reg._reconstructor", "copyreg._reconstructor"})
_CHUMPY = "chumpy.ch.Ch"
_ALSO_STORED = frozenset(
    {"__builtin__.object", "builtins.object", "__builtin__.set", "builtins.set", "chumpy.reordering.Select"}
)
_KNOWN = _ARRAY | _SPARSE | _NEW_OBJECT | _ALSO_STORED | {_CHUMPY, "numpy.ndarray", "numpy.dtype", _ENCODE}
_NUMBERS = frozenset({"f4", "f8", "i4", "i8", "u4", "u8"})


def read_mano(path: Path) -> HandTopology:
    """Read faces, template and joint regressor.

    Args:
        path: `MANO_RIGHT.pkl`, as its authors publish it or saved again (pickle protocols 0 to 4).

    Raises:
        InputError: the file is missing, too large, no such pickle, names a global that the model does not need,
            or holds arrays of a wrong shape or a left hand.
    """
    tree = read_pickle_tree(_content(path), source=str(path), known=_KNOWN)
    if not isinstance(tree, dict):
        raise InputError(f"{path} holds no dict; give MANO_RIGHT.pkl as its authors publish it.")
    arrays = {
        "faces": _entry(path, tree, "f", (N_FACES, 3)),
        "template": _entry(path, tree, "v_template", (N_VERTICES, 3)),
        "joint_regressor": freihand_regressor(_entry(path, tree, "J_regressor", (N_MANO_JOINTS, N_VERTICES))),
    }
    topology = check_topology(arrays, source=str(path))
    if _is_left(topology):
        raise InputError(f"{path} holds a left hand; FreiHAND's hands are right: give MANO_RIGHT.pkl.")
    return topology


def freihand_regressor(mano_regressor: FloatArray) -> FloatArray:
    """MANO's (16, 778) joint regressor as (21, 778): FreiHAND's joint order, fingertips as single vertices."""
    regressor = np.zeros((N_JOINTS, N_VERTICES))
    regressor[0] = mano_regressor[0]
    for number, finger in enumerate(FINGERS):
        base = 1 + 4 * number
        first = MANO_FIRST_JOINT[finger]
        regressor[base : base + 3] = mano_regressor[first : first + 3]
        regressor[base + 3, FINGERTIP_VERTICES[finger]] = 1
    return regressor


def _content(path: Path) -> bytes:
    require_file(path, largest_bytes=MAX_BYTES, advice="get MANO_RIGHT.pkl, 4 MB, from https://mano.is.tue.mpg.de")
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); give MANO_RIGHT.pkl.") from None


def _entry(path: Path, tree: dict[object, object], key: str, shape: tuple[int, int]) -> FloatArray:
    """The array under `key`, checked for its shape."""
    if key not in tree:
        raise InputError(f"{path} has no '{key}'; give MANO_RIGHT.pkl as its authors publish it.")
    value = tree[key]
    try:
        array = _dense(value) if _class_of(value) in _SPARSE else _array(value)
    except ValueError as error:
        raise InputError(f"{path}: '{key}' {error}; get the file again.") from None
    if array.shape != shape:
        raise InputError(f"{path}: '{key}' is {array.shape}; MANO's is {shape}.")
    return array


def _class_of(value: object) -> str:
    """Name of the class whose instance was stored."""
    if not isinstance(value, Stored):
        return type(value).__name__
    made = value.arguments[0] if value.name in _NEW_OBJECT and value.arguments else value
    return str(getattr(made, "name", ""))


def _state(value: object) -> dict[object, object]:
    if not isinstance(value, Stored) or not isinstance(value.state, dict):
        raise ValueError("has no stored content")
    return value.state


def _array(value: object) -> np.ndarray:
    """The numpy array that was stored, or that the chumpy variable around it holds."""
    if _class_of(value) == _CHUMPY:
        value = _state(value).get("x")
    match value:
        case Stored(name=name, state=(_, shape, dtype, fortran, content)) if name in _ARRAY:
            raw, kind = _raw(content), _dtype(dtype)
        case _:
            raise ValueError("is no stored array")
    sizes = shape if isinstance(shape, tuple) else ()
    fits = all(isinstance(n, int) and 0 <= n <= len(raw) for n in sizes)
    if not fits or math.prod(sizes) * kind.itemsize != len(raw):
        raise ValueError(f"has {len(raw)} bytes, which do not fit its shape")
    return np.frombuffer(raw, kind).reshape(sizes, order="F" if fortran else "C")


def _dtype(value: object) -> np.dtype[np.generic]:
    match value:
        case Stored(name="numpy.dtype", arguments=(str(code), *_), state=(_, "<" | ">" as order, *_)):
            if code in _NUMBERS:
                return np.dtype(f"{order}{code}")
    raise ValueError(f"is not of one of the types {sorted(_NUMBERS)}")


def _raw(content: object) -> bytes:
    """Bytes; Python 2 stores them as a string, Python 3 at protocol 2 as the encoding of one."""
    if isinstance(content, Stored) and content.name == _ENCODE and content.arguments:
        content = content.arguments[0]
    if isinstance(content, str):
        return content.encode("latin-1")
    if not isinstance(content, bytes):
        raise ValueError("holds something else than numbers")
    return content


def _dense(stored: object) -> FloatArray:
    """The dense form of a matrix in compressed columns; its stored shape, which could ask for any memory, is MANO's."""
    state, shape = _state(stored), (N_MANO_JOINTS, N_VERTICES)
    data, rows, starts = (_array(state.get(key)) for key in ("data", "indices", "indptr"))
    counts = np.diff(starts.astype(np.int64)).astype(np.int64)
    if (
        state.get("_shape", state.get("shape")) != shape
        or {rows.dtype.kind, starts.dtype.kind} - {"i", "u"}
        or (data.ndim, rows.shape, starts.shape) != (1, data.shape, (N_VERTICES + 1,))
        or (int(starts[0]), int(starts[-1])) != (0, len(data))
        or counts.min() < 0
        or not ((rows >= 0) & (rows < N_MANO_JOINTS)).all()
    ):
        raise ValueError(f"is not a sparse matrix of {shape}")
    dense = np.zeros(shape)
    np.add.at(dense, (rows, np.repeat(np.arange(N_VERTICES), counts)), data)
    return dense


def _is_left(topology: HandTopology) -> bool:
    """Whether the thumb, which MANO's template holds 28 mm in front of the palm, makes it a left hand's palm."""
    wrist, thumb_tip, index, middle, little = (topology.joint_regressor @ topology.template)[[0, 4, 5, 9, 17]]
    right_hands_back = np.cross(middle - wrist, index - little)
    return bool((thumb_tip - wrist) @ right_hands_back > 0)
