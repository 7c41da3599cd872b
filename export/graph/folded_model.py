"""The deployed network as it is exported: the same function as `HandModel`, with less to compute for each image.

`export.graph.fold` makes these modules from a `HandModel` and says what each constant stands for; here is only what
depends on the image. Linear maps are written x W, so that each is one MatMul (and one Add) of the graph.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from cliphand.hand import N_JOINTS
from cliphand.model.image_encoder import ImageEncoder
from export.graph.frozen import frozen
from export.graph.subpixel import PhaseHead, SubpixelUpsampling, interleaved


class Affine(nn.Module):
    """x W + b over the last axis.

    Attributes:
        weight: (in, out).
        bias: (out,), or (nodes, out) where it differs from node to node.
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight = frozen(weight)
        self.bias = frozen(bias)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out)."""
        return torch.matmul(x, self.weight) + self.bias


class FoldedJointRegressor(nn.Module):
    """F4 to joints; see `export.graph.subpixel` for the upsampling and the order of the bins along x and y."""

    def __init__(
        self,
        upsample: list[SubpixelUpsampling],
        heads: tuple[PhaseHead, PhaseHead, nn.Conv1d],
        depth: Affine,
        positions: tuple[Tensor, Tensor],
    ) -> None:
        super().__init__()
        self.upsample = nn.ModuleList(upsample)
        self.head_x, self.head_y, self.head_z = heads
        self.depth = depth
        self.positions_xy, self.positions_d = (frozen(each) for each in positions)

    def forward(self, coarse: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(B, C, S/32, S/32) to u, v and d, each (B, 21, 1), and all three (B, 21, 3)."""
        first, second = self.upsample
        features = second(interleaved(first(coarse)))
        depth = torch.relu(self.depth(coarse.mean(dim=(2, 3)))).reshape(-1, N_JOINTS, len(self.positions_d))
        u = _expected(self.head_x(features.mean(dim=2)), self.positions_xy)
        v = _expected(self.head_y(features.mean(dim=3)), self.positions_xy)
        d = _expected(self.head_z(depth), self.positions_d)
        return u, v, d, torch.cat([u, v, d], dim=2)


def _expected(logits: Tensor, positions: Tensor) -> Tensor:
    """Expected position under the softmax of the logits: (B, 21, n) to (B, 21, 1)."""
    return (logits.softmax(dim=-1) * positions).sum(dim=-1, keepdim=True)


class Gaussian(nn.Module):
    """exp(-(coordinate * scale - cell)^2): samples of a Gaussian whose width is part of scale and cells.

    Attributes:
        scale: cells of unit width in the coordinate's unit.
        cells: (n,) of the grid, in the same cells; a cell far away samples as zero.
    """

    def __init__(self, scale: float, cells: Tensor) -> None:
        super().__init__()
        self.scale = scale
        self.cells = frozen(cells)

    def forward(self, coordinate: Tensor) -> Tensor:
        """(B, 21, 1) to (B, 21, n)."""
        distance = coordinate * self.scale - self.cells
        return torch.exp(-(distance * distance))


