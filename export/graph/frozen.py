"""Constants of the folded network."""

from torch import Tensor, nn


def frozen(value: Tensor) -> Tensor:
    """A number, vector or matrix of the graph: contiguous float32.

    What is still to be trained keeps its gradient: see `export.graph.fold`.
    """
    if value.requires_grad:
        return value
    return nn.Parameter(value.detach().float().contiguous(), requires_grad=False)
