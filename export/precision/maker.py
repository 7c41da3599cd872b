"""The maker of typed graphs: the FP32 graph and images of the training split in, graphs of lower precision out.

`PRECISIONS` says how a graph of each is made; what stays out of it is the precision table's.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx

from cliphand.arrays import FloatArray
from export.precision.calibration import CalibrationRequest, CalibrationSet
from export.precision.half import half_nodes, write_half
from export.precision.quantise import Method, Rest, activation_ranges, calibrate, quantised_nodes, write_quantised
from export.precision.ranges import TensorRange, measure_ranges
from export.precision.table import Keep, kept_nodes, stages, union

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
    low: str
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

    def make(self, low: str, rest: Rest, extra: frozenset[str]) -> Made:
        """Write a graph with some nodes kept beyond the table; a calibrated precision needs `calibrate` before."""
        # One file serves all trials of the search; what they are compared with keeps its own.
        path = self.scratch / f"{low}.{rest}{'.tried' if extra else ''}.onnx"
        PRECISIONS[low].write(self, path, rest, extra)
        calibrated = PRECISIONS[low].calibrated
        ranges = activation_ranges(onnx.load(self.calibrated).graph) if calibrated else {}
        return Made(path, low, rest, extra, ranges)

    @property
    def calibrated(self) -> Path:
        """The graph with the Q and DQ that `calibrate` places."""
        return self.scratch / CALIBRATED_NAME

    @property
    def image(self) -> FloatArray:
        """(1, 3, S, S) one of the images, normalised."""
        return self.calibration.images[:1]

    def table(self, low: str) -> frozenset[str]:
        """Names of the nodes that the table and the request keep out of a precision."""
        return union(kept_nodes(self.source.graph, low, self.keep))

    def calibrate(self) -> None:
        """Place Q and DQ and measure the largest magnitudes once, for every graph of INT8."""
        method: Method = "entropy" if self.request.method == "entropy" else "max"
        images = self.calibration.images
        calibrate(self.exact, self.calibrated, keep=self.table("int8"), images=images, method=method)

    def groups(self, made: Made) -> dict[str, tuple[str, ...]]:
        """The nodes of a graph that are in its precision, by stage."""
        graph = onnx.load(made.path)
        return stages(self.source.graph, PRECISIONS[made.low].nodes(graph))

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


@dataclass(frozen=True, slots=True)
class Precision:
    """How graphs of one precision are made.

    Attributes:
        write: writes a file; given the maker, the file, the precision of the rest, and the nodes kept beyond the table.
        nodes: names of a graph's nodes that are in the precision.
        weights: what ONNX calls the type of its weights.
        rests: precisions of what is not in it, in the order in which they are tried.
        calibrated: whether its graphs are made from the one that `Maker.calibrate` writes.
    """

    write: Callable[[Maker, Path, Rest, frozenset[str]], None]
    nodes: Callable[[onnx.ModelProto], Collection[str]]
    weights: str
    rests: tuple[Rest, ...] = ("fp32",)
    calibrated: bool = False


def _write_fp16(maker: Maker, path: Path, rest: Rest, extra: frozenset[str]) -> None:
    write_half(maker.exact, path, keep=maker.table("fp16") | extra, image=maker.image)


def _write_int8(maker: Maker, path: Path, rest: Rest, extra: frozenset[str]) -> None:
    keep_fp32 = maker.table("fp16")
    write_quantised(maker.calibrated, path, unquantise=extra, rest=rest, keep_fp32=keep_fp32, image=maker.image)


# By the name that stands in a graph's file name; their tolerances are in `export.gate.parity`.
PRECISIONS: Mapping[str, Precision] = {
    "fp16": Precision(_write_fp16, half_nodes, "FLOAT16"),
    "int8": Precision(
        _write_int8, lambda graph: quantised_nodes(graph.graph), "INT8", rests=("fp16", "fp32"), calibrated=True
    ),
}
