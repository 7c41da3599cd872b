"""The shipped model's recipe from rendering to figures, small; that it goes on where it stopped; its ingredients."""

import dataclasses
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("anny", reason="the extra 'synthetic' is not installed")

from benchmarks.studies import default_model, random_weights
from benchmarks.studies.default_model import Step
from cliphand.checkpoint import load_checkpoint
from cliphand.data.synthetic import pictures
from cliphand.training.run_place import read_history

SHARE = "0.1"


def small(step: Step, *, side_px: int) -> Step:
    return dataclasses.replace(
        step,
        model=dataclasses.replace(
            step.model, backbone="test_resnet", lixel_channels=16, joint_feature=16, input_size=side_px
        ),
        train=dataclasses.replace(step.train, batch=4, workers=0, accelerator="cpu"),
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What the recipe leaves, with small networks and ten hands."""
    out = tmp_path_factory.mktemp("default") / "model"
    with pytest.MonkeyPatch.context() as patch:
        steps = tuple(small(step, side_px=side) for step, side in zip(default_model.STEPS, (32, 32, 64), strict=True))
        patch.setattr(default_model, "STEPS", steps)
        patch.setattr(default_model, "EVALUATION", 2)
        patch.setattr(pictures, "DRAWN", 16)
        patch.setattr(sys, "argv", ["default_model", "--out", str(out), "--renders", "10", "--share", SHARE])
        default_model.main()
        yield out


def test_the_recipe_goes_from_nothing_to_figures_and_does_no_step_twice(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert [len(read_history(made / name)) for name in ("joints", "joints_again", "mesh")] == [2, 2, 1]
    mesh = load_checkpoint(made / "mesh" / "best")
    assert str(mesh.facts["start"]).endswith("joints_again/best")
    default_model.main()
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["rows"][0]["images"] == 2
    assert len(result["curve_mm"]) == 1


def test_each_ingredient_is_a_run_with_its_error_and_its_time(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = {name: small(random_weights.ROWS[name], side_px=32) for name in ("whole recipe", "no dense branch")}
    monkeypatch.setattr(random_weights, "ROWS", rows)
    arguments = ["random_weights", str(made / "data"), "--out", str(tmp_path / "rows"), "--epochs", "1", "--seeds", "1"]
    monkeypatch.setattr(sys, "argv", arguments)
    random_weights.main()
    first = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [row["name"] for row in first["rows"]] == list(rows)
    assert "loss_surface" not in read_history(tmp_path / "rows" / "no_dense_branch_0")[0]
    random_weights.main()
    again = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert again["rows"] == first["rows"]  # nothing was trained or timed twice


def test_every_ingredient_differs_from_the_recipe() -> None:
    whole = random_weights.ROWS["whole recipe"]
    others = [step for name, step in random_weights.ROWS.items() if name != "whole recipe"]
    assert all(step != whole for step in others)
    assert len({repr(step) for step in others}) == len(others)
