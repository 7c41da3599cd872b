"""The gate: hands of one engine beside those of PyTorch FP32 on the same images, in millimetres.

Pure comparisons: `export.precision.typed_graphs` keeps a graph that passes and sets aside one that does not.

Joints are regressed from the vertices, as the authors evaluate.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
from annotated_types import Interval

from cliphand.arrays import FloatArray
from cliphand.camera import MM_PER_M
from cliphand.checked import checked
from cliphand.limits import MOST_MM, TOLERANCE_MM
from cliphand.metrics import aligned_point_errors, point_errors

RESAMPLES = 2000
BOUND_OVER_TOLERANCE = 10  # on distances of vertices: alignment would hide a mesh that moves as a whole
INTERVAL_PERCENT = (2.5, 97.5)
FEW_IMAGES = 50  # below which single images decide the means
ROUNDED = "onnxruntime, FP16 rounded"  # in parity.json: ONNX Runtime on what `export.precision.rounding` makes
EMULATED = (
    "FP16 emulated: ONNX Runtime computes FP16 nodes of a graph in FP32 on a CPU; there every FP16 tensor is rounded "
    "to FP16 after its node, as on a GPU"
)
SEED = 0


@dataclass(frozen=True, slots=True, eq=False)
class Hands:
    """N hands in metres, camera frame.

    Attributes:
        xyz: (N, 21, 3) joints.
        verts: (N, 778, 3) vertices.
    """

    xyz: FloatArray
    verts: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """Labels of N images in metres; `verts` is None where the data has none."""

    xyz: FloatArray
    verts: FloatArray | None


@checked
class Tolerance:
    """What a graph may differ from PyTorch by.

    Attributes:
        delta_mm: in PA-PJPE and in PA-PVPE, either way.
        p99_mm: 99th percentile of the distances between matching vertices.
    """

    delta_mm: Annotated[float, TOLERANCE_MM]
    p99_mm: Annotated[float, Interval(gt=0, le=BOUND_OVER_TOLERANCE * MOST_MM)]


# FP32 differs by the order of sums alone.
TOLERANCES: Mapping[str, Tolerance] = {
    "fp32": Tolerance(0.01, 0.1),
    "fp16": Tolerance(0.1, 1.0),
    "int8": Tolerance(0.3, 3.0),
}


@dataclass(frozen=True, slots=True)
class Distances:
    """Between matching vertices of two meshes, millimetres."""

    mean: float
    median: float
    p99: float
    max: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """One graph in one engine against PyTorch FP32; None where an output is not finite or a label is missing.

    Attributes:
        images: how many were compared.
        delta_pa_pjpe_ci_mm: 95 % interval of the difference, from resampled images.
        vertex_distance_mm: absolute, not aligned.
        worst_image: file with the largest mean distance, or the first that is not finite.
        nonfinite: numbers that are NaN or infinite.
        tolerance: that was applied.
        failures: what is outside, in words.
    """

    artefact: str
    engine: str
    precision: str
    images: int
    pjpe_mm: float | None
    reference_pjpe_mm: float | None
    delta_pjpe_mm: float | None
    pa_pjpe_mm: float | None
    reference_pa_pjpe_mm: float | None
    delta_pa_pjpe_mm: float | None
    delta_pa_pjpe_ci_mm: tuple[float, float] | None
    pa_pvpe_mm: float | None
    reference_pa_pvpe_mm: float | None
    delta_pa_pvpe_mm: float | None
    delta_pa_pvpe_ci_mm: tuple[float, float] | None
    vertex_distance_mm: Distances | None
    worst_image: str
    nonfinite: int
    tolerance: Tolerance
    failures: tuple[str, ...] = field(default=())

    @property
    def within_tolerance(self) -> bool:
        """Whether everything is within the tolerance."""
        return not self.failures


@dataclass(frozen=True, slots=True)
class _Change:
    """A mean error, the reference's, their difference and its interval."""

    ours: float | None = None
    reference: float | None = None
    delta: float | None = None
    interval: tuple[float, float] | None = None


def engine_words(engine: str, precision: str) -> str:
    """What people read for an engine of parity.json and the precision of its graph."""
    return f"onnxruntime {precision}, FP16 emulated" if engine == ROUNDED else f"{engine} {precision}"


def few_images(counts: Iterable[object]) -> str | None:
    """A sentence, without its full stop, where one of the numbers of compared images is small, else None."""
    fewest = min((count for count in counts if isinstance(count, int)), default=FEW_IMAGES)
    if fewest >= FEW_IMAGES:
        return None
    return f"Compared on {fewest} image{'s' if fewest > 1 else ''}; under {FEW_IMAGES} images a gate says little"


