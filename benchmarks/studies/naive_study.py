"""What the exact rewrites are worth: the published form and the exported form of one network, side by side.

    python -m benchmarks.studies.naive_study [--batch 1 --batch 8] [--checkpoint DIR] [--json FILE]

Both forms have the same weights and run in one process, interleaved, in eager PyTorch and in ONNX Runtime.

- GFLOP: of convolutions and matrix products, for one image, counted on the ONNX graphs (`export.graph.inventory`).
- speed-up: median over the turns of the naive form's time over the rewritten one's, so that drift of the machine and
  other jobs on it hit both alike.
- peak: largest resident memory during a call on top of what the process held before it
  (`benchmarks.measure.peak_memory`), ONNX Runtime without its arena, which grows in steps of its own.
- difference: largest absolute difference to the naive form in PyTorch over that output's largest magnitude.

Without a checkpoint the network is the default one with random weights: none of these figures depends on training.
"""

import dataclasses
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import onnx
import onnxruntime
import torch
import typer
from rich import box
from rich.table import Table

from benchmarks.bench.table import plain_text
from benchmarks.contestants.published import NaiveHand
from benchmarks.measure.machine import machine_facts
from benchmarks.measure.peak_memory import peak_bytes
from benchmarks.measure.speed import SpeedSettings, time_interleaved
from cliphand.arrays import FloatArray
from cliphand.checked import to_json
from cliphand.checkpoint import load_checkpoint
from cliphand.claims import check_file
from cliphand.config import ModelConfig
from cliphand.files import write_json
from cliphand.kinds import NAIVE_STUDY
from cliphand.model.hand_model import HandModel
from cliphand.provenance import git_commit, library_versions
from cliphand.told import told_in_one_sentence
from engines.base import INPUT_NAME
from engines.runtimes.ort import OrtEngine
from export.graph.deploy_model import deploy_model, example_images
from export.graph.fold import fold
from export.graph.inventory import inventory, total
from export.graph.trace import simplify, trace

NAIVE, REWRITTEN = "naive", "rewritten"
SEED = 0
MEGA = 1e6
Outputs = tuple[FloatArray, ...]
Run = Callable[[FloatArray], Outputs]


@dataclass(frozen=True, slots=True)
class Row:
    """One engine at one batch size; times of a call, memory of a call, GFLOP of an image."""

    engine: str
    batch: int
    naive_ms: float
    rewritten_ms: float
    speed_up: float
    naive_peak_mb: float | None
    rewritten_peak_mb: float | None
    peak_ratio: float | None
    naive_gflop: float
    rewritten_gflop: float
    max_relative_difference: float


def study(
    model: HandModel, input_size: int, *, batches: Sequence[int], settings: SpeedSettings, threads: int | None = None
) -> list[Row]:
    """Measure both forms of a model.

    Args:
        model: from `deploy_model`.
        input_size: side S of its square crops.
        batches: batch sizes.
        settings: of the timing; with one call in a turn the two forms are timed closest together.
        threads: of one call; None leaves the choice to each run-time.
    """
    forms: dict[str, torch.nn.Module] = {NAIVE: NaiveHand(model), REWRITTEN: fold(model)}
    if threads is not None:
        torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as scratch:
        paths = {name: Path(scratch) / f"{name}.onnx" for name in forms}
        for name, form in forms.items():
            onnx.save_model(simplify(trace(form, input_size).graph), paths[name])
        gflop = {name: total(inventory(onnx.load(path))).gflop for name, path in paths.items()}
        eager = {name: _eager(form) for name, form in forms.items()}
        ort = {name: _onnxruntime(path, threads) for name, path in paths.items()}
        rows = []
        for batch in batches:
            images = example_images(batch, input_size, seed=SEED).numpy()
            reference = eager[NAIVE](images)
            rows.append(_row("pytorch", images, reference, gflop, timed=eager, measured=eager, settings=settings))
            frugal = {name: _without_arena(path, threads) for name, path in paths.items()}
            rows.append(_row("onnxruntime", images, reference, gflop, timed=ort, measured=frugal, settings=settings))
    return rows


def _row(
    engine: str,
    images: FloatArray,
    reference: Outputs,
    gflop: Mapping[str, float],
    *,
    timed: Mapping[str, Run],
    measured: Mapping[str, Run],
    settings: SpeedSettings,
) -> Row:
    difference = max(
        float(np.abs(ours - theirs).max() / np.abs(theirs).max())
        for ours, theirs in zip(timed[REWRITTEN](images), reference, strict=True)
    )
    peaks = {name: peak_bytes(partial(run, images)) for name, run in measured.items()}
    times = time_interleaved({name: partial(run, images) for name, run in timed.items()}, settings)
    naive, rewritten = peaks[NAIVE], peaks[REWRITTEN]
    return Row(
        engine=engine,
        batch=len(images),
        naive_ms=float(np.median(times[NAIVE])),
        rewritten_ms=float(np.median(times[REWRITTEN])),
        speed_up=float(np.median(times[NAIVE] / times[REWRITTEN])),
        naive_peak_mb=None if naive is None else naive / MEGA,
        rewritten_peak_mb=None if rewritten is None else rewritten / MEGA,
        peak_ratio=naive / rewritten if naive and rewritten else None,
        naive_gflop=gflop[NAIVE],
        rewritten_gflop=gflop[REWRITTEN],
        max_relative_difference=difference,
    )


