"""How far a predicted hand is from the true one: point errors, PCK and AUC, F-scores, official keys."""

from cliphand.metrics.alignment import Similarity, align, fit_similarity
from cliphand.metrics.f_score import f_scores
from cliphand.metrics.hand_score import JointScore, MeshScore, score_joints, score_mesh
from cliphand.metrics.mean_pose import constant_prediction, mean_pose
from cliphand.metrics.official import official_joint_scores, official_mesh_scores, official_scores
from cliphand.metrics.pck import OFFICIAL_RANGE_MM, area_under_pck, pck_curve, pck_thresholds
from cliphand.metrics.point_errors import (
    PointErrors,
    aligned_point_errors,
    pa_pjpe_mm,
    pa_pvpe_mm,
    pjpe_mm,
    point_errors,
    pvpe_mm,
)

__all__ = [
    "OFFICIAL_RANGE_MM",
    "JointScore",
    "MeshScore",
    "PointErrors",
    "Similarity",
    "align",
    "aligned_point_errors",
    "area_under_pck",
    "constant_prediction",
    "f_scores",
    "fit_similarity",
    "mean_pose",
    "official_joint_scores",
    "official_mesh_scores",
    "official_scores",
    "pa_pjpe_mm",
    "pa_pvpe_mm",
    "pck_curve",
    "pck_thresholds",
    "pjpe_mm",
    "point_errors",
    "pvpe_mm",
    "score_joints",
    "score_mesh",
]
