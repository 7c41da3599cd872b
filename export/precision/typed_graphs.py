"""Graphs of lower precision of an export folder, each proven by TensorRT's parser and by the gate, or rejected.

The folder gets `model.fp16.onnx` and `model.int8.onnx`, or the same names with `.rejected`, and `parity.json`.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cliphand.checkpoint import Checkpoint
from cliphand.errors import InputError
from cliphand.files import sha256_of, write_json
from cliphand.progress import Progress
from engines.artefact.manifest import GRAPH_NAME, Manifest, check_artefact, describe, read_manifest, write_manifest
from engines.choice.verdicts import PARITY_NAME
from engines.open import REJECTED
from export.gate.parity import Comparison, excess
from export.precision.blame import Blame
from export.precision.proof import Proof, prove
from export.precision.ranges import TensorRange
from export.precision.request import TypedRequest
from export.precision.table import TABLE
from export.precision.workshop import Candidate, Workshop, open_workshop


@dataclass(frozen=True, slots=True)
class JudgedGraph:
    """One graph.

    Attributes:
        name: of its file, which ends in `.rejected` where it failed.
        sha256: of its file, as it was judged.
        precision: `fp32`, `fp16` or `int8`.
        rows: one for each engine.
        proof: what TensorRT and the file say; None for FP32, and where they refuse it.
        refusal: why TensorRT or the file's weights say that the graph is not what its name says; None where they agree.
        candidate: how it was made; None for FP32.
        blame: what the search found; None where there was none.
    """

    name: str
    sha256: str
    precision: str
    rows: tuple[Comparison, ...]
    proof: Proof | None = None
    refusal: str | None = None
    candidate: Candidate | None = None
    blame: Blame | None = None

    @property
    def passed(self) -> bool:
        """Whether every engine is within the tolerance and TensorRT agrees with the name."""
        return all(row.within_tolerance for row in self.rows) and self.refusal is None


@dataclass(frozen=True, slots=True)
class ParityReport:
    """What to print.

    Attributes:
        verdicts: of all graphs.
        risky: tensors above a quarter of FP16's range.
        content: what `parity.json` holds.
    """

    verdicts: tuple[JudgedGraph, ...]
    risky: tuple[TensorRange, ...]
    content: Mapping[str, object]

    @property
    def passed(self) -> bool:
        """Whether every graph passed."""
        return all(verdict.passed for verdict in self.verdicts)


def write_typed_graphs(folder: Path, checkpoint: Checkpoint, request: TypedRequest, progress: Progress) -> ParityReport:
    """Make, prove and judge typed graphs of an export folder.

    Args:
        folder: with `model.onnx` and `manifest.json`.
        checkpoint: that the folder was exported from, the reference.
        request: what to make.
        progress: called with what is being done, steps done and steps in all.

    Raises:
        InputError: the folder, the data or a name is refused, or ModelOpt fails on a graph.
    """
    manifest = read_manifest(folder)
    exact = check_artefact(manifest, folder / GRAPH_NAME).sha256
    with open_workshop(folder, manifest, checkpoint, request, progress) as workshop:
        verdicts = [JudgedGraph(GRAPH_NAME, exact, "fp32", workshop.judge.rows(folder / GRAPH_NAME, "fp32"))]
        verdicts += [_make(workshop, low) for low in request.precisions]
        ranges = workshop.maker.ranges()
        content = _content(workshop, verdicts, ranges)
        _put(folder, manifest, verdicts[1:])
    write_json(folder / PARITY_NAME, content, None)
    return ParityReport(tuple(verdicts), tuple(entry for entry in ranges if entry.risky), content)


def _make(workshop: Workshop, low: str) -> JudgedGraph:
    """One typed graph, judged; it stays where it was made."""
    candidate = workshop.best_candidate(low)
    blame = None
    if not candidate.within_tolerance and workshop.request.search_s > 0:
        blame = workshop.search(candidate)
        if blame.found and workshop.request.auto:
            kept = workshop.candidate(low, candidate.made.rest, frozenset(blame.nodes))
            candidate = dataclasses.replace(kept, ranges=candidate.ranges)
    proof, refusal = None, None
    try:
        proof = prove(candidate.made.path, low, tensorrt=workshop.request.tensorrt)
    except InputError as error:
        refusal = str(error)
    name = f"model.{low}.onnx{'' if candidate.within_tolerance and refusal is None else REJECTED}"
    rows = tuple(dataclasses.replace(row, artefact=name) for row in candidate.rows)
    return JudgedGraph(name, sha256_of(candidate.made.path), low, rows, proof, refusal, candidate, blame)


def _put(folder: Path, manifest: Manifest, verdicts: list[JudgedGraph]) -> None:
    """Put the new graphs into the folder and its manifest in place of older ones, which never lists what is not there.

    All graphs go at once, at the end: a folder whose files its manifest does not describe is no export any more.
    """
    stale = {f"model.{verdict.precision}.onnx{end}" for verdict in verdicts for end in ("", REJECTED)}
    artefacts = {name: artefact for name, artefact in manifest.artefacts.items() if name not in stale}
    made = [(verdict, verdict.candidate.made.path) for verdict in verdicts if verdict.candidate is not None]
    listed = artefacts | {verdict.name: describe(path, precision=verdict.precision) for verdict, path in made}
    write_manifest(dataclasses.replace(manifest, artefacts=artefacts), folder)
    for name in stale:
        (folder / name).unlink(missing_ok=True)
    for verdict, path in made:
        path.replace(folder / verdict.name)
    write_manifest(dataclasses.replace(manifest, artefacts=listed), folder)


def _content(workshop: Workshop, verdicts: list[JudgedGraph], ranges: tuple[TensorRange, ...]) -> dict[str, object]:
    """The JSON form of everything."""
    return {
        "passed": all(verdict.passed for verdict in verdicts),
        "reference": "PyTorch FP32",
        "rows": [_row(row, verdict.sha256) for verdict in verdicts for row in verdict.rows],
        "artefacts": {verdict.name: _artefact(workshop, verdict) for verdict in verdicts if verdict.candidate},
        "gate": workshop.gate_facts(),
        "calibration": workshop.maker.facts(),
        "ranges": [
            {"tensor": entry.tensor, "node": entry.node, "largest": entry.largest, "risky": entry.risky}
            for entry in ranges
        ],
        "precision_table": {rule.name: {"out_of": rule.out_of, "why": rule.why} for rule in TABLE},
    }


def _row(row: Comparison, sha256: str) -> dict[str, object]:
    """The JSON form of a row, bound to the graph's bytes."""
    ratio = excess(row)
    bound = {"sha256": sha256, "passed": row.within_tolerance, "excess": ratio if ratio < float("inf") else None}
    return dataclasses.asdict(row) | bound


def _artefact(workshop: Workshop, verdict: JudgedGraph) -> dict[str, object]:
    candidate = verdict.candidate
    assert candidate is not None  # noqa: S101  # the caller's condition
    return {
        "sha256": verdict.sha256,
        "precision": verdict.precision,
        "passed": verdict.passed,
        "rest": candidate.made.rest,
        "excess_with_another_rest": candidate.other_rest,
        "kept": workshop.maker.kept(candidate.made),
        "proof": None if verdict.proof is None else dataclasses.asdict(verdict.proof),
        "refusal": verdict.refusal,
        "range_choice": None if candidate.ranges is None else dataclasses.asdict(candidate.ranges),
        "int8_ranges": candidate.made.int8_ranges,
        "blame": None if verdict.blame is None else blame_facts(verdict.blame),
    }


def blame_facts(blame: Blame) -> dict[str, object]:
    """The JSON form of a search's result."""
    facts = dataclasses.asdict(blame)
    for trial in (facts["trial"], facts["nothing_kept"], *(group["trial"] for group in facts["groups"])):
        trial["excess"] = trial["excess"] if trial["excess"] < float("inf") else None  # JSON has no infinity
    return facts | {"found": blame.found}
