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
from cliphand.pickle_tree import Global, Node, read_pickle_tree

MAX_BYTES = 64 * 2**20  # MANO_RIGHT.pkl has 4 MB
N_MANO_JOINTS = 16
MANO_FIRST_JOINT = {"thumb": 13, "index": 1, "middle": 4, "ring": 10, "little": 7}  # three each, base to tip
# CLIP-Hand3D's and MobRecon's choice. Others: FreiHAND's toolbox 744/320/443/555/672, smplx 744/320/443/554/671,
# METRO 745/317/445/556/673. On one mesh the choice alone moves PA-PJPE by 0.5 to 1.3 mm.
FINGERTIP_VERTICES = {"thumb": 744, "index": 333, "middle": 444, "ring": 555, "little": 672}

_ARRAY = frozenset({"numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct"})
_NDARRAY = "numpy.ndarray"
_DTYPE = "numpy.dtype"
_ENCODE = "_codecs.encode"
_SPARSE = frozenset({"scipy.sparse.csc.csc_matrix", "scipy.sparse._csc.csc_matrix"})
_NEW_OBJECT = frozenset({"copy_reg._reconstructor", "copyreg._reconstructor"})
_CHUMPY = "chumpy.ch.Ch"
_ALSO_STORED = frozenset({"__builtin__.object", "builtins.object", "__builtin__.set", "builtins.set"})
_KNOWN = _ARRAY | _SPARSE | _NEW_OBJECT | _ALSO_STORED | {_NDARRAY, _DTYPE, _ENCODE}
_NUMBERS = frozenset({"f4", "f8", "i4", "i8", "u4", "u8"})
_BYTE_ORDERS = ("<", ">")


def read_mano(path: Path) -> HandTopology:
    """Read faces, template and joint regressor.

    Args:
        path: `MANO_RIGHT.pkl`, as its authors publish it or saved again (pickle protocols 0 to 4).

    Raises:
        InputError: the file is missing, too large, no such pickle, names a global that the model does not need,
            or holds arrays of a wrong shape or a left hand.
    """
    tree = read_pickle_tree(_content(path), source=str(path), known=_is_known)
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


def _is_known(name: str) -> bool:
    # A chumpy expression is kept as a node and never evaluated, whatever its class.
    return name in _KNOWN or name.startswith("chumpy.")


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
    """Name of the class whose instance a node stands for."""
    if not isinstance(value, Node):
        return type(value).__name__
    made = value.arguments[0] if value.name in _NEW_OBJECT and value.arguments else None
    return made.name if isinstance(made, Global) else value.name


def _state(node: object) -> dict[object, object]:
    if not isinstance(node, Node) or not isinstance(node.state, dict):
        raise ValueError("has no stored content")
    return node.state


def _array(value: object) -> np.ndarray:
    """The numpy array that a node describes, or that the chumpy variable around it holds."""
    if _class_of(value) == _CHUMPY:
        value = _state(value).get("x")
    if not isinstance(value, Node) or value.name not in _ARRAY or not isinstance(value.state, tuple):
        raise ValueError("is no stored array")
    if len(value.state) != 5:
        raise ValueError(f"is an array with {len(value.state)} parts, not 5")
    _, shape, dtype, fortran, content = value.state
    raw, kind = _raw(content), _dtype(dtype)
    sizes = shape if isinstance(shape, tuple) else ()
    fits = all(isinstance(n, int) and 0 <= n <= len(raw) for n in sizes)
    if not fits or math.prod(sizes) * kind.itemsize != len(raw):
        raise ValueError(f"has {len(raw)} bytes, which do not fit its shape")
    return np.frombuffer(raw, kind).reshape(sizes, order="F" if fortran else "C")


def _dtype(value: object) -> np.dtype[np.generic]:
    if not isinstance(value, Node) or value.name != _DTYPE or not isinstance(value.state, tuple):
        raise ValueError("has no type")
    code, order = value.arguments[:1], value.state[1:2]
    if not code or not isinstance(code[0], str) or code[0] not in _NUMBERS or not order or order[0] not in _BYTE_ORDERS:
        raise ValueError(f"is not of one of the types {sorted(_NUMBERS)}")
    return np.dtype(f"{order[0]}{code[0]}")


def _raw(content: object) -> bytes:
    """Bytes; Python 2 stores them as a string, Python 3 at protocol 2 as the encoding of one."""
    if isinstance(content, Node) and content.name == _ENCODE and content.arguments:
        content = content.arguments[0]
    if isinstance(content, str):
        return content.encode("latin-1")
    if not isinstance(content, bytes):
        raise ValueError("holds something else than numbers")
    return content


def _dense(node: object) -> FloatArray:
    """The dense form of a matrix in compressed columns."""
    state = _state(node)
    shape = state.get("_shape", state.get("shape"))
    data, rows, starts = (_array(state.get(key)) for key in ("data", "indices", "indptr"))
    # MANO's only: a stored shape could ask for any amount of memory.
    if shape != (N_MANO_JOINTS, N_VERTICES) or starts.shape != (N_VERTICES + 1,) or data.ndim != 1:
        raise ValueError(f"is not a sparse matrix of ({N_MANO_JOINTS}, {N_VERTICES})")
    if rows.shape != data.shape or rows.dtype.kind not in "iu" or starts.dtype.kind not in "iu":
        raise ValueError("has indices that do not fit its values")
    starts = starts.astype(np.int64)
    counts = np.diff(starts)
    if starts[0] != 0 or starts[-1] != len(data) or counts.min() < 0 or (rows >= N_MANO_JOINTS).any() or rows.min() < 0:
        raise ValueError("has indices outside the matrix")
    dense = np.zeros((N_MANO_JOINTS, N_VERTICES))
    np.add.at(dense, (rows, np.repeat(np.arange(N_VERTICES), counts)), data)
    return dense


def _is_left(topology: HandTopology) -> bool:
    """Whether the thumb, which MANO's template holds 28 mm in front of the palm, makes it a left hand's palm."""
    wrist, thumb_tip, index, middle, little = (topology.joint_regressor @ topology.template)[[0, 4, 5, 9, 17]]
    right_hands_back = np.cross(middle - wrist, index - little)
    return bool((thumb_tip - wrist) @ right_hands_back > 0)