def compare(
    ours: Hands,
    reference: Hands,
    truth: Truth,
    *,
    names: tuple[str, ...],
    tolerance: Tolerance,
    artefact: str,
    engine: str,
    precision: str,
) -> Comparison:
    """Everything that the gate looks at.

    Args:
        ours: the engine's hands.
        reference: PyTorch FP32's on the same images.
        truth: labels of those images.
        names: of the images.
        tolerance: to apply.
        artefact: name of the graph's file.
        engine: name of the engine.
        precision: of the graph.
    """
    per_image = (~np.isfinite(ours.verts)).sum(axis=(1, 2)) + (~np.isfinite(ours.xyz)).sum(axis=(1, 2))
    nonfinite = int(per_image.sum())
    pjpe = pa_pjpe = pa_pvpe = _Change()
    distances, worst = None, names[int(per_image.argmax())]
    if nonfinite == 0:
        pjpe = _change(*(point_errors(hands.xyz, truth.xyz).per_image_mm for hands in (ours, reference)))
        pa_pjpe = _change(*(aligned_point_errors(hands.xyz, truth.xyz).per_image_mm for hands in (ours, reference)))
        if truth.verts is not None:
            true = truth.verts
            pa_pvpe = _change(*(aligned_point_errors(hands.verts, true).per_image_mm for hands in (ours, reference)))
        apart = np.linalg.norm(ours.verts - reference.verts, axis=-1) * MM_PER_M  # (N, 778)
        distances, worst = _distances(apart), names[int(apart.mean(axis=1).argmax())]
    return Comparison(
        artefact=artefact,
        engine=engine,
        precision=precision,
        images=len(names),
        pjpe_mm=pjpe.ours,
        reference_pjpe_mm=pjpe.reference,
        delta_pjpe_mm=pjpe.delta,
        pa_pjpe_mm=pa_pjpe.ours,
        reference_pa_pjpe_mm=pa_pjpe.reference,
        delta_pa_pjpe_mm=pa_pjpe.delta,
        delta_pa_pjpe_ci_mm=pa_pjpe.interval,
        pa_pvpe_mm=pa_pvpe.ours,
        reference_pa_pvpe_mm=pa_pvpe.reference,
        delta_pa_pvpe_mm=pa_pvpe.delta,
        delta_pa_pvpe_ci_mm=pa_pvpe.interval,
        vertex_distance_mm=distances,
        worst_image=worst,
        nonfinite=nonfinite,
        tolerance=tolerance,
        failures=_failures(pa_pjpe, pa_pvpe, distances, nonfinite, tolerance),
    )


def excess(row: Comparison) -> float:
    """How far outside its tolerance a row is: 1 is the edge, infinity is an output that is not finite."""
    if row.nonfinite or row.vertex_distance_mm is None:
        return float("inf")
    deltas = [abs(delta) for delta in (row.delta_pa_pjpe_mm, row.delta_pa_pvpe_mm) if delta is not None]
    return max(max(deltas) / row.tolerance.delta_mm, row.vertex_distance_mm.p99 / row.tolerance.p99_mm)


def bootstrap_interval(values: FloatArray) -> tuple[float, float]:
    """95 % interval of the mean of (N,) values, by resampling them with a fixed seed."""
    rng = np.random.default_rng(SEED)
    means = values[rng.integers(0, len(values), (RESAMPLES, len(values)))].mean(axis=1)
    low, high = np.percentile(means, INTERVAL_PERCENT).tolist()
    return low, high


def _change(ours: FloatArray, reference: FloatArray) -> _Change:
    """Of (N,) errors of each image."""
    own, theirs = float(ours.mean()), float(reference.mean())
    return _Change(own, theirs, own - theirs, bootstrap_interval(ours - reference))


def _distances(apart: FloatArray) -> Distances:
    median, p99 = np.percentile(apart, (50, 99)).tolist()
    return Distances(float(apart.mean()), median, p99, float(apart.max()))


def _failures(
    pa_pjpe: _Change, pa_pvpe: _Change, distances: Distances | None, nonfinite: int, tolerance: Tolerance
) -> tuple[str, ...]:
    """What is outside the tolerance; a comparison with NaN is outside as well."""
    found = [f"{nonfinite} numbers are NaN or infinite"] if nonfinite else []
    for name, change in (("PA-PJPE", pa_pjpe), ("PA-PVPE", pa_pvpe)):
        if change.delta is not None and not abs(change.delta) <= tolerance.delta_mm:
            found.append(f"{name} changes by {change.delta:+.3f} mm, tolerance {tolerance.delta_mm:g} mm")
    if distances is not None and not distances.p99 <= tolerance.p99_mm:
        found.append(f"99 % of vertices lie within {distances.p99:.3f} mm, bound {tolerance.p99_mm:g} mm")
    return tuple(found)
