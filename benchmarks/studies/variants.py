"""Variants of the network side by side: what each choice costs in millimetres and buys in milliseconds.

    python -m benchmarks.studies.variants heads --data DATA --out DIR [--epochs N]
    python -m benchmarks.studies.variants backbones --data DATA --out DIR [--train NAME ...]

Every variant that is trained gets the same images, views, epochs and schedule, and is scored on the evaluation split.
Those that are not trained have random weights: their latency is real, their accuracy is left empty. FP32 runs in ONNX
Runtime and OpenVINO, INT8 in OpenVINO (calibrated on training images), all variants interleaved. A variant that DIR
already holds is not trained again. The last line is one JSON object.
"""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import onnx
import torch
import typer
from torch import nn

from benchmarks.bench.table import plain_text
from benchmarks.contestants.pytorch_variants import published
from benchmarks.measure.accuracy import mean_pose_pa_pjpe_mm, per_image_pa_pjpe_mm, predict, score
from benchmarks.measure.interleaved import SpeedSettings
from benchmarks.measure.machine import machine_facts
from benchmarks.measure.photographs import Photographs
from benchmarks.studies.variant_rows import Errors, Row, make_row, table
from benchmarks.studies.variant_times import Times, latencies
from cliphand.checked import to_json
from cliphand.checkpoint import Checkpoint, load_checkpoint
from cliphand.claims import check_file, check_folder
from cliphand.config import CropConfig, ModelConfig, TrainConfig, require
from cliphand.data.freihand import open_freihand
from cliphand.errors import InputError
from cliphand.files import read_json_object, write_json
from cliphand.hand import HAND_NAME, load_hand
from cliphand.kinds import VARIANTS, VARIANTS_FOLDER
from cliphand.model.hand_model import HandModel, level_templates
from cliphand.presets import PRESETS
from cliphand.provenance import git_commit, library_versions
from cliphand.told import told_in_one_sentence
from cliphand.training.accelerator import fastest_precision
from cliphand.training.distil import Distil
from cliphand.training.distil_config import DistilConfig
from cliphand.training.from_scratch import FROM_SCRATCH
from cliphand.training.loop import Run, train_hand
from cliphand.training.run_place import read_history
from engines.runtimes.eager import EagerEngine, ModuleEngine
from engines.runtimes.openvino_cpu import OpenVinoEngine
from export.graph.deploy_model import deploy_model, example_images
from export.graph.inventory import inventory, total
from export.graph.trace import export_graph
from export.precision.calibration import CalibrationRequest, read_calibration
from export.precision.quantise import calibrate, write_quantised
from export.precision.table import Keep, kept_nodes, union

SEED = 0
FITTING_IMAGES = 8
CALIBRATION_IMAGES = 64  # fewer than an export's: its gate is what judges a graph, here one is compared with others
BASE = PRESETS["small"]
PUBLISHED = PRESETS["paper"]  # of the network that all are compared with in time, in its authors' form
CROP = CropConfig(rule="centre", side_px=200.0)
# What each changes of the paper's head; the last is what `--preset small` has.
HEADS: dict[str, dict[str, object]] = {
    "paper": {},
    "heads 8 4 2 1": {"heads": (8, 4, 2, 1)},
    "one block a level": {"depths": (1, 1, 1, 1)},
    "no attention at 778 nodes": {"depths": (2, 2, 2, 0)},
    "no attention at 389 and 778": {"depths": (2, 2, 0, 0)},
    "attention of one token": {"attention": "single_token"},  # as the authors' released weights have it
    "transposed convolutions of 128": {"lixel_channels": 128},
    "heads 8 4 2 1, convolutions of 128": {"heads": (8, 4, 2, 1), "lixel_channels": 128},
    "joint feature of 256": {"joint_feature": 256},
    "small": {name: getattr(BASE, name) for name in ("depths", "heads", "lixel_channels", "joint_feature")},
}
BACKBONES = (
    "resnet18",
    "resnet34",
    "resnet50",
    "hgnetv2_b2",
    "repvit_m1_1",
    "fastvit_t12",
    "mobilenetv4_conv_medium",
    "convnextv2_nano",
)


@dataclass(frozen=True, slots=True)
class Study:
    """What all variants share; with a teacher, what is trained learns from that model as well."""

    data: Path
    out: Path
    train: TrainConfig
    speed: SpeedSettings
    threads: int | None
    teacher: Checkpoint | None = None


