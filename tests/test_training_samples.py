"""What batches hold, and that nothing but seed, pass and image decides it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cliphand.config import CropConfig, TextConfig, TrainConfig
from cliphand.data.freihand import open_freihand
from cliphand.errors import InputError
from cliphand.training.samples import EpochSampler, LabelledDataset, Pair, PairDataset

TRAIN = TrainConfig(batch=2, text=TextConfig(tower="random", joints=4))


def pairs(folder: Path, prompts: list[tuple[str, str, str]] | None = None) -> PairDataset:
    def tokenise(texts: tuple[str, str, str]) -> torch.Tensor:
        if prompts is not None:
            prompts.append(texts)
        return torch.zeros(3, 77, dtype=torch.int64)

    data = open_freihand(folder, "training")
    images = np.arange(len(data))
    return PairDataset(data, images, crop=CropConfig(), side_px=64, train=TRAIN, tokenise=tokenise)


@pytest.fixture(scope="module")
def folder(freihand_folder: Callable[..., Path]) -> Path:
    return freihand_folder(n_labels=3)


def same(first: Pair, second: Pair) -> bool:
    return torch.equal(first.first.image, second.first.image) and torch.equal(first.affine, second.affine)


def test_a_pair_has_two_views_with_labels_and_their_relation(folder: Path) -> None:
    pair = pairs(folder)[0, 1]
    for view in (pair.first, pair.second):
        assert view.image.shape == (3, 64, 64)
        assert view.joints_uvd.shape == (21, 3)
        assert view.verts_uvd.shape == (778, 3)
    first, second = pair.first.joints_uvd, pair.second.joints_uvd
    mapped = first[:, :2] @ pair.affine[:, :2].T + pair.affine[:, 2]
    torch.testing.assert_close(mapped, second[:, :2], atol=1e-5, rtol=0)
    torch.testing.assert_close(first[:, 2], second[:, 2])


def test_views_depend_on_seed_pass_and_image_alone(folder: Path) -> None:
    dataset = pairs(folder)
    assert same(dataset[3, 1], dataset[3, 1])
    assert not same(dataset[3, 1], dataset[4, 1])
    assert not same(dataset[3, 1], dataset[3, 2])


def test_without_a_tokeniser_the_views_are_the_same_and_there_are_no_tokens(folder: Path) -> None:
    bare = pairs(folder)
    bare.tokenise = None
    assert same(bare[3, 1], pairs(folder)[3, 1])
    assert bare[3, 1].tokens.shape == (3, 0)


def test_prompts_follow_the_augmented_first_view(folder: Path) -> None:
    prompts: list[tuple[str, str, str]] = []
    pair = pairs(folder, prompts)[0, 0]
    from cliphand.hand import JOINT_NAMES

    for axis, prompt in enumerate(prompts[0]):
        named = [JOINT_NAMES.index(name) for name in prompt.split(": ")[1].split(", ")]
        assert len(named) == 4
        assert (pair.first.joints_uvd[named, axis].diff() >= 0).all()


@given(st.integers(1, 30), st.integers(1, 7), st.integers(1, 3), st.integers(1, 4), st.integers(0, 5))
def test_processes_share_an_epoch_evenly(length: int, batch: int, processes: int, repeats: int, epoch: int) -> None:
    train = TrainConfig(batch=batch, repeats=repeats)
    parts = []
    for rank in range(processes):
        sampler = EpochSampler(range(length), train=train, rank=rank, processes=processes)
        sampler.set_epoch(epoch)
        parts.append(list(sampler))
        assert len(parts[-1]) == len(sampler)
    together = [key for part in parts for key in part]
    assert len(set(together)) == len(together)  # no view is seen twice
    assert len({len(part) for part in parts}) == 1
    assert len(parts[0]) % batch == 0
    if length * repeats >= batch * processes:
        assert length * repeats - len(together) < batch * processes


def test_epochs_are_shuffled_anew(folder: Path) -> None:
    sampler = EpochSampler(range(50), train=TrainConfig(batch=1))
    orders = []
    for epoch in (0, 1, 0):
        sampler.set_epoch(epoch)
        orders.append([position for _, position in sampler])
    assert orders[0] == orders[2] != orders[1]
    assert sorted(orders[0]) == list(range(50))


def test_a_labelled_image_has_its_camera_and_root(folder: Path) -> None:
    data = open_freihand(folder, "training")
    item = LabelledDataset(data, np.arange(3), crop=CropConfig(), side_px=64)[2]
    assert data.xyz is not None
    assert item.image.shape == (3, 64, 64)
    assert item.root_depth_m.item() == pytest.approx(data.xyz[2, 0, 2])
    assert item.bone_m.item() == pytest.approx(np.linalg.norm(data.xyz[2, 0] - data.xyz[2, 9]))


def test_validation_without_joints_is_refused(freihand_folder: Callable[..., Path]) -> None:
    folder = freihand_folder(n_labels=2, evaluation_labels=False)
    data = open_freihand(folder, "evaluation")
    with pytest.raises(InputError, match=r"evaluation_xyz.json does not exist"):
        LabelledDataset(data, np.arange(2), crop=CropConfig(), side_px=64)
