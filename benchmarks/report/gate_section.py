"""Whether the exported graphs still give PyTorch's hands: the gate's verdict and its tables."""

import dataclasses
from collections.abc import Mapping, Sequence, Sized
from pathlib import Path
from types import MappingProxyType

from benchmarks.bench.table import MISSING
from benchmarks.contestants.exported import Skipped
from benchmarks.report.page import GateVerdict, Section, Table
from engines.choice.verdicts import PARITY_NAME
from engines.open import REJECTED
from export.gate.parity import EMULATED, ROUNDED, Comparison, engine_words, few_images

HEAD = (
    "graph",
    "engine",
    "images",
    "PA-PJPE, mm",
    "change, mm",
    "95 % interval, mm",
    "PA-PVPE change, mm",
    "vertices p99, mm",
    "verdict",
)
UNRECORDED = "no reason is recorded"

Facts = Mapping[str, object]


def measured_rows(gate: Sequence[Comparison]) -> list[Facts]:
    """The report's own comparisons in the form of parity.json."""
    return [dataclasses.asdict(row) | {"passed": row.within_tolerance} for row in gate]


def verdict(
    at_export: Sequence[Facts],
    here: Sequence[Facts],
    *,
    refusals: Mapping[str, str] = MappingProxyType({}),
    skipped: Sequence[Skipped] = (),
    notes: Sequence[str] = (),
) -> GateVerdict:
    """What the gate says of the graphs that the folder ships, each in its engines, and which ones it rejected.

    Args:
        at_export: rows of parity.json that hold for the graphs as the manifest lists them.
        here: rows of this report.
        refusals: of parity.json, by file: why a graph was rejected whatever its rows say.
        skipped: files that their engine refuses here: what parity.json says of one that ran nowhere is not told.
        notes: sentences, without their full stop, to end with.
    """
    ran = {_name(row) for row in here}
    lost = {_shipped(one.file): one.reason for one in skipped if _shipped(one.file) not in ran}
    rows = [row for row in (*at_export, *here) if _name(row) not in lost]
    last = [f"{name} was skipped and is not judged: {reason}." for name, reason in lost.items()]
    untold = "".join(f" {sentence}" for sentence in [*last, *(f"{sentence}." for sentence in notes)])
    if not rows:
        none = "No graph was compared with PyTorch; the parity section says why."
        return GateVerdict("open", "Gate not judged", none + untold)
    shipped = [row for row in rows if not _rejected(row)]
    failed = {_where(row): row for row in shipped if row.get("passed") is not True}
    passed: dict[str, dict[str, None]] = {}  # engines of each graph, each once
    for row in shipped:
        if _where(row) not in failed:
            passed.setdefault(_name(row), {})[_engine(row)] = None
    rejected = dict.fromkeys(_name(row) for row in rows if _rejected(row))
    why = {_name(row): _failures(row) for row in at_export if row.get("passed") is not True}
    why |= {_shipped(file): reason for file, reason in refusals.items()}
    within = "; ".join(f"{name} in {' and '.join(engines)}" for name, engines in passed.items())
    told = [f"Within tolerance of PyTorch: {within}."] if passed else []
    told += [f"{where} is not: {_failures(row)}." for where, row in failed.items()]
    told += [f"{name} was rejected at export: {why.get(name, UNRECORDED)}." for name in rejected]
    few = few_images(row.get("images") for row in rows)
    told += [] if few is None else [f"{few}."]
    if failed or not passed:
        count = len(failed) + sum(map(len, passed.values()))
        headline = f"Gate failed for {len(failed)} of {count}" if passed else "Gate failed"
        return GateVerdict("failed", headline, " ".join(told) + untold)
    headline = f"Gate passed{_counted(rejected, 'rejected')}{_counted(lost, 'skipped')}"
    return GateVerdict("open" if lost else "passed", headline, " ".join(told) + untold)


def _counted(graphs: Sized, what: str) -> str:
    return f", {len(graphs)} graph{'s' if len(graphs) > 1 else ''} {what}" if graphs else ""


def parity_section(
    at_export: Sequence[Facts], here: Sequence[Facts], *, where: str, why_not: str, stale: Sequence[str] = ()
) -> Section:
    """Both tables.

    Args:
        at_export: rows of parity.json that hold for the graphs as they are.
        here: rows of this report.
        where: the data that `here` was measured on.
        why_not: why `here` is empty, if it is.
        stale: sentences about rows of parity.json that are of other graphs.
    """
    parts = []
    sentences = [
        "Each graph's hands beside PyTorch FP32's on the same images. Joints are regressed from the mesh; a change is "
        "the graph's mean error minus PyTorch's; vertices p99 is the 99th percentile of the distances between matching "
        "vertices, not aligned."
    ]
    if here:
        parts.append(Table(f"Measured for this report, on {where}", HEAD, [_cells(row) for row in here], n_words=2))
    else:
        sentences.append(why_not)
    if any(row.get("engine") == ROUNDED for row in (*at_export, *here)):
        sentences.append(f"{EMULATED}.")
    sentences += [f"{sentence}." for sentence in stale]
    if at_export:
        parts.append(Table(f"At export ({PARITY_NAME})", HEAD, [_cells(row) for row in at_export], n_words=2))
    elif not stale:
        sentences.append(
            f"The folder has no {PARITY_NAME}: `cliphand export` with --fp16 or --int8 writes it when it judges graphs."
        )
    return Section("parity", "Parity with PyTorch", sentences, parts)


def _cells(row: Facts) -> list[str]:
    interval, distances = row.get("delta_pa_pjpe_ci_mm"), row.get("vertex_distance_mm")
    between = [_number(end, "+z.4f") for end in interval] if isinstance(interval, list | tuple) else []
    return [
        _name(row),
        _engine(row),
        str(row.get("images", MISSING)),
        _number(row.get("pa_pjpe_mm"), ".2f"),
        _number(row.get("delta_pa_pjpe_mm"), "+z.4f"),
        " to ".join(between) or MISSING,
        _number(row.get("delta_pa_pvpe_mm"), "+z.4f"),
        _number(distances.get("p99"), ".4f") if isinstance(distances, Mapping) else MISSING,
        "passed" if row.get("passed") is True else "rejected" if _rejected(row) else "failed",
    ]


def _number(value: object, form: str) -> str:
    return format(value, form) if isinstance(value, int | float) else MISSING


def _name(row: Facts) -> str:
    return _shipped(Path(str(row.get("artefact", MISSING))).name)


def _shipped(file: str) -> str:
    """The name that a graph has, or had before it was rejected."""
    return file.removesuffix(REJECTED)


def _engine(row: Facts) -> str:
    return engine_words(str(row.get("engine", MISSING)), str(row.get("precision", MISSING)))


def _where(row: Facts) -> str:
    return f"{_name(row)} in {_engine(row)}"


def _rejected(row: Facts) -> bool:
    return str(row.get("artefact")).endswith(REJECTED)


def _failures(row: Facts) -> str:
    failures = row.get("failures")
    return "; ".join(str(item) for item in failures) if isinstance(failures, list | tuple) else UNRECORDED