def study(variants: dict[str, ModelConfig], trained: Sequence[str], shared: Study) -> list[Row]:
    """Train, export and time the variants.

    Args:
        variants: by name.
        trained: names of those to train.
        shared: data, budget and settings.
    """
    checkpoints = {name: checkpoint_of(variants[name], shared.out / _slug(name), shared) for name in trained}
    graphs = {
        name: graphs_of(checkpoints.get(name), config, shared.out / _slug(name), shared)
        for name, config in variants.items()
    }
    errors = {name: errors_of(checkpoint, graphs[name]["int8"], shared) for name, checkpoint in checkpoints.items()}
    module = published(untrained(PUBLISHED, shared))
    with ModuleEngine(module, name="published", input_size=PUBLISHED.input_size, threads=shared.threads) as engine:
        times = latencies(graphs, published=engine, threads=shared.threads, settings=shared.speed)
    return [_row(name, graphs[name]["fp32"], errors, times) for name in variants]


def _row(name: str, path: Path, errors: dict[str, Errors], times: dict[str, Times]) -> Row:
    graph = onnx.load(path)
    parameters = sum(int(np.prod(tensor.dims)) for tensor in graph.graph.initializer)
    return make_row(name, (parameters, total(inventory(graph)).gflop), times[name], trained=errors)


def checkpoint_of(config: ModelConfig, folder: Path, shared: Study) -> Checkpoint:
    """The variant's last checkpoint, trained now unless it already was."""
    run, topology = folder / "run", load_hand(shared.data / HAND_NAME)
    plan = Run(data=shared.data, topology=topology, out=run, model=config, crop=CROP, train=shared.train)
    if shared.teacher is not None:
        plan = dataclasses.replace(plan, recipe=Distil(shared.teacher, DistilConfig()))
    if len(read_history(run)) < shared.train.epochs:
        train_hand(plan)
    checkpoint = load_checkpoint(run / "last")
    found = (checkpoint.train, checkpoint.model_config, checkpoint.facts.get("recipe"))
    require(
        found == (shared.train, config, plan.recipe.facts()),
        f"{run} was trained with other settings or by another teacher; choose another --out.",
    )
    return checkpoint


def untrained(config: ModelConfig, shared: Study) -> HandModel:
    """The variant with random weights, as fast as with any others, its BatchNorms fitted to noise.

    Without that a deep network's numbers grow until rounding alone breaks the export's check.
    """
    torch.manual_seed(SEED)
    model = HandModel(config, level_templates(load_hand(shared.data / HAND_NAME), config.levels)).train()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = 1.0
    with torch.no_grad():
        model(example_images(FITTING_IMAGES, config.input_size))
    return model.eval()


def errors_of(checkpoint: Checkpoint, int8: Path, shared: Study) -> Errors:
    """What a trained variant misses by on the evaluation split, and what its INT8 graph does."""
    data = open_freihand(shared.data, "evaluation")
    size = checkpoint.model_config.input_size
    photographs = Photographs(data=data, crop=checkpoint.crop, input_size=size, root="truth")
    with EagerEngine(checkpoint) as engine, OpenVinoEngine(int8, precision="int8") as quantised:
        both = {"fp32": engine, "int8": quantised}
        hands = predict(both, photographs, checkpoint.topology.joint_regressor, n_images=len(data))
    scores = {name: score(hand, data) for name, hand in hands.items()}
    lixel_mm, int8_mm = scores["fp32"].lixel_pa_pjpe_mm, scores["int8"].pa_pjpe_mm
    if lixel_mm is None or int8_mm is None:
        raise InputError(f"{shared.data} has no joints in its evaluation split, or a variant gives NaN: no accuracy.")
    return Errors(per_image_pa_pjpe_mm(hands["fp32"], data), lixel_mm, int8_mm)


def graphs_of(checkpoint: Checkpoint | None, config: ModelConfig, folder: Path, shared: Study) -> dict[str, Path]:
    """`model.onnx` and `model.int8.onnx`; those that exist are kept if they are of these weights and this commit."""
    paths, note = {"fp32": folder / "model.onnx", "int8": folder / "model.int8.onnx"}, folder / "graphs.json"
    weights = f"random, seed {SEED}" if checkpoint is None else checkpoint.sha256
    origin = {"model": to_json(config), "weights": weights, "commit": git_commit()}
    if note.exists() and read_json_object(note) == json.loads(json.dumps(origin)):
        return paths
    write_json(note, origin | {"weights": "unfinished"}, None)  # the folder is the study's, what is in it not yet
    write_graphs(untrained(config, shared) if checkpoint is None else checkpoint.model, config, paths, shared)
    write_json(note, origin, None)
    return paths


