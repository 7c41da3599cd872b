"""`cliphand quickstart`: the whole chain on data made here, with nothing downloaded."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from cliphand.checkpoint import Checkpoint
    from cliphand.config import CropConfig, ModelConfig, TrainConfig
    from cliphand.training.loop import Run

TRAIN_IMAGES, EVALUATION_IMAGES = 1600, 200  # of the model from nothing
EPOCHS = 5
CROP_SIDE_PX = 200.0
SHOWN_TRAIN_IMAGES, SHOWN_EVALUATION_IMAGES = 200, 80  # of the shipped model: to calibrate and train on; to judge
FINE_TUNING_EPOCHS, FINE_TUNING_RATE = 1, 1e-4
REPORT, PAGE, TABLE, PICTURES = "export/bench.json", "export/report.html", "bench.txt", "predictions.png"
FOLDER, FROM_NOTHING_FOLDER = Path("quickstart"), Path("quickstart-train")


class Stage(NamedTuple):
    """A step of the chain: `make` fills the folder, `done` tells whether it already has."""

    title: str
    done: Callable[[Path], bool]
    make: Callable[[Path], None]


def quickstart(
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for everything that is made.", show_default=f"{FOLDER}, or {FROM_NOTHING_FOLDER}"),
    ] = None,
    train: Annotated[
        bool, typer.Option("--train", help="Train a small model from nothing instead: about ten minutes on two cores.")
    ] = False,
) -> None:
    """Show the whole main job with the model that comes with cliphand: a few minutes on two cores.

    It renders hands, exports the model, makes FP16 and INT8 graphs and judges them, times every engine, writes the
    report, draws predictions, and trains the model on for a minute. Started again, it goes on where it stopped.
    """
    import time

    from rich.console import Console

    from cliphand.claims import check_folder, held
    from cliphand.kinds import QUICKSTART
    from cliphand.pretrained import shipped_checkpoint, told

    console = Console()
    start = time.monotonic()
    stages = FROM_NOTHING if train else SHOWN
    place = out or (FROM_NOTHING_FOLDER if train else FOLDER)
    if not train:
        shipped_checkpoint(instead="`cliphand quickstart --train` makes one from nothing")
        console.print(f"{told()}.", markup=False, highlight=False, soft_wrap=True)
    check_folder(place, QUICKSTART)
    with held(place):
        for number, stage in enumerate(stages, 1):
            label = f"[bold]{number}/{len(stages)}[/bold] {stage.title}"
            if stage.done(place):
                console.print(f"{label}: done before")
                continue
            console.print(label)
            stage.make(place)
        _summarise(place, console, minutes=(time.monotonic() - start) / 60)


def _render(out: Path, *, train: int, evaluation: int, kind: str) -> None:
    from cliphand.cli.synth import synth

    synth(out=out / "data", train=train, evaluation=evaluation, kind=kind)


def _rendered(out: Path) -> bool:
    return (out / "data" / "preview.png").exists()


def _train(out: Path) -> None:
    from cliphand.config import CropConfig
    from cliphand.presets import PRESETS
    from cliphand.training.accelerator import fastest_precision
    from cliphand.training.from_scratch import FROM_SCRATCH
    from cliphand.training.loop import train_hand

    train = replace(FROM_SCRATCH, epochs=EPOCHS, precision=fastest_precision())
    crop = CropConfig(rule="centre", side_px=CROP_SIDE_PX)
    train_hand(_run(out, PRESETS["small"], crop, train), resume=_stopped(out))


def _run(
    out: Path, model: "ModelConfig", crop: "CropConfig", train: "TrainConfig", start: "Checkpoint | None" = None
) -> "Run":
    from cliphand.hand import HAND_NAME, load_hand
    from cliphand.training.loop import Run

    data = out / "data"
    hand = load_hand(data / HAND_NAME)
    return Run(data=data, topology=hand, out=out / "run", model=model, crop=crop, train=train, start=start)


def _stopped(out: Path) -> bool:
    """Whether a training was stopped that can go on."""
    from cliphand.training.run_place import RESUME_FILE

    return (out / "run" / RESUME_FILE).exists()


def _trained(out: Path, epochs: int) -> bool:
    from cliphand.training.run_place import read_history

    return len(read_history(out / "run")) >= epochs


def _export(out: Path) -> None:
    from cliphand.cli.export import export

    export(checkpoint=out / "run" / "best", out=out / "export", tensorrt=False)  # nothing here runs a plan


def _export_shipped(out: Path) -> None:
    """FP32, FP16 and INT8; one that fails its gate is set aside, and the chain goes on with the others."""
    from cliphand.cli.export import export
    from cliphand.pretrained import CHECKPOINT, FOLDER

    data = out / "data"
    try:
        export(
            checkpoint=FOLDER / CHECKPOINT,
            out=out / "export",
            fp16=True,
            int8=True,
            calibration=data,
            calibration_images=SHOWN_TRAIN_IMAGES,
            images=SHOWN_EVALUATION_IMAGES,
            search_s=0,
        )
    except typer.Exit:  # its table has said which
        typer.echo("What failed its gate is set aside as .rejected; everything after this goes without it.")


def _exported(out: Path) -> bool:
    from engines.choice.verdicts import PARITY_NAME

    return (out / "export" / PARITY_NAME).exists()  # which comes after the graphs


def _report(out: Path) -> None:
    from cliphand.cli.report import report

    report(folder=out / "export")


def _fine_tune(out: Path) -> None:
    """The shipped model trained on with every term of the paper, the text branch's by a tower of random weights."""
    from cliphand.checkpoint import load_checkpoint
    from cliphand.config import TextConfig
    from cliphand.pretrained import CHECKPOINT, FOLDER
    from cliphand.training.accelerator import fastest_precision
    from cliphand.training.from_scratch import FROM_SCRATCH
    from cliphand.training.loop import train_hand

    shipped = load_checkpoint(FOLDER / CHECKPOINT)
    recipe = shipped.train or FROM_SCRATCH
    train = replace(
        recipe,
        epochs=FINE_TUNING_EPOCHS,
        learning_rate=FINE_TUNING_RATE,
        precision=fastest_precision(),
        workers=0,
        validation_fraction=0.1,
        loss=replace(recipe.loss, clip=0.1, heatmaps_2d=0.0, surface=0.0),
        text=TextConfig(tower="random", joints=6),  # short prompts: the tower is most of a step
    )
    run = _run(out, shipped.model_config, shipped.crop, train, shipped)
    train_hand(run, resume=_stopped(out), tell=typer.echo)


