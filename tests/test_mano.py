import io
import pickle
import sys
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cliphand.errors import InputError
from cliphand.hand import HandTopology, load_hand
from cliphand.mano import FINGERTIP_VERTICES, freihand_regressor, read_mano

# FreiHAND's joints that are no fingertips, in MANO's order: wrist, index, middle, little, ring, thumb.
IN_MANO_ORDER = [0, 5, 6, 7, 9, 10, 11, 17, 18, 19, 13, 14, 15, 1, 2, 3]
TIPS = {4: 744, 8: 333, 12: 444, 16: 555, 20: 672}


class Python2Pickler(pickle._Pickler):
    """Writes text and bytes as Python 2 wrote its strings, so that a reader meets what MANO's authors saved."""

    dispatch = pickle._Pickler.dispatch.copy()

    def save_string(self, value: str | bytes) -> None:
        content = value.encode("latin-1") if isinstance(value, str) else value
        self.write(b"T" + len(content).to_bytes(4, "little") + content)
        self.memoize(value)

    dispatch[str] = save_string
    dispatch[bytes] = save_string


def as_python_2(model: object) -> bytes:
    stream = io.BytesIO()
    Python2Pickler(stream, 2, fix_imports=True).dump(model)
    return stream.getvalue().replace(b"cnumpy._core.", b"cnumpy.core.")


@pytest.fixture
def chumpy(monkeypatch: pytest.MonkeyPatch) -> dict[str, type]:
    """Stand-ins for the three classes in MANO's pickle, importable under the names that Python 2 knew."""
    classes = {}
    names = {"Ch": "chumpy.ch", "Select": "chumpy.reordering", "csc_matrix": "scipy.sparse.csc"}
    monkeypatch.setitem(sys.modules, "chumpy", types.ModuleType("chumpy"))
    for name, module_name in names.items():
        module = types.ModuleType(module_name)
        classes[name] = type(name, (), {"__module__": module_name})
        setattr(module, name, classes[name])
        monkeypatch.setitem(sys.modules, module_name, module)
    return classes


def instance(kind: type, **state: object) -> object:
    made = kind()
    made.__dict__.update(state)
    return made


def sparse(kind: type, dense: np.ndarray) -> object:
    rows, columns = np.nonzero(dense)
    order = np.lexsort((rows, columns))
    starts = np.searchsorted(columns[order], np.arange(dense.shape[1] + 1))
    return instance(
        kind,
        _shape=dense.shape,
        data=dense[rows[order], columns[order]],
        indices=rows[order].astype(np.int32),
        indptr=starts.astype(np.int32),
        maxprint=50,
        format="csc",
    )


@pytest.fixture
def topology(hand_topology: HandTopology) -> HandTopology:
    """The synthetic hand with MANO's fingertip vertices, laid out as a right hand."""
    regressor = hand_topology.joint_regressor.copy()
    template = hand_topology.template.copy()
    for joint, vertex in TIPS.items():
        regressor[joint] = 0
        regressor[joint, vertex] = 1
    template[744, 2] = 0.03  # the thumb's tip in front of the palm
    return HandTopology(hand_topology.faces, template, regressor)


@pytest.fixture
def model(topology: HandTopology, chumpy: dict[str, type]) -> dict[str, object]:
    """What MANO_RIGHT.pkl holds, with the synthetic hand's numbers."""
    shapes = instance(chumpy["Ch"], x=np.zeros((778, 3, 20)), _dirty_vars=set(), _itr=None)
    return {
        "hands_components": np.eye(45),
        "f": topology.faces.astype(np.uint32),
        "J_regressor": sparse(chumpy["csc_matrix"], topology.joint_regressor[IN_MANO_ORDER]),
        "kintree_table": np.array([[4294967295, 0], [0, 1]], np.int64),
        "J": np.zeros((16, 3)),
        "bs_style": "lbs",
        "bs_type": "lrotmin",
        "weights": np.zeros((778, 16)),
        "posedirs": np.zeros((778, 3, 135)),
        "v_template": topology.template,
        "shapedirs": instance(
            chumpy["Select"], a=shapes, idxs=np.arange(30), preferred_shape=(778, 3, 10), _dirty_vars={"a"}
        ),
    }


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def write_model(model: object, *, protocol: int | None = None) -> Path:
        path = tmp_path / "MANO_RIGHT.pkl"
        path.write_bytes(as_python_2(model) if protocol is None else pickle.dumps(model, protocol))
        return path

    return write_model


