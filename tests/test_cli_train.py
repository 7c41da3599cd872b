"""`cliphand train`: what its options become, and which contradict each other."""

import dataclasses
import importlib
import json
import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from checkpoint_files import unbind, watch_loads
from refusal import refused
from small_hand import TINY

from cliphand.checked import to_json
from cliphand.checkpoint import save_checkpoint
from cliphand.cli.train import train
from cliphand.cli.train_help import HELP
from cliphand.cli.train_options import SETTLED, check_options, plan_run
from cliphand.cli.train_run import make_run
from cliphand.config import AugmentConfig, CropConfig, LossConfig, ModelConfig, TextConfig, TrainConfig
from cliphand.data.freihand import open_freihand
from cliphand.data.identity import data_identity
from cliphand.errors import InputError
from cliphand.files import write_json
from cliphand.hand import HandTopology, load_hand, save_hand
from cliphand.model.clip_hand import ClipHand
from cliphand.model.hand_model import HandModel, level_templates
from cliphand.presets import PRESETS
from cliphand.training.distil import Distil
from cliphand.training.distil_config import DistilConfig
from cliphand.training.loop import Run, build_model, run_facts
from cliphand.training.option_names import OPTIONS
from cliphand.training.recipe import Recipe
from cliphand.training.samples import EpochSampler
from export.precision.calibration import HeldOut
from export.qat.quantise_aware import QuantiseAware

CROP = CropConfig(rule="centre", side_px=90.0)
TRAIN = TrainConfig(batch=3, learning_rate=0.5, precision="bf16-mixed", augment=AugmentConfig(rotation_deg=7.0))
WITHOUT_TEXT = TrainConfig(
    backbone_weights="none", validation_fraction=0.0, accelerator="cpu", loss=LossConfig(clip=0.0)
)
VALUES = {"preset": "small", "input_size": 96, "prompt_joints": 3, "crop_side": 50.0, "crop_margin": 2.0}


@pytest.fixture(scope="module")
def checkpoint(hand_topology: HandTopology, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "best"
    torch.manual_seed(0)
    hand = HandModel(TINY, level_templates(hand_topology, TINY.levels))
    save_checkpoint(
        folder,
        model=ClipHand(hand, None),
        model_config=TINY,
        crop=CROP,
        topology=hand_topology,
        train=TRAIN,
        facts={},
    )
    return folder


def made(hand_file: Path, **options: object) -> Run:
    return planned({"hand": hand_file, **options}, data=Path("data"))


def planned(options: dict[str, object], *, data: Path) -> Run:
    return make_run(plan_run(options), options, data=data, out=Path("out"))


@pytest.mark.parametrize(
    ("stage", "after"),
    [
        (
            "joints",
            "the mesh: cliphand train --config {out}/run.json --stage mesh --data {data} --start {out}/best "
            "--out OTHER",
        ),
        ("mesh", "cliphand export {out}/best"),
    ],
)
def test_the_end_says_what_comes_next(
    hand_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    freihand_folder: Callable[..., Path],
    stage: str,
    after: str,
) -> None:
    data = freihand_folder(n_labels=1, size_px=64)
    monkeypatch.setattr("cliphand.training.loop.train_hand", lambda run, resume, tell: run.out)
    train(data=data, out=tmp_path / "run", hand=hand_file, stage=stage, batch=1, validation_fraction=0.0)
    assert capsys.readouterr().out.rstrip().endswith("next: " + after.format(data=data, out=tmp_path / "run"))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"batch": 100, "weight_clip": 0.0, "text_tower": "random"}, "--text-tower does nothing in this run: without"),
        ({"batch": 100, "stage": "joints", "weight_normals": 1.0}, "--weight-normals does nothing in stage joints"),
        ({"batch": 100}, "--batch 100 is more than the 4 training images of an epoch: an epoch is one step, in which"),
        ({"batch": 3, "devices": 2}, "--batch 3 in 2 processes is more than the 4 training images of an epoch"),
        ({"batch": 100, "repeats": 25}, ""),
        ({"batch": 4}, ""),
    ],
)
def test_a_batch_of_more_than_all_images_and_options_that_do_nothing_are_told(
    options: dict[str, object],
    says: str,
    hand_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    freihand_folder: Callable[..., Path],
) -> None:
    monkeypatch.setattr("cliphand.training.loop._train", lambda *_: None)
    monkeypatch.setattr("cliphand.training.loop.train_in_processes", lambda *_, **__: None)
    data = freihand_folder(n_labels=4, size_px=64)
    usual = {"validation_fraction": 0.0, "accelerator": "cpu"}
    train(data=data, out=tmp_path / "run", hand=hand_file, **usual, **options)
    said = " ".join(capsys.readouterr().out.split())
    assert says in said
    assert ("--batch" in said) == bool(says)
    assert ("nothing" in said) == (len(options) == 3)
    if says and "devices" not in options:  # and so it is
        seen = Counter(position for _, position in EpochSampler(range(4), train=TrainConfig(batch=options["batch"])))
        assert set(seen.values()) == {25}
        assert "each image comes 25 times" in said


