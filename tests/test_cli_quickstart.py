"""The whole chain in miniature, for real."""

import json
from pathlib import Path

import cv2
import pytest
from small_hand import TINY

from cliphand.cli import quickstart as chain
from cliphand.presets import PRESETS


def test_one_command_leaves_data_model_export_report_and_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("anny", reason="needs the extra 'synthetic'")
    monkeypatch.setattr(chain, "TRAIN_IMAGES", 40)
    monkeypatch.setattr(chain, "EVALUATION_IMAGES", 6)
    monkeypatch.setattr(chain, "EPOCHS", 1)
    monkeypatch.setitem(PRESETS, "small", TINY)
    out = tmp_path / "first look"
    chain.quickstart(out=out)
    printed = capsys.readouterr().out
    summary = json.loads((out / "summary.json").read_text())
    assert set(summary["pa_pjpe_mm"]) == {"pytorch", "onnxruntime"}
    assert abs(summary["pa_pjpe_mm"]["pytorch"] - summary["pa_pjpe_mm"]["onnxruntime"]) < 0.01
    assert summary["mean_pose_pa_pjpe_mm"] > 5
    assert f"{summary['mean_pose_pa_pjpe_mm']:.2f} mm" in printed
    assert printed.rstrip().splitlines()[-1].startswith("This took")
    assert cv2.imread(str(out / "predictions.png")).shape == (6 * 224 + 22, 5 * 224, 3)
    assert (out / "data" / "preview.png").exists()

    chain.quickstart(out=out)
    again = capsys.readouterr().out
    assert again.count("done before") == len(chain.STAGES)
    assert (out / "bench.txt").read_text().splitlines()[0] in again
