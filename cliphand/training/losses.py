"""Every term of the training loss as a function of its own.

All points are uvd, (B, N, 3): u and v over the crop's side, d in bones from the wrist. The paper's terms take a
`reduction`: `mean` over everything, or the paper's `sum` over a sample's points and coordinates, mean over the batch.

Source: paper section 3.5.
"""

import torch
from torch import Tensor
from torch.nn import functional

from cliphand.config import Reduction
from cliphand.hand import WRIST
from cliphand.model.dense_branch import DensePrediction


def reduced(values: Tensor, reduction: Reduction) -> Tensor:
    """A term from the values of its samples: (B, ...) to a scalar."""
    return values.mean() if reduction == "mean" else values.flatten(1).sum(dim=1).mean()


def point_l1(predicted: Tensor, target: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """L_P and L_V: absolute difference of coordinates; both (B, N, 3)."""
    return reduced((predicted - target).abs(), reduction)


def heatmap_cross_entropy(logits: Tensor, positions: Tensor, target: Tensor) -> Tensor:
    """Cross entropy of 1D heatmaps against a Gaussian of one bin's width about the truth, mean over batch and joints.

    The expected bin alone tells a flat heatmap little: every bin's gradient is small. A target over the bins tells each
    at once (Nibali et al. 2018, Numerical coordinate regression with CNNs, regularisation; Li et al. 2022, SimCC).

    Args:
        logits: (B, N, n).
        positions: (n,) of the bins, evenly spaced.
        target: (B, N) in the positions' unit; beyond the span it counts as at its end.
    """
    inside = target.clamp(positions[0], positions[-1]).unsqueeze(-1)
    bins_away = (positions - inside) / (positions[1] - positions[0])
    wanted = (-0.5 * bins_away.square()).softmax(dim=-1)
    return -(wanted * logits.log_softmax(dim=-1)).sum(dim=-1).mean()


def heatmap_cross_entropy_2d(logits: Tensor, target: Tensor) -> Tensor:
    """As `heatmap_cross_entropy` over the cells of a map: (B, N, S, S) against (B, N, 2) in shares of the side."""
    side = logits.shape[-1]
    centres = (torch.arange(side, device=logits.device) + 0.5) / side
    cells_away = (centres - target.clamp(0, 1).unsqueeze(-1)) * side  # (B, N, 2, S)
    along_u, along_v = (-0.5 * cells_away.square()).softmax(dim=-1).unbind(dim=2)
    wanted = along_v.unsqueeze(-1) * along_u.unsqueeze(-2)
    return -(wanted * logits.flatten(2).log_softmax(dim=-1).view_as(logits)).sum(dim=(-2, -1)).mean()


def surface_loss(prediction: DensePrediction, target: Tensor) -> Tensor:
    """Cross entropy of what is seen, and the absolute difference of coordinates and depth where the hand is seen.

    Args:
        prediction: of the dense branch.
        target: (B, 5, S, S) coordinates, depth and share seen, as `DenseTargets`.
    """
    where, depth, seen = torch.split(target, [3, 1, 1], dim=1)
    shown = functional.binary_cross_entropy_with_logits(prediction.seen, seen)
    apart = (prediction.coordinates - where).abs().sum(1, keepdim=True) + (prediction.depth - depth).abs()
    return shown + (apart * seen).sum() / seen.sum().clamp_min(1.0)


def normal_loss(verts: Tensor, target: Tensor, faces: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """L_N: |cosine| between each predicted edge of a face and the true normal of that face.

    Args:
        verts: (B, 778, 3) predicted.
        target: (B, 778, 3) true.
        faces: (F, 3) int64.
        reduction: over faces and edges.
    """
    corners = target[:, faces]  # (B, F, 3, 3)
    normals = torch.linalg.cross(corners[:, :, 1] - corners[:, :, 0], corners[:, :, 2] - corners[:, :, 0])
    normals = functional.normalize(normals, dim=-1).unsqueeze(2)  # (B, F, 1, 3)
    edges = functional.normalize(_face_edges(verts, faces), dim=-1)  # (B, F, 3, 3)
    return reduced((edges * normals).sum(-1).abs(), reduction)


def edge_loss(verts: Tensor, target: Tensor, faces: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """L_E: absolute difference of edge lengths over the edges of all faces; arguments as `normal_loss`."""
    return reduced((_lengths(_face_edges(verts, faces)) - _lengths(_face_edges(target, faces))).abs(), reduction)


def _face_edges(verts: Tensor, faces: Tensor) -> Tensor:
    """(B, F, 3, 3): the vectors along the three edges of each face."""
    corners = verts[:, faces]
    return corners - corners.roll(-1, dims=2)


def _lengths(vectors: Tensor) -> Tensor:
    # The gradient of a norm at zero is undefined: a collapsed edge would turn the weights to NaN.
    return (vectors.square().sum(-1) + 1e-12).sqrt()


def consistency_2d(first: Tensor, second: Tensor, affine: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """L_C2d: distance of view 1's joints, mapped into view 2, from view 2's joints.

    Args:
        first: (B, 21, 3) joints predicted in view 1.
        second: (B, 21, 3) joints predicted in view 2.
        affine: (B, 2, 3) maps (u, v) of view 1 onto (u, v) of view 2 (the paper's Aff).
        reduction: over joints and coordinates.
    """
    mapped = first[..., :2] @ affine[:, :, :2].transpose(1, 2) + affine[:, None, :, 2]
    return reduced((mapped - second[..., :2]).abs(), reduction)


def consistency_3d(
    first: Tensor,
    second: Tensor,
    first_joints: Tensor,
    second_joints: Tensor,
    affine: Tensor,
    *,
    reduction: Reduction = "mean",
) -> Tensor:
    """L_C3d: distance of view 1's root-relative vertices, turned into view 2, from view 2's.

    In uvd the paper's Rot, a rotation about the optical axis, is the linear part of the affine map on (u, v), which
    carries the crop's scale as well; d does not change.

    Args:
        first: (B, 778, 3) vertices predicted in view 1.
        second: (B, 778, 3) vertices predicted in view 2.
        first_joints: (B, 21, 3) joints predicted in view 1, whose wrist is the root.
        second_joints: (B, 21, 3) the same in view 2.
        affine: (B, 2, 3), as in `consistency_2d`.
        reduction: over vertices and coordinates.
    """
    from_root = first - first_joints[:, WRIST : WRIST + 1]
    turned = torch.cat([from_root[..., :2] @ affine[:, :, :2].transpose(1, 2), from_root[..., 2:]], dim=-1)
    return reduced((turned - (second - second_joints[:, WRIST : WRIST + 1])).abs(), reduction)
