"""Export folders: whole or untouched."""

import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from small_hand import CONFIG, SIDE, export_graph_once, small_hand

from cliphand.checkpoint import load_checkpoint, save_checkpoint
from cliphand.claims import check_folder
from cliphand.config import CropConfig
from cliphand.errors import InputError
from cliphand.hand import HandTopology
from cliphand.model.clip_hand import ClipHand
from engines.artefact.manifest import read_manifest
from export.folder import write as folder_module
from export.folder.contents import EXPORT
from export.folder.write import GRAPH_NAME, export_checkpoint
from export.graph.deploy_model import count_parameters, example_images


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, hand_topology: HandTopology) -> Path:
    path = tmp_path_factory.mktemp("run") / "best"
    save_checkpoint(
        path,
        model=ClipHand(small_hand(), None),
        model_config=CONFIG,
        crop=CropConfig(rule="centre"),
        topology=hand_topology,
        train=None,
        facts={"epoch": 3},
    )
    return path


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Path:
    out = tmp_path_factory.mktemp("exports") / "small"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folder_module, "export_graph", export_graph_once)
        export_checkpoint(load_checkpoint(checkpoint), out, tensorrt=False)
    return out


def test_an_export_holds_graph_hand_and_manifest(exported: Path) -> None:
    assert {path.name for path in exported.iterdir()} == {"model.onnx", "hand.npz", "manifest.json"}
    manifest = read_manifest(exported)
    assert (manifest.input_size, manifest.crop.rule) == (SIDE, "centre")
    assert manifest.artefacts[GRAPH_NAME].precision == "fp32"
    assert manifest.training["epoch"] == 3


def test_an_export_knows_its_own_files_and_no_others(exported: Path, tmp_path: Path) -> None:
    folder = tmp_path / "export"
    shutil.copytree(exported, folder)
    check_folder(folder, EXPORT)
    for name in ("thesis.txt", "mine.onnx", "mine.plan", "bench.json", "report.html", "hand.npz.bak"):
        (folder / name).write_text("mine")
    assert set(EXPORT.foreign(folder)) == {path.name for path in folder.iterdir()} - {
        path.name for path in exported.iterdir()
    }
    with (folder / "model.onnx").open("ab") as stream:
        stream.write(b"mine")
    assert "model.onnx" in EXPORT.foreign(folder)
    (folder / "manifest.json").unlink()
    assert set(EXPORT.foreign(folder)) == {path.name for path in folder.iterdir()}


def test_the_manifest_states_what_was_checked(exported: Path) -> None:
    facts = read_manifest(exported).exporter
    assert facts["opset"] == 18
    assert facts["batches_checked"] == [1, 2, 7]
    assert facts["parameters"] == count_parameters(small_hand())
    assert 0 < float(str(facts["max_difference_relative"])) < 1e-5
    assert 0 < float(str(facts["gflop"])) < 1
    assert facts["tensorrt_rtx"] is None  # it was not asked


def test_the_graph_is_the_checkpoints_model(exported: Path) -> None:
    images = example_images(2, SIDE, seed=8)
    with torch.inference_mode():
        expected = [output.numpy() for output in small_hand()(images)]
    session = onnxruntime.InferenceSession(exported / GRAPH_NAME, providers=["CPUExecutionProvider"])
    for ours, theirs in zip(session.run(None, {"image": images.numpy()}), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max())


def test_a_graph_that_tensorrt_rejects_leaves_the_old_export_in_place(
    tmp_path: Path, checkpoint: Path, exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "export"
    shutil.copytree(exported, out)

    def reject(path: Path, precision: str, *, tensorrt: bool) -> None:
        raise InputError(f"TensorRT rejects {path.name} ({precision}): it said so.")

    monkeypatch.setattr(folder_module, "export_graph", lambda _model, path, **_: path.write_bytes(b"graph"))
    monkeypatch.setattr(folder_module, "prove", reject)
    with pytest.raises(InputError, match=r"rejects model.onnx \(fp32\): it said so; choose .*--no-tensorrt"):
        export_checkpoint(load_checkpoint(checkpoint), out)
    assert [path.name for path in tmp_path.iterdir()] == ["export"]
    assert (out / "model.onnx").read_bytes() == (exported / "model.onnx").read_bytes()


def test_tensorrt_for_rtx_parses_and_builds_the_graph(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    monkeypatch.setattr(folder_module, "export_graph", export_graph_once)
    manifest = export_checkpoint(load_checkpoint(checkpoint), tmp_path / "export")
    assert manifest.exporter["tensorrt_rtx"] == trt.__version__