def _eager(form: torch.nn.Module) -> Run:
    def run(images: FloatArray) -> Outputs:
        with torch.inference_mode():
            joints, verts = form(torch.from_numpy(images))
        return joints.numpy(), verts.numpy()

    return run


def _onnxruntime(path: Path, threads: int | None) -> Run:
    """As `cliphand bench` runs a graph."""
    engine = OrtEngine(path, threads=threads)

    def run(images: FloatArray) -> Outputs:
        output = engine(images)
        return output.joints_uvd, output.verts_uvd

    return run


def _without_arena(path: Path, threads: int | None) -> Run:
    """A session that asks the system for each tensor and gives it back at once."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.enable_cpu_mem_arena = options.enable_mem_pattern = False
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda images: tuple(session.run(None, {INPUT_NAME: images}))


# Heading, and the cell's text.
COLUMNS: tuple[tuple[str, Callable[[Row], str]], ...] = (
    ("engine", lambda row: row.engine),
    ("batch", lambda row: str(row.batch)),
    ("naive\nms", lambda row: f"{row.naive_ms:.1f}"),
    ("rewritten\nms", lambda row: f"{row.rewritten_ms:.1f}"),
    ("speed-up", lambda row: f"{row.speed_up:.2f}"),
    ("naive\npeak MB", lambda row: _number(row.naive_peak_mb, "{:.0f}")),
    ("rewritten\npeak MB", lambda row: _number(row.rewritten_peak_mb, "{:.0f}")),
    ("peak\nratio", lambda row: _number(row.peak_ratio, "{:.2f}")),
    ("naive\nGFLOP", lambda row: f"{row.naive_gflop:.2f}"),
    ("rewritten\nGFLOP", lambda row: f"{row.rewritten_gflop:.2f}"),
    ("relative\ndifference", lambda row: f"{row.max_relative_difference:.1e}"),
)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


def study_table(rows: Sequence[Row]) -> Table:
    """One row per engine and batch size."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for heading, _ in COLUMNS:
        table.add_column(heading, justify="left" if heading == "engine" else "right", no_wrap=True, vertical="bottom")
    for row in rows:
        table.add_row(*(cell(row) for _, cell in COLUMNS))
    return table


def main(
    batch: Annotated[list[int] | None, typer.Option(help="Batch size; repeat.", show_default="1 and 8")] = None,
    calls: Annotated[int, typer.Option(help="Timed calls of each form, engine and batch size.")] = 60,
    seconds: Annotated[float, typer.Option(help="Time limit of each form, engine and batch size.")] = 60.0,
    threads: Annotated[int | None, typer.Option(help="Of one call.", show_default="each run-time's own")] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="A checkpoint or run.", show_default="the default network, random weights"),
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the JSON object here as well.")] = None,
) -> None:
    """Measure what the exact rewrites are worth, published form against exported form."""
    if json_file is not None:
        check_file(json_file, NAIVE_STUDY)
    model, config = _random_model() if checkpoint is None else _trained_model(checkpoint)
    settings = SpeedSettings(warmup_calls=3, calls=calls, seconds=seconds, calls_per_turn=1)
    rows = study(model, config.input_size, batches=tuple(batch or (1, 8)), settings=settings, threads=threads)
    machine = machine_facts()
    conditions = (
        f"{config.backbone}, {config.input_size} px, FP32, {checkpoint or 'random weights'}; {machine['cpu']}, "
        f"{machine['cores']} cores, threads {threads or 'as each run-time chooses'}; times are medians of up to "
        f"{calls} calls interleaved"
    )
    typer.echo(conditions)
    typer.echo(plain_text(study_table(rows)))
    value = {
        "study": "naive form against rewritten form",
        "machine": machine,
        "versions": library_versions(),
        "commit": git_commit(),
        "precision": "fp32",
        "threads": threads,
        "checkpoint": None if checkpoint is None else str(checkpoint),
        "model": to_json(config),
        "rows": [dataclasses.asdict(row) for row in rows],
    }
    if json_file is not None:
        write_json(json_file, value, NAIVE_STUDY)
    typer.echo(json.dumps(value))


def _random_model() -> tuple[HandModel, ModelConfig]:
    config = ModelConfig()
    torch.manual_seed(SEED)
    templates = tuple(torch.randn(nodes, 3) for nodes in config.levels)
    return deploy_model(HandModel(config, templates)), config


def _trained_model(folder: Path) -> tuple[HandModel, ModelConfig]:
    checkpoint = load_checkpoint(folder)
    return deploy_model(checkpoint.model), checkpoint.model_config


if __name__ == "__main__":
    with told_in_one_sentence("naive_study"):
        typer.run(main)