def test_without_options_a_run_is_the_papers_with_fewer_attention_heads(hand_file: Path) -> None:
    run = made(hand_file)
    assert (run.model, run.crop, run.train) == (PRESETS["light"], CropConfig(), TrainConfig())
    assert made(hand_file, preset="paper").model == dataclasses.replace(run.model, heads=(8, 8, 8, 8)) == ModelConfig()
    assert (run.start, type(run.recipe)) == (None, Recipe)


def test_every_option_reaches_its_config(hand_file: Path, checkpoint: Path) -> None:
    network = {
        "backbone": "resnet34",
        "heads": (8, 4, 4, 2),
        "depths": (2, 1, 0, 0),
        "lixel_channels": 64,
        "joint_feature": 256,
        "attention": "single_token",
    }
    run = made(
        hand_file,
        preset="small",
        **network,
        crop="joints",
        crop_margin=2.0,
        learning_rate=1e-4,
        schedule="cosine",
        reduction="sum",
        blur=0.5,
        weight_normals=0.3,
        weight_heatmaps=0.2,
        prompt_joints=5,
        start=checkpoint,
    )
    assert run.model == dataclasses.replace(PRESETS["small"], **network)
    assert run.crop == CropConfig(rule="joints", margin=2.0)
    assert run.train == TrainConfig(
        learning_rate=1e-4,
        schedule="cosine",
        reduction="sum",
        augment=AugmentConfig(blur_px=0.5),
        loss=LossConfig(normals=0.3, heatmaps=0.2),
        text=TextConfig(joints=5),
    )
    assert run.start is not None
    assert run.start.path == checkpoint


def test_a_student_has_its_teachers_sizes_and_crop_but_its_own_backbone(checkpoint: Path) -> None:
    run = planned(
        {"teacher": checkpoint, "backbone": "test_efficientnet", "input_size": 96, "weight_teacher_heatmaps": 0.5},
        data=Path("data"),
    )
    assert run.model == dataclasses.replace(TINY, backbone="test_efficientnet", input_size=96)
    assert run.crop == CROP
    assert run.train == TrainConfig()
    assert isinstance(run.recipe, Distil)
    assert run.recipe.weights == DistilConfig(heatmaps=0.5)
    named = planned({"teacher": checkpoint, "preset": "small"}, data=Path("data"))
    assert named.model == PRESETS["small"]


