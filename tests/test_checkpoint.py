"""Checkpoints come back as they were, and broken ones are refused by name."""

import shutil
from pathlib import Path

import pytest
import torch
from checkpoint_files import edit_config, edit_weights, rebind
from safetensors.torch import load_file

from cliphand.checkpoint import load_checkpoint, load_text_branch, save_checkpoint
from cliphand.checkpoint_place import checkpoint_folder, newest_checkpoint
from cliphand.claims import check_folder
from cliphand.config import CropConfig, ModelConfig, TextConfig, TrainConfig
from cliphand.errors import InputError
from cliphand.hand import HandTopology
from cliphand.kinds import IMPORTED
from cliphand.model.clip_hand import ClipHand, TextBranch
from cliphand.model.hand_model import HandModel, level_templates
from cliphand.model.text_encoder import TextTower

MODEL = ModelConfig(backbone="resnet18", input_size=64)
TRAIN = TrainConfig(text=TextConfig(tower="random", joints=5), seed=3)
CROP = CropConfig(rule="centre", side_px=120)


@pytest.fixture(scope="module")
def trained(hand_topology: HandTopology) -> ClipHand:
    torch.manual_seed(1)
    hand = HandModel(MODEL, level_templates(hand_topology, MODEL.levels))
    return ClipHand(hand, TextBranch(MODEL, TRAIN.text, TextTower("random", seed=TRAIN.seed))).eval()


