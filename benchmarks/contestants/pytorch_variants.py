"""The forms in which PyTorch can run a model's weights."""

from typing import cast

import torch
from torch import nn

from benchmarks.contestants.published import NaiveHand
from cliphand.model.hand_model import HandModel
from export.graph.deploy_model import deploy_model
from export.graph.fold import fold


def plain(model: HandModel) -> nn.Module:
    """The deployed network as it is."""
    return deploy_model(model)


def folded(model: HandModel) -> nn.Module:
    """The network that is exported."""
    return fold(deploy_model(model))


def published(model: HandModel) -> nn.Module:
    """The authors' form."""
    return NaiveHand(deploy_model(model))


def compiled(model: HandModel) -> nn.Module:
    """By torch.compile, one graph for every batch size, as the exported ones are."""
    return cast("nn.Module", torch.compile(deploy_model(model), dynamic=True))