def test_quantise_aware_training_goes_on_from_the_checkpoint_in_small_steps(checkpoint: Path) -> None:
    run = planned({"quantise_aware": checkpoint, "batch": 2}, data=Path("data"))
    assert (run.model, run.crop) == (TINY, CROP)
    assert isinstance(run.recipe, QuantiseAware)
    assert run.start is run.recipe.start
    assert run.start.path == checkpoint
    assert run.recipe.calibration.data == Path("data")
    # As the export of the result will read it from this run's facts.
    assert run.recipe.calibration.held_out == HeldOut(Path("data"), run.train.validation_fraction, run.train.seed)
    assert run.train.augment == TRAIN.augment
    assert (run.train.loss.clip, run.train.loss.heatmaps) == (0, 0)
    assert (run.train.batch, run.train.epochs, run.train.precision) == (2, 10, "32-true")
    assert run.train.learning_rate < 1e-4


def test_a_runs_own_record_makes_the_same_run_again(
    hand_file: Path, checkpoint: Path, tmp_path: Path, freihand_folder: Callable[..., Path]
) -> None:
    data = freihand_folder(n_labels=2, size_px=64)
    chosen = {
        "preset": "small",
        "backbone": "resnet34",
        "crop": "joints",
        "learning_rate": 1e-4,
        "blur": 0.5,
        "weight_clip": 0.0,
        "prompt_joints": 5,
    }
    for special in (
        {},
        {"teacher": checkpoint, "weight_teacher_heatmaps": 0.5, "backbone": "test_efficientnet"},
        {"quantise_aware": checkpoint, "batch": 2, "epochs": 3},
    ):
        options = {"hand": hand_file, **(special or chosen)}
        first = planned(options, data=data)
        record = tmp_path / "run.json"
        write_json(record, run_facts(first, open_freihand(data, "training")), None)
        named = {name: value for name, value in options.items() if name in ("hand", *SETTLED)}
        check_options({"config": record, **named})
        again = planned({"config": record, **named}, data=data)
        assert (again.model, again.crop, again.train) == (first.model, first.crop, first.train)
        assert (again.start and again.start.path) == (first.start and first.start.path)
        assert again.recipe.facts() == first.recipe.facts()


