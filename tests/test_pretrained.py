"""The model that comes with cliphand: made from a checkpoint, taken where none is named, and said to be taken."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from small_hand import TINY, tiny_checkpoint
from typer.testing import CliRunner

import benchmarks.studies.ship_model as maker
import cliphand.pretrained as pretrained
from benchmarks.studies.model_card import Evidence
from benchmarks.studies.ship_model import Shipment, packed_sizes, ship
from cliphand.checkpoint import load_checkpoint, save_checkpoint, save_small_checkpoint
from cliphand.cli.app import app
from cliphand.config import CropConfig
from cliphand.errors import InputError
from cliphand.hand import HandTopology
from cliphand.model.clip_hand import ClipHand
from engines.artefact.manifest import checkpoint_path, read_manifest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def data(freihand_folder: Callable[..., Path]) -> Path:
    return freihand_folder(n_labels=2)


@pytest.fixture(scope="module")
def trained(data: Path, hand_topology: HandTopology, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("run") / "best", hand_topology, facts={"data": str(data)})


@pytest.fixture(scope="module")
def made(trained: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shipped model, with its FP32 graph."""
    folder = tmp_path_factory.mktemp("pretrained")
    results = folder.parent / "results.json"
    row = {"data": "real/ge97", "images": 97, "pa_pjpe_mm": 15.25, "mean_pose_pa_pjpe_mm": 24.1}
    row |= {"one_look_pa_pjpe_mm": 16.0, "lixel_pa_pjpe_mm": 15.5, "difference_interval_mm": [-9.0, -8.0]}
    step = {"step": "mesh", "input_px": 64, "epochs": 4, "views": 800, "learning_rate": 1e-3, "validation_mm": 9.5}
    results.write_text(json.dumps({"rows": [row], "steps": [step], "command": "python -m made"}))
    floors, limits = results.with_name("floors.json"), results.with_name("limits.md")
    floor = {"data": "/elsewhere/ge97", "joints": "labelled", "best_shape_mm": 3.3}
    floors.write_text(json.dumps({"rows": [floor | {"joints": "skeleton", "best_shape_mm": 9.4}, floor]}))
    limits.write_text("## What it fails at\n\nFists.\n")
    evidence = Evidence(results, floors, limits)
    ship(Shipment(trained, data, keep=("fp32",), evidence=evidence, images=2), folder)
    return folder


