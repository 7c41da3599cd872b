"""The pose, and if asked the shape, in which the rendered hand's joints come nearest to given ones.

Every joint is linear in the skinned vertices, so its place is a sum over bones of a turned vector: no mesh is posed.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cliphand.arrays import FloatArray
from cliphand.data.synthetic.rig import CUP_BONES, FINGER_BONES, N_SHAPES
from cliphand.data.synthetic.rigged_hand import RiggedHand
from cliphand.hand import MIDDLE_MCP, WRIST

STEPS, RATE = 200, 0.07
STARTS_RAD = (0.0, -0.4, -0.8)  # fingers bent by these at the start; the best of the three fits counts
SHAPE_LIMIT = 2.2  # standard deviations, as rendered


@dataclass(frozen=True, slots=True)
class JointForm:
    """A hand's joints as a function of its bones' transforms.

    Attributes:
        vectors: (1 + N_SHAPES, 21, 42, 3) what each bone turns, for the mean shape and per standard deviation.
        shares: (21, 42) of each bone in each joint.
        heads: (1 + N_SHAPES, 21, 3) of the bones.
        parents: (21,) parent of each bone.
    """

    vectors: Tensor
    shares: Tensor
    heads: Tensor
    parents: tuple[int, ...]


def joint_form(model: RiggedHand, regressor: FloatArray) -> JointForm:
    """The joints that a (21, 778) regressor finds."""
    rig = model.rig
    rows = regressor @ model.smooth[model.anchors].toarray()  # (21, V)
    vertices = np.concatenate([rig.vertices[None], rig.vertex_basis])
    heads = np.concatenate([rig.heads[None], rig.head_basis])
    vectors = np.einsum("jv,vb,cvi->cjbi", rows, rig.weights, vertices, optimize=True)
    return JointForm(
        torch.from_numpy(vectors),
        torch.from_numpy(rows @ rig.weights),
        torch.from_numpy(heads),
        tuple(int(parent) for parent in rig.parents),
    )


def pose_joints(form: JointForm, rotations: Tensor, coefficients: Tensor) -> Tensor:
    """(B, 21, 3) joints for rotation vectors (B, 21, 3) and shapes (B, N_SHAPES).

    As `rig.pose_hand` does it, for a batch and with gradients; what `unfold` does to creases is left out.
    """
    mixture = torch.cat([torch.ones_like(coefficients[:, :1]), coefficients], dim=1)
    heads = torch.einsum("nc,cbi->nbi", mixture, form.heads)
    local = _turns(torch.cat([rotations, rotations / 2], dim=1))
    n = len(form.parents)
    full: list[Tensor] = [local[:, 0]] * (2 * n)
    offset: list[Tensor] = [heads[:, 0]] * (2 * n)
    for bone, parent in enumerate(form.parents):
        posed = heads[:, bone]
        if parent >= 0:
            posed = torch.einsum("nij,nj->ni", full[parent], posed) + offset[parent]
        for slot in (bone, bone + n):
            full[slot] = full[parent] @ local[:, slot] if parent >= 0 else local[:, slot]
            offset[slot] = posed - torch.einsum("nij,nj->ni", full[slot], heads[:, bone])
    vectors = torch.einsum("nc,cjbi->njbi", mixture, form.vectors)
    turned = torch.einsum("nbik,njbk->nji", torch.stack(full, dim=1), vectors)
    return turned + torch.einsum("jb,nbi->nji", form.shares, torch.stack(offset, dim=1))


def fit_hands(form: JointForm, real: FloatArray, *, shapes: bool) -> FloatArray:
    """Joints of the rendered hand, fitted to real ones by least squares after Procrustes alignment.

    The fingers' joints turn freely, beyond what a hand can do, and the palm only cups: a lower bound.

    Args:
        form: of the hand.
        real: (B, 21, 3), any unit.
        shapes: fit the shape too, within the rendered population; otherwise the mean hand.

    Returns:
        (B, 21, 3) in the real joints' frame and unit.
    """
    target = torch.from_numpy(np.array(real, np.float64))
    target = target / (target[:, MIDDLE_MCP] - target[:, WRIST]).norm(dim=-1)[:, None, None]
    best, least = torch.zeros_like(target), torch.full((len(target),), torch.inf, dtype=target.dtype)
    for start in STARTS_RAD:
        joints, cost = _descend(form, target, start, shapes=shapes)
        better = cost < least
        best[better], least[better] = joints[better], cost[better]
    return np.asarray((best * _unit(real)).numpy())


def _descend(form: JointForm, target: Tensor, start: float, *, shapes: bool) -> tuple[Tensor, Tensor]:
    """Aligned joints (B, 21, 3) and squared error (B,) after STEPS from one start."""
    freedom = torch.zeros(len(form.parents), 3, dtype=target.dtype)
    freedom[FINGER_BONES.ravel()] = 1
    freedom[list(CUP_BONES), 0] = 1
    rotations = torch.zeros(len(target), *freedom.shape, dtype=target.dtype)
    rotations[:, FINGER_BONES[1:, :2].ravel(), 0] = start
    coefficients = torch.zeros(len(target), N_SHAPES, dtype=target.dtype)
    free = [rotations.requires_grad_(), coefficients.requires_grad_(shapes)]
    optimiser = torch.optim.Adam([value for value in free if value.requires_grad], lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    for _ in range(STEPS):
        posed = pose_joints(form, rotations * freedom, SHAPE_LIMIT * torch.tanh(coefficients))
        joints = _aligned(posed, target)
        cost = (joints - target).square().sum(dim=(1, 2))
        optimiser.zero_grad()
        torch.autograd.backward(cost.sum())
        optimiser.step()
        schedule.step()
    return joints.detach(), cost.detach()


def _aligned(joints: Tensor, target: Tensor) -> Tensor:
    """Joints after their best similarity, whose own gradient is zero at the optimum and so is left out."""
    centred, true = joints - joints.mean(dim=1, keepdim=True), target - target.mean(dim=1, keepdim=True)
    with torch.no_grad():
        left, strengths, right = torch.linalg.svd(true.transpose(1, 2) @ centred)
        sign = torch.ones_like(strengths)
        sign[:, 2] = torch.det(left @ right).sign()
        rotation = left @ (sign[..., None] * right)
        scale = (strengths * sign).sum(dim=1) / centred.square().sum(dim=(1, 2))
    aligned: Tensor = scale[:, None, None] * centred @ rotation.transpose(1, 2) + target.mean(dim=1, keepdim=True)
    return aligned


def _turns(vectors: Tensor) -> Tensor:
    """Rotation matrices (..., 3, 3) of rotation vectors (..., 3), by Rodrigues' formula."""
    angle = (vectors.square().sum(dim=-1, keepdim=True) + 1e-16).sqrt()
    x, y, z = (vectors / angle).unbind(dim=-1)
    zero = torch.zeros_like(x)
    rows = [torch.stack(row, dim=-1) for row in ((zero, -z, y), (z, zero, -x), (-y, x, zero))]
    cross, angle = torch.stack(rows, dim=-2), angle[..., None]
    return torch.eye(3, dtype=vectors.dtype) + angle.sin() * cross + (1 - angle.cos()) * cross @ cross


def _unit(real: FloatArray) -> Tensor:
    """(B, 1, 1) length of bone 0-9."""
    return torch.from_numpy(np.linalg.norm(real[:, MIDDLE_MCP] - real[:, WRIST], axis=-1))[:, None, None]
