"""Bilinear sampling of feature maps at the joints, as matrix products.

Equal to `grid_sample(maps, 2 uv - 1, bilinear, zeros, align_corners=False)`: with v = uv * size - 0.5 the bilinear
weight of cell i is hat(v - i) = max(0, 1 - |v - i|), and cells outside the map count as zero. GridSample itself is
avoided because converters disagree on it (NVIDIA/TensorRT issue 4646).

Source: paper section 3.4 (feature pyramid projection).
"""

import torch
from torch import Tensor


def hat_weights(positions: Tensor, size: int) -> Tensor:
    """Bilinear weights of each of `size` cells at positions in [0, 1] of the side: (...,) to (..., size) float32."""
    cells = torch.arange(size, dtype=torch.float32, device=positions.device) + 0.5
    return torch.relu(1 - (positions.float().unsqueeze(-1) * size - cells).abs())


def sample_at(maps: Tensor, uv: Tensor) -> Tensor:
    """Sample feature maps at points.

    Args:
        maps: (B, C, H, W).
        uv: (B, N, 2), u along the width and v along the height, [0, 1] inside the map.

    Returns:
        (B, N, C).
    """
    height, width = maps.shape[-2:]
    across = hat_weights(uv[..., 0], width).unsqueeze(2)  # (B, N, 1, W)
    down = hat_weights(uv[..., 1], height).unsqueeze(3)  # (B, N, H, 1)
    weights = (down * across).flatten(2)  # (B, N, H * W)
    return torch.matmul(weights.to(maps.dtype), maps.flatten(2).transpose(1, 2))
