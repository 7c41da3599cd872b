"""The maker of typed graphs: the FP32 graph and images of the training split in, FP16 and INT8 graphs out."""

from dataclasses import dataclass
from pathlib import Path

import onnx

from export.precision.calibration import CalibrationRequest, CalibrationSet
from export.precision.half import half_nodes, write_half
from export.precision.quantise import Rest, activation_ranges, calibrate, quantised_nodes, write_quantised
from export.precision.ranges import TensorRange, measure_ranges
from export.precision.table import Keep, Low, kept_nodes, stages, union

CALIBRATED_NAME = "calibrated.onnx"


@dataclass(frozen=True, slots=True)
class Made:
    """A typed graph.

    Attributes:
        path: of its file.
        low: its precision.
        rest: precision of what is not in `low`.
        extra: nodes kept in higher precision beyond the table.
        int8_ranges: largest magnitude that each calibrated activation can hold.
    """

    path: Path
    low: Low
    rest: Rest
    extra: frozenset[str]
    int8_ranges: dict[str, float]


@dataclass(frozen=True, slots=True, eq=False)
class Maker:
    """Makes typed graphs of one FP32 graph.

    Attributes:
        exact: the FP32 graph's file.
        scratch: folder for what is made.
        source: the FP32 graph.
        keep: changes to the table of what stays in higher precision.
        request: what chose the images.
        calibration: the images.
    """

    exact: Path
    scratch: Path
    source: onnx.ModelProto
    keep: Keep
    request: CalibrationRequest
    calibration: CalibrationSet

    def make(self, low: Low, rest: Rest, extra: frozenset[str]) -> Made:
        """Write a graph with some nodes kept beyond the table; one of INT8 needs `calibrate` before."""
        # One file serves all trials of the search; what they are compared with keeps its own.
        path = self.scratch / f"{low}.{rest}{'.tried' if extra else ''}.onnx"
        table = union(kept_nodes(self.source.graph, "fp16", self.keep))
        image, calibrated = self.calibration.images[:1], self.scratch / CALIBRATED_NAME
        if low == "fp16":
            write_half(self.exact, path, keep=table | extra, image=image)
            return Made(path, low, rest, extra, {})
        write_quantised(calibrated, path, unquantise=extra, rest=rest, keep_fp32=table, image=image)
        return Made(path, low, rest, extra, activation_ranges(onnx.load(calibrated).graph))

    def calibrate(self) -> None:
        """Measure the ranges of INT8 once, for every graph of it."""
        keep = union(kept_nodes(self.source.graph, "int8", self.keep))
        calibrated, images = self.scratch / CALIBRATED_NAME, self.calibration.images
        calibrate(self.exact, calibrated, keep=keep, images=images, method=self.request.method)

    def groups(self, made: Made) -> dict[str, tuple[str, ...]]:
        """The nodes of a graph that are in its precision, by stage."""
        graph = onnx.load(made.path)
        return stages(self.source.graph, half_nodes(graph) if made.low == "fp16" else quantised_nodes(graph.graph))

    def kept(self, made: Made) -> dict[str, list[str]]:
        """What stays out of a graph's precision, by the rule or the name that keeps it."""
        kept = kept_nodes(self.source.graph, made.low, self.keep)
        return kept | ({"blamed": sorted(made.extra)} if made.extra else {})

    def ranges(self) -> tuple[TensorRange, ...]:
        """Of the FP32 graph's tensors on the calibration images, largest first."""
        return measure_ranges(self.exact, self.calibration.images)

    def facts(self) -> dict[str, object]:
        """For `parity.json`."""
        return {
            "data": str(self.request.data),
            "split": "training",
            "images": len(self.calibration.files),
            "seed": self.request.seed,
            "held_out": self.request.held_out_facts(),
            "method": self.request.method,
            "sha256": self.calibration.sha256,
            "files": self.calibration.files,
        }
