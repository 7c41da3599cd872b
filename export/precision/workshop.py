"""A maker and a judge at one bench: which graph of a precision is taken, and which layers are to blame where none."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import onnx

from cliphand.checkpoint import Checkpoint
from cliphand.claims import OWN
from cliphand.config import require
from cliphand.data.identity import refuse_other_hand
from cliphand.progress import Progress
from engines.artefact.manifest import GRAPH_NAME, Manifest, open_hand
from engines.runtimes.eager import EagerEngine
from export.gate.images import read_gate_images
from export.gate.parity import Comparison, excess
from export.precision.blame import Blame, Trial, find_blame
from export.precision.calibration import overlap, read_calibration
from export.precision.judge import Judge
from export.precision.maker import PRECISIONS, Made, Maker
from export.precision.quantise import Rest
from export.precision.range_choice import RangeChoice, choose_ranges
from export.precision.request import TypedRequest
from export.precision.table import kept_nodes


@dataclass(frozen=True, slots=True)
class Candidate:
    """A graph that has been made and judged.

    Attributes:
        made: the graph.
        rows: one for each engine.
        other_rest: excess over the tolerance of the graphs with another rest that were made for comparison.
        ranges: how the ranges of a calibrated precision were chosen.
    """

    made: Made
    rows: tuple[Comparison, ...]
    other_rest: Mapping[str, float | None] = field(default_factory=dict)
    ranges: RangeChoice | None = None

    @property
    def excess(self) -> float:
        """Of the worst engine; at most 1 is within the tolerance."""
        return max(excess(row) for row in self.rows)

    @property
    def within_tolerance(self) -> bool:
        """Whether every engine is within the tolerance."""
        return all(row.within_tolerance for row in self.rows)


@dataclass(frozen=True, slots=True, eq=False)
class Workshop:
    """A maker, a judge and what is asked of them; from `open_workshop`."""

    request: TypedRequest
    maker: Maker
    judge: Judge

    def best_candidate(self, low: str) -> Candidate:
        """The graph with the first rest that passes; the one nearest to the tolerance where none does."""
        ranges = None
        if PRECISIONS[low].calibrated:
            self.judge.progress(f"calibrating on {len(self.maker.calibration.files)} images", 0, 1)
            self.maker.calibrate()
            ranges = choose_ranges(self.maker, self.judge)
        tried: list[Candidate] = []
        for rest in PRECISIONS[low].rests:
            tried.append(self.candidate(low, rest))
            if tried[-1].within_tolerance:
                break
        best = min(tried, key=lambda candidate: candidate.excess)
        others = [other for other in tried if other is not best]
        return Candidate(best.made, best.rows, {other.made.rest: _finite(other.excess) for other in others}, ranges)

    def candidate(self, low: str, rest: Rest, extra: frozenset[str] = frozenset()) -> Candidate:
        """Make and judge a graph with some nodes kept beyond the table."""
        made = self.maker.make(low, rest, extra)
        return Candidate(made, self.judge.rows(made.path, low))

    def search(self, candidate: Candidate) -> Blame:
        """Which nodes to keep beyond the table so that a candidate passes."""
        low, rest = candidate.made.low, candidate.made.rest

        def measure(nodes: frozenset[str]) -> Trial:
            tried = candidate if not nodes else self.candidate(low, rest, nodes)
            row = max(tried.rows, key=excess)
            return Trial(
                excess=tried.excess,
                delta_mm=row.delta_pa_pjpe_mm,
                p99_mm=None if row.vertex_distance_mm is None else row.vertex_distance_mm.p99,
                latency_ms=self.judge.latency_ms(tried.made.path, low),
            )

        return find_blame(
            self.maker.groups(candidate.made),
            measure,
            budget_s=self.request.search_s,
            progress=lambda done: self.judge.progress(f"searching the {low} graph", done, 0),
        )

    def gate_facts(self) -> dict[str, object]:
        """For `parity.json`."""
        request, gate, calibration = self.request.gate, self.judge.gate, self.maker.calibration
        files = [self.request.calibration.data / name for name in calibration.files]
        return {
            "data": str(request.data),
            "split": request.split,
            "images": len(gate.indices),
            "protocol": "true wrist depth and bone 0-9 turn uvd into metres",
            "also_calibration_images": overlap(files, gate.data, list(gate.indices)),
        }


@contextmanager
def open_workshop(
    folder: Path, manifest: Manifest, checkpoint: Checkpoint, request: TypedRequest, progress: Progress
) -> Iterator[Workshop]:
    """Read the images and run PyTorch over them.

    Raises:
        InputError: the folder or the data is refused, or the folder was exported from another checkpoint.
    """
    exact = onnx.load(folder / GRAPH_NAME)
    for low in request.precisions:
        kept_nodes(exact.graph, low, request.keep)  # names that it has not are worth the first sentence
    require(
        checkpoint.sha256 == manifest.checkpoint.sha256,
        f"{checkpoint.path} is not the checkpoint that {folder} was exported from; export it again.",
    )
    crop, side = manifest.crop, manifest.input_size
    gate = read_gate_images(request.gate, crop, side)
    calibration = read_calibration(
        request.calibration, crop, side, progress=lambda *steps: progress("reading calibration images", *steps)
    )
    hand = open_hand(manifest, folder)
    refuse_other_hand(gate.data, hand, source=f"the hand of {checkpoint.path}")
    regressor = hand.joint_regressor
    total = len(gate.indices)
    with EagerEngine(checkpoint, threads=request.threads) as engine:
        reference = gate.predict(engine, regressor, progress=lambda done: progress("running PyTorch", done, total))
    with tempfile.TemporaryDirectory(dir=folder, prefix=f"{OWN}typed-") as name:
        scratch = Path(name)
        yield Workshop(
            request,
            Maker(folder / GRAPH_NAME, scratch, exact, request.keep, request.calibration, calibration),
            Judge(scratch, gate, regressor, reference, request.tolerances, request.threads, progress),
        )


def _finite(value: float) -> float | None:
    """JSON has no infinity."""
    return value if value < float("inf") else None
