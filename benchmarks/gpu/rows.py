"""Rows of the GPU check: each engine on each batch size, with its latency, its memory and its distance to eager FP32.

A latency is the wall time of a whole call, numpy in and numpy out, transfers included. Every engine is opened, measured
and closed before the next one.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.contestants.exported import BYTES_PER_MB
from benchmarks.gpu.budget import Budget
from benchmarks.gpu.candidates import Candidate, Subject
from benchmarks.measure.speed import SpeedSettings, summarise, time_interleaved
from cliphand.config import require
from cliphand.errors import InputError
from engines.base import Engine, HandOutput
from engines.host.cuda_device import find_gpu
from engines.tensorrt.run import TrtEngine
from export.graph.deploy_model import example_images
from export.graph.reference_view import distances_mm

GPU_BATCHES = (1, 8, 64, 256)
CPU_BATCHES = (1, 8)  # a call of 64 images takes seconds there
PARITY_BATCH = 2
TIMING_CALLS = 50
GFLOP_PER_TFLOP = 1000.0
SETTINGS = SpeedSettings(warmup_calls=3, calls=100, seconds=5.0)


@dataclass(frozen=True, slots=True)
class EngineRow:
    """One engine at one batch size; `skipped` says why there is nothing else.

    Attributes:
        latency_ms_p50: of a whole call, as are the next two.
        images_per_s: at the median.
        device_ms_p50: of the inference alone between two CUDA events; only plans tell it.
        share_of_peak: of the measured matrix product's speed on this device in this precision, in [0, 1].
        memory_mb: of the GPU's memory that opening and running took; None on a CPU.
        parity_mm: largest distance of a joint or vertex to eager FP32 on the CPU, seen by the reference camera.
    """

    engine: str
    device: str
    precision: str
    batch: int
    latency_ms_p50: float | None = None
    latency_ms_p90: float | None = None
    latency_ms_p99: float | None = None
    images_per_s: float | None = None
    device_ms_p50: float | None = None
    share_of_peak: float | None = None
    memory_mb: float | None = None
    parity_mm: float | None = None
    skipped: str | None = None


def measure(
    candidate: Candidate,
    subject: Subject,
    budget: Budget,
    *,
    peaks_tflops: Mapping[tuple[str, str], float],
    settings: SpeedSettings = SETTINGS,
) -> list[EngineRow]:
    """The candidate's rows, one for each batch size; those that cannot be measured say why.

    Args:
        candidate: the engine.
        subject: what it runs.
        budget: time left.
        peaks_tflops: by device and precision.
        settings: how much is timed.
    """
    batches = GPU_BATCHES if candidate.device == "cuda" else CPU_BATCHES
    head = (candidate.engine, candidate.device, candidate.precision)
    rows: list[EngineRow] = []
    try:
        gpu = find_gpu()
        require(candidate.device == "cpu" or not isinstance(gpu, str), f"{gpu}.")
        budget.require_time()
        used_before = _gpu_memory_mb()
        with candidate.open() as engine:
            parity_mm = distance_mm(engine, subject)
            for batch in batches:
                budget.require_time()
                images = example_images(batch, subject.input_size, seed=batch).numpy()
                times = time_interleaved({"": lambda images=images: engine(images)}, settings)[""]  # type: ignore[misc]
                latency = summarise(times, batch)
                used = _gpu_memory_mb()
                peak = peaks_tflops.get(head[1:])
                rows.append(
                    EngineRow(
                        *head,
                        batch,
                        latency_ms_p50=latency.p50_ms,
                        latency_ms_p90=latency.p90_ms,
                        latency_ms_p99=latency.p99_ms,
                        images_per_s=latency.fps,
                        device_ms_p50=_device_ms(engine, images),
                        share_of_peak=None if peak is None else latency.fps * subject.gflop / GFLOP_PER_TFLOP / peak,
                        memory_mb=None if used is None or used_before is None else used - used_before,
                        parity_mm=parity_mm,
                    )
                )
    except (InputError, RuntimeError) as error:  # out of memory is one
        reason = " ".join(str(error).split())
        rows += [EngineRow(*head, batch, skipped=reason) for batch in batches[len(rows) :]]
    return rows


def distance_mm(engine: Engine, subject: Subject) -> float:
    """Largest distance of any joint or vertex to eager FP32 on the CPU, on noise images; infinite where one is lost."""
    images = example_images(PARITY_BATCH, subject.input_size, seed=PARITY_BATCH)
    with torch.inference_mode():
        expected = HandOutput(*(output.numpy() for output in subject.model.cpu()(images)))
    found = engine(images.numpy())
    pairs = ((found.joints_uvd, expected.joints_uvd), (found.verts_uvd, expected.verts_uvd))
    worst = float(np.max([distances_mm(ours, theirs).max() for ours, theirs in pairs]))  # a NaN stays
    return worst if np.isfinite(worst) else float("inf")


def _device_ms(engine: Engine, images: np.ndarray) -> float | None:
    """Median of the inference alone, where the engine can tell."""
    if not isinstance(engine, TrtEngine):
        return None
    return float(np.median(engine.time_calls(images, calls=TIMING_CALLS).device_ms))


def _gpu_memory_mb() -> float | None:
    """Memory of the GPU that is in use, by whomever."""
    if not torch.cuda.is_available():
        return None
    free, total = torch.cuda.mem_get_info()
    return (total - free) / BYTES_PER_MB
