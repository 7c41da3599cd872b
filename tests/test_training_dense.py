"""What the dense branch is taught, the curriculum of views, and stage 1 as a start for other sizes."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from small_hand import TINY as MODEL

from cliphand.checkpoint import load_checkpoint, load_dense_branch
from cliphand.config import AugmentConfig, CropConfig, LossConfig, TrainConfig
from cliphand.data.freihand import open_freihand
from cliphand.data.views import training_pair
from cliphand.errors import InputError
from cliphand.hand import MIDDLE_MCP, WRIST, HandTopology
from cliphand.model.dense_branch import DenseBranch, DensePrediction
from cliphand.training.loop import Run, build_model, train_hand
from cliphand.training.losses import heatmap_cross_entropy_2d, surface_loss
from cliphand.training.run_place import read_history
from cliphand.training.samples import widened

TRAIN = TrainConfig(
    stage="joints",
    epochs=1,
    batch=2,
    accelerator="cpu",
    workers=0,
    validation_fraction=0,
    backbone_weights="none",
    loss=LossConfig(clip=0.0, heatmaps_2d=1.0),
)


@pytest.fixture(scope="module")
def run(
    freihand_folder: Callable[..., Path], hand_topology: HandTopology, tmp_path_factory: pytest.TempPathFactory
) -> Run:
    data = freihand_folder(n_labels=4)
    out = tmp_path_factory.mktemp("dense") / "run"
    run = Run(data=data, topology=hand_topology, out=out, model=MODEL, crop=CropConfig(), train=TRAIN)
    train_hand(run, progress=False)
    return run


def gaussian(uv: torch.Tensor, side: int) -> torch.Tensor:
    """Logits whose softmax is a Gaussian of one cell's width about (..., 2) in shares of the side."""
    centres = (torch.arange(side) + 0.5) / side
    away = ((centres - uv[..., None]) * side).square()
    return -0.5 * (away[..., 1, :, None] + away[..., 0, None, :])


def test_the_2d_heatmaps_loss_is_least_at_the_truth_and_u_runs_along_rows() -> None:
    uv = torch.tensor([[[0.2, 0.7], [0.6, 0.4]]])
    at_truth = heatmap_cross_entropy_2d(gaussian(uv, 16), uv)
    for other in (uv.flip(-1), uv + 0.1, uv.flip(1)):
        assert heatmap_cross_entropy_2d(gaussian(other, 16), uv) > at_truth + 0.1
    assert at_truth == pytest.approx(math.log(2 * math.pi) + 1, abs=0.05)  # the entropy of that Gaussian


def test_cells_without_the_hand_teach_only_that_it_is_not_there() -> None:
    target = torch.zeros(1, 5, 4, 4)
    target[0, :, 1, 2] = torch.tensor([0.5, -0.5, 0.25, 1.5, 1.0])
    certain = torch.where(target[:, 4:] > 0, 20.0, -20.0)
    right = DensePrediction(torch.zeros(1, 21, 4, 4), target[:, :3].clone(), target[:, 3:4].clone(), certain)
    empty = (target[:, 4:] == 0).float()
    elsewhere = right._replace(coordinates=right.coordinates + empty, depth=right.depth - empty)
    assert surface_loss(right, target).item() == pytest.approx(0, abs=1e-5)
    assert surface_loss(elsewhere, target).item() == pytest.approx(0, abs=1e-5)
    assert surface_loss(right._replace(depth=right.depth + 1), target).item() == pytest.approx(1, abs=1e-5)
    assert surface_loss(right._replace(seen=-certain), target).item() > 10


