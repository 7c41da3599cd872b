"""Everything that needs a GPU, in one command: `python -m benchmarks.gpu.check --out DIR [--minutes M]`.

Tests marked `gpu`, the device's own speed, training speed, and every engine at every batch size. What cannot be run
here is a row that says why; the CPU's rows are measured in any case. Writes `gpu_check.json` and prints a table.
"""

import contextlib
import dataclasses
import functools
import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, cast

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.gpu.budget import Budget
from benchmarks.gpu.candidates import Subject, candidates
from benchmarks.gpu.peak import matmul_tflops, training_images_per_s
from benchmarks.gpu.rows import SETTINGS, EngineRow, measure
from benchmarks.gpu.subject import exported_subject, untrained_subject
from benchmarks.measure.machine import machine_facts
from benchmarks.measure.speed import SpeedSettings
from cliphand.claims import check_folder
from cliphand.errors import InputError
from cliphand.files import write_json
from cliphand.kinds import GPU_CHECK, GPU_CHECK_FOLDER
from cliphand.provenance import git_commit, library_versions
from cliphand.told import told_in_one_sentence
from engines.host.cuda_device import Gpu, find_gpu
from engines.tensorrt.flavour import FLAVOURS, load_tensorrt
from export.graph.deploy_model import deploy_model

TESTS = Path(__file__).resolve().parents[1] / "tests"
TRAINING = {"cuda": (48, "bf16"), "cpu": (2, "fp32")}  # batch, precision
WIDTH = 200
HEAD = ("engine", "device", "precision", "batch")
# Heading to field and form.
FIGURES = {
    "p50\nms": ("latency_ms_p50", "{:.2f}"),
    "p90\nms": ("latency_ms_p90", "{:.2f}"),
    "p99\nms": ("latency_ms_p99", "{:.2f}"),
    "images/s": ("images_per_s", "{:.1f}"),
    "device\nms": ("device_ms_p50", "{:.2f}"),
    "of\npeak": ("share_of_peak", "{:.1%}"),
    "MB": ("memory_mb", "{:.0f}"),
    "parity\nmm": ("parity_mm", "{:.4f}"),
}
PEAKS = (("cpu", "fp32"), ("cuda", "fp32"), ("cuda", "fp16"))


@dataclass(frozen=True, slots=True)
class Finding:
    """One figure, or why there is none."""

    name: str
    value: float | str | None = None
    unit: str = ""
    skipped: str | None = None


def run_check(subject: Subject, out: Path, budget: Budget, *, settings: SpeedSettings = SETTINGS) -> dict[str, object]:
    """Measure everything and write `gpu_check.json`.

    Args:
        subject: the model and its export.
        out: folder to write into.
        budget: time left; what does not fit is skipped.
        settings: how much is timed.

    Returns:
        The report, as it is written.
    """
    gpu = find_gpu()
    findings = [_gpu_tests(gpu, budget)]
    peaks: dict[tuple[str, str], float] = {}
    for device, precision in PEAKS:
        look = functools.partial(matmul_tflops, device, precision)
        findings.append(_find(f"matrix product, {device}, {precision}", "TFLOP/s", look, gpu, device, budget))
        if isinstance(findings[-1].value, float):
            peaks[device, precision] = findings[-1].value
    for device, (batch, precision) in TRAINING.items():
        look = functools.partial(_train, subject, device, batch)
        findings.append(_find(f"training, {device}, {precision}, batch {batch}", "images/s", look, gpu, device, budget))
    rows: list[EngineRow] = []
    for candidate in candidates(subject):
        rows += measure(candidate, subject, budget, peaks_tflops=peaks, settings=settings)
    report: dict[str, object] = {
        "machine": machine_facts(),
        "gpu": dataclasses.asdict(gpu) if isinstance(gpu, Gpu) else gpu,
        "versions": library_versions() | _tensorrt_versions(),
        "commit": git_commit(),
        "input_size": subject.input_size,
        "gflop": subject.gflop,
        "findings": [dataclasses.asdict(finding) for finding in findings],
        "rows": [dataclasses.asdict(row) for row in rows],
    }
    write_json(out / "gpu_check.json", report, GPU_CHECK)
    return report


