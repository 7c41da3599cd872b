"""One line of the benchmark: engine x precision x batch, with its speed, its accuracy and its distance to PyTorch."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from benchmarks.contestants.exported import REFERENCE, Contestant
from benchmarks.contestants.plans import SUFFIX
from benchmarks.measure.accuracy import Accuracy, PredictedHands, vertex_distances_mm
from benchmarks.measure.intervals import Ratio
from benchmarks.measure.isolated import Isolated
from benchmarks.measure.roofline import Roofline
from benchmarks.measure.speed import Latency, Speed
from export.gate.parity import TOLERANCES, Tolerance

REDUCED = "fp16"  # whose tolerance holds for other reduced floating-point arithmetic, such as bfloat16


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
        key: names the contestant within the report.
        kind: `reference`, `artefact` or `baseline`.
        runner: name that opens the engine, as `--engine` takes it; empty where it is no file.
        latency_interval_ms: 95 % interval of the median latency.
        cpu_ms_p50: CPU time of a call, all threads.
        first_call_ms: of the first call at this batch size in this process, which had run others.
        bare_ms_p50: of the run-time's own call.
        overhead: of the engine's call over that, and the same in CPU time.
        pipelined_ms_p50: of a batch in a stream, end to end, the next being read meanwhile.
        pipelined_over_model: that over the model alone, and the same in CPU time.
        speedup: over PyTorch with as many threads, and the same in CPU time.
        faster_than: over each other contestant, by key, and the same in CPU time.
        delta_pa_pvpe_mm: PA-PVPE minus PyTorch's.
        within_gate: whether the differences to PyTorch on these images are within the export's default tolerances.
        alone: what was measured in processes of its own.
        latency_samples_ms: single calls, model only; evenly spaced ones of them where many were timed.
        end_to_end_samples_ms: the same from JPEG files to metres.
        roofline_share: the exported graph's GFLOP in this latency, over those that the processor's fastest convolutions
            in this precision do; usually below 1, see `benchmarks.measure.roofline`. PyTorch may compute other FLOP
            than the graph's.
        sha256: of the model file that was measured; None where it is none.
        layers: of a plan, how many of its layers have the precision that its name promises.
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
    key: str = ""
    kind: str = ""
    runner: str = ""
    latency_interval_ms: tuple[float, float] | None = None
    cpu_ms_p50: float | None = None
    first_call_ms: float | None = None
    bare_ms_p50: float | None = None
    overhead: Ratio | None = None
    overhead_cpu: Ratio | None = None
    pipelined_ms_p50: float | None = None
    pipelined_over_model: Ratio | None = None
    pipelined_over_model_cpu: Ratio | None = None
    speedup: Ratio | None = None
    speedup_cpu: Ratio | None = None
    faster_than: Mapping[str, Ratio] | None = None
    faster_than_cpu: Mapping[str, Ratio] | None = None
    delta_pa_pvpe_mm: float | None = None
    within_gate: bool | None = None
    isolated: Isolated | None = None
    latency_samples_ms: tuple[float, ...] = ()
    end_to_end_samples_ms: tuple[float, ...] = ()
    roofline_share: float | None = None
    layers: str | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Findings:
    """What was measured of each contestant, by its key; speed by key and batch size.

    Attributes:
        rooflines: of the processor, by number of threads.
        gflop: of the exported graph for one image; None where the manifest has no such figure.
    """

    accuracy: Mapping[str, Accuracy]
    predictions: Mapping[str, PredictedHands]
    speed: Mapping[tuple[str, int], Speed]
    isolated: Mapping[str, Isolated]
    rooflines: Mapping[int | None, Roofline] = field(default_factory=dict)
    gflop: float | None = None


def make_rows(contestants: Mapping[str, Contestant], findings: Findings) -> tuple[Row, ...]:
    """Rows by contestant, batch sizes in the order they were timed in."""
    distances = {key: _distances(findings.predictions, key) for key in contestants}
    return tuple(
        _row(contestants, key, findings, batch=batch, distance=distances[key])
        for contestant in contestants
        for key, batch in findings.speed
        if key == contestant
    )


def _row(
    contestants: Mapping[str, Contestant],
    key: str,
    findings: Findings,
    *,
    batch: int,
    distance: Mapping[str, float] | None,
) -> Row:
    contestant, accuracy, speed = contestants[key], findings.accuracy[key], findings.speed[key, batch]
    reference = _reference(contestants, contestant)
    precision = contestant.engine.precision
    delta = _delta(accuracy.pa_pjpe_mm, findings.accuracy, "pa_pjpe_mm")
    delta_mesh = _delta(accuracy.pa_pvpe_mm, findings.accuracy, "pa_pvpe_mm")
    return Row(
        engine=contestant.engine.name,
        precision=precision,
        batch=batch,
        latency_ms_p50=speed.model.p50_ms,
        latency_ms_p90=speed.model.p90_ms,
        latency_ms_p99=speed.model.p99_ms,
        fps=speed.model.fps,
        end_to_end_fps=speed.end_to_end.fps,
        pjpe_mm=accuracy.pjpe_mm,
        pa_pjpe_mm=accuracy.pa_pjpe_mm,
        pa_pvpe_mm=accuracy.pa_pvpe_mm,
        f_at_5=accuracy.f_at_5,
        f_at_15=accuracy.f_at_15,
        lixel_pa_pjpe_mm=accuracy.lixel_pa_pjpe_mm,
        delta_pa_pjpe_mm=delta,
        size_mb=contestant.size_mb,
        artefact=contestant.artefact,
        threads=contestant.threads,
        calls=speed.model.calls,
        end_to_end_ms_p50=speed.end_to_end.p50_ms,
        end_to_end_ms_p90=speed.end_to_end.p90_ms,
        end_to_end_ms_p99=speed.end_to_end.p99_ms,
        end_to_end_calls=speed.end_to_end.calls,
        pvpe_mm=accuracy.pvpe_mm,
        pa_pjpe_median_mm=accuracy.pa_pjpe_median_mm,
        pa_pjpe_auc=accuracy.pa_pjpe_auc,
        lixel_pjpe_mm=accuracy.lixel_pjpe_mm,
        vertex_distance_mm=distance,
        nonfinite_images=accuracy.nonfinite_images,
        key=key,
        kind=contestant.kind,
        runner=contestant.runner,
        latency_interval_ms=speed.model.interval_ms,
        cpu_ms_p50=speed.model.cpu_ms_p50,
        first_call_ms=speed.model.first_ms,
        bare_ms_p50=None if speed.bare is None else speed.bare.p50_ms,
        overhead=speed.overhead,
        overhead_cpu=speed.overhead_cpu,
        pipelined_ms_p50=speed.pipelined_ms_p50,
        pipelined_over_model=speed.pipelined_over_model,
        pipelined_over_model_cpu=speed.pipelined_over_model_cpu,
        speedup=speed.faster_than.get(reference),
        speedup_cpu=speed.faster_than_cpu.get(reference),
        faster_than=speed.faster_than,
        faster_than_cpu=speed.faster_than_cpu,
        delta_pa_pvpe_mm=delta_mesh,
        within_gate=_within(tolerance_of(precision), (delta, delta_mesh), distance),
        isolated=findings.isolated.get(key),
        latency_samples_ms=speed.model.samples_ms,
        end_to_end_samples_ms=speed.end_to_end.samples_ms,
        roofline_share=_roofline_share(contestant, speed.model, findings),
        layers=contestant.layers,
        sha256=contestant.sha256,
    )


def _roofline_share(contestant: Contestant, latency: Latency, findings: Findings) -> float | None:
    """None where no roofline was measured, as for what runs on a GPU."""
    roofline = findings.rooflines.get(contestant.threads)
    if roofline is None or findings.gflop is None or contestant.artefact.endswith(SUFFIX):
        return None
    gflop = findings.gflop * latency.batch
    return roofline.share(contestant.engine.precision, gflop=gflop, latency_ms=latency.p50_ms)


def tolerance_of(precision: str) -> Tolerance:
    """The default tolerance for what an engine says it computes in."""
    return TOLERANCES.get(precision.split("-")[0], TOLERANCES[REDUCED])


def _reference(contestants: Mapping[str, Contestant], contestant: Contestant) -> str:
    """Key of PyTorch with as many threads."""
    found = (
        key for key, other in contestants.items() if other.kind == "reference" and other.threads == contestant.threads
    )
    return next(found, REFERENCE)


def _delta(value: float | None, accuracy: Mapping[str, Accuracy], field: str) -> float | None:
    """A figure minus PyTorch's."""
    reference = getattr(accuracy[REFERENCE], field) if REFERENCE in accuracy else None
    return None if value is None or reference is None else value - reference


def _within(
    tolerance: Tolerance, deltas: tuple[float | None, ...], distance: Mapping[str, float] | None
) -> bool | None:
    """None where there is nothing to compare with."""
    if distance is None:
        return None
    small = all(abs(delta) <= tolerance.delta_mm for delta in deltas if delta is not None)
    return small and distance["p99"] <= tolerance.p99_mm


def _distances(predictions: Mapping[str, PredictedHands], key: str) -> dict[str, float] | None:
    """Distances of an engine's vertices to PyTorch's, in four figures."""
    if REFERENCE not in predictions:
        return None
    distances = vertex_distances_mm(predictions[key], predictions[REFERENCE])
    if distances is None:
        return None
    median, p99 = np.percentile(distances, (50, 99)).tolist()
    return {"mean": float(distances.mean()), "median": median, "p99": p99, "max": float(distances.max())}
