import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from cliphand.cli.app import main
from cliphand.cli.score import score
from cliphand.data.predictions import write_predictions
from cliphand.errors import InputError
from cliphand.hand import HandTopology
from cliphand.metrics import official_scores, score_joints, score_mesh

app = typer.Typer()
app.command()(score)


@pytest.fixture(scope="module")
def verts(hand_topology: HandTopology) -> np.ndarray:
    """(3, 778, 3) true vertices before a camera, bent so that none is its own mirror image, thumbs before the palm."""
    x, y, z = np.moveaxis(hand_topology.template, 1, 0)
    bent = np.stack([x, y, z - 4 * y**2 + 3 * x * y], axis=1)
    return bent * np.array([1, 1.1, 0.9]).reshape(3, 1, 1) + np.array([0, 0, 0.5])


@pytest.fixture(scope="module")
def xyz(verts: np.ndarray, hand_topology: HandTopology) -> np.ndarray:
    return hand_topology.joint_regressor @ verts


@pytest.fixture
def data(tmp_path: Path, xyz: np.ndarray, verts: np.ndarray) -> Path:
    """A folder with the two label files and nothing else."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "evaluation_xyz.json").write_text(json.dumps(xyz.tolist()))
    (folder / "evaluation_verts.json").write_text(json.dumps(verts.tolist()))
    return folder


@pytest.fixture
def predicted(tmp_path: Path, xyz: np.ndarray, verts: np.ndarray) -> Path:
    """A file of predictions a few millimetres off."""
    rng = np.random.default_rng(0)
    path = tmp_path / "pred.json"
    write_predictions(
        path, xyz + rng.normal(size=xyz.shape) * 0.004, verts + 0.01 + rng.normal(size=verts.shape) * 0.002
    )
    return path


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


def test_the_last_line_holds_what_the_metrics_say(
    data: Path, predicted: Path, xyz: np.ndarray, verts: np.ndarray
) -> None:
    result = invoke(predicted, "--data", data)
    assert result.exit_code == 0
    said = json.loads(result.stdout.splitlines()[-1])
    read_xyz, read_verts = (np.array(field) for field in json.loads(predicted.read_text()))
    joints, mesh = score_joints(read_xyz, xyz), score_mesh(read_verts, verts)
    assert (said["images"], said["data"], said["alignment"]) == (3, str(data), "rotation")
    assert said["joints"]["pa_pjpe_mm"] == joints.pa_pjpe_mm
    assert said["mesh"]["pa_pvpe_mm"] == mesh.pa_pvpe_mm
    assert said["mesh"]["pa_f_at_5"] == mesh.pa_f_at_5
    assert said["mesh"]["auc_range_mm"] == [0, 50]
    table = result.stdout.split("{")[0]
    for figure in (joints.pjpe_mm, joints.pa_pjpe_mm, mesh.pa_pvpe_mm, mesh.f_at_5, mesh.pa_f_at_5):
        assert f"{figure:.4f}" in table


def test_official_gives_the_official_keys_and_nothing_else(
    data: Path, predicted: Path, xyz: np.ndarray, verts: np.ndarray
) -> None:
    result = invoke(predicted, "--data", data, "--official")
    read_xyz, read_verts = (np.array(field) for field in json.loads(predicted.read_text()))
    expected = official_scores(read_xyz, xyz, predicted_verts=read_verts, target_verts=verts)
    assert json.loads(result.stdout.splitlines()[-1]) == expected
    assert f"{expected['f_al_score_5']:.6f}" in result.stdout.split("{")[0]


@pytest.mark.parametrize("official", [False, True])
def test_the_json_file_holds_the_last_line(data: Path, predicted: Path, tmp_path: Path, *, official: bool) -> None:
    out = tmp_path / "out" / "scores.json"
    for _ in range(2):  # the second time over its own file
        result = invoke(predicted, "--data", data, "--json", out, *(["--official"] if official else []))
        assert result.exit_code == 0
    assert json.loads(out.read_text()) == json.loads(result.stdout.splitlines()[-1])


@pytest.mark.parametrize("missing", ["in the predictions", "in the folder"])
def test_without_vertices_mesh_figures_are_null(data: Path, predicted: Path, xyz: np.ndarray, missing: str) -> None:
    if missing == "in the folder":
        (data / "evaluation_verts.json").unlink()
    else:
        write_predictions(predicted, xyz)
    result = invoke(predicted, "--data", data)
    assert json.loads(result.stdout.splitlines()[-1])["mesh"] is None
    assert "No vertices" in result.stdout
    official = json.loads(invoke(predicted, "--data", data, "--official").stdout.splitlines()[-1])
    assert list(official) == ["xyz_mean3d", "xyz_auc3d", "xyz_al_mean3d", "xyz_al_auc3d"]


@pytest.mark.parametrize("official", [False, True])
def test_a_mirrored_hand_is_told_on_stderr(
    data: Path, predicted: Path, verts: np.ndarray, xyz: np.ndarray, *, official: bool
) -> None:
    flip = np.array([-1, 1, 1])
    write_predictions(predicted, xyz * flip, verts * flip)
    result = invoke(predicted, "--data", data, *(["--official"] if official else []))
    assert "warning: 3 of 3 hands fit better mirrored: PA-PJPE" in result.stderr
    assert "warning: 3 of 3 hands fit better mirrored: PA-PVPE" in result.stderr
    said = json.loads(result.stdout.splitlines()[-1])
    if official:
        assert (said["xyz_al_mean3d"], said["mesh_al_mean3d"]) == (0, 0)
    else:
        assert said["joints"]["pa_pjpe_mm"] > 1
        assert said["mesh"]["pa_pvpe_mm"] > 1


@pytest.mark.parametrize("field", ["xyz", "verts"])
def test_counts_that_differ_are_refused_by_file_and_field(
    data: Path, predicted: Path, xyz: np.ndarray, verts: np.ndarray, field: str
) -> None:
    labels = {"xyz": xyz, "verts": verts}[field][:2]
    path = data / f"evaluation_{field}.json"
    path.write_text(json.dumps(labels.tolist()))
    with pytest.raises(InputError) as caught:
        score(predicted, data=data)
    assert f"{predicted}: field '{field}' has 3 entries but {path} has 2" in str(caught.value)


def test_a_folder_without_joints_is_refused_by_file(data: Path, predicted: Path) -> None:
    (data / "evaluation_xyz.json").unlink()
    with pytest.raises(InputError, match=r"evaluation_xyz\.json does not exist"):
        score(predicted, data=data)


def test_a_label_that_is_not_finite_is_refused_by_file_and_field(data: Path, predicted: Path, xyz: np.ndarray) -> None:
    broken = xyz.copy()
    broken[1, 4, 0] = np.nan
    (data / "evaluation_xyz.json").write_text(json.dumps(broken.tolist()))
    with pytest.raises(InputError, match=r"evaluation_xyz\.json: field 'xyz', entry 1"):
        score(predicted, data=data)


def test_nothing_is_written_where_the_predictions_are_bad(data: Path, tmp_path: Path) -> None:
    (tmp_path / "pred.json").write_text("[]")
    with pytest.raises(InputError, match="is not a JSON list"):
        score(tmp_path / "pred.json", data=data, json_file=tmp_path / "scores.json")
    assert not (tmp_path / "scores.json").exists()


def test_the_command_line_tells_bad_input_in_one_sentence_and_exits_with_2(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["cliphand", "score", str(tmp_path / "absent.json"), "--data", str(data)])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "absent.json does not exist; give a prediction file" in said.err


@pytest.fixture
def real_case(real_dir: Path, tmp_path: Path) -> Callable[[str], tuple[Path, Path]]:
    """The official evaluator's inputs as a prediction file and a folder of labels."""

    def make(name: str) -> tuple[Path, Path]:
        with np.load(real_dir / name) as archive:
            arrays = {key: archive[key] for key in archive.files}
        for field in ("xyz", "verts"):
            if f"gt_{field}" in arrays:
                (tmp_path / f"evaluation_{field}.json").write_text(json.dumps(arrays[f"gt_{field}"].tolist()))
        write_predictions(tmp_path / "pred.json", arrays["pred_xyz"], arrays.get("pred_verts"))
        return tmp_path / "pred.json", tmp_path

    return make


@pytest.mark.real
@pytest.mark.parametrize("name", ["official_mesh.npz", "official_joints.npz"])
def test_the_command_gives_what_the_official_evaluator_printed(
    real_dir: Path, real_case: Callable[[str], tuple[Path, Path]], name: str
) -> None:
    predictions, folder = real_case(name)
    result = invoke(predictions, "--data", folder, "--official")
    expected = json.loads((real_dir / "official_scores.json").read_text())[name]
    assert json.loads(result.stdout.splitlines()[-1]) == expected
