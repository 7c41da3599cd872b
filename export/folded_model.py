"""The deployed network as it is exported: the same function as `HandModel`, with less to compute for each image.

`export.fold` makes these modules from a `HandModel` and says what each constant stands for; here is only what depends
on the image. Linear maps are written x W, so that each is one MatMul (and one Add) of the graph.
"""

import torch
from torch import Tensor, nn

from cliphand.hand import N_JOINTS
from cliphand.model.image_encoder import ImageEncoder


class Constant(nn.Parameter):
    """A number, vector or matrix of the graph."""

    def __new__(cls, value: Tensor) -> "Constant":
        """Contiguous float32, without gradient."""
        return super().__new__(cls, value.detach().float().contiguous(), requires_grad=False)


class Affine(nn.Module):
    """x W + b over the last axis.

    Attributes:
        weight: (in, out).
        bias: (out,), or (nodes, out) where it differs from node to node.
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight = Constant(weight)
        self.bias = Constant(bias)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out)."""
        return torch.matmul(x, self.weight) + self.bias


class FoldedJointRegressor(nn.Module):
    """F4 to joints, u, v and d apart, because every stage that follows takes them apart."""

    def __init__(
        self,
        upsample: nn.Sequential,
        heads: tuple[nn.Conv1d, nn.Conv1d, nn.Conv1d],
        depth: Affine,
        positions: tuple[Tensor, Tensor],
    ) -> None:
        super().__init__()
        self.upsample = upsample
        self.head_x, self.head_y, self.head_z = heads
        self.depth = depth
        self.positions_xy, self.positions_d = (Constant(each) for each in positions)

    def forward(self, coarse: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, C, S/32, S/32) to u, v and d, each (B, 21, 1)."""
        features = self.upsample(coarse)
        depth = torch.relu(self.depth(coarse.mean(dim=(2, 3)))).unflatten(1, (N_JOINTS, -1))
        return (
            _expected(self.head_x(features.mean(dim=2)), self.positions_xy),
            _expected(self.head_y(features.mean(dim=3)), self.positions_xy),
            _expected(self.head_z(depth), self.positions_d),
        )


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
        self.cells = Constant(cells)

    def forward(self, coordinate: Tensor) -> Tensor:
        """(B, 21, 1) to (B, 21, n)."""
        distance = coordinate * self.scale - self.cells
        return torch.exp(-(distance * distance))


class FoldedHeatmap(nn.Module):
    """F0 and the joints to a map of each joint, flattened."""

    def __init__(
        self, shallow: nn.Conv2d, depth_weight: Tensor, gaussians: tuple[Gaussian, ...], refine: nn.Conv2d
    ) -> None:
        super().__init__()
        self.shallow = shallow
        self.depth_weight = Constant(depth_weight)  # (21, depth bins, kernel x, out, kernel y), flat from the third on
        self.gaussian_x, self.gaussian_y, self.gaussian_z = gaussians
        self.refine = refine
        self.kernel = shallow.kernel_size[0]

    def forward(self, shallow: Tensor, joints: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """(B, C0, S/4, S/4) and u, v, d to (B, 21, S/4 * S/4)."""
        u, v, d = joints
        kernel, out = self.kernel, self.refine.in_channels
        by_x, by_y = (
            gaussian(coordinate).unflatten(2, (kernel, -1))  # (B, 21, kernel, side)
            for gaussian, coordinate in ((self.gaussian_x, u), (self.gaussian_y, v))
        )
        over_z = torch.matmul(self.gaussian_z(d).unsqueeze(2), self.depth_weight)  # (B, 21, 1, kx * out * ky)
        over_y = torch.matmul(over_z.unflatten(3, (kernel * out, kernel)).squeeze(2), by_y)  # (B, 21, kx * out, side)
        side = over_y.shape[3]
        columns = over_y.reshape(-1, N_JOINTS * kernel, out * side)
        volume = torch.matmul(columns.transpose(1, 2), by_x.flatten(1, 2))  # (B, out * side, side)
        x = torch.relu(self.shallow(shallow) + volume.unflatten(1, (out, side)))
        return torch.relu(self.refine(x)).flatten(2)


class FoldedAttention(nn.Module):
    """Self-attention among nodes; the query carries the scale, the output the value's bias."""

    def __init__(self, query: Affine, key: Tensor, value: Tensor, out: Affine, *, heads: int) -> None:
        super().__init__()
        self.query, self.out = query, out
        self.key, self.value = Constant(key), Constant(value)
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        """(B, nodes, size) to the same shape."""
        query, key, value = (
            each.unflatten(2, (self.heads, -1))  # (B, nodes, heads, size / heads)
            for each in (self.query(x), torch.matmul(x, self.key), torch.matmul(x, self.value))
        )
        scores = torch.matmul(query.transpose(1, 2), key.permute(0, 2, 3, 1))  # (B, heads, nodes, nodes)
        mixed = torch.matmul(scores.softmax(dim=-1), value.transpose(1, 2))
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
    """One step from coarse to fine: nodes (x features) + map_nodes (sampled map_features) + constant, then blocks."""

    def __init__(
        self,
        *,
        nodes: Tensor,
        features: Tensor,
        map_nodes: Tensor,
        map_features: Tensor,
        constant: Tensor,
        blocks: nn.Sequential,
        pyramid_first: bool,
    ) -> None:
        super().__init__()
        self.nodes, self.features = Constant(nodes), Constant(features)
        self.map_nodes, self.map_features = Constant(map_nodes), Constant(map_features)
        self.constant = Constant(constant)
        self.blocks = blocks
        self.pyramid_first = pyramid_first

    def forward(self, x: Tensor, sampled: Tensor) -> Tensor:
        """Features (B, in_nodes, in_features) and sampled map (B, 21, C) to (B, nodes, features)."""
        x = torch.matmul(self.nodes, torch.matmul(x, self.features)) + self.constant
        projected = torch.matmul(self.map_nodes, torch.matmul(sampled, self.map_features))
        if self.pyramid_first:
            return self.blocks(x + projected)
        return self.blocks(x) + projected


