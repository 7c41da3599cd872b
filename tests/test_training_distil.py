"""A student and its teacher: what is compared, that it teaches, and what is left of it."""

import copy
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from cliphand.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from cliphand.config import AugmentConfig, CropConfig, LossConfig, ModelConfig, TrainConfig
from cliphand.data.crop import resize_matrix
from cliphand.data.freihand import open_freihand
from cliphand.errors import InputError
from cliphand.hand import HandTopology
from cliphand.model.clip_hand import ClipHand
from cliphand.model.hand_model import HandModel, level_templates
from cliphand.training.distil import (
    Distil,
    DistilTraining,
    Taught,
    TaughtPairs,
    feature_loss,
    heatmap_loss,
)
from cliphand.training.distil_config import DistilConfig
from cliphand.training.loop import Run, train_hand
from cliphand.training.module import both_views
from cliphand.training.run_place import read_history
from cliphand.training.samples import PairDataset

TEACHER = ModelConfig(
    backbone="test_resnet",
    input_size=96,
    lixel_channels=16,
    depth_bins=16,
    joint_feature=32,
    feature_sizes=(32, 24, 16, 16),
    depths=(1, 0, 0, 0),
    heads=(4, 4, 2, 2),
)
STUDENT = dataclasses.replace(TEACHER, backbone="test_efficientnet", input_size=64)
STILL = AugmentConfig(rotation_deg=20, scale=0.1, shift=0.05, colour=0, blur_px=0, noise=0)
TRAIN = TrainConfig(
    epochs=3,
    repeats=4,
    batch=4,
    accelerator="cpu",
    workers=0,
    validation_fraction=0,
    backbone_weights="none",
    augment=STILL,
    loss=LossConfig(clip=0.0),
)
TERMS = ("joints", "vertices", "heatmaps", "features")


@pytest.fixture(scope="module")
def data(freihand_folder: Callable[..., Path]) -> Path:
    return freihand_folder(n_labels=4, size_px=96)


