"""What is left for deployment: the same numbers, and nothing of the text branch."""

import copy

import torch
from small_hand import CONFIG, SIDE, small_hand
from torch import nn

from cliphand.config import TextConfig
from cliphand.model.clip_hand import ClipHand, TextBranch
from export.graph.deploy_model import count_parameters, deploy_model, example_images


class SmallTower(nn.Module):
    """Stands for CLIP's text tower."""

    def __init__(self) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(8, 512)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.token_embedding(tokens)


def whole_model() -> ClipHand:
    hand = small_hand().requires_grad_(True)
    return ClipHand(hand, TextBranch(CONFIG, TextConfig(tower="random"), SmallTower()))


def test_output_is_the_whole_models_to_the_bit() -> None:
    # PyTorch orders a product of a matrix and a batch by whether it may need a gradient: both run without.
    model = whole_model().eval().requires_grad_(False)
    images = example_images(3, SIDE, seed=3)
    with torch.inference_mode():
        expected = model.hand(images)
        found = deploy_model(model)(images)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(found, expected, strict=True))


def test_nothing_of_the_text_branch_remains() -> None:
    model = whole_model()
    deployed = deploy_model(model)
    assert count_parameters(deployed) == count_parameters(model.hand)
    names = [name for name, _ in deployed.named_modules()] + list(deployed.state_dict())
    for word in ("text", "token", "clip", "latent", "axis_encoders", "pose_projections", "log_scale"):
        assert not [name for name in names if word in name.lower()], word


def test_the_model_in_training_is_left_as_it_is() -> None:
    model = whole_model().train()
    before = copy.deepcopy(model.state_dict())
    deployed = deploy_model(model)
    assert model.hand.training
    assert all(parameter.requires_grad for parameter in model.hand.parameters())
    assert not deployed.training
    assert not any(parameter.requires_grad for parameter in deployed.parameters())
    with torch.no_grad():
        next(deployed.parameters()).zero_()
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in before.items())


def test_example_images_depend_on_the_seed_alone() -> None:
    first, again, other = (example_images(2, 32, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert -1 <= float(first.min()) < -0.9 < 0.9 < float(first.max()) <= 1
