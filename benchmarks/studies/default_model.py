"""The hand model that this project ships, made from nothing: rendered hands, then three trainings, then its figures.

    python -m benchmarks.studies.default_model --out DIR [--backgrounds FOLDER] [--real FOLDER ...]

1. `DIR/data`: hands rendered in layers, which every view of a training lights and composes anew.
2. `DIR/joints`: encoder and joint regressor at 96 px. Hands stand upright before plain backgrounds at first; rotation
   and variety grow over the run. A dense branch, which export leaves out, learns what each cell shows of the hand.
3. `DIR/joints_again`: the same for as long again, most hands nearly upright, as the model sees them when it looks a
   second time.
4. `DIR/mesh`: the whole network at 128 px, from there.

A run that ends early goes on where it stopped when the same command is given again. `--share` trains with that share of
the epochs, `--renders` with fewer hands: a learning curve is this command three times.

Printed: PA-PJPE on held-out rendered hands along the run of the mesh, upright as their labels say; at its end, on every
folder, beside the mean pose of the training hands. The last line is one JSON object.
"""

import argparse
import dataclasses
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from benchmarks.measure.machine import machine_facts
from benchmarks.studies.synthetic_to_real import study, table
from cliphand.checkpoint import Checkpoint, load_checkpoint
from cliphand.checkpoint_place import BEST
from cliphand.config import AugmentConfig, CropConfig, LossConfig, ModelConfig, TrainConfig
from cliphand.data.synthetic.dataset import make_dataset
from cliphand.data.synthetic.plan import make_plan
from cliphand.hand import HAND_NAME, load_hand
from cliphand.provenance import git_commit
from cliphand.training.loop import Run, train_hand
from cliphand.training.module import VALIDATION_METRIC
from cliphand.training.run_place import read_history

RENDERS, EVALUATION = 20_000, 500
MODEL = ModelConfig(
    backbone="resnet18_half",
    input_size=128,
    lixel_channels=128,
    joint_feature=128,
    feature_sizes=(128, 64, 64, 32),
    depths=(1, 1, 0, 0),
    heads=(4, 2, 2, 1),
)
CROP = CropConfig(rule="joints", margin=1.4, second_look=True)
# From hands that stand upright; a full turn either way once the curriculum is over.
VIEWS = AugmentConfig(
    rotation_deg=180.0, scale=0.15, shift=0.06, colour=0.1, blur_px=1.0, noise=0.03, upright=True, curriculum=0.7
)
LEVEL_VIEWS = dataclasses.replace(VIEWS, curriculum=0.0, level_share=0.75, level_deg=30.0)
TRAIN = TrainConfig(
    batch=16,
    weight_decay=0.05,
    schedule="cosine",
    gradient_clip=5.0,
    workers=1,
    validation_fraction=0.02,
    backbone_weights="none",
    precision="bf16-mixed",  # a third to a half faster where the processor multiplies bfloat16, as most of today's do
)


@dataclass(frozen=True, slots=True)
class Step:
    """One training: folder, network, and how; it starts from the step before."""

    name: str
    model: ModelConfig
    train: TrainConfig


JOINTS = Step(
    "joints",
    dataclasses.replace(MODEL, input_size=96),
    dataclasses.replace(
        TRAIN,
        stage="joints",
        epochs=20,
        learning_rate=2e-3,
        augment=VIEWS,
        loss=LossConfig(joints=2.0, consistency_2d=0.0, clip=0.0, heatmaps=1.0, heatmaps_2d=1.0, surface=3.0),
    ),
)
# A cosine ends where it was told to; hands are learned for longer by a second one. Most stand nearly upright, as the
# second look sees them; the others keep the first look's sense of direction.
JOINTS_AGAIN = Step(
    "joints_again", JOINTS.model, dataclasses.replace(JOINTS.train, learning_rate=1.5e-3, augment=LEVEL_VIEWS)
)
STEPS = (
    JOINTS,
    JOINTS_AGAIN,
    Step(
        "mesh",
        MODEL,
        dataclasses.replace(
            TRAIN,
            epochs=4,
            learning_rate=1e-3,
            augment=LEVEL_VIEWS,
            loss=LossConfig(
                joints=10.0,
                vertices=10.0,
                edges=1.0,
                consistency_2d=1.0,
                consistency_3d=1.0,
                clip=0.0,
                heatmaps=1.0,
                heatmaps_2d=0.5,
                surface=1.0,
            ),
        ),
    ),
)


