"""Title, summary and key figures, and where everything comes from: machine, versions, commit, data, crop."""

from collections.abc import Mapping
from pathlib import Path

from benchmarks.measure.photographs import ROOT_SENTENCES, SECOND_LOOK
from benchmarks.report.bench_file import BenchFile, SpeedRow, smallest_batch, speedup
from benchmarks.report.measured import Measured
from benchmarks.report.page import Section, Table
from benchmarks.report.theme import engine_label
from cliphand.files import SHORT_HASH
from cliphand.provenance import git_commit, library_versions
from engines.artefact.manifest import Manifest

FEW = 2  # engines that the summary names one by one
MEGA = 1e6
MACHINE = {
    "cpu": "processor",
    "cores": "cores",
    "memory_gib": "memory, GiB",
    "gpu": "GPU",
    "load": "load when reported",
    "os": "system",
}


def title(export: Path, manifest: Manifest) -> str:
    """Name of the export, its backbone and input."""
    backbone = manifest.training.get("backbone")
    return ", ".join([export.resolve().name, *([str(backbone)] if backbone else []), f"{manifest.input_size} px"])


def summary(measured: Measured, bench: BenchFile | str) -> str:
    """One or two sentences that hold the most important figures."""
    data = measured.photographs.data
    told = f"On {measured.n_images} images of {data.root.name} ({data.split} split) "
    means = {label: float(errors.mean()) for label, errors in measured.joint_errors_mm.items()}
    if means:
        first, error = next(iter(means.items()))
        told += f"{first} is {error:.2f} mm off on average (PA-PJPE)"
        told += f"{_others({label: mean - error for label, mean in list(means.items())[1:]})}."
    else:
        told += "no error could be told."
    fast = None if isinstance(bench, str) else fastest(bench, measured)
    if fast is None or isinstance(bench, str):
        return told
    within = " within the gate" if measured.gate else ""
    told += f" At batch {fast.batch} the fastest{within} is {fast.label} with {fast.model.p50:.1f} ms a call"
    times = None if fast.is_reference else speedup(fast, bench.rows)
    return f"{told}." if times is None else f"{told}, {times:.1f} times as fast as PyTorch."


def _others(changes: Mapping[str, float]) -> str:
    """How far the other engines' errors are from the first one's."""
    if len(changes) <= FEW:
        return "".join(f", {label} {change:+z.3f} mm" for label, change in changes.items())
    farthest = max(changes, key=lambda label: abs(changes[label]))
    return f"; of {len(changes)} other engines {farthest} differs most, by {changes[farthest]:+z.3f} mm"


def fastest(bench: BenchFile, measured: Measured) -> SpeedRow:
    """The row with the smallest median at the smallest batch, of those within the gate where there are such rows."""
    rows = smallest_batch(bench.rows)
    outside = {
        engine_label(row.engine, row.precision, row.artefact) for row in measured.gate if not row.within_tolerance
    }
    outside |= {row.label for row in rows if row.facts.get("within_gate") is False or row.is_rejected}
    good = [row for row in rows if row.label not in outside]
    return min(good or rows, key=lambda row: row.model.p50)


def key_figures(manifest: Manifest, measured: Measured, bench: BenchFile | str) -> list[tuple[str, str]]:
    """Names and values of the few figures that stand at the top."""
    found = []
    for label, errors in list(measured.joint_errors_mm.items())[:1]:
        found.append((f"PA-PJPE, {label}", f"{errors.mean():.2f} mm"))
    if not isinstance(bench, str):
        fast = fastest(bench, measured)
        found.append((f"Latency, {fast.label}", f"{fast.model.p50:.1f} ms"))
        times = None if fast.is_reference else speedup(fast, bench.rows)
        if times is not None:
            found.append(("Times as fast as PyTorch", f"{times:.1f}"))
    sizes = {name: artefact.bytes for name, artefact in manifest.artefacts.items() if not name.endswith(".rejected")}
    if sizes:
        name = min(sizes, key=lambda key: sizes[key])
        found.append((f"Size of {name}", f"{sizes[name] / MEGA:.1f} MB"))
    return found


def origin_section(
    manifest: Manifest,
    measured: Measured,
    bench: BenchFile | str,
    *,
    omitted: tuple[str, ...],
    machine: Mapping[str, object],
) -> Section:
    """Everything that a figure's reader may want to know of its origin."""
    photographs = measured.photographs
    data, crop = photographs.data, manifest.crop
    detail = {
        "whole": "the largest centred square",
        "centre": f"a centred square of {crop.side_px:g} px",
        "mask": f"a square around the hand's mask, {crop.margin:g} times its size",
        "joints": f"a square around the true joints, {crop.margin:g} times their extent: an upper bound",
    }[crop.rule]
    facts = {
        "checkpoint": f"{manifest.checkpoint.path} (sha256 {manifest.checkpoint.sha256[:SHORT_HASH]})",
        "exported by": f"cliphand {manifest.cliphand_version}, commit {manifest.commit}",
        "reported at commit": git_commit(),
        "data": f"{data.root}, {data.split} split, {measured.n_images} of {len(data)} images",
        "crop": f"{crop.rule} ({detail}), then {manifest.input_size} px"
        + (f"; {SECOND_LOOK}" if crop.second_look else ""),
        "depth": f"root {photographs.root}: {ROOT_SENTENCES[photographs.root]}",
        **{name: str(machine[key]) for key, name in MACHINE.items() if machine.get(key) is not None},
    }
    if not isinstance(bench, str):
        facts["benchmark at commit"] = str(bench.facts.get("commit", "unknown"))
    parts = [
        _pairs("Model, data and machine", facts),
        _pairs("Training", _plain(manifest.training), narrow=True),
        _pairs("Export", _plain(manifest.exporter), narrow=True),
        _pairs("Versions", library_versions(), narrow=True),
    ]
    return Section("origin", "Where the figures come from", omitted, parts)


def _pairs(heading: str, facts: Mapping[str, object], *, narrow: bool = False) -> Table:
    rows = [[name, str(value)] for name, value in facts.items()]
    return Table(heading, ("fact", "value"), rows, n_words=2, narrow=narrow)


def _plain(facts: Mapping[str, object]) -> dict[str, object]:
    """Numbers, words and short lists; what is nested stands in the manifest only."""
    return {
        name.replace("_", " "): f"{value:.4g}" if isinstance(value, float) else value
        for name, value in facts.items()
        if isinstance(value, str | int | float) or (isinstance(value, list) and len(value) < SHORT_HASH)
    }
