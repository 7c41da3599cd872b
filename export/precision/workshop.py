"""The bench on which typed graphs are made and judged: the FP32 graph, the images, PyTorch's hands on them."""

import importlib.util
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx

from cliphand.claims import OWN
from cliphand.config import require
from cliphand.data.crop import normalise
from cliphand.data.identity import refuse_other_hand
from engines.artefact.manifest import HAND_NAME, Manifest, checkpoint_path, open_hand
from engines.base import Engine
from engines.open import open_engine
from engines.runtimes.eager import EagerEngine
from engines.runtimes.openvino_cpu import OpenVinoEngine
from engines.runtimes.ort import OrtEngine
from export.gate.images import GateImages, GateRequest, read_gate_images
from export.gate.parity import TOLERANCES, Hands, Row, Tolerance, compare, excess
from export.precision.blame import Blame, Trial, find_blame
from export.precision.calibration import CalibrationRequest, CalibrationSet, overlap, read_calibration
from export.precision.half import half_nodes, write_half
from export.precision.quantise import Rest, activation_ranges, calibrate, quantised_nodes, write_quantised
from export.precision.ranges import TensorRange, measure_ranges
from export.precision.rounding import holds_half, write_rounded
from export.precision.table import Keep, Low, kept_nodes, stages, union

Progress = Callable[[str, int, int], None]  # what is being done, steps done, steps in all
GRAPH_NAME = "model.onnx"
ROUNDED = "onnxruntime, FP16 rounded"  # see `export.precision.rounding`
CALIBRATED_NAME = "calibrated.onnx"
LATENCY_CALLS = 5