@pytest.mark.parametrize("option", ["start", "teacher", "quantise_aware"])
def test_the_checkpoint_to_learn_from_is_loaded_once_and_one_of_old_is_told_of_once(
    option: str,
    checkpoint: Path,
    hand_file: Path,
    tmp_path: Path,
    freihand_folder: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    old = shutil.copytree(checkpoint, tmp_path / "old")
    unbind(old)
    sizes = {} if option == "quantise_aware" else {"model": to_json(TINY)}
    write_json(tmp_path / "mine.json", sizes | {"train": to_json(WITHOUT_TEXT)}, None)
    monkeypatch.setattr("cliphand.training.loop._train", lambda job, *_: build_model(job.run))
    loads = watch_loads(monkeypatch)
    named = {"data": freihand_folder(n_labels=2, size_px=64), "hand": hand_file, "config": tmp_path / "mine.json"}
    train(out=tmp_path / "run", **named, **{option: old})
    assert loads == [old / "model.safetensors"]
    assert caplog.text.count("was written before checkpoints held hashes") == 1


def test_options_given_win_over_the_file_and_a_file_may_say_little(hand_file: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({"train": {"epochs": 7, "loss": {"clip": 0.0}}, "model": {"backbone": "resnet34"}}))
    run = made(hand_file, config=file, epochs=9)
    assert run.train == TrainConfig(epochs=9, loss=LossConfig(clip=0.0))
    assert run.model == ModelConfig(backbone="resnet34")
    assert made(hand_file, config=file, preset="small").model == PRESETS["small"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"trian": {}}, "mine.json has a section 'trian'; valid are model, crop, train, recipe, start and what a run"),
        (None, "^[^ ]*mine.json holds null; it must hold a JSON object with any of the sections model, crop, train, "),
        (
            [{}],
            "^[^ ]*mine.json holds a list; it must hold a JSON object with any of the sections model, crop, train, ",
        ),
        ({"recipe": {"wieghts": {}}}, "^[^ ]*mine.json: recipe: wieghts is unknown; valid is weights, and what a run"),
        ({"recipe": {"calibration_images": 4}}, "^[^ ]*mine.json: recipe: calibration_images is unknown;"),
        ({"recipe": {"weights": {}}}, "recipe: weights are of what a teacher says; give --teacher as well"),
        ({"train": {"epochs": 0}}, "mine.json: train: epochs is 0; it must be at least 1"),
        ({"train": {"epoch": 1}}, "mine.json: train: epoch is unknown"),
        ({"recipe": {"teacher": "abc"}}, "is of a run with --teacher; name that checkpoint with --teacher too"),
        ({"recipe": 3}, "recipe is 3; it must be a JSON object"),
        ({"start": 3}, "start is 3; it must be a path"),
        ({"start": ""}, 'start is ""; it must be a path'),
        ({"train": None}, "^[^ ]*mine.json: train is null; it must be a JSON object.$"),
        ({"model": [1]}, r"^[^ ]*mine.json: model is \[1\]; it must be a JSON object.$"),
        ({"crop": "centre"}, '^[^ ]*mine.json: crop is "centre"; it must be a JSON object.$'),
        ({"recipe": None}, "^[^ ]*mine.json: recipe is null; it must be a JSON object.$"),
        ({"recipe": {"weights": None}}, "^[^ ]*mine.json: recipe: weights is null; it must be a JSON object.$"),
        ({"train": {"loss": None}}, "^[^ ]*mine.json: train: loss is null; it must be a JSON object.$"),
        ({"train": {"epochs": None}}, "^[^ ]*mine.json: train: epochs is null; it must be a valid integer.$"),
        ({"model": {"heads": 8}}, "^[^ ]*mine.json: model: heads is 8; it must be a list.$"),
        ({"train": {"loss": {"clip": True}}}, "^[^ ]*mine.json: train: loss.clip is True; it must be a valid number"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(tmp_path: Path, content: object, says: str) -> None:
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(content))
    with pytest.raises(InputError, match=says):
        train(tmp_path, tmp_path / "out", config=file)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("option", "name"),
    [(option, name) for option, settled in SETTLED.items() for names in settled.values() for name in names],
)
def test_what_an_option_settles_cannot_be_given_with_it(option: str, name: str) -> None:
    sentence = f"--{name.replace('_', '-')} cannot be given with --{option.replace('_', '-')}"
    with pytest.raises(InputError, match=sentence):
        train(Path("data"), Path("out"), **{option: Path("run"), name: VALUES.get(name, "x")})  # type: ignore[arg-type]


def test_every_option_that_fills_a_config_has_its_help() -> None:
    assert sorted(HELP) == sorted(name for _, fields in OPTIONS for name in fields)


def test_a_teachers_weights_need_a_teacher() -> None:
    with pytest.raises(InputError, match="--weight-teacher-joints weighs what a teacher says; give --teacher"):
        check_options({"weight_teacher_joints": 1.0})


