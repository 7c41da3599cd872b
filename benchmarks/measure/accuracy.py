"""How far an engine's hands are from the truth, on a FreiHAND-format folder.

Joints are regressed from the predicted mesh, as the authors evaluate; the joint regressor's own ("lixel") are
scored beside them. Un-aligned errors are absolute, in the camera frame, with no root subtracted.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.measure.photographs import Photographs, look, read_batch, to_metres
from cliphand.arrays import FloatArray
from cliphand.camera import MM_PER_M
from cliphand.data.freihand import SPLITS, FreiHand, open_freihand
from cliphand.errors import InputError
from cliphand.hand import N_JOINTS, N_VERTICES
from cliphand.metrics import (
    aligned_point_errors,
    area_under_pck,
    constant_prediction,
    mean_pose,
    pa_pjpe_mm,
    score_joints,
    score_mesh,
)
from engines.base import Engine

PREDICTION_BATCH = 8
AUC_RANGES_MM = ((0.0, 50.0), (0.0, 30.0), (20.0, 50.0))


@dataclass(frozen=True, slots=True, eq=False)
class PredictedHands:
    """One engine's hands on N images, metres, camera frame.

    Attributes:
        xyz: (N, 21, 3) joints regressed from the vertices.
        verts: (N, 778, 3) vertices.
        lixel_xyz: (N, 21, 3) the joint regressor's own joints.
    """

    xyz: FloatArray
    verts: FloatArray
    lixel_xyz: FloatArray

    @property
    def n_nonfinite(self) -> int:
        """Images with a NaN or an infinity in any coordinate."""
        whole = np.concatenate([self.xyz, self.verts, self.lixel_xyz], axis=1)
        return int((~np.isfinite(whole).all(axis=(1, 2))).sum())


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Errors in millimetres, F-scores in [0, 1]; None where the labels are missing or an output is not finite.

    Attributes:
        f_at_5: of the aligned meshes, as papers quote it.
        lixel_pa_pjpe_mm: of the joint regressor's own joints.
        pa_pjpe_auc: range of thresholds to the area under the aligned joints' PCK curve.
        nonfinite_images: images with a NaN or an infinity in the output.
        warnings: what a reader must know about these figures.
    """

    pjpe_mm: float | None = None
    pa_pjpe_mm: float | None = None
    pa_pjpe_median_mm: float | None = None
    pa_pjpe_auc: Mapping[str, float] | None = None
    pvpe_mm: float | None = None
    pa_pvpe_mm: float | None = None
    f_at_5: float | None = None
    f_at_15: float | None = None
    lixel_pjpe_mm: float | None = None
    lixel_pa_pjpe_mm: float | None = None
    nonfinite_images: int = 0
    warnings: tuple[str, ...] = ()


def batch_sizes(n_images: int) -> set[int]:
    """Of the calls that `predict` makes."""
    starts = range(0, n_images, PREDICTION_BATCH)
    return {min(PREDICTION_BATCH, n_images - start) for start in starts}


def predict(
    engines: Mapping[str, Engine],
    photographs: Photographs,
    joint_regressor: FloatArray,
    *,
    n_images: int,
    progress: Callable[[int], None] | None = None,
) -> dict[str, PredictedHands]:
    """Run every engine over the first `n_images` photographs; each is read once.

    Args:
        engines: by name.
        photographs: what to run on.
        joint_regressor: (21, 778).
        n_images: how many.
        progress: called with the number of images done.
    """
    lixel = {name: np.empty((n_images, N_JOINTS, 3)) for name in engines}
    verts = {name: np.empty((n_images, N_VERTICES, 3)) for name in engines}
    for start in range(0, n_images, PREDICTION_BATCH):
        indices = range(start, min(start + PREDICTION_BATCH, n_images))
        first = read_batch(photographs, indices)
        for name, engine in engines.items():
            batch, output = look(engine, photographs, first)
            joints_m, verts_m = to_metres(photographs, indices, batch=batch, output=output)
            lixel[name][start : indices.stop], verts[name][start : indices.stop] = joints_m, verts_m
        if progress is not None:
            progress(indices.stop)
    return {name: PredictedHands(joint_regressor @ verts[name], verts[name], lixel[name]) for name in engines}