def write_graphs(model: HandModel, config: ModelConfig, paths: dict[str, Path], shared: Study) -> None:
    """The FP32 graph and its INT8 form."""
    folder = paths["fp32"].parent
    folder.mkdir(parents=True, exist_ok=True)
    export_graph(deploy_model(model), paths["fp32"], input_size=config.input_size)
    request = CalibrationRequest(shared.data, images=CALIBRATION_IMAGES)
    images = read_calibration(request, CROP, config.input_size).images
    keep = union(kept_nodes(onnx.load(paths["fp32"]).graph, "int8", Keep()))
    calibrated = folder / "calibrated.onnx"
    calibrate(paths["fp32"], calibrated, keep=keep, images=images, method="max")
    write_quantised(calibrated, paths["int8"], unquantise=(), rest="fp32", keep_fp32=(), image=images[:1])
    calibrated.unlink()


def _slug(name: str) -> str:
    return name.replace(" ", "_")


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    which: Annotated[str, typer.Argument(help="heads or backbones.")],
    data: Annotated[Path, typer.Option(help="Folder in FreiHAND's layout with hand.npz, from `cliphand synth`.")],
    out: Annotated[Path, typer.Option(help="Folder for runs and graphs; what it holds is not made again.")],
    train: Annotated[
        list[str] | None, typer.Option(help="Variant to train; repeat it.", show_default="all heads, no backbone")
    ] = None,
    latency_only: Annotated[bool, typer.Option("--latency-only", help="Train nothing.")] = False,
    teacher: Annotated[Path | None, typer.Option(help="Checkpoint that all trained variants learn from.")] = None,
    epochs: Annotated[int, typer.Option(help="Of each trained variant.")] = 4,
    input_size: Annotated[int | None, typer.Option(help="Side of the crop.", show_default="the small preset's")] = None,
    calls: Annotated[int, typer.Option(help="Timed calls of each engine at most.")] = 100,
    seconds: Annotated[float, typer.Option(help="Time limit of each engine's calls.")] = 10.0,
    threads: Annotated[int | None, typer.Option(help="Of one call.", show_default="the run-time's choice")] = None,
) -> None:
    """Train, export and time variants of the network."""
    size = input_size or BASE.input_size
    kinds = {
        "heads": {
            name: dataclasses.replace(PRESETS["paper"], backbone=BASE.backbone, input_size=size, **changes)  # type: ignore[arg-type]
            for name, changes in HEADS.items()
        },
        "backbones": {name: dataclasses.replace(BASE, backbone=name, input_size=size) for name in BACKBONES},
    }
    require(which in kinds, f"{which!r} is no study; valid are {', '.join(kinds)}.")
    check_folder(out, VARIANTS_FOLDER)
    check_file(out / f"{which}.json", VARIANTS)
    variants = kinds[which]
    usual = [] if latency_only or which == "backbones" else list(variants)
    trained = usual if train is None else train
    unknown = sorted(set(trained) - set(variants))
    require(not unknown, f"there is no variant {', '.join(unknown)}; valid are {', '.join(variants)}.")
    config = dataclasses.replace(FROM_SCRATCH, epochs=epochs, precision=fastest_precision())
    taught_by = None if teacher is None else load_checkpoint(teacher)
    shared = Study(data, out, config, SpeedSettings(calls=calls, seconds=seconds), threads, taught_by)
    rows = study(variants, trained, shared)
    guess = mean_pose_pa_pjpe_mm(data)
    baseline = trained[0] if trained else None
    title = (
        f"{which}, {size} px, batch 1, {epochs} epochs where trained{f', taught by {teacher}' if teacher else ''}; "
        f"change: from {baseline}; INT8 calibrated on {CALIBRATION_IMAGES} images; times faster: INT8 than "
        f"{PUBLISHED.backbone} at {PUBLISHED.input_size} px as published; always guessing the mean pose: {guess:.2f} mm"
    )
    typer.echo(plain_text(table(rows, title)))
    report = {
        "study": which,
        "rows": [dataclasses.asdict(row) for row in rows],
        "baseline": baseline,
        "mean_pose_pa_pjpe_mm": guess,
        "data": str(data),
        "input_size": size,
        "batch": 1,
        "threads": threads,
        "train": to_json(config),
        "teacher": None if taught_by is None else taught_by.sha256,
        "machine": machine_facts(),
        "versions": library_versions(),
        "commit": git_commit(),
    }
    write_json(out / f"{which}.json", report, VARIANTS)
    typer.echo(json.dumps(report, allow_nan=False))


if __name__ == "__main__":
    with told_in_one_sentence("benchmarks.studies.variants"):
        app(standalone_mode=True)
