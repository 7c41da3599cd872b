"""What teaches an encoder that starts from random weights: each ingredient of the shipped model's first training.

    python -m benchmarks.studies.random_weights DATA --out DIR [--epochs 4] [--seeds 2]

DATA is a set of hands in layers (`cliphand synth --kind layers`). One row for each ingredient that is left out of the
recipe, and one for the recipe whole; all see as many views. Every row is a run folder below DIR; those that are there
are not trained again.

Printed: PA-PJPE of the joint regressor on DATA's evaluation split, which no run sees, one column for each seed, and the
time of a view. Seconds hold for a machine on which nothing else runs. The last line is one JSON object.
"""

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.measure.machine import machine_facts
from benchmarks.studies.default_model import JOINTS, Step, run_of
from benchmarks.studies.synthetic_to_real import study
from cliphand.checkpoint import load_checkpoint
from cliphand.checkpoint_place import LAST
from cliphand.config import LossConfig, TrainConfig
from cliphand.data.freihand import open_freihand
from cliphand.files import read_json_object, write_json
from cliphand.provenance import git_commit
from cliphand.training.loop import train_hand

TIME_FILE = "seconds.json"


def _loss(**weights: float) -> TrainConfig:
    return dataclasses.replace(JOINTS.train, loss=dataclasses.replace(JOINTS.train.loss, **weights))


def _views(**bounds: object) -> TrainConfig:
    augment = dataclasses.replace(JOINTS.train.augment, **bounds)  # type: ignore[arg-type]
    return dataclasses.replace(JOINTS.train, augment=augment)


ROWS: Mapping[str, Step] = {
    "whole recipe": JOINTS,
    "no curriculum": dataclasses.replace(JOINTS, train=_views(curriculum=0.0)),
    "not upright, no curriculum": dataclasses.replace(JOINTS, train=_views(upright=False, curriculum=0.0)),
    "no surface maps": dataclasses.replace(JOINTS, train=_loss(surface=0.0)),
    "no dense branch": dataclasses.replace(JOINTS, train=_loss(surface=0.0, heatmaps_2d=0.0)),
    "coordinates alone": dataclasses.replace(
        JOINTS, train=_loss(surface=0.0, heatmaps_2d=0.0, heatmaps=0.0, joints=LossConfig().joints)
    ),
    "resnet18 whole": dataclasses.replace(JOINTS, model=dataclasses.replace(JOINTS.model, backbone="resnet18")),
    "128 px": dataclasses.replace(JOINTS, model=dataclasses.replace(JOINTS.model, input_size=128)),
}


@dataclass(frozen=True, slots=True)
class Row:
    """One ingredient's runs: error in millimetres and milliseconds a view of each seed."""

    name: str
    lixel_pa_pjpe_mm: list[float]
    view_ms: list[float]


def measure(name: str, data: Path, out: Path, *, epochs: int, seed: int) -> tuple[float, float]:
    """Error in millimetres and seconds of one run, trained where it is not there yet."""
    folder = out / f"{name.replace(' ', '_').replace(',', '')}_{seed}"
    if not (folder / TIME_FILE).exists():
        began = time.perf_counter()
        train_hand(run_of(ROWS[name], data, folder, epochs=epochs, seed=seed))
        write_json(folder / TIME_FILE, {"seconds": time.perf_counter() - began}, None)
    checkpoint = load_checkpoint(folder / LAST)
    (row,) = study(checkpoint, data, [data])
    return row.lixel_pa_pjpe_mm, float(str(read_json_object(folder / TIME_FILE)["seconds"]))


def table(rows: list[Row], *, views: int) -> Table:
    """The rows for people."""
    result = Table(title=f"PA-PJPE in mm after {views:,} views, each seed; milliseconds a view")
    for heading in ("run", "PA-PJPE", "ms a view"):
        result.add_column(heading, justify="left" if heading == "run" else "right")
    for row in rows:
        errors = ", ".join(f"{error:.2f}" for error in row.lixel_pa_pjpe_mm)
        result.add_row(row.name, errors, f"{min(row.view_ms):.1f}")
    return result


def main() -> None:
    """Train, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a set of hands in layers")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--rows", nargs="*", default=list(ROWS), choices=list(ROWS))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    views = 2 * options.epochs * len(open_freihand(options.data, "training"))
    rows = []
    for name in options.rows:
        found = [
            measure(name, options.data, options.out, epochs=options.epochs, seed=seed) for seed in range(options.seeds)
        ]
        rows.append(Row(name, [error for error, _ in found], [1000 * seconds / views for _, seconds in found]))
    Console().print(table(rows, views=views))
    result = {
        "rows": [dataclasses.asdict(row) for row in rows],
        "data": str(options.data),
        "epochs": options.epochs,
        "machine": machine_facts(),
        "commit": git_commit(),
    }
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
