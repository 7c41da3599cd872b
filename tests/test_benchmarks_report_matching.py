"""Poses and prompts are matched image by image, or the page says why they are not."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from torch import Tensor, nn

from benchmarks.measure.photographs import Photographs
from benchmarks.report import matching
from benchmarks.report.matching_section import matching_section
from benchmarks.report.page import Chart
from cliphand.checkpoint import load_checkpoint, save_checkpoint
from cliphand.config import CropConfig, ModelConfig, TextConfig, TrainConfig
from cliphand.data.freihand import open_freihand
from cliphand.data.prompts import axis_prompts
from cliphand.hand import HandTopology
from cliphand.model.clip_hand import ClipHand, Matched, TextBranch
from cliphand.model.hand_model import HandModel, level_templates
from cliphand.model.text_encoder import TOWER

MODEL = ModelConfig(
    backbone="test_resnet",
    input_size=64,
    lixel_channels=8,
    depth_bins=8,
    joint_feature=8,
    levels=(98, 195, 389, 778),
    feature_sizes=(8, 8, 8, 8),
    depths=(0, 0, 0, 0),
    heads=(1, 1, 1, 1),
)
TRAIN = TrainConfig(text=TextConfig(tower="random", joints=21, common_size=16), seed=3)


class SmallTower(nn.Module):
    """Stands for CLIP's text tower: waves of each token's number, nothing to learn."""

    def __init__(self, source: str, *, seed: int) -> None:
        super().__init__()

    def forward(self, tokens: Tensor) -> Tensor:
        return torch.sin(tokens[..., None] * torch.linspace(0.01, 3, 512))


@pytest.fixture(scope="module")
def photographs(freihand_folder: Callable[..., Path]) -> Photographs:
    data = open_freihand(freihand_folder(n_labels=3), "evaluation")
    return Photographs(data=data, crop=CropConfig(), input_size=64, root="truth")


@pytest.fixture
def checkpoint(tmp_path: Path, hand_topology: HandTopology, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("cliphand.checkpoint.TextTower", SmallTower)
    torch.manual_seed(0)
    hand = HandModel(MODEL, level_templates(hand_topology, MODEL.levels))
    save(tmp_path / "best", ClipHand(hand, TextBranch(MODEL, TRAIN.text, SmallTower("random", seed=3))), hand_topology)
    return tmp_path / "best"


def save(folder: Path, model: ClipHand, topology: HandTopology) -> None:
    save_checkpoint(
        folder, model=model, model_config=MODEL, crop=CropConfig(), topology=topology, train=TRAIN, facts={}
    )


def test_there_is_a_matrix_for_each_axis_within_the_temperature(checkpoint: Path, photographs: Photographs) -> None:
    section = matching_section(load_checkpoint(checkpoint), photographs, n_images=99, why_not="")
    assert not section.sentences[0].startswith("Left out"), section.sentences
    assert [part.name for part in section.parts if isinstance(part, Chart)] == ["logits_x", "logits_y", "logits_z"]
    logits = [cell["logit"] for part in section.parts for cell in part.spec["data"]["values"]]
    assert len(logits) == 3 * 3 * 3
    assert max(map(abs, logits)) <= 100.001
    assert len(set(logits)) > 5
    assert "Logits between the 1D heatmaps of 3 images (rows) and the prompts" in section.sentences[0]


def test_the_prompts_are_those_of_the_true_joints_and_the_share_on_the_diagonal_is_told(
    checkpoint: Path, photographs: Photographs, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []

    class Branch:
        """Finds every prompt's image."""

        def __call__(self, logits: tuple[Tensor, ...], tokens: Tensor) -> Matched:
            told.append(tokens)
            features = torch.eye(len(tokens)).expand(3, -1, -1)
            return Matched(features, features)

        def scales(self) -> Tensor:
            return torch.tensor([1.0, 2.0, 3.0])

    monkeypatch.setattr(matching, "load_text_branch", lambda checkpoint: Branch())
    section = matching_section(load_checkpoint(checkpoint), photographs, n_images=2, why_not="")
    assert "100% of rows and columns" in section.sentences[0]
    last = section.parts[2]
    assert isinstance(last, Chart)
    assert [cell["logit"] for cell in last.spec["data"]["values"]] == [3, 0, 0, 3]
    tokenizer = open_clip.get_tokenizer(TOWER)
    for image, tokens in enumerate(told[0]):
        # The whole image is the crop, so that source pixels and depths are in the order of uvd.
        seen = np.column_stack([photographs.data.joints_uv(image), photographs.data.xyz[image, :, 2]])
        assert torch.equal(tokens, tokenizer(list(axis_prompts(seen, np.arange(21)))))


def test_a_checkpoint_without_text_branch_or_none_at_all_is_a_sentence(
    checkpoint: Path, photographs: Photographs, hand_topology: HandTopology, tmp_path: Path
) -> None:
    absent = matching_section(None, photographs, n_images=2, why_not="it is gone")
    assert absent.sentences == ["it is gone."]
    hand = HandModel(MODEL, level_templates(hand_topology, MODEL.levels))
    save(tmp_path / "bare", ClipHand(hand, None), hand_topology)
    bare = matching_section(load_checkpoint(tmp_path / "bare"), photographs, n_images=2, why_not="")
    assert "holds no text branch" in bare.sentences[0]
    assert not absent.parts
    assert not bare.parts