@pytest.fixture(scope="module")
def teacher(hand_topology: HandTopology, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    torch.manual_seed(1)
    hand = HandModel(TEACHER, level_templates(hand_topology, TEACHER.levels))
    folder = tmp_path_factory.mktemp("teacher") / "best"
    save_checkpoint(
        folder,
        model=ClipHand(hand, None),
        model_config=TEACHER,
        crop=CropConfig(mean=(0.4, 0.5, 0.6)),
        topology=hand_topology,
        train=None,
        facts={},
    )
    return load_checkpoint(folder)


@pytest.fixture(scope="module")
def run(data: Path, teacher: Checkpoint, hand_topology: HandTopology, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run of three epochs."""
    made = Run(
        data=data,
        topology=hand_topology,
        out=tmp_path_factory.mktemp("runs") / "student",
        model=STUDENT,
        crop=teacher.crop,
        train=TRAIN,
        recipe=Distil(teacher, DistilConfig()),
    )
    train_hand(made, progress=False)
    return made


def taught_batch(data: Path, teacher: Checkpoint, student: ModelConfig) -> Taught:
    split = open_freihand(data, "training")
    pairs = PairDataset(
        split,
        np.arange(4),
        crop=teacher.crop,
        side_px=student.input_size,
        train=TRAIN,
        tokenise=lambda prompts: torch.zeros(3, 77, dtype=torch.int64),
    )
    samples = TaughtPairs(pairs, teacher.crop, teacher.model_config.input_size)
    return torch.utils.data.default_collate([samples[0, 0], samples[0, 1]])


def test_a_student_with_the_teachers_weights_has_nothing_to_learn_from_it(
    data: Path, teacher: Checkpoint, hand_topology: HandTopology
) -> None:
    for perturbed in (False, True):
        hand = copy.deepcopy(teacher.model)
        if perturbed:
            with torch.no_grad():
                for weight in hand.parameters():
                    weight.mul_(1.05)
        module = DistilTraining(
            ClipHand(hand, None),
            topology=hand_topology,
            model_config=TEACHER,
            train=TRAIN,
            teacher=teacher,
            weights=DistilConfig(),
        ).eval()
        batch = taught_batch(data, teacher, TEACHER)
        with torch.no_grad():
            terms = module.teacher_terms(hand.predict(both_views(batch.pair)), batch)
        assert set(terms) == {f"teacher_{name}" for name in TERMS}
        for name, value in terms.items():
            assert (float(value) > 1e-5) is perturbed, name


def test_the_teacher_sees_the_students_crops_at_its_own_size(data: Path, teacher: Checkpoint) -> None:
    same = taught_batch(data, teacher, TEACHER)
    assert torch.equal(same.first, same.pair.first.image)
    assert torch.equal(same.second, same.pair.second.image)
    twice = taught_batch(data, teacher, dataclasses.replace(TEACHER, input_size=192))
    halved = torch.nn.functional.avg_pool2d(twice.pair.first.image, 2)
    assert twice.first.shape[-1] == 96
    assert (twice.first - halved).abs().mean() < 0.05


def test_crops_of_two_sizes_share_their_edges() -> None:
    edges = np.array([[-0.5, 63.5], [-0.5, 63.5], [1, 1]])
    np.testing.assert_allclose((resize_matrix(64, 96) @ edges)[:2], [[-0.5, 95.5], [-0.5, 95.5]])


def test_every_term_is_logged_and_falls(run: Run) -> None:
    first, *_, last = read_history(run.out)
    assert all(last[f"loss_teacher_{name}"] < first[f"loss_teacher_{name}"] for name in TERMS)
    assert last["loss"] < first["loss"]


def test_the_loss_is_the_weighted_sum_of_labels_and_teacher(run: Run) -> None:
    entry, weights = read_history(run.out)[0], dataclasses.asdict(TRAIN.loss)
    labels = sum(
        weights[name.removeprefix("loss_")] * value
        for name, value in entry.items()
        if name.startswith("loss_") and not name.startswith("loss_teacher_")
    )
    taught = sum(getattr(DistilConfig(), name) * entry[f"loss_teacher_{name}"] for name in TERMS)
    assert entry["loss"] == pytest.approx(labels + taught, rel=1e-4)


def test_the_checkpoint_is_the_students_alone(run: Run, teacher: Checkpoint) -> None:
    keys = set(load_file(run.out / "last" / "model.safetensors"))
    assert {key.partition(".")[0] for key in keys} == {"hand", "topology"}
    checkpoint = load_checkpoint(run.out / "last")
    assert checkpoint.model_config == STUDENT
    assert checkpoint.facts["recipe"] == {"teacher": teacher.sha256, "weights": dataclasses.asdict(DistilConfig())}


def test_the_teacher_is_left_as_it_was(run: Run, teacher: Checkpoint) -> None:
    fresh = load_checkpoint(teacher.path).model.state_dict()
    assert all(torch.equal(fresh[key], value) for key, value in teacher.model.state_dict().items())
    state = torch.load(run.out / "resume.ckpt", weights_only=True)["state_dict"]
    assert {key.partition(".")[0] for key in state} == {"model", "adapters"}


def test_a_resumed_run_has_the_losses_of_an_uninterrupted_one(run: Run, tmp_path: Path) -> None:
    part = dataclasses.replace(run, out=tmp_path / "part", train=dataclasses.replace(TRAIN, epochs=1))
    train_hand(part, progress=False)
    train_hand(dataclasses.replace(part, train=TRAIN), resume=True, progress=False)
    for ours, theirs in zip(read_history(part.out), read_history(run.out), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)


def test_resuming_with_other_weights_is_refused(run: Run, teacher: Checkpoint) -> None:
    other = dataclasses.replace(run, recipe=Distil(teacher, DistilConfig(joints=2.0)))
    with pytest.raises(
        InputError, match=r"with --weight-teacher-joints 1\.0, and is now to go on with --weight-teacher-joints 2\.0"
    ):
        train_hand(other, resume=True, progress=False)
    assert json.loads((run.out / "run.json").read_text())["recipe"]["weights"]["joints"] == 1.0


def test_terms_without_a_weight_are_left_out(data: Path, teacher: Checkpoint, hand_topology: HandTopology) -> None:
    hand = HandModel(STUDENT, level_templates(hand_topology, STUDENT.levels))
    module = DistilTraining(
        ClipHand(hand, None),
        topology=hand_topology,
        model_config=STUDENT,
        train=TRAIN,
        teacher=teacher,
        weights=DistilConfig(joints=0, heatmaps=0, features=0),
    )
    batch = taught_batch(data, teacher, STUDENT)
    terms = module.teacher_terms(hand.predict(both_views(batch.pair)), batch)
    assert set(terms) == {"teacher_vertices"}
    assert len(module.adapters) == 0


def test_what_cannot_be_taught_is_refused(teacher: Checkpoint, hand_topology: HandTopology) -> None:
    wide = dataclasses.replace(STUDENT, depth_range=2.0)
    model = ClipHand(HandModel(wide, level_templates(hand_topology, wide.levels)), None)
    facts = {"topology": hand_topology, "model_config": wide, "train": TRAIN}
    with pytest.raises(InputError, match=r"depth bins span .* bones from .*, the student.s"):
        Distil(teacher, DistilConfig()).module(model, **facts)
    assert Distil(teacher, DistilConfig(heatmaps=0)).module(model, **facts)
    silent = facts | {"train": dataclasses.replace(TRAIN, loss=LossConfig(0, 0, 0, 0, 0, 0, 0))}
    assert Distil(teacher, DistilConfig(heatmaps=0)).module(model, **silent)  # the teacher's terms are enough
    joints_only = facts | {"train": dataclasses.replace(TRAIN, stage="joints")}
    with pytest.raises(InputError, match="a teacher teaches stage mesh"):
        Distil(teacher, DistilConfig(heatmaps=0)).module(model, **joints_only)
    with pytest.raises(InputError, match="every weight of the teacher's terms is zero"):
        DistilConfig(0, 0, 0, 0)
    with pytest.raises(InputError, match="joints is -1; it must be at least 0"):
        DistilConfig(joints=-1)


def test_heatmaps_of_other_lengths_are_compared_over_the_same_span() -> None:
    position = torch.linspace(0, 1, 12).repeat(2, 21, 1)
    coarse = -20 * (position - 0.3) ** 2
    fine = -20 * (torch.linspace(0, 1, 24).repeat(2, 21, 1) - 0.3) ** 2
    moved = -20 * (position - 0.6) ** 2
    assert heatmap_loss(coarse, coarse) == pytest.approx(0, abs=1e-6)
    assert heatmap_loss(coarse, fine) < 0.01
    assert heatmap_loss(fine, coarse) < 0.01
    assert heatmap_loss(moved, fine) > 0.5


def test_feature_differences_are_counted_in_the_teachers_variance() -> None:
    teacher = 7 * torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0)) + 3
    assert feature_loss(teacher, teacher) == 0
    assert feature_loss(teacher.mean().expand(2, 4, 6, 6), teacher) == pytest.approx(1, rel=0.02)
    smaller = torch.nn.functional.interpolate(teacher, size=(3, 3), mode="bilinear", antialias=True)
    assert feature_loss(smaller, teacher) == 0
