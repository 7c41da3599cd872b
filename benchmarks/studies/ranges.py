"""What each way to set INT8's ranges moves a hand by: `python -m benchmarks.studies.ranges EXPORT --data FOLDER`.

One graph for each way, its rest in FP32, against PyTorch on the gate's photographs, in every engine of the gate.

- change: of PA-PJPE, in mm; p99: 99th percentile of the distances between matching vertices, in mm.
- held back: excess over the gate's tolerance on the calibration images that set no range, which the choice is made by:
  `best` takes the lowest, and never sees the gate's photographs.

The last line is one JSON object.
"""

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.table import Table

from benchmarks.bench.table import plain_text
from benchmarks.measure.machine import machine_facts
from cliphand.checkpoint import Checkpoint, load_checkpoint
from cliphand.progress import Progress
from cliphand.provenance import git_commit
from cliphand.told import told_in_one_sentence
from engines.artefact.manifest import checkpoint_path, read_manifest
from export.gate.images import GateRequest
from export.gate.parity import Comparison
from export.precision.calibration import CalibrationRequest, RangeMethod
from export.precision.range_choice import RangeChoice, choose_ranges
from export.precision.request import TypedRequest
from export.precision.workshop import Workshop, open_workshop

LOW = "int8"


@dataclasses.dataclass(frozen=True, slots=True)
class Ablation:
    """The rows of each way, and the choice among them."""

    rows: dict[str, tuple[Comparison, ...]]
    choice: RangeChoice


def study(folder: Path, checkpoint: Checkpoint, request: TypedRequest, progress: Progress) -> Ablation:
    """Make and judge a graph for each way.

    Args:
        folder: an export with its FP32 graph.
        checkpoint: that it was exported from, the reference.
        request: which images calibrate and judge.
        progress: called with what is being done, steps done and steps in all.
    """
    methods: tuple[RangeMethod, ...] = ("max", "entropy", "mse-encoder", "mse", "best")
    rows: dict[str, tuple[Comparison, ...]] = {}
    choice = RangeChoice("max")
    with open_workshop(folder, read_manifest(folder), checkpoint, request, progress) as workshop:
        for method in methods:
            choice = _calibrate(workshop, method)
            if method != "best":
                rows[method] = workshop.candidate(LOW, "fp32").rows
    return Ablation(rows, choice)


def _calibrate(workshop: Workshop, method: RangeMethod) -> RangeChoice:
    asked = dataclasses.replace(workshop.maker.request, method=method)
    maker = dataclasses.replace(workshop.maker, request=asked)
    maker.calibrate()
    return choose_ranges(maker, workshop.judge)


def as_table(ablation: Ablation) -> Table:
    """A line for each way and engine."""
    table = Table("ranges", "engine", "change mm", "p99 mm", "held back", "", box=box.SIMPLE)
    for method, rows in ablation.rows.items():
        rehearsal = ablation.choice.rehearsals.get(method)
        held = "-" if rehearsal is None or rehearsal.excess is None else f"{rehearsal.excess:.2f}"
        for row in rows:
            change = "-" if row.delta_pa_pjpe_mm is None else f"{row.delta_pa_pjpe_mm:+.3f}"
            p99 = "-" if row.vertex_distance_mm is None else f"{row.vertex_distance_mm.p99:.2f}"
            table.add_row(method, row.engine, change, p99, held, "best" if method == ablation.choice.method else "")
    return table


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    export: Annotated[Path, typer.Argument(help="Export folder, from `cliphand export`.")],
    data: Annotated[Path, typer.Option(help="Folder in FreiHAND's layout: its training split calibrates.")],
    calibration_images: Annotated[int, typer.Option(help="How many of its training images.")] = 200,
    images: Annotated[int, typer.Option(help="How many of its evaluation images judge.")] = 200,
    threads: Annotated[int | None, typer.Option(help="Of one call.", show_default="the run-time's choice")] = None,
) -> None:
    """Compare the ways to set INT8's ranges."""
    request = TypedRequest(
        precisions=(LOW,),
        calibration=CalibrationRequest(data, images=calibration_images),
        gate=GateRequest(data, images=images),
        threads=threads,
        tensorrt=False,
    )
    checkpoint = load_checkpoint(checkpoint_path(read_manifest(export), export))
    ablation = study(export, checkpoint, request, lambda *_: None)
    typer.echo(plain_text(as_table(ablation)))
    typer.echo(json.dumps(_facts(ablation, request)))


def _facts(ablation: Ablation, request: TypedRequest) -> dict[str, object]:
    return {
        "commit": git_commit(),
        "machine": machine_facts(),
        "calibration_images": request.calibration.images,
        "choice": dataclasses.asdict(ablation.choice),
        "rows": {method: [dataclasses.asdict(row) for row in rows] for method, rows in ablation.rows.items()},
    }


if __name__ == "__main__":
    with told_in_one_sentence("ranges"):
        app()