@pytest.fixture
def shipped(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`made` as the model of this version, and an empty current folder."""
    monkeypatch.setattr(pretrained, "FOLDER", made)
    monkeypatch.chdir(tmp_path)
    return made


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_weights_are_stored_in_half_the_bytes_and_load_as_fp32(trained: Path, made: Path) -> None:
    assert "data" not in load_checkpoint(made / "checkpoint").facts  # a path of the machine that trained
    before, after = load_checkpoint(trained).model.state_dict(), load_checkpoint(made / "checkpoint").model.state_dict()
    size = {folder: (folder / "model.safetensors").stat().st_size for folder in (trained, made / "checkpoint")}
    assert size[made / "checkpoint"] < 0.65 * size[trained]
    for name, value in before.items():
        expected = value.half().float() if value.dtype == torch.float32 else value
        assert after[name].dtype == value.dtype
        assert torch.equal(after[name], expected), name


def test_a_weight_beyond_fp16_is_refused(
    trained: Path, tmp_path: Path, hand_topology: HandTopology, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = maker.load_checkpoint(trained)
    whole.model.encoder.get_parameter(next(name for name, _ in whole.model.encoder.named_parameters())).data.fill_(1e6)
    save_checkpoint(
        tmp_path / "large",
        model=ClipHand(whole.model, None),
        model_config=TINY,
        crop=CropConfig(),
        topology=hand_topology,
        train=None,
        facts={},
    )
    with pytest.raises(InputError, match="beyond FP16's range"):
        save_small_checkpoint(tmp_path / "large", tmp_path / "small")
    assert not (tmp_path / "small").exists()


def test_the_card_tells_how_it_was_made_its_errors_its_limits_and_what_the_gate_found(made: Path) -> None:
    card = (made / "card.md").read_text()
    assert "| ge97 | 97 | 15.25 | 16.00 | 15.50 | 24.10 | -9.00 to -8.00 | 3.30 |" in card
    assert "`python -m made`" in card
    assert "| mesh | 64 | 4 | 800 | 0.001 | - | 9.50 |" in card
    assert "Fists." in card
    assert "| model.onnx | onnxruntime fp32 | 2 |" in card
    assert load_checkpoint(made / "checkpoint").sha256 in card


def test_a_result_of_another_study_is_refused(trained: Path, data: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"rows": [{"data": "ge97", "kind": "plain"}]}))
    with pytest.raises(
        InputError, match=r"no rows with data and pa_pjpe_mm; give what benchmarks.studies.default_model"
    ):
        ship(Shipment(trained, data, keep=("fp32",), evidence=Evidence(other), images=2), tmp_path / "pretrained")
    assert not (tmp_path / "pretrained").exists()


def test_what_is_too_large_for_the_wheel_is_refused_with_its_sizes(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sum(packed_sizes(made).values()) < 20_000_000
    monkeypatch.setattr(maker, "MAX_BYTES", 100_000)
    with pytest.raises(InputError, match=r"0 at most \(card.md 0.0, checkpoint/config.json .*; keep fewer graphs"):
        packed_sizes(made)


def test_predict_takes_it_says_so_and_imports_no_pytorch(shipped: Path, data: Path, tmp_path: Path) -> None:
    program = (
        "import sys, pathlib, cliphand.pretrained\n"
        "cliphand.pretrained.FOLDER = pathlib.Path(sys.argv[1])\n"
        "from cliphand.cli.app import app\n"
        "app(sys.argv[2:], standalone_mode=False)\n"
        "print(sorted(name for name in ('torch', 'timm', 'lightning', 'scipy') if name in sys.modules))\n"
    )
    photograph = data / "evaluation" / "rgb" / "00000000.jpg"
    arguments = [shipped, "predict", photograph, "--out", tmp_path, "--engine", "ort"]
    result = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    lines = result.stdout.splitlines()
    assert lines[-1] == "[]", result.stderr
    assert lines[0] == f"The model that comes with cliphand is used; its card: {shipped / 'card.md'}."
    assert (tmp_path / "00000000.hand.json").exists()
    assert not (tmp_path / "exports").exists()


def test_inspect_works_on_a_copy_that_knows_its_checkpoint(shipped: Path, tmp_path: Path) -> None:
    assert "exports/pretrained is a copy of its export." in run("inspect")
    copy = tmp_path / "exports" / "pretrained"
    assert checkpoint_path(read_manifest(copy), copy) == (shipped / "checkpoint").resolve()
    assert "is a copy" not in run("inspect")  # it is the newest export now


def test_export_without_a_run_takes_it(shipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[Path] = []
    manifest = read_manifest(shipped / "export")
    monkeypatch.setattr(
        "export.folder.write.write_export", lambda checkpoint, folder, **_: taken.append(checkpoint.path) or manifest
    )
    assert "The model that comes with cliphand is used" in run("export", "--no-tensorrt").replace("\n", " ")
    assert taken == [shipped / "checkpoint"]
    assert Path("exports/pretrained").is_dir()


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (("predict", "PHOTO"), "give --export DIR"),
        (("export",), "there is no run under runs"),
        (("inspect",), "there is no export under exports"),
        (("bench", "--data", "DATA"), "there is no export under exports"),
        (("report",), "there is no export under exports"),
    ],
)
def test_without_a_model_one_sentence_says_so(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], advice: str
) -> None:
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path)
    monkeypatch.chdir(tmp_path)
    given = {"PHOTO": str(data / "evaluation" / "rgb" / "00000000.jpg"), "DATA": str(data)}
    with pytest.raises(InputError, match="no model is shipped with this version") as caught:
        CliRunner().invoke(app, [given.get(word, word) for word in arguments], catch_exceptions=False)
    assert advice in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_the_wheel_holds_whatever_lies_in_the_folder(tmp_path: Path) -> None:
    """Hatch takes files that version control does not ignore: an ignored ending would leave the model out."""
    names = ("card.md", "checkpoint/model.safetensors", "checkpoint/config.json", "export/model.int8.onnx")
    paths = [f"cliphand/pretrained/{name}" for name in (*names, "export/hand.npz", "export/manifest.json")]
    ignored = subprocess.run(["git", "check-ignore", *paths], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ignored.stdout == ""
