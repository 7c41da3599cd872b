"""How the gate's verdicts look on a terminal."""

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from benchmarks.bench.table import plain_text
from export.gate.parity import EMULATED, ROUNDED, engine_words, few_images

if TYPE_CHECKING:
    from export.gate.parity import Comparison
    from export.precision.blame import Blame
    from export.precision.range_choice import RangeChoice
    from export.precision.typed_graphs import JudgedGraph, ParityReport

RISKY_SHOWN = 5


def print_parity(report: "ParityReport", console: Console) -> None:
    """Print a row for each graph and engine, then what failed, who is to blame, and which tensors are large."""
    table = Table(title="Against PyTorch FP32, joints regressed from the mesh, millimetres")
    for heading in ("graph", "engine", "PA-PJPE", "change", "95 %", "PA-PVPE change", "vertices p99", "max", ""):
        table.add_column(heading, justify="left" if heading in ("graph", "engine", "") else "right")
    for verdict in report.verdicts:
        for row in verdict.rows:
            table.add_row(*_cells(row))
    console.print(plain_text(table), soft_wrap=True, markup=False, highlight=False)
    rows = [row for verdict in report.verdicts for row in verdict.rows]
    remarks = (
        few_images(row.images for row in rows),
        EMULATED if any(row.engine == ROUNDED for row in rows) else None,
    )
    for remark in filter(None, remarks):
        console.print(f"{remark}.", soft_wrap=True, markup=False, highlight=False)
    for verdict in report.verdicts:
        for sentence in _sentences(verdict):
            console.print(sentence, soft_wrap=True, markup=False, highlight=False)
    for entry in report.risky[:RISKY_SHOWN]:
        console.print(
            f"{entry.node} reaches {entry.largest:.4g}, {entry.share_of_half:.0%} of FP16's range, in calibration.",
            soft_wrap=True,
            markup=False,
            highlight=False,
        )


def _cells(row: "Comparison") -> tuple[str, ...]:
    interval, distances = row.delta_pa_pjpe_ci_mm, row.vertex_distance_mm
    return (
        row.artefact,
        engine_words(row.engine, row.precision),
        _number(row.pa_pjpe_mm, ".2f"),
        _number(row.delta_pa_pjpe_mm, "+.3f"),
        "-" if interval is None else f"{interval[0]:+.3f} to {interval[1]:+.3f}",
        _number(row.delta_pa_pvpe_mm, "+.3f"),
        _number(None if distances is None else distances.p99, ".3f"),
        _number(None if distances is None else distances.max, ".3f"),
        "passed" if row.within_tolerance else "FAILED",
    )


def _sentences(verdict: "JudgedGraph") -> list[str]:
    """What failed and what the search found."""
    told = [
        f"{verdict.name} in {engine_words(row.engine, row.precision)}: {'; '.join(row.failures)}."
        for row in verdict.rows
        if row.failures
    ]
    told += [] if verdict.refusal is None else [verdict.refusal]
    if verdict.proof is not None and verdict.proof.tensorrt is None:
        why = verdict.proof.why_not
        told.append(f"{verdict.name}: TensorRT for RTX was not asked ({why}), so only its weights were counted.")
    if verdict.candidate is not None and verdict.candidate.ranges is not None and verdict.candidate.ranges.rehearsals:
        told.append(_choice(verdict.name, verdict.candidate.ranges))
    return told + ([] if verdict.blame is None else _blame(verdict.name, verdict.blame))


def _choice(name: str, choice: "RangeChoice") -> str:
    shares = ", ".join(f"{method} {_number(tried.excess, '.2f')}" for method, tried in choice.rehearsals.items())
    return (
        f"{name}: ranges by {choice.method}, which on {choice.images} calibration images that set none moves hands "
        f"least, in shares of the tolerance: {shares}."
    )


def _blame(name: str, blame: "Blame") -> list[str]:
    nothing = blame.nothing_kept
    told = [
        f"{name}: with {cost.group} ({cost.nodes} nodes) in higher precision PA-PJPE changes by "
        f"{_number(cost.trial.delta_mm, '+.3f')} mm instead of {_number(nothing.delta_mm, '+.3f')}, vertices p99 "
        f"{_number(cost.trial.p99_mm, '.3f')} mm instead of {_number(nothing.p99_mm, '.3f')}, at "
        f"{cost.trial.latency_ms - nothing.latency_ms:+.2f} ms an image in ONNX Runtime."
        for cost in blame.groups
    ]
    if not blame.found:
        return [*told, f"{name}: no layers are to blame: it fails with all of them in higher precision as well."]
    smallest = "" if blame.minimal else " (the time ran out before the smallest set was certain)"
    flags = " ".join(f"--keep-fp32 {node}" for node in blame.nodes)
    return [*told, f"{name}: to blame{smallest}: {', '.join(blame.nodes)}; keep them with {flags}, or --auto."]


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