def _bench(out: Path, batches: tuple[int, ...] = (1, 8), calls: int = 50) -> None:
    from dataclasses import asdict

    from benchmarks.bench.run import BenchRequest
    from benchmarks.bench.table import table_text
    from benchmarks.contestants.exported import installed_runners
    from benchmarks.measure.interleaved import SpeedSettings
    from cliphand.cli.bench import measure
    from cliphand.files import whole_file, write_json
    from cliphand.kinds import BENCH

    speed = SpeedSettings(calls=calls, seconds=5.0)
    request = BenchRequest(
        export=out / "export", data=out / "data", batches=batches, speed=speed, runners=tuple(installed_runners())
    )
    report = measure(request)
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
    errors = {_name(row): row["pa_pjpe_mm"] for row in rows}
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


def _name(row: Mapping[str, str]) -> str:
    """Of an engine, with the precision where it is not FP32."""
    return row["engine"] if row["precision"] == "fp32" else f"{row['engine']} {row['precision']}"


_BENCH = Stage("bench: speed and accuracy of each engine", lambda out: (out / REPORT).exists(), _bench)
_DRAW = Stage("draw: predictions on held-out images", lambda out: (out / PICTURES).exists(), _draw)
SHOWN = (
    Stage(
        "data: render hands with labels",
        _rendered,
        lambda out: _render(out, train=SHOWN_TRAIN_IMAGES, evaluation=SHOWN_EVALUATION_IMAGES, kind="layers"),
    ),
    Stage("export: strip, write ONNX, make FP16 and INT8, judge them in millimetres", _exported, _export_shipped),
    _BENCH._replace(make=lambda out: _bench(out, batches=(1,), calls=20)),
    Stage("report: everything on one page", lambda out: (out / PAGE).exists(), _report),
    _DRAW,
    Stage(
        "train: the model for a minute more, with the text branch",
        lambda out: _trained(out, FINE_TUNING_EPOCHS),
        _fine_tune,
    ),
)
FROM_NOTHING = (
    Stage(
        "data: render hands with labels",
        _rendered,
        lambda out: _render(out, train=TRAIN_IMAGES, evaluation=EVALUATION_IMAGES, kind="plain"),
    ),
    Stage("train: resnet18 at 128 px, without the text branch", lambda out: _trained(out, EPOCHS), _train),
    Stage("export: strip, write ONNX, check against PyTorch", lambda out: (out / "export").exists(), _export),
    _BENCH,
    _DRAW,
)
