"""`cliphand quickstart`: the whole chain on data made here, with nothing downloaded."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

if TYPE_CHECKING:
    from rich.console import Console

TRAIN_IMAGES = 1600
EVALUATION_IMAGES = 200
EPOCHS = 5
CROP_SIDE_PX = 200.0
REPORT, TABLE, PICTURES = "export/bench.json", "bench.txt", "predictions.png"


class Stage(NamedTuple):
    """A step of the chain: `make` fills the folder, `done` tells whether it already has."""

    title: str
    done: Callable[[Path], bool]
    make: Callable[[Path], None]


def quickstart(
    out: Annotated[Path, typer.Option(help="Folder for everything that is made.")] = Path("quickstart"),
) -> None:
    """Make data, train a small model, export it, compare and time it, and draw what it sees.

    About ten minutes on two cores. Started again, it goes on where it stopped.
    """
    import time

    from rich.console import Console

    from cliphand.claims import check_folder, held
    from cliphand.kinds import QUICKSTART

    console = Console()
    start = time.monotonic()
    check_folder(out, QUICKSTART)
    with held(out):
        for number, stage in enumerate(STAGES, 1):
            label = f"[bold]{number}/{len(STAGES)}[/bold] {stage.title}"
            if stage.done(out):
                console.print(f"{label}: done before")
                continue
            console.print(label)
            stage.make(out)
        _summarise(out, console, minutes=(time.monotonic() - start) / 60)


def _make_data(out: Path) -> None:
    from cliphand.cli.synth import synth

    synth(out=out / "data", train=TRAIN_IMAGES, evaluation=EVALUATION_IMAGES, kind="plain")


def _train(out: Path) -> None:
    from dataclasses import replace

    from cliphand.config import CropConfig
    from cliphand.hand import HAND_NAME, load_hand
    from cliphand.presets import PRESETS
    from cliphand.training.accelerator import fastest_precision
    from cliphand.training.from_scratch import FROM_SCRATCH
    from cliphand.training.loop import Run, train_hand
    from cliphand.training.run_place import RESUME_FILE

    data, run = out / "data", out / "run"
    train_hand(
        Run(
            data=data,
            topology=load_hand(data / HAND_NAME),
            out=run,
            model=PRESETS["small"],
            crop=CropConfig(rule="centre", side_px=CROP_SIDE_PX),
            train=replace(FROM_SCRATCH, epochs=EPOCHS, precision=fastest_precision()),
        ),
        resume=(run / RESUME_FILE).exists(),
    )


def _trained(out: Path) -> bool:
    from cliphand.training.run_place import read_history

    return len(read_history(out / "run")) >= EPOCHS


def _export(out: Path) -> None:
    from cliphand.cli.export import export

    export(checkpoint=out / "run" / "best", out=out / "export", tensorrt=False)  # nothing here runs a plan


def _bench(out: Path) -> None:
    from dataclasses import asdict

    from benchmarks.bench.run import BenchRequest
    from benchmarks.bench.table import table_text
    from benchmarks.measure.speed import SpeedSettings
    from cliphand.cli.bench import measure
    from cliphand.files import whole_file, write_json
    from cliphand.kinds import BENCH

    speed = SpeedSettings(calls=50, seconds=5.0)
    report = measure(BenchRequest(export=out / "export", data=out / "data", batches=(1, 8), speed=speed))
    with whole_file(out / TABLE, None) as temporary:
        temporary.write_text(table_text(report))
    write_json(out / REPORT, asdict(report), BENCH)


def _draw(out: Path) -> None:
    from benchmarks.bench.pictures import write_pictures

    write_pictures(out / "export", out / "data", out / PICTURES)


def _summarise(out: Path, console: "Console", *, minutes: float) -> None:
    """Write summary.json and print it: the table, the model beside a constant guess, and where the pictures are."""
    from benchmarks.measure.accuracy import mean_pose_pa_pjpe_mm
    from cliphand.files import read_json_object, write_json
    from cliphand.kinds import SUMMARY

    rows = read_json_object(out / REPORT)["rows"]
    assert isinstance(rows, list)  # noqa: S101  # written by _bench
    errors = {row["engine"]: row["pa_pjpe_mm"] for row in rows}
    guess = mean_pose_pa_pjpe_mm(out / "data")
    summary = {"pa_pjpe_mm": errors, "mean_pose_pa_pjpe_mm": guess, "minutes": minutes}
    write_json(out / "summary.json", summary, SUMMARY)
    found = ", ".join(f"{engine} {error:.2f} mm" for engine, error in errors.items())
    for line in (
        (out / TABLE).read_text(),
        f"PA-PJPE on held-out images: {found}; always guessing the mean pose: {guess:.2f} mm",
        f"This took {minutes:.1f} minutes. Pictures: {out / PICTURES} and {out / 'data' / 'preview.png'}",
    ):
        console.print(line, highlight=False, soft_wrap=True)


STAGES = (
    Stage("data: render hands with labels", lambda out: (out / "data" / "preview.png").exists(), _make_data),
    Stage("train: resnet18 at 128 px, without the text branch", _trained, _train),
    Stage("export: strip, write ONNX, check against PyTorch", lambda out: (out / "export").exists(), _export),
    Stage("bench: speed and accuracy of each engine", lambda out: (out / REPORT).exists(), _bench),
    Stage("draw: predictions on held-out images", lambda out: (out / PICTURES).exists(), _draw),
)