@pytest.fixture
def untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    """What imports PyTorch is not reached."""
    monkeypatch.setattr("cliphand.cli.train_run.make_run", lambda *_, **__: pytest.fail("the run was made"))


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("option", ["start", "teacher", "quantise-aware", "config"])
def test_a_checkpoint_to_learn_from_is_looked_at_before_pytorch_is_imported(
    option: str, tmp_path: Path, freihand_folder: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    given = tmp_path / "nowhere"
    if option == "config":
        (tmp_path / "run.json").write_text(json.dumps({"start": str(given)}))
        given = tmp_path / "run.json"
    data = freihand_folder(n_labels=1, size_px=64)
    common = ("--data", data, "--out", tmp_path / "out", "--hand", tmp_path / "hand.npz")
    sentence = refused(capsys, "train", *common, f"--{option}", given, watched=tmp_path)
    assert f"{tmp_path / 'nowhere'} does not exist; give a checkpoint" in sentence


@pytest.mark.usefixtures("untouched")
def test_data_without_a_training_split_is_refused_before_pytorch_is_imported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for data, says in ((tmp_path / "nowhere", "nowhere does not exist"), (tmp_path, "needs the field 'K'")):
        sentence = refused(capsys, "train", "--data", data, "--out", tmp_path / "out", watched=tmp_path)
        assert says in sentence
        assert sentence.endswith("give a folder in FreiHAND's layout.")


BEGUN = {"batch": 4, "learning_rate": 0.5, "heads": (8, 4, 4, 2), "upright": True, "crop_side": 90.0}
# what is given when a run of these options is resumed, and what is said to be odd: what it has, and what was given
RESUMED: dict[str, tuple[dict[str, object], str, str]] = {
    "an option left out": ({"batch": None}, "--batch 4", "--batch 48"),
    "other numbers": (
        {"batch": 5, "learning_rate": 0.25},
        "--batch 4, --learning-rate 0.5",
        "--batch 5, --learning-rate 0.25",
    ),
    "nearly all": (
        {"batch": 5, "learning_rate": 0.25, "heads": (4, 4, 4, 2), "upright": False, "crop_side": 200.0},
        "--heads 8 4 4 2, --crop-side 90.0, --batch 4, --learning-rate 0.5 and 1 more",
        "--heads 4 4 4 2, --crop-side 200.0, --batch 5, --learning-rate 0.25 and 1 more",
    ),
    "several values": ({"heads": (4, 4, 4, 2)}, "--heads 8 4 4 2", "--heads 4 4 4 2"),
    "a switch": ({"upright": False}, "--upright", "--no-upright"),
    "another crop": ({"crop_side": 200.0}, "--crop-side 90.0", "--crop-side 200.0"),
    "a field that has no option": (
        {"config": {"model": {"depth_bins": 32}}},
        "model.depth_bins 64",
        "model.depth_bins 32",
    ),
}


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("case", RESUMED)
def test_resuming_with_other_options_names_what_the_run_has_and_what_was_given(
    case: str, tmp_path: Path, freihand_folder: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    changed, has, given = RESUMED[case]
    out = begin(tmp_path / "out", BEGUN)
    options = {name: value for name, value in (BEGUN | changed).items() if value is not None}
    if "config" in options:
        (tmp_path / "mine.json").write_text(json.dumps(options["config"]))
        options["config"] = tmp_path / "mine.json"
    common = ("--data", freihand_folder(n_labels=1, size_px=64), "--out", out, "--resume")
    sentence = refused(capsys, "train", *common, *typed(options), watched=tmp_path)
    assert sentence.startswith(f"{out} was started with {has}, and is now to go on with {given}; resume with")
    assert "only --epochs and --workers may differ" in sentence


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("other", ["labels", "hand", "no record"])
def test_resuming_on_other_data_is_refused_before_pytorch_is_imported(
    other: str,
    tmp_path: Path,
    hand_file: Path,
    freihand_folder: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    data, hand = freihand_folder(n_labels=1, size_px=64), hand_file
    out = begin(tmp_path / "out", BEGUN, data=None if other == "no record" else data, hand=hand)
    says = f"{out} does not say which data it began with"
    if other == "labels":
        data = freihand_folder(n_labels=1, size_px=64, seed=1)
        says = f"{out} was started with other data (K, xyz, verts, scale differ); resume with what it was started with"
    if other == "hand":
        topology = load_hand(hand_file)
        hand = tmp_path / "other.npz"
        save_hand(dataclasses.replace(topology, template=topology.template * 1.0001), hand)
        says = f"{out} was started with another hand.npz; resume with what it was started with"
    common = ("--data", data, "--hand", hand, "--out", out, "--resume")
    assert refused(capsys, "train", *common, *typed(BEGUN), watched=tmp_path).startswith(says)


def test_a_record_gives_what_its_run_is_resumed_with(
    tmp_path: Path,
    hand_file: Path,
    freihand_folder: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stop(*_: object, **__: object) -> Run:
        raise InputError("the run was made")

    monkeypatch.setattr("cliphand.cli.train_run.make_run", stop)
    data = freihand_folder(n_labels=1, size_px=64)
    out = begin(tmp_path / "out", BEGUN, data=data, hand=hand_file)
    common = ("--data", data, "--hand", hand_file, "--out", out, "--resume")
    for options in (typed(BEGUN), ("--config", out / "run.json"), (*typed(BEGUN), "--epochs", 7, "--workers", 0)):
        assert refused(capsys, "train", *common, *options, watched=tmp_path) == "the run was made"


def test_resuming_with_another_start_or_teacher_names_both(
    checkpoint: Path, tmp_path: Path, freihand_folder: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    common = ("--data", freihand_folder(n_labels=1, size_px=64), "--resume", "--out")
    out = begin(tmp_path / "started", {"start": checkpoint})
    sentence = refused(capsys, "train", *common, out, watched=tmp_path)
    assert re.search(rf"with --start {checkpoint} of the weights \w+\.\.\., and is now .* with no --start;", sentence)
    out = begin(tmp_path / "taught", {"teacher": checkpoint, "weight_teacher_joints": 2.0})
    sentence = refused(capsys, "train", *common, out, "--teacher", checkpoint, watched=tmp_path)
    assert "with --weight-teacher-joints 2.0, and is now to go on with --weight-teacher-joints 1.0;" in sentence
    sentence = refused(capsys, "train", *common, out, watched=tmp_path)
    assert "--teacher of the weights" in sentence
    assert "no --teacher" in sentence


def begin(out: Path, options: dict[str, object], *, data: Path | None = None, hand: Path | None = None) -> Path:
    """A run folder as one of these options has it after an epoch, as far as a look at it goes."""
    out.mkdir()
    of_data = {}
    if data is not None and hand is not None:
        of_data = {"identity": data_identity(open_freihand(data, "training"), load_hand(hand))}
    write_json(out / "run.json", plan_run(options).facts() | of_data, None)
    (out / "resume.ckpt").touch()
    return out


def typed(options: dict[str, object]) -> tuple[object, ...]:
    """Options as they are typed."""
    words: list[object] = []
    for name, value in options.items():
        word = name.replace("_", "-")
        match value:
            case bool():
                words.append(f"--{'' if value else 'no-'}{word}")
            case tuple():
                words += [f"--{word}", *value]
            case _:
                words += [f"--{word}", value]
    return tuple(words)


@pytest.mark.parametrize("option", ["teacher", "quantise_aware"])
def test_a_checkpoint_that_is_not_there_is_refused(option: str, tmp_path: Path, hand_file: Path) -> None:
    with pytest.raises(InputError, match="is not a checkpoint"):
        made(hand_file, **{option: tmp_path})


def test_an_unknown_preset_is_refused(hand_file: Path) -> None:
    with pytest.raises(InputError, match="preset 'large' is unknown"):
        made(hand_file, preset="large")


def test_quantise_aware_training_without_modelopt_stops_before_anything_is_written(
    checkpoint: Path, freihand_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.import_module

    def missing(name: str, package: str | None = None) -> object:
        if name.startswith("modelopt"):
            raise ImportError(f"No module named '{name}'")
        return found(name, package)

    monkeypatch.setattr("export.precision.half.importlib.import_module", missing)
    data = freihand_folder(n_labels=2, size_px=96)
    with pytest.raises(InputError, match=r"pip install -e '\.\[train\]'"):
        train(data, tmp_path / "out", quantise_aware=checkpoint, accelerator="cpu", workers=0)
    assert not (tmp_path / "out").exists()
