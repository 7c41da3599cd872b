"""All figures of a set of predicted joints or meshes, in millimetres, with a warning where hands are mirrored."""

from dataclasses import dataclass

from cliphand.arrays import FloatArray
from cliphand.hand import N_JOINTS, N_VERTICES
from cliphand.metrics.alignment import Similarity, fit_similarity
from cliphand.metrics.f_score import f_scores
from cliphand.metrics.pck import OFFICIAL_RANGE_MM, area_under_pck
from cliphand.metrics.point_errors import PointErrors, aligned_point_errors, check_points, point_errors

# A flat hand fits about as well mirrored, so some hands do by chance. Measured on 97 real hands (Ge et al.) and 3,000
# rendered ones: at most 8 % where predictions are off by up to 30 mm, are the mean pose or are another image's hand;
# 52 % where nothing of their depth is right. With an axis flipped, or labels of the other hand, it is nearly all.
MIRRORED_SHARE = 0.7


@dataclass(frozen=True, slots=True)
class JointScore:
    """Joints against the truth; `pa_` stands after Procrustes alignment of the joints.

    Attributes:
        pjpe_mm: mean error.
        pjpe_median_mm: mean over joints of each joint's median.
        auc: area under the PCK curve over `auc_range_mm`, in [0, 1].
        warning: where most hands fit better mirrored (MIRRORED_SHARE), how many, and what that does to PA-PJPE.
    """

    pjpe_mm: float
    pjpe_median_mm: float
    pa_pjpe_mm: float
    pa_pjpe_median_mm: float
    auc: float
    pa_auc: float
    auc_range_mm: tuple[float, float]
    warning: str | None


@dataclass(frozen=True, slots=True)
class MeshScore:
    """Vertices against the truth; `pa_` stands after Procrustes alignment of the vertices.

    Attributes:
        pvpe_mm: mean error.
        pvpe_median_mm: mean over vertices of each vertex's median.
        auc: area under the PCK curve over `auc_range_mm`, in [0, 1].
        f_at_5: mean F-score at 5 mm, in [0, 1]; papers quote the aligned one.
        warning: as of joints, and what that does to PA-PVPE.
    """

    pvpe_mm: float
    pvpe_median_mm: float
    pa_pvpe_mm: float
    pa_pvpe_median_mm: float
    auc: float
    pa_auc: float
    auc_range_mm: tuple[float, float]
    f_at_5: float
    f_at_15: float
    pa_f_at_5: float
    pa_f_at_15: float
    warning: str | None


def score_joints(
    predicted: FloatArray,
    target: FloatArray,
    *,
    reflections: bool = False,
    auc_range_mm: tuple[float, float] = OFFICIAL_RANGE_MM,
) -> JointScore:
    """Score joints.

    Args:
        predicted: (B, 21, 3) metres, camera frame.
        target: (B, 21, 3) metres, camera frame.
        reflections: let the alignment mirror a hand, as the official evaluator does.
        auc_range_mm: lowest and highest threshold of the PCK curve.

    Raises:
        ValueError: the shapes are not both (B, 21, 3), or a number is not finite.
    """
    predicted, target = check_points(N_JOINTS, predicted, target)
    fit = fit_similarity(predicted, target, reflections=reflections)
    plain, aligned = point_errors(predicted, target), point_errors(fit.apply(predicted), target)
    return JointScore(
        pjpe_mm=plain.mean_mm,
        pjpe_median_mm=plain.median_mm,
        pa_pjpe_mm=aligned.mean_mm,
        pa_pjpe_median_mm=aligned.median_mm,
        auc=area_under_pck(plain.errors_mm, range_mm=auc_range_mm),
        pa_auc=area_under_pck(aligned.errors_mm, range_mm=auc_range_mm),
        auc_range_mm=auc_range_mm,
        warning=_mirror_warning("PA-PJPE", fit, aligned, predicted, target, reflections=reflections),
    )


def score_mesh(
    predicted: FloatArray,
    target: FloatArray,
    *,
    reflections: bool = False,
    auc_range_mm: tuple[float, float] = OFFICIAL_RANGE_MM,
) -> MeshScore:
    """Score vertices; arguments as `score_joints`, of shape (B, 778, 3).

    Raises:
        ValueError: the shapes are not both (B, 778, 3), or a number is not finite.
    """
    predicted, target = check_points(N_VERTICES, predicted, target)
    fit = fit_similarity(predicted, target, reflections=reflections)
    moved = fit.apply(predicted)
    plain, aligned = point_errors(predicted, target), point_errors(moved, target)
    f_at_5, f_at_15 = f_scores(predicted, target).mean(axis=0).tolist()
    pa_f_at_5, pa_f_at_15 = f_scores(moved, target).mean(axis=0).tolist()
    return MeshScore(
        pvpe_mm=plain.mean_mm,
        pvpe_median_mm=plain.median_mm,
        pa_pvpe_mm=aligned.mean_mm,
        pa_pvpe_median_mm=aligned.median_mm,
        auc=area_under_pck(plain.errors_mm, range_mm=auc_range_mm),
        pa_auc=area_under_pck(aligned.errors_mm, range_mm=auc_range_mm),
        auc_range_mm=auc_range_mm,
        f_at_5=f_at_5,
        f_at_15=f_at_15,
        pa_f_at_5=pa_f_at_5,
        pa_f_at_15=pa_f_at_15,
        warning=_mirror_warning("PA-PVPE", fit, aligned, predicted, target, reflections=reflections),
    )


def _mirror_warning(
    name: str, fit: Similarity, aligned: PointErrors, predicted: FloatArray, target: FloatArray, *, reflections: bool
) -> str | None:
    """One sentence where more hands fit better mirrored than by chance, else None."""
    n_mirrored = int(fit.mirrored.sum())
    if n_mirrored <= MIRRORED_SHARE * len(predicted):
        return None
    other = aligned_point_errors(predicted, target, reflections=not reflections)
    rotated, reflected = (other, aligned) if reflections else (aligned, other)
    return (
        f"{n_mirrored} of {len(predicted)} hands fit better mirrored: {name} is {rotated.mean_mm:.3f} mm with "
        f"rotations only and {reflected.mean_mm:.3f} mm with reflections; check for left hands or a flipped axis."
    )