@dataclass(frozen=True, slots=True)
class TypedRequest:
    """What to make and how it is judged.

    Attributes:
        precisions: graphs to make beside the FP32 one.
        calibration: images that ranges are measured on.
        gate: images that the graphs are judged on.
        keep: changes to the table of what stays in higher precision.
        tolerances: by precision.
        search_s: time for the search for layers to blame where a graph fails; 0 leaves it out.
        auto: whether the blamed layers are kept in higher precision and the graph is judged again.
        threads: of one call; None leaves the choice to each run-time.
        tensorrt: have TensorRT for RTX, where it is installed, parse and build each graph.
    """

    precisions: tuple[Low, ...]
    calibration: CalibrationRequest
    gate: GateRequest
    keep: Keep = field(default_factory=Keep)
    tolerances: Mapping[str, Tolerance] = field(default_factory=lambda: TOLERANCES)
    search_s: float = 600.0
    auto: bool = False
    threads: int | None = None
    tensorrt: bool = True

    def __post_init__(self) -> None:
        require(self.search_s >= 0, f"the search's time is {self.search_s} s; it cannot be negative.")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A graph that has been made and judged.

    Attributes:
        path: of its file, in the workshop.
        low: its precision.
        rest: precision of what is not in `low`.
        extra: nodes kept in higher precision beyond the table.
        rows: one for each engine.
        int8_ranges: largest magnitude that each calibrated activation can hold.
        other_rest: excess over the tolerance of the graphs with another rest that were made for comparison.
    """

    path: Path
    low: Low
    rest: Rest
    extra: frozenset[str]
    rows: tuple[Row, ...]
    int8_ranges: Mapping[str, float]
    other_rest: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def excess(self) -> float:
        """Of the worst engine; at most 1 is within the tolerance."""
        return max(excess(row) for row in self.rows)

    @property
    def passed(self) -> bool:
        """Whether every engine is within the tolerance."""
        return all(row.passed for row in self.rows)


@dataclass(frozen=True, slots=True, eq=False)
class Workshop:
    """Everything that making and judging needs; from `open_workshop`."""

    folder: Path
    scratch: Path
    manifest: Manifest
    request: TypedRequest
    source: onnx.ModelProto
    calibration: CalibrationSet
    gate: GateImages
    joint_regressor: np.ndarray
    reference: Hands
    progress: Progress

    def kept(self, candidate: Candidate) -> dict[str, list[str]]:
        """What stays out of a candidate's precision, by the rule or the name that keeps it."""
        kept = kept_nodes(self.source.graph, candidate.low, self.request.keep)
        return kept | ({"blamed": sorted(candidate.extra)} if candidate.extra else {})

    def judge(self, path: Path, precision: str) -> tuple[Row, ...]:
        """Compare a graph with PyTorch in every engine for it that is installed."""
        threads = self.request.threads
        with ExitStack() as stack:
            engines: dict[str, Engine] = {"onnxruntime": OrtEngine(path, precision=precision, threads=threads)}
            # OpenVINO is the CPU's engine for INT8; with FP16 it would only compute in float32.
            if precision != "fp16" and importlib.util.find_spec("openvino") is not None:
                engines["openvino"] = OpenVinoEngine(path, precision=precision, threads=threads)
            if holds_half(path):
                twin = self.scratch / f"{path.stem}.rounded.onnx"
                write_rounded(path, twin)
                engines[ROUNDED] = OrtEngine(twin, precision=precision, threads=threads)
            for engine in engines.values():
                stack.enter_context(engine)
            return tuple(self._row(engine, name, path.name, precision) for name, engine in engines.items())

    def best_candidate(self, low: Low) -> Candidate:
        """The graph of this precision; of INT8 with the rest in FP16 unless only FP32 passes or is nearer."""
        if low == "fp16":
            return self.make(low, "fp32", frozenset())
        self._calibrate()
        half = self.make(low, "fp16", frozenset())
        if half.passed:
            return half
        full = self.make(low, "fp32", frozenset())
        best, other = (full, half) if full.excess < half.excess else (half, full)
        return Candidate(
            best.path, low, best.rest, best.extra, best.rows, best.int8_ranges, {other.rest: _finite(other.excess)}
        )

    def make(self, low: Low, rest: Rest, extra: frozenset[str]) -> Candidate:
        """Make and judge a graph with some nodes kept beyond the table."""
        # One file serves all trials of the search; what they are compared with keeps its own.
        path = self.scratch / f"{low}.{rest}{'.tried' if extra else ''}.onnx"
        table = union(kept_nodes(self.source.graph, "fp16", self.request.keep))
        image, calibrated = self.calibration.images[:1], self.scratch / CALIBRATED_NAME
        ranges: dict[str, float] = {}
        if low == "fp16":
            write_half(self.folder / GRAPH_NAME, path, keep=table | extra, image=image)
        else:
            write_quantised(calibrated, path, unquantise=extra, rest=rest, keep_fp32=table, image=image)
            ranges = activation_ranges(onnx.load(calibrated).graph)
        return Candidate(path, low, rest, extra, self.judge(path, low), ranges)

    def search(self, candidate: Candidate) -> Blame:
        """Which nodes to keep beyond the table so that a candidate passes."""
        graph = onnx.load(candidate.path)
        low = half_nodes(graph) if candidate.low == "fp16" else quantised_nodes(graph.graph)
        groups = stages(self.source.graph, low)

        def measure(nodes: frozenset[str]) -> Trial:
            tried = candidate if not nodes else self.make(candidate.low, candidate.rest, nodes)
            row = max(tried.rows, key=excess)
            distances = row.vertex_distance_mm
            return Trial(
                excess=tried.excess,
                delta_mm=row.delta_pa_pjpe_mm,
                p99_mm=None if distances is None else distances.p99,
                latency_ms=self._latency_ms(tried.path, candidate.low),
            )

        return find_blame(
            groups,
            measure,
            budget_s=self.request.search_s,
            progress=lambda done: self.progress(f"searching the {candidate.low} graph", done, 0),
        )

    def gate_facts(self) -> dict[str, object]:
        """For `parity.json`."""
        request = self.request.gate
        files = [self.request.calibration.data / name for name in self.calibration.files]
        return {
            "data": str(request.data),
            "split": request.split,
            "images": len(self.gate.indices),
            "protocol": "true wrist depth and bone 0-9 turn uvd into metres",
            "also_calibration_images": overlap(files, self.gate.data, list(self.gate.indices)),
        }

    def calibration_facts(self) -> dict[str, object]:
        """For `parity.json`."""
        request = self.request.calibration
        return {
            "data": str(request.data),
            "split": "training",
            "images": len(self.calibration.files),
            "seed": request.seed,
            "held_out": request.held_out_facts(),
            "method": request.method,
            "sha256": self.calibration.sha256,
            "files": self.calibration.files,
        }

    def ranges(self) -> tuple[TensorRange, ...]:
        """Of the FP32 graph's tensors on the calibration images, largest first."""
        return measure_ranges(self.folder / GRAPH_NAME, self.calibration.images)

    def _row(self, engine: Engine, name: str, artefact: str, precision: str) -> Row:
        total, what = len(self.gate.indices), f"comparing {artefact} in {name}"
        hands = self.gate.predict(engine, self.joint_regressor, progress=lambda done: self.progress(what, done, total))
        return compare(
            hands,
            self.reference,
            self.gate.truth,
            names=self.gate.names,
            tolerance=self.request.tolerances[precision],
            artefact=artefact,
            engine=name,
            precision=precision,
        )

    def _calibrate(self) -> None:
        self.progress(f"calibrating on {len(self.calibration.files)} images", 0, 1)
        calibrate(
            self.folder / GRAPH_NAME,
            self.scratch / CALIBRATED_NAME,
            keep=union(kept_nodes(self.source.graph, "int8", self.request.keep)),
            images=self.calibration.images,
            method=self.request.calibration.method,
        )

    def _latency_ms(self, path: Path, precision: str) -> float:
        """Median of a few calls with one image in ONNX Runtime."""
        image = normalise(self.gate.crops[:1], self.gate.crop)
        times = []
        with OrtEngine(path, precision=precision, threads=self.request.threads) as engine:
            for _ in range(1 + LATENCY_CALLS):
                start = time.perf_counter()
                engine(image)
                times.append(time.perf_counter() - start)
        return float(np.median(times[1:])) * 1000