@pytest.fixture(scope="module")
def saved(trained: ClipHand, hand_topology: HandTopology, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "best"
    save(folder, trained, hand_topology)
    return folder


@pytest.fixture
def broken(saved: Path, tmp_path: Path) -> Path:
    """A copy of the checkpoint, to be broken."""
    folder = tmp_path / "best"
    folder.mkdir()
    for path in saved.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def save(folder: Path, model: ClipHand, topology: HandTopology, *, epoch: int = 7) -> None:
    save_checkpoint(
        folder,
        model=model,
        model_config=MODEL,
        crop=CROP,
        topology=topology,
        train=TRAIN,
        facts={"epoch": epoch, "text_tower": "random"},
    )


def test_a_checkpoint_comes_back_to_the_bit(saved: Path, trained: ClipHand, hand_topology: HandTopology) -> None:
    loaded = load_checkpoint(saved)
    images = torch.randn(2, 3, 64, 64)
    for ours, theirs in zip(loaded.model(images), trained.hand(images), strict=True):
        assert torch.equal(ours, theirs)
    assert (loaded.model_config, loaded.crop, loaded.train) == (MODEL, CROP, TRAIN)
    assert loaded.facts["epoch"] == 7
    assert (loaded.topology.joint_regressor == hand_topology.joint_regressor).all()
    assert (loaded.topology.faces == hand_topology.faces).all()
    assert load_checkpoint(saved / "model.safetensors").sha256 == loaded.sha256


def test_the_frozen_tower_is_not_stored_and_had_again(saved: Path, trained: ClipHand) -> None:
    assert not [key for key in load_file(saved / "model.safetensors") if "tower" in key]
    branch, original = load_text_branch(load_checkpoint(saved)), trained.text
    assert original is not None
    tokens = torch.zeros(2, 3, 77, dtype=torch.int64)
    tokens[..., :3] = torch.tensor([49406, 320, 49407])
    logits = (torch.randn(2, 21, 8), torch.randn(2, 21, 8), torch.randn(2, 21, 64))
    assert torch.equal(branch(logits, tokens).text, original(logits, tokens).text)
    assert torch.equal(branch(logits, tokens).pose, original(logits, tokens).pose)


def test_saving_again_replaces_the_old_one(trained: ClipHand, hand_topology: HandTopology, tmp_path: Path) -> None:
    for epoch in (1, 2):
        save(tmp_path / "last", trained, hand_topology, epoch=epoch)
    assert load_checkpoint(tmp_path / "last").facts["epoch"] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["last"]


def test_an_import_does_not_replace_what_was_trained(
    trained: ClipHand, hand_topology: HandTopology, tmp_path: Path
) -> None:
    save(tmp_path / "best", trained, hand_topology)
    with pytest.raises(InputError, match=r"holds config\.json, model\.safetensors, which `cliphand import-released`"):
        check_folder(tmp_path / "best", IMPORTED)


def test_what_was_put_into_a_checkpoint_is_not_lost(
    trained: ClipHand, hand_topology: HandTopology, tmp_path: Path
) -> None:
    save(tmp_path / "best", trained, hand_topology, epoch=1)
    (tmp_path / "best" / "notes.txt").write_text("the best of three")
    with pytest.raises(InputError, match=r"holds notes\.txt, which `cliphand train` did not write"):
        save(tmp_path / "best", trained, hand_topology, epoch=2)
    assert (tmp_path / "best" / "notes.txt").read_text() == "the best of three"
    assert load_checkpoint(tmp_path / "best").facts["epoch"] == 1


def test_a_failed_save_leaves_the_old_one(
    trained: ClipHand, hand_topology: HandTopology, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "last", trained, hand_topology, epoch=1)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cliphand.checkpoint.write_json", full)
    with pytest.raises(OSError, match="No space left"):
        save(tmp_path / "last", trained, hand_topology, epoch=2)
    assert load_checkpoint(tmp_path / "last").facts["epoch"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["last"]


def test_a_missing_tensor_is_named(broken: Path) -> None:
    edit_weights(broken, lambda weights: weights.pop("hand.mesh_regressor.out.bias"))
    rebind(broken)
    with pytest.raises(InputError, match=r"'mesh_regressor.out.bias' is missing, must be float32 \(3,\)"):
        load_checkpoint(broken)


def test_a_tensor_of_another_shape_is_named(broken: Path) -> None:
    edit_config(broken, lambda config: config["model"].update(joint_feature=256))
    rebind(broken)
    said = r"joint_feature.flatten.weight' is float32 \(512, 256\), must be float32 \(256, 256\)"
    with pytest.raises(InputError, match=said):
        load_checkpoint(broken)


def test_an_unknown_config_key_is_named(broken: Path) -> None:
    edit_config(broken, lambda config: config["model"].update(widht=3))
    rebind(broken)
    with pytest.raises(InputError, match=r"config\.json, model: widht is unknown"):
        load_checkpoint(broken)


def test_a_newer_format_is_refused(broken: Path) -> None:
    edit_config(broken, lambda config: config.update(format=3))
    with pytest.raises(InputError, match="has format 3; this version of cliphand reads 2"):
        load_checkpoint(broken)


def test_truncated_weights_are_refused(broken: Path) -> None:
    data = (broken / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=r"is not the file that config\.json beside it describes"):
        load_checkpoint(broken)
    rebind(broken)
    with pytest.raises(InputError, match="not a readable safetensors file"):
        load_checkpoint(broken)


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"not a checkpoint: it holds no config.json"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("named", [".", "best"])
def test_a_run_without_a_finished_epoch_is_told_apart_from_a_folder_of_something_else(
    tmp_path: Path, named: str
) -> None:
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(InputError, match=rf"{tmp_path} is a run of which no epoch has finished.* --resume --data DATA"):
        load_checkpoint(tmp_path / named)


def test_the_newest_run_gives_its_best(trained: ClipHand, hand_topology: HandTopology, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no run under"):
        newest_checkpoint(tmp_path)
    for name in ("old/last", "new/best", "new/last"):
        save(tmp_path / name, trained, hand_topology)
    assert newest_checkpoint(tmp_path) == tmp_path / "new/best"


def test_a_run_folder_means_its_best_checkpoint_and_its_last_before_one_is_best(
    trained: ClipHand, hand_topology: HandTopology, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    save(run / "last", trained, hand_topology, epoch=2)
    assert load_checkpoint(run).path == run / "last"
    save(run / "best", trained, hand_topology, epoch=1)
    assert load_checkpoint(run).facts["epoch"] == 1
    for path in (run, run / "best", run / "best" / "model.safetensors"):
        assert checkpoint_folder(path) == run / "best"
    assert checkpoint_folder(run / "last") == run / "last"
    assert checkpoint_folder(tmp_path) == tmp_path


@pytest.mark.parametrize("facts", [[], None, "epoch 3", 3, True])
def test_facts_that_are_no_object_are_refused(saved: Path, tmp_path: Path, facts: object) -> None:
    folder = shutil.copytree(saved, tmp_path / "copy")
    edit_config(folder, lambda config: config.update(facts=facts))
    rebind(folder)
    with pytest.raises(InputError, match=r"config\.json: facts are .*; they must be a JSON object"):
        load_checkpoint(folder)
