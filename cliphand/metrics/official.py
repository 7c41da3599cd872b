"""The FreiHAND benchmark's own keys, units and conventions, for figures that stand beside its leaderboard.

Source: the evaluator's `scores.txt` (Zimmermann et al. 2019): means in centimetres, AUC over 0-50 mm, an alignment
that may mirror a hand, six decimals.
"""

from cliphand.arrays import FloatArray
from cliphand.metrics.hand_score import JointScore, MeshScore, score_joints, score_mesh

MM_PER_CM = 10.0
DECIMALS = 6

JOINT_KEYS = ("xyz_mean3d", "xyz_auc3d", "xyz_al_mean3d", "xyz_al_auc3d")
MESH_KEYS = (
    *("mesh_mean3d", "mesh_auc3d", "mesh_al_mean3d", "mesh_al_auc3d"),
    *("f_score_5", "f_al_score_5", "f_score_15", "f_al_score_15"),
)


def official_joint_scores(score: JointScore) -> dict[str, float]:
    """The four `xyz_` keys from a score taken with `reflections=True` over 0-50 mm."""
    values = (score.pjpe_mm / MM_PER_CM, score.auc, score.pa_pjpe_mm / MM_PER_CM, score.pa_auc)
    return _printed(JOINT_KEYS, values)


def official_mesh_scores(score: MeshScore) -> dict[str, float]:
    """The eight `mesh_` and `f_` keys from a score taken with `reflections=True` over 0-50 mm."""
    values = (
        *(score.pvpe_mm / MM_PER_CM, score.auc, score.pa_pvpe_mm / MM_PER_CM, score.pa_auc),
        *(score.f_at_5, score.pa_f_at_5, score.f_at_15, score.pa_f_at_15),
    )
    return _printed(MESH_KEYS, values)


def official_scores(
    predicted_xyz: FloatArray,
    target_xyz: FloatArray,
    *,
    predicted_verts: FloatArray | None = None,
    target_verts: FloatArray | None = None,
) -> dict[str, float]:
    """What the official evaluator prints.

    Args:
        predicted_xyz: (B, 21, 3) metres.
        target_xyz: (B, 21, 3) metres.
        predicted_verts: (B, 778, 3) metres; without both meshes only the four `xyz_` keys are returned.
        target_verts: (B, 778, 3) metres.

    Returns:
        Its keys with its six decimals; means in centimetres.
    """
    scores = official_joint_scores(score_joints(predicted_xyz, target_xyz, reflections=True))
    if predicted_verts is not None and target_verts is not None:
        scores |= official_mesh_scores(score_mesh(predicted_verts, target_verts, reflections=True))
    return scores


def _printed(keys: tuple[str, ...], values: tuple[float, ...]) -> dict[str, float]:
    return {key: round(value, DECIMALS) for key, value in zip(keys, values, strict=True)}