def render(out: Path, *, renders: int, backgrounds: Path | None, seed: int) -> Path:
    """The set, made or completed."""
    plan = make_plan(
        out / "data", training=renders, evaluation=EVALUATION, seed=seed, backgrounds=backgrounds, kind="layers"
    )
    make_dataset(plan, workers=len(os.sched_getaffinity(0)))
    return plan.root


def run_of(step: Step, data: Path, out: Path, *, epochs: int, seed: int, start: Checkpoint | None = None) -> Run:
    """A step's training on a set, in the folder `out`."""
    return Run(
        data=data,
        topology=load_hand(data / HAND_NAME),
        out=out,
        model=step.model,
        crop=CROP,
        train=dataclasses.replace(step.train, epochs=epochs, seed=seed),
        start=start,
    )


def train(out: Path, data: Path, *, share: float, seed: int, console: Console) -> Path:
    """The trainings, each from where it stopped; the best checkpoint of the last."""
    best: Path | None = None
    for step in STEPS:
        epochs = max(round(share * step.train.epochs), 1)
        done = len(read_history(out / step.name))
        if done < epochs:
            console.print(f"{step.name}: epoch {done} of {epochs}")
            start = None if best is None else load_checkpoint(best)
            run = run_of(step, data, out / step.name, epochs=epochs, seed=seed, start=start)
            train_hand(run, resume=done > 0, tell=console.print)
        best = out / step.name / BEST
    assert best is not None  # noqa: S101
    return best


def _made(step: Step, run: Path, *, renders: int) -> dict[str, object]:
    """A step as its run did it; each hand gives a pair of views."""
    history = read_history(run)
    hands = renders - round(renders * step.train.validation_fraction)
    return {
        "step": step.name,
        "input_px": step.model.input_size,
        "epochs": len(history),
        "views": 2 * hands * len(history),
        "learning_rate": step.train.learning_rate,
        "precision": step.train.precision,
        "validation_mm": min(entry[VALIDATION_METRIC] for entry in history),
    }


def main() -> None:
    """Make the model and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the set and of both runs")
    parser.add_argument("--renders", type=int, default=RENDERS, help="training hands")
    parser.add_argument("--backgrounds", type=Path, help="folder of photographs to put behind the hands")
    parser.add_argument("--share", type=float, default=1.0, help="of the epochs")
    parser.add_argument("--seed", type=int, default=0, help="of hands, weights and views")
    parser.add_argument("--real", type=Path, nargs="*", default=[], help="folders in FreiHAND's layout to report on")
    options = parser.parse_args()
    console = Console()
    data = render(options.out, renders=options.renders, backgrounds=options.backgrounds, seed=options.seed)
    best = train(options.out, data, share=options.share, seed=options.seed, console=console)
    curve = [entry[VALIDATION_METRIC] for entry in read_history(best.parent)]
    for part in (1, 2, 4):
        at = max(part * len(curve) // 4, 1)
        console.print(f"after {at} of {len(curve)} epochs: {min(curve[:at]):.2f} mm on held-out rendered hands")
    rows = study(load_checkpoint(best), data, [data, *options.real])
    rows[0] = dataclasses.replace(rows[0], data="rendered, held out")
    console.print(table(rows))
    result = {
        "command": (
            "python -m benchmarks.studies.default_model --out DIR --backgrounds FOLDER "
            f"--renders {options.renders} --seed {options.seed}"
        ),
        "steps": [_made(step, options.out / step.name, renders=options.renders) for step in STEPS],
        "rows": [dataclasses.asdict(row) for row in rows],
        "curve_mm": curve,
        "renders": options.renders,
        "share": options.share,
        "machine": machine_facts(),
        "commit": git_commit(),
    }
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
