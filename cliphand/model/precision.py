"""Float32 where autocast would round what must stay exact.

bfloat16 has 8 bits: a coordinate of the crop rounded to it moves by a millimetre, each vertex by itself, and a joint's
logit by a share of its bin. Convolutions, attention and MLPs may be rounded, what is read off as a position may not.
"""

import torch
from torch import Tensor, nn


def in_float32(layer: nn.Module, x: Tensor) -> Tensor:
    """A layer's output in float32 under autocast as well; without autocast the layer alone."""
    device = x.device.type
    if not torch.is_autocast_enabled(device):
        return layer(x)
    with torch.autocast(device, enabled=False):
        return layer(x.float())
