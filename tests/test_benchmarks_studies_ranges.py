"""The study of INT8's ranges as its command prints it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from linear_hand import linear_checkpoint
from planted_graphs import planted_workshop, save_planted_export
from typer.testing import CliRunner

from benchmarks.studies.ranges import app
from cliphand.hand import HandTopology


def test_each_way_has_a_row_for_each_engine_and_the_choice_is_the_lowest_on_what_was_held_back(
    tmp_path: Path,
    freihand_folder: Callable[..., Path],
    hand_topology: HandTopology,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "benchmarks.studies.ranges.open_workshop",
        lambda folder, manifest, checkpoint, request, progress: planted_workshop(folder, hand_topology, request),
    )
    monkeypatch.setattr("benchmarks.studies.ranges.load_checkpoint", lambda _: linear_checkpoint(hand_topology))
    folder = save_planted_export(tmp_path / "export", hand_topology)
    data = freihand_folder(n_labels=6, size_px=64)
    result = CliRunner().invoke(app, [str(folder), "--data", str(data), "--calibration-images", "6", "--threads", "1"])
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout.splitlines()[-1])
    assert list(facts["rows"]) == ["max", "entropy", "mse-encoder", "mse"]
    for method, rows in facts["rows"].items():
        assert [row["engine"] for row in rows] == ["onnxruntime", "openvino"]
        assert result.stdout.count(f"  {method} ") == len(rows)
    choice = facts["choice"]
    assert choice["images"] == 2
    assert choice["rehearsals"].keys() == facts["rows"].keys() - {"entropy"}
    assert choice["method"] == min(choice["rehearsals"], key=lambda method: choice["rehearsals"][method]["excess"])
    assert folder.joinpath("model.onnx").exists()
    assert not (folder / "parity.json").exists()  # a study leaves the export as it was