@contextmanager
def open_workshop(folder: Path, manifest: Manifest, request: TypedRequest, progress: Progress) -> Iterator[Workshop]:
    """Read the images and run PyTorch over them.

    Raises:
        InputError: the folder, its checkpoint or the data is refused.
    """
    checkpoint = checkpoint_path(manifest, folder)
    engine = open_engine(checkpoint, threads=request.threads)
    require(
        isinstance(engine, EagerEngine) and engine.checkpoint.sha256 == manifest.checkpoint.sha256,
        f"{checkpoint} is not the checkpoint that {folder} was exported from; export it again.",
    )
    crop, side = manifest.crop, manifest.input_size
    gate = read_gate_images(request.gate, crop, side)
    wanted = request.calibration.images
    calibration = read_calibration(
        request.calibration, crop, side, progress=lambda done: progress("reading calibration images", done, wanted)
    )
    hand = open_hand(manifest, folder)
    refuse_other_hand(gate.data, hand, source=folder / HAND_NAME)
    regressor = hand.joint_regressor
    total = len(gate.indices)
    with engine:
        reference = gate.predict(engine, regressor, progress=lambda done: progress("running PyTorch", done, total))
    with tempfile.TemporaryDirectory(dir=folder, prefix=f"{OWN}typed-") as scratch:
        source = onnx.load(folder / GRAPH_NAME)
        yield Workshop(
            folder, Path(scratch), manifest, request, source, calibration, gate, regressor, reference, progress
        )


def _finite(value: float) -> float | None:
    """JSON has no infinity."""
    return value if value < float("inf") else None