def table_of(report: Mapping[str, object]) -> Table:
    """The report for people: figures of the device first, then the engines."""
    gpu = report["gpu"]
    title = f"GPU check: {gpu['name'] if isinstance(gpu, Mapping) else gpu}; whole calls, transfers included"
    table = Table(box=box.SIMPLE_HEAD, title=Text(title), title_justify="left", padding=(0, 1, 0, 0), pad_edge=False)
    for heading in HEAD:
        table.add_column(heading)
    for heading in FIGURES:
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("")
    for finding in _dicts(report["findings"]):
        shown = _cell(finding["value"], "{:.3g}") + f" {finding['unit']}"
        note = f"skipped: {finding['skipped']}" if finding["skipped"] else shown
        table.add_row(str(finding["name"]), *[""] * (len(HEAD) + len(FIGURES) - 1), Text(note))
    for _, group in itertools.groupby(_dicts(report["rows"]), key=_line):
        rows = list(group)
        head = [str(rows[0][name]) for name in HEAD[:-1]]
        batches = ", ".join(str(row["batch"]) for row in rows)
        figures = [_cell(rows[0][name], form) for name, form in FIGURES.values()]
        note = f"skipped: {rows[0]['skipped']}" if rows[0]["skipped"] else ""
        table.add_row(*head, batches, *figures, Text(note))
    return table


def _line(row: Mapping[str, object]) -> tuple[object, ...]:
    """Rows with the same value share a line: batch sizes that were skipped for one reason."""
    batch = None if row["skipped"] else row["batch"]
    return (*(row[name] for name in HEAD[:-1]), batch, row["skipped"])


def main(
    out: Annotated[Path, typer.Option("--out", help="Folder to write into.")],
    minutes: Annotated[float, typer.Option(help="Time limit; what does not fit is skipped.")] = 30.0,
    export: Annotated[
        Path | None, typer.Option(help="An export folder.", show_default="an untrained model is exported")
    ] = None,
    backbone: Annotated[str, typer.Option(help="Of the untrained model.")] = "resnet50",
    input_size: Annotated[int, typer.Option(help="Of the untrained model.")] = 256,
) -> None:
    """Run everything that needs a GPU, and the CPU's rows; the last line of stdout is one JSON object."""
    check_folder(out, GPU_CHECK_FOLDER)
    budget = Budget(minutes)
    folder = out / "export"
    if export is None:
        subject = untrained_subject(folder, backbone=backbone, input_size=input_size)
    else:
        subject = exported_subject(export, folder)
    report = run_check(subject, out, budget)
    Console(highlight=False, width=WIDTH).print(table_of(report))
    typer.echo(json.dumps(report, allow_nan=False))


def _gpu_tests(gpu: Gpu | str, budget: Budget) -> Finding:
    """`pytest -m gpu`, where the tests are at hand."""
    name = "pytest -m gpu"
    if isinstance(gpu, str):
        return Finding(name, skipped=gpu)
    if not TESTS.is_dir():
        return Finding(name, skipped="the tests are not installed; run this from a checkout")
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "--no-cov", "-rs", str(TESTS)]
    try:
        result = subprocess.run(  # noqa: S603 - our own tests
            command, capture_output=True, text=True, check=False, cwd=TESTS.parent, timeout=max(budget.left_s, 1.0)
        )
    except subprocess.TimeoutExpired:
        return Finding(name, skipped="the time is up")
    lines = result.stdout.strip().splitlines()
    return Finding(name, value=lines[-1] if lines else f"exit code {result.returncode}")


def _find(name: str, unit: str, look: Callable[[], float], gpu: Gpu | str, device: str, budget: Budget) -> Finding:
    """A figure, or why it cannot be had."""
    if device == "cuda" and isinstance(gpu, str):
        return Finding(name, unit=unit, skipped=gpu)
    try:
        budget.require_time()
        return Finding(name, value=look(), unit=unit)
    except (InputError, RuntimeError) as error:
        return Finding(name, unit=unit, skipped=" ".join(str(error).split()))


def _train(subject: Subject, device: str, batch: int) -> float:
    model = deploy_model(subject.model)  # a copy: training changes it
    return training_images_per_s(model, device=device, batch=batch, input_size=subject.input_size)


def _tensorrt_versions() -> dict[str, str]:
    """Versions of the flavours that are installed."""
    versions = {}
    for name, flavour in FLAVOURS.items():
        with contextlib.suppress(InputError):
            versions[name] = str(load_tensorrt(flavour).__version__)
    return versions


def _dicts(value: object) -> list[dict[str, object]]:
    return cast("list[dict[str, object]]", value)


def _cell(value: object, form: str) -> str:
    return form.format(value) if isinstance(value, int | float) else str(value or "")


if __name__ == "__main__":
    with told_in_one_sentence("gpu_check"):
        typer.run(main)