class FoldedHeatmap(nn.Module):
    """F0 and the joints to one map for each joint, flattened; no volume is made, see `cliphand.model.heatmap`.

    Attributes:
        depth_weight: (21, depth bins, kernel x * out * kernel y).
    """

    def __init__(
        self,
        shallow: nn.Conv2d,
        depth_weight: Tensor,
        gaussians: tuple[Gaussian, Gaussian, Gaussian],
        refine: nn.Conv2d,
    ) -> None:
        super().__init__()
        self.shallow = shallow
        self.depth_weight = frozen(depth_weight)
        self.gaussian_x, self.gaussian_y, self.gaussian_z = gaussians
        self.refine = refine
        self.kernel = shallow.kernel_size[0]

    def forward(self, shallow: Tensor, joints: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """(B, C0, S/4, S/4) and u, v, d to (B, 21, S/4 * S/4)."""
        u, v, d = joints
        kernel, out, side = self.kernel, self.refine.in_channels, shallow.shape[3]
        by_y = self.gaussian_y(v).reshape(-1, N_JOINTS, kernel, side)
        by_x = self.gaussian_x(u).reshape(-1, N_JOINTS * kernel, side)
        over_z = torch.matmul(self.gaussian_z(d).unsqueeze(2), self.depth_weight)
        over_y = torch.matmul(over_z.reshape(-1, N_JOINTS, kernel * out, kernel), by_y)  # (B, 21, kx * out, side)
        columns = over_y.reshape(-1, N_JOINTS * kernel, out * side).transpose(1, 2)
        volume = torch.matmul(columns, by_x).reshape(-1, out, side, side)
        x = torch.relu(self.shallow(shallow) + volume)
        return torch.relu(self.refine(x)).flatten(2)


class FoldedAttention(nn.Module):
    """Self-attention among nodes; the query carries the scale, the output the value's bias."""

    def __init__(self, query: Affine, key: Tensor, value: Tensor, out: Affine, *, heads: int) -> None:
        super().__init__()
        self.query, self.out = query, out
        self.key, self.value = frozen(key), frozen(value)
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        """(B, nodes, size) to the same shape."""
        query, key, value = (
            each.unflatten(2, (self.heads, -1)).transpose(1, 2)  # (B, heads, nodes, size / heads)
            for each in (self.query(x), torch.matmul(x, self.key), torch.matmul(x, self.value))
        )
        mixed = functional.scaled_dot_product_attention(query, key, value, scale=1.0)
        return self.out(mixed.transpose(1, 2).flatten(2))


class FoldedBlock(nn.Module):
    """Pre-norm Transformer block."""

    def __init__(
        self,
        norms: tuple[nn.LayerNorm, nn.LayerNorm],
        attention: FoldedAttention | Affine,
        mlp: nn.Sequential,
    ) -> None:
        super().__init__()
        self.attention_norm, self.mlp_norm = norms
        self.attention = attention
        self.mlp = mlp

    def forward(self, x: Tensor) -> Tensor:
        """(B, nodes, size) to the same shape."""
        x = x + self.attention(self.attention_norm(x))
        return x + self.mlp(self.mlp_norm(x))


class FoldedLevel(nn.Module):
    """One step from coarse to fine.

    Attributes:
        features: (in_features, features).
        map_features: (C, features).
        nodes: (nodes, in_nodes), followed by `map_nodes` where the pyramid's term enters before the blocks.
        map_nodes: (nodes, 21), or None where it is part of `nodes`.
        constant: (nodes, features).
    """

    def __init__(
        self,
        *,
        features: Tensor,
        map_features: Tensor,
        nodes: Tensor,
        map_nodes: Tensor | None,
        constant: Tensor,
        blocks: nn.Sequential,
    ) -> None:
        super().__init__()
        self.features, self.map_features = frozen(features), frozen(map_features)
        self.nodes, self.map_nodes = frozen(nodes), None if map_nodes is None else frozen(map_nodes)
        self.constant = frozen(constant)
        self.blocks = blocks

    def forward(self, x: Tensor, sampled: Tensor) -> Tensor:
        """Features (B, in_nodes, in_features) and sampled map (B, C, 21) to (B, nodes, features)."""
        x = torch.matmul(x, self.features)  # before the nodes, of which there are more afterwards
        projected = torch.matmul(sampled.transpose(1, 2), self.map_features)
        if self.map_nodes is None:
            return self.blocks(torch.matmul(self.nodes, torch.cat([x, projected], dim=1)) + self.constant)
        return self.blocks(torch.matmul(self.nodes, x) + self.constant) + torch.matmul(self.map_nodes, projected)


class FoldedMeshRegressor(nn.Module):
    """Joint maps, the pyramid and the joints' u and v to vertices in uvd.

    Attributes:
        sides: of the pyramid's maps, coarsest first.
        scale: (sum of sides, 1), each map's side for each of its cells.
        cells: (sum of sides, 1), centres of the cells.
    """

    def __init__(self, levels: list[FoldedLevel], out: Affine, sides: tuple[int, ...]) -> None:
        super().__init__()
        self.levels = nn.ModuleList(levels)
        self.out = out
        self.sides = sides
        self.scale = frozen(torch.cat([torch.full((side, 1), float(side)) for side in sides]))
        self.cells = frozen(torch.cat([torch.arange(side).unsqueeze(1) + 0.5 for side in sides]))

    def forward(self, x: Tensor, maps: tuple[Tensor, ...], u: Tensor, v: Tensor) -> Tensor:
        """Joint maps (B, 21, S/4 * S/4), F1..F4, u and v (B, 21, 1) to vertices (B, 778, 3) uvd."""
        for level, features, across, down in zip(
            self.levels, reversed(maps), self._hats(u), self._hats(v), strict=True
        ):
            weights = (down.unsqueeze(2) * across.unsqueeze(1)).flatten(1, 2)  # (B, H * W, 21)
            x = level(x, torch.matmul(features.flatten(2), weights))
        return self.out(x)

    def _hats(self, coordinate: Tensor) -> tuple[Tensor, ...]:
        """Bilinear weights of each map's rows or columns, (B, side, 21) each; see `cliphand.model.projection`."""
        distance = coordinate.transpose(1, 2) * self.scale - self.cells
        return torch.split(torch.relu(1 - distance.abs()), list(self.sides), dim=1)


class FoldedHand(nn.Module):
    """What is exported: images to joints and vertices in uvd."""

    def __init__(
        self,
        encoder: ImageEncoder,
        joint_regressor: FoldedJointRegressor,
        heatmap: FoldedHeatmap,
        mesh_regressor: FoldedMeshRegressor,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.joint_regressor = joint_regressor
        self.heatmap = heatmap
        self.mesh_regressor = mesh_regressor

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, S, S) normalised images to joints (B, 21, 3) and vertices (B, 778, 3) in uvd."""
        pyramid = self.encoder(images)
        u, v, d, joints = self.joint_regressor(pyramid.maps[-1])
        joint_maps = self.heatmap(pyramid.shallow, (u, v, d))
        return joints, self.mesh_regressor(joint_maps, pyramid.maps, u, v)
