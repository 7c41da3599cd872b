import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cliphand.data.predictions import read_predictions, write_predictions
from cliphand.errors import InputError

XYZ = np.arange(2 * 21 * 3).reshape(2, 21, 3) / 100
VERTS = np.arange(2 * 778 * 3).reshape(2, 778, 3) / 1000


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(xyz=hnp.arrays(np.float64, (2, 21, 3), elements=st.floats(allow_nan=False, allow_infinity=False)))
def test_what_is_written_is_read_to_the_bit(tmp_path: Path, xyz: np.ndarray) -> None:
    write_predictions(tmp_path / "pred.json", xyz, VERTS)
    read = read_predictions(tmp_path / "pred.json")
    np.testing.assert_array_equal(read.xyz, xyz)
    np.testing.assert_array_equal(read.verts, VERTS)


def test_the_file_is_the_benchmarks_json_form(tmp_path: Path) -> None:
    write_predictions(tmp_path / "pred.json", XYZ, VERTS)
    assert json.loads((tmp_path / "pred.json").read_text()) == [XYZ.tolist(), VERTS.tolist()]


def test_vertices_may_be_absent(tmp_path: Path) -> None:
    write_predictions(tmp_path / "pred.json", XYZ)
    assert json.loads((tmp_path / "pred.json").read_text())[1] == []
    assert read_predictions(tmp_path / "pred.json").verts is None


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    write_predictions(tmp_path / "pred.json", XYZ)
    before = (tmp_path / "pred.json").read_bytes()
    bad = XYZ.copy()
    bad[1, 20, 2] = np.nan
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_predictions(tmp_path / "pred.json", bad)
    assert (tmp_path / "pred.json").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(("xyz", "verts"), [(XYZ[0], None), (XYZ[:, :20], None), (XYZ, VERTS[:1]), (XYZ, XYZ)])
def test_arrays_of_a_wrong_shape_are_not_written(tmp_path: Path, xyz: np.ndarray, verts: np.ndarray | None) -> None:
    with pytest.raises(ValueError, match="xyz is"):
        write_predictions(tmp_path / "pred.json", xyz, verts)
    assert not list(tmp_path.iterdir())


def changed(field: int, index: int, value: object) -> list[object]:
    fields: list[list[object]] = [XYZ.tolist(), VERTS.tolist()]
    fields[field][index] = value
    return fields


def with_coordinate(value: object) -> list[object]:
    entry: list[list[object]] = XYZ[1].tolist()
    entry[7][1] = value
    return changed(0, 1, entry)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"xyz": []}, "is not a JSON list [xyz, verts]"),
        ([XYZ.tolist()], "is not a JSON list [xyz, verts]"),
        ([XYZ.tolist(), None], "is not a JSON list [xyz, verts]"),
        ([[], []], "field 'xyz' has no entries"),
        ([XYZ.tolist(), VERTS.tolist()[:1]], "field 'verts' has 1 entries but 'xyz' has 2"),
        (changed(0, 1, XYZ[1, :20].tolist()), "field 'xyz', entry 1 has the shape (20, 3)"),
        (changed(1, 0, XYZ[0].tolist()), "field 'verts', entry 0 has the shape (21, 3)"),
        (changed(1, 1, [[1, 2, 3], [1, 2]]), "field 'verts', entry 1 has rows of unequal length"),
        (changed(0, 0, None), "field 'xyz', entry 0 has the shape ()"),
        (with_coordinate(float("nan")), "field 'xyz', entry 1 holds NaN"),
        (with_coordinate(float("inf")), "field 'xyz', entry 1 holds NaN"),
        (with_coordinate(None), "field 'xyz', entry 1 holds something else than numbers"),
        (with_coordinate("0.5"), "field 'xyz', entry 1 holds something else than numbers"),
        (with_coordinate(10**400), "field 'xyz', entry 1 holds something else than numbers"),
    ],
)
def test_a_wrong_entry_is_named_by_file_field_and_place(tmp_path: Path, content: object, says: str) -> None:
    path = tmp_path / "pred.json"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError) as caught:
        read_predictions(path)
    assert str(path) in str(caught.value)
    assert says in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"[[1, 2", b"\xff\xfe\xff", b"[" * 100_000, b"[NaN, wrong]"])
def test_a_file_that_is_not_json_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "pred.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match="is not readable as JSON"):
        read_predictions(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path, said in ((tmp_path / "absent.json", "does not exist"), (tmp_path, "is a folder")):
        with pytest.raises(InputError, match=said):
            read_predictions(path)
