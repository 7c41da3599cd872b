"""The shipped model's recipe from rendering to figures, small; and that it goes on where it stopped."""

import dataclasses
import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("anny", reason="the extra 'synthetic' is not installed")

from benchmarks.studies import default_model
from cliphand.checkpoint import load_checkpoint
from cliphand.data.synthetic import pictures
from cliphand.training.run_place import read_history

SMALL = {"backbone": "test_resnet", "lixel_channels": 16, "joint_feature": 16}


def test_the_recipe_goes_from_nothing_to_figures_and_does_no_step_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = tuple(
        dataclasses.replace(
            step,
            model=dataclasses.replace(step.model, input_size=side, **SMALL),
            train=dataclasses.replace(step.train, batch=4, workers=0, accelerator="cpu"),
        )
        for step, side in zip(default_model.STEPS, (32, 64), strict=True)
    )
    monkeypatch.setattr(default_model, "STEPS", steps)
    monkeypatch.setattr(default_model, "EVALUATION", 2)
    monkeypatch.setattr(pictures, "DRAWN", 16)
    out = tmp_path / "model"
    monkeypatch.setattr(sys, "argv", ["default_model", "--out", str(out), "--renders", "10", "--share", "0.1"])
    default_model.main()
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [len(read_history(out / name)) for name in ("joints", "mesh")] == [2, 1]
    assert result["rows"][0]["images"] == 2
    mesh = load_checkpoint(out / "mesh" / "best")
    assert str(mesh.facts["start"]).endswith("joints/best")
    default_model.main()
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["curve_mm"] == result["curve_mm"]
