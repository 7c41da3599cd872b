"""The whole chain in miniature, for real."""

import dataclasses
import json
from pathlib import Path

import cv2
import pytest
from small_hand import TINY, tiny_checkpoint

from benchmarks.measure.interleaved import SpeedSettings
from cliphand import pretrained
from cliphand.cli import bench
from cliphand.cli import quickstart as chain
from cliphand.config import CropConfig
from cliphand.data.synthetic import pictures
from cliphand.errors import InputError
from cliphand.files import read_json_object
from cliphand.hand import HAND_NAME, load_hand
from cliphand.presets import PRESETS
from cliphand.training.run_place import read_history
from engines.artefact.manifest import read_manifest


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few timed calls, and no plans, which take most of an export's time."""
    few = SpeedSettings(warmup_calls=1, calls=3, seconds=1.0)
    measure = bench.measure
    monkeypatch.setattr(bench, "measure", lambda request: measure(dataclasses.replace(request, speed=few)))
    monkeypatch.setattr("export.precision.proof.why_not_built", lambda _: "it is not asked here")
    monkeypatch.setattr("cliphand.cli.export._flavours", lambda _: ((), None))


def test_a_model_from_nothing_leaves_data_run_export_benchmark_and_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("anny", reason="needs the extra 'synthetic'")
    monkeypatch.setattr(chain, "TRAIN_IMAGES", 16)
    monkeypatch.setattr(chain, "EVALUATION_IMAGES", 6)
    monkeypatch.setattr(chain, "EPOCHS", 1)
    monkeypatch.setitem(PRESETS, "small", TINY)
    out = tmp_path / "first look"
    chain.quickstart(out=out, train=True)
    printed = capsys.readouterr().out
    summary = json.loads((out / "summary.json").read_text())
    assert {"pytorch", "onnxruntime"} <= set(summary["pa_pjpe_mm"])
    assert abs(summary["pa_pjpe_mm"]["pytorch"] - summary["pa_pjpe_mm"]["onnxruntime"]) < 0.01
    assert summary["mean_pose_pa_pjpe_mm"] > 5
    assert f"{summary['mean_pose_pa_pjpe_mm']:.2f} mm" in printed
    assert printed.rstrip().splitlines()[-1].startswith("This took")
    assert cv2.imread(str(out / "predictions.png")).shape == (6 * 224 + 22, 5 * 224, 3)
    assert (out / "data" / "preview.png").exists()

    chain.quickstart(out=out, train=True)
    again = capsys.readouterr().out
    assert again.count("done before") == len(chain.FROM_NOTHING)
    assert (out / "bench.txt").read_text().splitlines()[0] in again


def test_the_shipped_model_is_exported_judged_timed_reported_drawn_and_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("anny", reason="needs the extra 'synthetic'")
    monkeypatch.setattr(chain, "SHOWN_TRAIN_IMAGES", 12)
    monkeypatch.setattr(chain, "SHOWN_EVALUATION_IMAGES", 4)
    monkeypatch.setattr(chain, "FINE_TUNING_EPOCHS", 1)
    monkeypatch.setattr(pictures, "DRAWN", 16)
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path / "pretrained")
    out = tmp_path / "first look"
    with pytest.raises(InputError, match=r"no model is shipped.*`cliphand quickstart --train` makes one from nothing"):
        chain.quickstart(out=out)
    assert not out.exists()

    chain.SHOWN[0].make(out)
    tiny_checkpoint(
        pretrained.FOLDER / pretrained.CHECKPOINT,
        load_hand(out / "data" / HAND_NAME),
        crop=CropConfig(rule="joints", margin=1.4),
    )
    capsys.readouterr()
    chain.quickstart(out=out)
    printed = capsys.readouterr().out
    assert "The model that comes with cliphand is used" in printed
    assert printed.count("done before") == 1
    graphs = {artefact.precision for artefact in read_manifest(out / "export").artefacts.values()}
    assert {"fp32", "fp16"} <= graphs
    assert (out / "export" / "report.html").exists()
    assert cv2.imread(str(out / "predictions.png")).shape[1] == 5 * 224
    run = read_json_object(out / "run" / "run.json")
    assert run["train"]["loss"]["clip"] == 0.1
    assert str(run["start"]).endswith("pretrained/checkpoint")
    assert len(read_history(out / "run")) == 1
    assert {"pytorch", "onnxruntime"} <= set(read_json_object(out / "summary.json")["pa_pjpe_mm"])

    chain.quickstart(out=out)
    assert capsys.readouterr().out.count("done before") == len(chain.SHOWN)