class FoldedMeshRegressor(nn.Module):
    """Joint maps, the pyramid and the joints' u and v to vertices in uvd."""

    def __init__(self, levels: list[FoldedLevel], out: Affine, sides: tuple[int, ...]) -> None:
        super().__init__()
        self.levels = nn.ModuleList(levels)
        self.out = out
        self.sides = sides  # of the pyramid's maps, as the levels take them
        # All maps' cells in one row, so that the weights of all levels are computed at once.
        self.scale = Constant(torch.cat([torch.full((side,), float(side)) for side in sides]))
        self.cells = Constant(torch.cat([torch.arange(side) + 0.5 for side in sides]))

    def forward(self, x: Tensor, maps: tuple[Tensor, ...], u: Tensor, v: Tensor) -> Tensor:
        """Joint maps (B, 21, S/4 * S/4), F1..F4, u and v (B, 21, 1) to vertices (B, 778, 3) uvd."""
        across, down = ((torch.relu(1 - (each * self.scale - self.cells).abs())).split(self.sides, 2) for each in (u, v))
        for level, features, over_x, over_y in zip(self.levels, reversed(maps), across, down, strict=True):
            weights = (over_y.unsqueeze(3) * over_x.unsqueeze(2)).flatten(2)  # (B, 21, H * W)
            x = level(x, torch.matmul(weights, features.flatten(2).transpose(1, 2)))
        return self.out(x)


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
        u, v, d = self.joint_regressor(pyramid.maps[-1])
        joint_maps = self.heatmap(pyramid.shallow, (u, v, d))
        verts = self.mesh_regressor(joint_maps, pyramid.maps, u, v)
        return torch.cat([u, v, d], dim=2), verts
