"""`cliphand inspect` on the export of a small network."""

import json
import shutil
from pathlib import Path

import pytest
from linear_hand import make_manifest
from small_hand import SIDE, small_export

from cliphand.cli.inspect import inspect
from cliphand.errors import InputError
from cliphand.files import sha256_of
from cliphand.hand import HandTopology, save_hand
from cliphand.kinds import INSPECT
from engines.artefact.manifest import write_manifest

STAGES = ["encoder", "joint_regressor", "heatmap", "mesh_regressor", "total"]


@pytest.fixture
def export(tmp_path: Path, hand_topology: HandTopology) -> Path:
    folder = tmp_path / "export"
    folder.mkdir()
    shutil.copy(small_export()[1], folder / "model.onnx")
    save_hand(hand_topology, folder / "hand.npz")
    agreement = small_export()[2]
    exporter = {
        "batches_checked": agreement.batches,
        "max_difference_uvd": agreement.max_difference_uvd,
        "max_difference_mm": agreement.max_difference_mm,
        "max_difference_relative": agreement.max_difference_relative,
        "max_neighbour_effect": agreement.max_neighbour_effect,
        "tensorrt_rtx": "1.7.1",
    }
    write_manifest(make_manifest(folder, {"model.onnx": "fp32"}, input_size=SIDE, exporter=exporter), folder)
    return folder


def run(capsys: pytest.CaptureFixture[str], folder: Path, json_file: Path | None = None) -> tuple[str, dict]:
    inspect(folder, json_file)
    printed = capsys.readouterr().out
    return printed, json.loads(printed.splitlines()[-1])


def test_each_stages_costs_are_shown_and_sum_up(export: Path, capsys: pytest.CaptureFixture[str]) -> None:
    printed, value = run(capsys, export)
    stages = value["graphs"]["model.onnx"]
    assert [stage["stage"] for stage in stages] == STAGES
    for key in ("gflop", "weight_bytes", "activation_bytes"):
        parts = [stage[key] for stage in stages[:-1]]
        assert min(parts) > 0
        assert stages[-1][key] == pytest.approx(sum(parts))
    assert sum(stages[-1]["operators"].values()) == sum(sum(s["operators"].values()) for s in stages[:-1])
    assert stages[-1]["weight_bytes"] == pytest.approx((export / "model.onnx").stat().st_size, rel=0.02)
    for word in (*STAGES, "GFLOP", "20 Conv", "fp32"):
        assert word in printed


def test_parity_numbers_of_the_export_are_shown(export: Path, capsys: pytest.CaptureFixture[str]) -> None:
    printed, value = run(capsys, export)
    agreement = small_export()[2]
    assert value["agreement"]["max_difference_mm"] == agreement.max_difference_mm
    assert f"{agreement.max_difference_mm:.2g}" in printed
    assert "[1, 2, 7]" in printed
    assert value["tensorrt_rtx"] == "1.7.1"


def test_rows_of_the_parity_file_are_shown_where_there_is_one(export: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, export)[1]["parity"] == []
    row = {"artefact": "model.fp16.onnx", "engine": "onnxruntime", "delta_pa_pjpe_mm": 0.0123, "passed": True}
    row |= {"artefact": "model.onnx", "sha256": sha256_of(export / "model.onnx")}
    (export / "parity.json").write_text(json.dumps({"rows": [row, row | {"artefact": "gone.onnx"}]}))
    printed, value = run(capsys, export)
    assert value["parity"] == [row]
    assert "0.0123" in printed
    (export / "parity.json").write_text(json.dumps({"rows": [row | {"sha256": "0" * 64}]}))
    printed, value = run(capsys, export)
    assert value["parity"] == []
    assert "model.onnx is not the one that parity.json judged (its sha256 differs)" in printed


def test_the_json_file_is_the_last_line(export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, value = run(capsys, export, tmp_path / "x.json")
    assert json.loads((tmp_path / "x.json").read_text()) == value
    assert INSPECT.is_own(tmp_path / "x.json")


def test_a_graph_that_was_changed_since_its_export_is_refused(export: Path) -> None:
    with (export / "model.onnx").open("ab") as stream:
        stream.write(b"\0")
    with pytest.raises(InputError, match="not the file that"):
        inspect(export)


def test_a_missing_graph_is_refused(export: Path) -> None:
    (export / "model.onnx").unlink()
    with pytest.raises(InputError, match=r"model\.onnx does not exist"):
        inspect(export)


def test_a_folder_that_is_no_export_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="manifest"):
        inspect(tmp_path)