def test_the_dense_branch_reads_maps_at_stride_4() -> None:
    maps = [torch.rand(2, width, 64 // stride, 64 // stride) for width, stride in ((8, 4), (12, 8), (16, 16), (24, 32))]
    shapes = [part.shape for part in DenseBranch((8, 12, 16, 24))(maps)]
    assert shapes == [(2, 21, 16, 16), (2, 3, 16, 16), (2, 1, 16, 16), (2, 1, 16, 16)]


def test_a_run_goes_on_with_the_dense_branch_of_its_start_which_the_deployed_model_lacks(run: Run) -> None:
    assert read_history(run.out)[0]["loss_heatmaps_2d"] > 1
    start = load_checkpoint(run.out / "best")
    branch = load_dense_branch(start)
    ours = build_model(dataclasses.replace(run, start=start)).dense
    assert branch is not None
    assert ours is not None
    assert torch.equal(ours.head.weight, branch.head.weight)
    assert not [name for name in start.model.state_dict() if "dense" in name]


def test_the_dense_branch_moves_the_encoder(run: Run) -> None:
    model = build_model(run)
    assert model.dense is not None
    maps = model.hand.encoder(torch.rand(2, 3, 64, 64)).maps
    heatmap_cross_entropy_2d(model.dense(maps).heatmaps, torch.rand(2, 21, 2)).backward()
    first = next(weight for weight in model.hand.encoder.parameters() if weight.dim() == 4)
    assert first.grad is not None
    assert first.grad.any()


def test_a_set_without_layers_refuses_the_surface_loss_before_anything_is_written(run: Run, tmp_path: Path) -> None:
    train = dataclasses.replace(TRAIN, loss=LossConfig(clip=0.0, surface=1.0))
    with pytest.raises(InputError, match=r"holds no layers.*--weight-surface"):
        train_hand(dataclasses.replace(run, out=tmp_path / "run", train=train), progress=False)
    assert not (tmp_path / "run").exists()


def test_upright_views_show_the_middle_finger_above_the_wrist(run: Run) -> None:
    data = open_freihand(run.data, "training")
    augment = AugmentConfig(rotation_deg=0, upright=True)
    for index in range(len(data)):
        pair = training_pair(
            data, index, crop=CropConfig(rule="joints"), augment=augment, side_px=64, rng=np.random.default_rng(index)
        )
        for view in (pair.first, pair.second):
            right, down = (view.joints_uvd[MIDDLE_MCP] - view.joints_uvd[WRIST])[:2]
            assert abs(right) < 1e-6 < -down


@pytest.mark.parametrize(("progress", "share"), [(0.0, 0.0), (0.25, 0.5), (0.5, 1.0), (0.9, 1.0)])
def test_rotation_and_difficulty_grow_over_the_curriculum(progress: float, share: float) -> None:
    augment = widened(AugmentConfig(rotation_deg=180, difficulty=0.8, curriculum=0.5), progress)
    assert (augment.rotation_deg, augment.difficulty) == pytest.approx((180 * share, 0.8 * share))


def test_without_a_curriculum_the_bounds_stand_from_the_first_view_on() -> None:
    assert widened(AugmentConfig(), 0.0) == AugmentConfig()


def test_a_run_starts_from_stage_1_at_another_input_size_and_head(run: Run, tmp_path: Path) -> None:
    model = dataclasses.replace(MODEL, input_size=96, joint_feature=32)
    train = dataclasses.replace(TRAIN, stage="mesh")
    other = dataclasses.replace(run, model=model, start=load_checkpoint(run.out / "best"), train=train)
    said: list[str] = []
    other = dataclasses.replace(other, out=tmp_path / "run")
    train_hand(other, progress=False, tell=said.append)
    assert [line for line in said if "takes encoder and joint regressor from there" in line]
    ours, theirs = build_model(other).hand.state_dict(), load_checkpoint(run.out / "best").model.state_dict()
    carried = [name for name in theirs if name.startswith(("encoder.", "joint_regressor."))]
    assert len(carried) > 20
    assert all(torch.equal(ours[name], theirs[name]) for name in carried)


def test_a_run_does_not_start_from_another_backbone(run: Run) -> None:
    model = dataclasses.replace(MODEL, backbone="resnet18_half")
    with pytest.raises(InputError, match="was trained with backbone 'test_resnet', this run has 'resnet18_half'"):
        build_model(dataclasses.replace(run, model=model, start=load_checkpoint(run.out / "best")))


def test_half_a_resnet18_has_a_quarter_of_its_weights() -> None:
    import timm

    from cliphand.model.image_encoder import ImageEncoder

    ours = ImageEncoder("resnet18_half", input_size=64)
    whole = timm.create_model("resnet18", features_only=True)
    shares = sum(weight.numel() for weight in ours.parameters()) / sum(weight.numel() for weight in whole.parameters())
    assert ours.channels == (32, 64, 128, 256)
    assert shares == pytest.approx(0.25, abs=0.01)