def score(predictions: PredictedHands, data: FreiHand) -> Accuracy:
    """Compare predictions for the first images of `data` with its labels."""
    nonfinite = predictions.n_nonfinite
    if nonfinite:
        return Accuracy(nonfinite_images=nonfinite, warnings=(f"{nonfinite} images gave NaN or infinity",))
    labels = _labels(data, len(predictions.xyz))
    if data.xyz is None:
        return Accuracy()
    truth = data.xyz[labels]
    joints, lixel = score_joints(predictions.xyz, truth), score_joints(predictions.lixel_xyz, truth)
    errors_mm = aligned_point_errors(predictions.xyz, truth).errors_mm
    mesh = None if data.verts is None else score_mesh(predictions.verts, data.verts[labels])
    warnings = {"mesh joints": joints.warning, "mesh": mesh and mesh.warning, "lixel joints": lixel.warning}
    return Accuracy(
        pjpe_mm=joints.pjpe_mm,
        pa_pjpe_mm=joints.pa_pjpe_mm,
        pa_pjpe_median_mm=joints.pa_pjpe_median_mm,
        pa_pjpe_auc={
            f"{low:g}-{high:g} mm": area_under_pck(errors_mm, range_mm=(low, high)) for low, high in AUC_RANGES_MM
        },
        pvpe_mm=None if mesh is None else mesh.pvpe_mm,
        pa_pvpe_mm=None if mesh is None else mesh.pa_pvpe_mm,
        f_at_5=None if mesh is None else mesh.pa_f_at_5,
        f_at_15=None if mesh is None else mesh.pa_f_at_15,
        lixel_pjpe_mm=lixel.pjpe_mm,
        lixel_pa_pjpe_mm=lixel.pa_pjpe_mm,
        warnings=tuple(f"{what}: {warning}" for what, warning in warnings.items() if warning),
    )


def per_image_pa_pjpe_mm(predictions: PredictedHands, data: FreiHand) -> FloatArray:
    """(N,) PA-PJPE of each of the first images of `data`, of the joints regressed from the mesh.

    Raises:
        InputError: the data has no joints.
    """
    if data.xyz is None:
        raise InputError(f"{data.root} has no {data.split} joints to compare with.")
    truth = data.xyz[_labels(data, len(predictions.xyz))]
    return np.asarray(aligned_point_errors(predictions.xyz, truth).errors_mm.mean(axis=1))


def regressor_pa_pjpe_mm(data: FreiHand, joint_regressor: FloatArray, *, n_images: int) -> float | None:
    """PA-PJPE of the true vertices' joints against the true joints: what this regressor costs a perfect mesh.

    None where the data has no vertices or no joints.
    """
    if data.verts is None or data.xyz is None:
        return None
    labels = _labels(data, n_images)
    return pa_pjpe_mm(joint_regressor @ data.verts[labels], data.xyz[labels])


def mean_pose_pa_pjpe_mm(root: Path) -> float:
    """PA-PJPE on the evaluation split of a predictor that always answers with the mean training pose.

    Raises:
        InputError: a split or its joints are missing.
    """
    training, evaluation = (open_freihand(root, split).xyz for split in SPLITS)
    if training is None or evaluation is None:
        raise InputError(f"{root} has no joints in one of its splits; the mean pose needs training_xyz.json and truth.")
    return pa_pjpe_mm(constant_prediction(mean_pose(training), len(evaluation)), evaluation)


def vertex_distances_mm(predictions: PredictedHands, reference: PredictedHands) -> FloatArray | None:
    """(N, 778) distances between two engines' vertices; None where either is not finite."""
    if predictions.n_nonfinite or reference.n_nonfinite:
        return None
    return np.asarray(np.linalg.norm(predictions.verts - reference.verts, axis=-1) * MM_PER_M)


def _labels(data: FreiHand, n_images: int) -> list[int]:
    """Label of each of the first images."""
    return [data.label_index(index) for index in range(n_images)]
