"""The choice of the ranges of INT8: what each way moves vertices by, on calibration images that set none of them."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from cliphand.arrays import IntArray
from engines.runtimes.ort import OrtEngine
from export.gate.images import gate_images
from export.gate.parity import Comparison, excess
from export.precision.activation_ranges import LEAST_ERROR_IN, magnitudes, set_ranges
from export.precision.judge import Judge
from export.precision.maker import Maker

HELD_BACK = 5  # one in so many of the calibration images judges; it sets no range until the choice is made


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """One way on the images that were held back, against the FP32 graph, in the engine where it does worst.

    Attributes:
        excess: see `export.gate.parity.excess`; None where an output is not finite.
        delta_mm: change of PA-PJPE; None as above.
        p99_mm: 99th percentile of the distances of vertices; None as above.
        engine: where.
    """

    excess: float | None
    delta_mm: float | None
    p99_mm: float | None
    engine: str


@dataclass(frozen=True, slots=True)
class RangeChoice:
    """How ranges follow from what is seen.

    Attributes:
        method: a name of `export.precision.calibration.RangeMethod`, other than `best`.
        images: how many were held back; 0 where the method was given.
        rehearsals: by method; empty where the method was given.
    """

    method: str
    images: int = 0
    rehearsals: Mapping[str, Rehearsal] = dataclasses.field(default_factory=dict)


def choose_ranges(maker: Maker, judge: Judge) -> RangeChoice:
    """Give a calibrated graph its ranges: those asked for, or the best.

    Args:
        maker: that has just calibrated; its graph is changed.
        judge: compares on other images; here on some of the maker's.
    """
    method = maker.request.method
    if method not in ("best", *LEAST_ERROR_IN):
        return RangeChoice(method)
    calibrated, images = onnx.load(maker.calibrated), maker.calibration.images
    held = np.arange(len(images)) % HELD_BACK == 0
    parts = [magnitudes(calibrated, images[part]) for part in (~held, held)]
    choice = RangeChoice(method)
    if method == "best":
        # Of a single image nothing is left to measure on: it does both.
        fitted = parts[0] if not held.all() else parts[1]
        choice = _best(maker, _held_back(maker, judge, held), calibrated, fitted)
    counts = {name: parts[0][name] + parts[1][name] for name in parts[0]}
    onnx.save_model(set_ranges(calibrated, counts, choice.method), maker.calibrated)
    return choice


def _best(maker: Maker, judge: Judge, calibrated: onnx.ModelProto, counts: Mapping[str, IntArray]) -> RangeChoice:
    """The way whose graph lies nearest to the FP32 graph; of equals the simplest."""
    rehearsals = {}
    for place, method in enumerate(LEAST_ERROR_IN):
        judge.progress("comparing ranges of INT8", place, len(LEAST_ERROR_IN))
        onnx.save_model(set_ranges(calibrated, counts, method), maker.calibrated)
        made = maker.make("int8", "fp32", frozenset())
        rehearsals[method] = _rehearsal(max(judge.rows(made.path, "int8"), key=excess))
    best = min(rehearsals, key=lambda method: _or_infinite(rehearsals[method].excess))
    return RangeChoice(best, len(judge.gate.indices), rehearsals)


def _held_back(maker: Maker, judge: Judge, held: np.ndarray) -> Judge:
    """A judge of the images held back, who compares with the FP32 graph."""
    indices = np.asarray(maker.calibration.indices)[held].tolist()
    gate = gate_images(maker.calibration.data, indices, judge.gate.crop, judge.gate.crops.shape[1])
    with OrtEngine(maker.exact, precision="fp32", threads=judge.threads) as engine:
        reference = gate.predict(engine, judge.joint_regressor)
    return dataclasses.replace(judge, gate=gate, reference=reference)


def _rehearsal(row: Comparison) -> Rehearsal:
    distances, ratio = row.vertex_distance_mm, excess(row)
    return Rehearsal(
        excess=ratio if ratio < float("inf") else None,
        delta_mm=row.delta_pa_pjpe_mm,
        p99_mm=None if distances is None else distances.p99,
        engine=row.engine,
    )


def _or_infinite(value: float | None) -> float:
    return float("inf") if value is None else value
