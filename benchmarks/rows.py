"""One line of the benchmark: engine x precision x batch, with its speed, its accuracy and its distance to PyTorch."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from benchmarks.accuracy import Accuracy, Predictions, vertex_distances_mm
from benchmarks.entrants import REFERENCE, Entrant
from benchmarks.speed import Latency


@dataclass(frozen=True, slots=True)
class Row:
    """Names end in their unit; None is "cannot be told here": no labels, no PyTorch, or an output that is not finite.

    Attributes:
        fps: images a second at the median latency, model only.
        end_to_end_fps: the same from JPEG files to vertices in metres.
        f_at_5: of the aligned meshes, in [0, 1].
        lixel_pa_pjpe_mm: of the joint regressor's own joints; all other joints are regressed from the mesh.
        delta_pa_pjpe_mm: PA-PJPE minus PyTorch's.
        threads: asked for; None left the choice to the run-time.
        calls: timed calls, model only.
        vertex_distance_mm: to PyTorch's vertices in the camera frame: mean, median, p99, max.
        nonfinite_images: images with a NaN or an infinity in the output.
    """

    engine: str
    precision: str
    batch: int
    latency_ms_p50: float
    latency_ms_p90: float
    latency_ms_p99: float
    fps: float
    end_to_end_fps: float
    pjpe_mm: float | None
    pa_pjpe_mm: float | None
    pa_pvpe_mm: float | None
    f_at_5: float | None
    f_at_15: float | None
    lixel_pa_pjpe_mm: float | None
    delta_pa_pjpe_mm: float | None
    size_mb: float
    artefact: str
    threads: int | None
    calls: int
    end_to_end_ms_p50: float
    end_to_end_ms_p90: float
    end_to_end_ms_p99: float
    end_to_end_calls: int
    pvpe_mm: float | None
    pa_pjpe_median_mm: float | None
    pa_pjpe_auc: Mapping[str, float] | None
    lixel_pjpe_mm: float | None
    vertex_distance_mm: Mapping[str, float] | None
    nonfinite_images: int


@dataclass(frozen=True, slots=True, eq=False)
class Findings:
    """What was measured of each entrant, by its key; latencies by key and batch size."""

    accuracy: Mapping[str, Accuracy]
    predictions: Mapping[str, Predictions]
    model: Mapping[tuple[str, int], Latency]
    end_to_end: Mapping[tuple[str, int], Latency]


def make_rows(entrants: Mapping[str, Entrant], findings: Findings, *, threads: int | None) -> tuple[Row, ...]:
    """All rows, entrant by entrant, batch sizes in the order they were timed in."""
    distances = {key: _distances(findings.predictions, key) for key in entrants}
    return tuple(
        _row(entrants[key], key, findings, batch=batch, threads=threads, distance=distances[key])
        for entrant in entrants
        for key, batch in findings.model
        if key == entrant
    )


def _row(
    entrant: Entrant,
    key: str,
    findings: Findings,
    *,
    batch: int,
    threads: int | None,
    distance: Mapping[str, float] | None,
) -> Row:
    accuracy, model, whole = findings.accuracy[key], findings.model[key, batch], findings.end_to_end[key, batch]
    return Row(
        engine=entrant.engine.name,
        precision=entrant.engine.precision,
        batch=batch,
        latency_ms_p50=model.p50_ms,
        latency_ms_p90=model.p90_ms,
        latency_ms_p99=model.p99_ms,
        fps=model.fps,
        end_to_end_fps=whole.fps,
        pjpe_mm=accuracy.pjpe_mm,
        pa_pjpe_mm=accuracy.pa_pjpe_mm,
        pa_pvpe_mm=accuracy.pa_pvpe_mm,
        f_at_5=accuracy.f_at_5,
        f_at_15=accuracy.f_at_15,
        lixel_pa_pjpe_mm=accuracy.lixel_pa_pjpe_mm,
        delta_pa_pjpe_mm=_delta(findings.accuracy, key),
        size_mb=entrant.size_mb,
        artefact=entrant.artefact,
        threads=threads,
        calls=model.calls,
        end_to_end_ms_p50=whole.p50_ms,
        end_to_end_ms_p90=whole.p90_ms,
        end_to_end_ms_p99=whole.p99_ms,
        end_to_end_calls=whole.calls,
        pvpe_mm=accuracy.pvpe_mm,
        pa_pjpe_median_mm=accuracy.pa_pjpe_median_mm,
        pa_pjpe_auc=accuracy.pa_pjpe_auc,
        lixel_pjpe_mm=accuracy.lixel_pjpe_mm,
        vertex_distance_mm=distance,
        nonfinite_images=accuracy.nonfinite_images,
    )


def _delta(accuracy: Mapping[str, Accuracy], key: str) -> float | None:
    """PA-PJPE minus PyTorch's."""
    value = accuracy[key].pa_pjpe_mm
    reference = accuracy[REFERENCE].pa_pjpe_mm if REFERENCE in accuracy else None
    return None if value is None or reference is None else value - reference


def _distances(predictions: Mapping[str, Predictions], key: str) -> dict[str, float] | None:
    """Distances of an engine's vertices to PyTorch's, in four figures."""
    if REFERENCE not in predictions:
        return None
    distances = vertex_distances_mm(predictions[key], predictions[REFERENCE])
    if distances is None:
        return None
    median, p99 = np.percentile(distances, (50, 99)).tolist()
    return {"mean": float(distances.mean()), "median": median, "p99": p99, "max": float(distances.max())}