def assert_same(read: HandTopology, expected: HandTopology) -> None:
    for name in ("faces", "template", "joint_regressor"):
        np.testing.assert_array_equal(getattr(read, name), getattr(expected, name))


@pytest.mark.parametrize("protocol", [None, 0, 1, 2, 3, 4])
def test_a_model_in_manos_layout_becomes_the_hand_in_freihands_order(
    model: dict[str, object], topology: HandTopology, write: Callable[..., Path], protocol: int | None
) -> None:
    assert_same(read_mano(write(model, protocol=protocol)), topology)


def test_reading_imports_nothing(
    model: dict[str, object], topology: HandTopology, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(model)
    for name in ("chumpy.ch", "chumpy.reordering", "scipy.sparse.csc"):
        monkeypatch.setitem(sys.modules, name, None)  # importing it is an error
    before = set(sys.modules)
    assert_same(read_mano(path), topology)
    assert set(sys.modules) == before


@pytest.mark.parametrize("key", ["v_template", "J_regressor"])
def test_chumpy_variables_and_dense_regressors_are_read_too(
    model: dict[str, object],
    topology: HandTopology,
    chumpy: dict[str, type],
    write: Callable[..., Path],
    key: str,
) -> None:
    dense = {"v_template": topology.template, "J_regressor": topology.joint_regressor[IN_MANO_ORDER]}
    model[key] = instance(chumpy["Ch"], x=dense[key])
    assert_same(read_mano(write(model)), topology)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f4", ">f8"])
def test_arrays_are_read_in_any_layout(
    model: dict[str, object], topology: HandTopology, write: Callable[..., Path], order: str, dtype: str
) -> None:
    model["v_template"] = np.asarray(topology.template.astype(dtype), order=order)
    np.testing.assert_array_equal(read_mano(write(model)).template, topology.template.astype(dtype))


def test_joints_follow_freihands_order_and_tips_are_single_vertices() -> None:
    mano = np.repeat(np.arange(16.0)[:, None], 778, axis=1)  # each row holds its own number
    regressor = freihand_regressor(mano)
    numbers = [0, 13, 14, 15, None, 1, 2, 3, None, 4, 5, 6, None, 10, 11, 12, None, 7, 8, 9, None]
    for joint, number in enumerate(numbers):
        if number is None:
            assert np.flatnonzero(regressor[joint]).tolist() == [TIPS[joint]]
            assert regressor[joint].sum() == 1
        else:
            assert (regressor[joint] == number).all()
    assert list(FINGERTIP_VERTICES.values()) == list(TIPS.values())


def test_a_left_hand_is_refused(model: dict[str, object], topology: HandTopology, write: Callable[..., Path]) -> None:
    model["v_template"] = topology.template * np.array([-1, 1, 1])
    with pytest.raises(InputError, match=r"holds a left hand; FreiHAND's hands are right: give MANO_RIGHT.pkl"):
        read_mano(write(model))


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("f", np.zeros((1538, 4), np.uint32), r"'f' is \(1538, 4\); MANO's is \(1538, 3\)"),
        ("f", np.full((1538, 3), 778, np.uint32), "'faces' points outside the 778 vertices"),
        ("v_template", np.zeros((6890, 3)), r"'v_template' is \(6890, 3\)"),
        ("v_template", np.full((778, 3), np.nan), "'template' holds NaN"),
        ("v_template", np.zeros((778, 3), complex), "'v_template' is not of one of the types"),
        ("v_template", np.full((778, 3), None, object), "'v_template' holds something else than numbers"),
        ("v_template", "text", "'v_template' is no stored array"),
        ("v_template", None, "'v_template' is no stored array"),
        ("J_regressor", np.zeros((16, 778)), "rows of 'joint_regressor' sum to 0.000"),
        ("J_regressor", np.zeros((24, 778)), r"'J_regressor' is \(24, 778\)"),
    ],
)
def test_a_wrong_entry_is_refused_by_name(
    model: dict[str, object], write: Callable[..., Path], key: str, value: object, says: str
) -> None:
    model[key] = value
    path = write(model)
    with pytest.raises(InputError, match=says) as caught:
        read_mano(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("key", ["f", "v_template", "J_regressor"])
def test_a_missing_entry_is_refused_by_name(model: dict[str, object], write: Callable[..., Path], key: str) -> None:
    del model[key]
    with pytest.raises(InputError, match=f"has no '{key}'"):
        read_mano(write(model))


NO_MATRIX = r"is not a sparse matrix of \(16, 778\)"


@pytest.mark.parametrize(
    ("part", "change", "says"),
    [
        ("_shape", lambda old: (10**9, 10**9), NO_MATRIX),
        ("_shape", lambda old: None, NO_MATRIX),
        ("data", lambda old: old[:-1], NO_MATRIX),
        ("data", lambda old: old[None], NO_MATRIX),
        ("data", lambda old: None, "is no stored array"),
        ("indices", lambda old: old[:5], NO_MATRIX),
        ("indices", lambda old: old.astype(float), NO_MATRIX),
        ("indices", lambda old: old + 1, NO_MATRIX),
        ("indices", lambda old: old - 1, NO_MATRIX),
        ("indptr", lambda old: old.astype(float), NO_MATRIX),
        ("indptr", lambda old: old[:0], NO_MATRIX),
        ("indptr", lambda old: np.maximum(old, 1), NO_MATRIX),
        ("indptr", lambda old: np.minimum(old, 9), NO_MATRIX),
        ("indptr", lambda old: np.where(np.arange(len(old)) == 300, -5, old).astype(np.int32), NO_MATRIX),
    ],
)
def test_a_sparse_matrix_that_does_not_fit_is_refused(
    model: dict[str, object],
    write: Callable[..., Path],
    part: str,
    change: Callable[[np.ndarray], np.ndarray],
    says: str,
) -> None:
    matrix = model["J_regressor"]
    setattr(matrix, part, change(getattr(matrix, part)))
    with pytest.raises(InputError, match=f"'J_regressor' {says}"):
        read_mano(write(model))


@pytest.mark.parametrize("place", ["f", "bs_style"])
@pytest.mark.parametrize(("module", "name"), [("os", "system"), ("builtins", "eval"), ("numpy", "load")])
def test_code_anywhere_in_the_model_is_refused_by_name_and_not_run(
    model: dict[str, object], tmp_path: Path, place: str, module: str, name: str
) -> None:
    marker = tmp_path / "ran"
    command = {"system": f"touch {marker}", "eval": f"open({str(marker)!r}, 'w')", "load": str(marker)}[name]
    payload = f"c{module}\n{name}\n(S{command!r}\ntR".encode()
    path = tmp_path / "MANO_RIGHT.pkl"
    path.write_bytes(as_python_2(model)[:-2] + f"(S'{place}'\n".encode() + payload + b"u.")
    with pytest.raises(InputError, match=f"asks for '{module}.{name}'"):
        read_mano(path)
    assert not marker.exists()


@pytest.mark.real
def test_the_real_topology_comes_back_from_manos_layout(
    real_dir: Path, chumpy: dict[str, type], model: dict[str, object], write: Callable[..., Path]
) -> None:
    real = load_hand(real_dir / "hand.npz")
    model["f"] = real.faces.astype(np.uint32)
    model["v_template"] = real.template
    model["J_regressor"] = sparse(chumpy["csc_matrix"], real.joint_regressor[IN_MANO_ORDER])
    assert_same(read_mano(write(model)), real)
