"""`cliphand export` as a user runs it: what it leaves, prints and refuses."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import typer

from cliphand.checkpoint import save_checkpoint
from cliphand.cli.export import export
from cliphand.config import CropConfig, ModelConfig
from cliphand.errors import InputError
from cliphand.hand import HandTopology
from cliphand.model.clip_hand import ClipHand
from cliphand.model.hand_model import HandModel, level_templates
from engines.manifest import read_manifest

MODEL = ModelConfig(
    backbone="test_resnet",
    input_size=64,
    lixel_channels=16,
    joint_feature=32,
    feature_sizes=(32, 24, 16, 16),
    depths=(1, 0, 0, 0),
    heads=(4, 4, 2, 2),
)


@pytest.fixture(scope="module")
def data(freihand_folder: Callable[..., Path]) -> Path:
    return freihand_folder(n_labels=4)


@pytest.fixture(scope="module")
def runs(data: Path, hand_topology: HandTopology, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs with one run that has a best checkpoint."""
    folder = tmp_path_factory.mktemp("runs")
    torch.manual_seed(0)
    hand = HandModel(MODEL, level_templates(hand_topology, MODEL.levels))
    save_checkpoint(
        folder / "first" / "best",
        model=ClipHand(hand, None),
        model_config=MODEL,
        crop=CropConfig(),
        topology=hand_topology,
        train=None,
        facts={"data": str(data)},
    )
    return folder


def test_the_newest_runs_best_becomes_an_export_of_its_name(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("cliphand.cli.export.RUNS", runs)
    monkeypatch.setattr("cliphand.cli.export.EXPORTS", tmp_path)
    export()
    manifest = read_manifest(tmp_path / "first")
    assert set(manifest.artefacts) == {"model.onnx"}
    assert manifest.checkpoint.path == str(runs / "first" / "best")
    assert "differs from PyTorch by at most" in capsys.readouterr().out


@pytest.mark.slow
def test_a_half_precision_graph_is_judged_and_listed(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("modelopt", reason="needs the extra 'quantise'")
    common = {"out": tmp_path / "e", "fp16": True, "calibration_images": 2, "images": 4, "threads": 1, "search_s": 0.0}
    export(runs / "first" / "best", tolerance_mm=5.0, **common)
    assert set(read_manifest(tmp_path / "e").artefacts) == {"model.onnx", "model.fp16.onnx"}
    assert (tmp_path / "e" / "parity.json").exists()
    assert "passed" in capsys.readouterr().out
    with pytest.raises(typer.Exit) as stop:
        export(runs / "first" / "best", tolerance_mm=1e-9, **common)
    assert stop.value.exit_code == 1
    assert (tmp_path / "e" / "model.fp16.onnx.rejected").exists()
    assert not (tmp_path / "e" / "model.fp16.onnx").exists()
    assert "FAILED" in capsys.readouterr().out


def test_lower_precision_without_images_is_refused(hand_topology: HandTopology, tmp_path: Path) -> None:
    hand = HandModel(MODEL, level_templates(hand_topology, MODEL.levels))
    save_checkpoint(
        tmp_path / "c",
        model=ClipHand(hand, None),
        model_config=MODEL,
        crop=CropConfig(),
        topology=hand_topology,
        train=None,
        facts={},
    )
    with pytest.raises(InputError, match="does not say what it was trained on; name a folder with --calibration"):
        export(tmp_path / "c", out=tmp_path / "e", fp16=True)
