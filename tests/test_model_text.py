"""Prompts, the frozen tower, the axis encoders and the matching."""

import math
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from cliphand.config import ModelConfig, TextConfig
from cliphand.data.prompts import axis_prompts, sample_joints
from cliphand.errors import InputError
from cliphand.hand import JOINT_NAMES
from cliphand.model.clip_hand import TextBranch
from cliphand.model.text_encoder import CONTEXT, TOWER, AxisEncoder, TextTower
from cliphand.training.loaders import PromptTokens

TEXT = TextConfig(tower="random")


@pytest.fixture(scope="module")
def tower() -> TextTower:
    return TextTower("random", seed=0)


@pytest.fixture(scope="module")
def tokens() -> PromptTokens:
    return PromptTokens(open_clip.get_tokenizer(TOWER))


def line_of_joints() -> np.ndarray:
    """Joint j lies at u = j, v = -j, d = 0."""
    index = np.arange(21.0)
    return np.stack([index, -index, np.zeros(21)], axis=1)


def test_prompts_name_the_joints_in_ascending_order_of_each_axis() -> None:
    x, y, z = axis_prompts(line_of_joints(), np.array([0, 5, 8]))
    assert x == "left to right: wrist, index MCP, index fingertip"
    assert y == "top to bottom: index fingertip, index MCP, wrist"
    assert z == "near to far: wrist, index MCP, index fingertip"  # equal depths keep the joints' own order


@given(st.integers(2, 21), st.integers(0, 2**31 - 1))
def test_sampled_joints_are_distinct_and_as_many_as_asked(count: int, seed: int) -> None:
    chosen = sample_joints(count, np.random.default_rng(seed))
    assert len(set(chosen.tolist())) == count
    assert set(chosen.tolist()) <= set(range(21))


def test_all_21_joints_fit_clips_context_on_every_axis(tokens: PromptTokens) -> None:
    rng = np.random.default_rng(0)
    encoded = tokens(axis_prompts(rng.standard_normal((21, 3)), np.arange(21)))
    assert encoded.shape == (3, CONTEXT)
    end = tokens.tokenizer.eot_token_id
    assert (encoded == end).sum(dim=1).tolist() == [1, 1, 1]  # nothing was cut: each still ends its text


def test_a_prompt_that_does_not_fit_is_refused(tokens: PromptTokens) -> None:
    prompt = "From left to right, the joints are " + ", ".join(JOINT_NAMES)
    with pytest.raises(InputError, match="CLIP reads 77"):
        tokens((prompt, "a", "b"))


def test_tower_is_open_clips_text_tower(tower: TextTower, tokens: PromptTokens) -> None:
    torch.manual_seed(0)
    config = open_clip.get_model_config(TOWER)
    clip = open_clip.CLIP(config["embed_dim"], config["vision_cfg"], config["text_cfg"], quick_gelu=True).eval()
    clip.load_state_dict(tower.state_dict(), strict=False)
    encoded = tokens(axis_prompts(line_of_joints(), np.array([0, 4, 9])))
    with torch.no_grad():
        features = tower(encoded)
        ends = encoded.argmax(-1)
        pooled = features[torch.arange(3), ends] @ clip.text_projection
        torch.testing.assert_close(pooled, clip.encode_text(encoded), atol=1e-5, rtol=1e-4)


def test_random_tower_comes_back_from_its_seed_and_leaves_the_generator_alone(tower: TextTower) -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    again = TextTower("random", seed=0)
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(a, b) for a, b in zip(tower.parameters(), again.parameters(), strict=True))
    other = TextTower("random", seed=1)
    assert not torch.equal(other.token_embedding.weight, tower.token_embedding.weight)


def test_tower_is_frozen_in_training_mode(tower: TextTower) -> None:
    assert not any(parameter.requires_grad for parameter in tower.train().parameters())
    assert not tower.training


def test_tower_from_a_safetensors_file_has_its_weights(tower: TextTower, tmp_path: Path) -> None:
    config = open_clip.get_model_config(TOWER)
    clip = open_clip.CLIP(config["embed_dim"], config["vision_cfg"], config["text_cfg"], quick_gelu=True)
    state = {k: v.contiguous() for k, v in clip.state_dict().items() if not k.startswith("visual.")}
    save_file(state, tmp_path / "clip.safetensors")
    loaded = TextTower(str(tmp_path / "clip.safetensors"), seed=3)
    assert torch.equal(loaded.token_embedding.weight, clip.token_embedding.weight)


def test_a_tower_file_that_lacks_a_tensor_is_refused(tmp_path: Path) -> None:
    save_file({"logit_scale": torch.zeros(())}, tmp_path / "clip.safetensors")
    with pytest.raises(InputError, match="lacks 'positional_embedding'"):
        TextTower(str(tmp_path / "clip.safetensors"), seed=0)


def test_a_tower_that_cannot_be_downloaded_stops_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ConnectionError("offline")

    monkeypatch.setattr("open_clip.create_model", refuse)
    with pytest.raises(InputError, match="--text-tower random"):
        TextTower("openai", seed=0)


def test_an_unknown_tower_is_refused() -> None:
    with pytest.raises(InputError, match=r"'clip.pt' is not a file; valid are openai, random"):
        TextTower("clip.pt", seed=0)


def test_axis_encoder_ignores_what_follows_the_end_of_text() -> None:
    torch.manual_seed(0)
    encoder = AxisEncoder(TextConfig(tower="random", layers=2))
    features = torch.randn(2, 9, 512)
    end = torch.tensor([4, 8])
    padded = features.clone()
    padded[0, 5:] = 100.0
    torch.testing.assert_close(encoder(features, end), encoder(padded, end))
    changed = features.clone()
    changed[0, 2] += 1
    assert not torch.allclose(encoder(features, end)[0], encoder(changed, end)[0])


def test_a_prompt_gives_the_same_features_alone_and_beside_others(tower: TextTower, tokens: PromptTokens) -> None:
    branch = TextBranch(ModelConfig(input_size=64), TEXT, tower).eval()
    rng = np.random.default_rng(0)
    encoded = torch.stack([tokens(axis_prompts(rng.standard_normal((21, 3)), np.arange(n))) for n in (5, 21)])
    logits = (torch.randn(2, 21, 8), torch.randn(2, 21, 8), torch.randn(2, 21, 64))
    both = branch(logits, encoded)
    alone = branch(tuple(axis[:1] for axis in logits), encoded[:1])
    torch.testing.assert_close(both.text[:, :1], alone.text, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(both.pose[:, :1], alone.pose, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(both.text.norm(dim=-1), torch.ones(3, 2))


def test_temperatures_start_at_100_and_stay_in_range(tower: TextTower) -> None:
    branch = TextBranch(ModelConfig(input_size=64), TEXT, tower)
    torch.testing.assert_close(branch.scales(), torch.full((3,), 100.0))
    with torch.no_grad():
        branch.log_scale.copy_(torch.tensor([-1.0, 2.0, 9.0]))
    branch.clamp_scales()
    torch.testing.assert_close(branch.scales(), torch.tensor([1.0, math.exp(2.0), 100.0]))
