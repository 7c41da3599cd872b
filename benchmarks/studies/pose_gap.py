"""How far real hands' poses are from the rendered ones: `python -m benchmarks.studies.pose_gap`.

For each real hand the nearest of many rendered poses, in mm of PA-PJPE; no image is rendered. *nearest* compares the
joints as they are, so that it also holds what the hands' proportions differ in (see `joint_floor`); *pose alone* first
gives the real hand the rendered hands' mean bone lengths. The rendered hands' own distance to their nearest neighbour
shows what so many draws can reach. Then, for the kind whose poses lie nearest: the bends (angles between successive
bones) that real hands show and rendered ones hardly do, and the real poses that are covered worst. The last line is one
JSON object.

    python -m benchmarks.studies.pose_gap --real FOLDER [FOLDER ...] [--kinds plain varied layers] [--hands 2000]
"""

import argparse
import dataclasses
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.studies.joint_floor import bone_lengths, real_joints, turned_bones
from cliphand.arrays import FloatArray, IntArray
from cliphand.data.synthetic.kinds import KINDS
from cliphand.data.synthetic.rigged_hand import build_rigged_hand, random_hand
from cliphand.errors import InputError
from cliphand.hand import FINGERS, JOINT_NAMES
from cliphand.metrics.alignment import align
from cliphand.provenance import git_commit

SEED = 1
OWN_HANDS = 100  # rendered hands whose nearest neighbour among the others is sought
WORST_HANDS, WORST_JOINTS, RAREST_BENDS = 6, 3, 5
EDGE_PERCENT = (1.0, 99.0)  # of the rendered bends
_CHAINS = np.array([[0, *range(4 * finger + 1, 4 * finger + 5)] for finger in range(5)])
BENDS = tuple(f"{finger} {joint}" for finger in FINGERS for joint in ("base", "middle", "end"))


@dataclass(frozen=True, slots=True)
class Nearest:
    """The nearest rendered pose of each real hand: mean error (B,) in mm, and that of its joints (B, 21)."""

    error_mm: FloatArray
    joints_mm: FloatArray


@dataclass(frozen=True, slots=True)
class GapRow:
    """One real folder against one kind.

    Attributes:
        nearest_mm, pose_alone_mm: means; pose_alone_p90_mm: of the worst tenth at least.
        own_mm: of rendered hands among themselves.
        outside: by bend, the share of real hands that are straighter than EDGE_PERCENT of the rendered ones, and of
            those that are bent further.
        worst: index, error and worst joints of the hands covered worst in pose alone.
    """

    data: str
    kind: str
    images: int
    nearest_mm: float
    pose_alone_mm: float
    pose_alone_p90_mm: float
    own_mm: float
    outside: dict[str, tuple[float, float]]
    worst: list[tuple[int, float, list[str]]]


def pose_gap(folders: list[Path], kinds: list[str], *, hands: int) -> list[GapRow]:
    """A row for each folder and kind.

    Raises:
        InputError: a folder has no joints, or a kind is unknown.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise InputError(f"--kinds names {kind}; valid are {', '.join(KINDS)}.")
    real = {folder: real_joints(folder) for folder in folders}
    model = build_rigged_hand()
    rows = []
    for kind in kinds:
        rng = np.random.default_rng(SEED)
        rendered = np.stack([random_hand(rng, model, kind=KINDS[kind]).joints for _ in range(hands)])
        own = nearest_pose(rendered[:OWN_HANDS], rendered[OWN_HANDS:]).error_mm.mean()
        rows += [_row(folder, joints, kind, rendered, float(own)) for folder, joints in real.items()]
    return rows


def nearest_pose(real: FloatArray, rendered: FloatArray) -> Nearest:
    """The rendered pose that lies nearest to each real one after Procrustes alignment.

    Args:
        real: (B, 21, 3) metres.
        rendered: (N, 21, 3), any unit.
    """
    errors = np.zeros((len(real), real.shape[1]))
    for index, hand in enumerate(real):
        target = np.broadcast_to(hand, rendered.shape)
        found = 1000 * np.linalg.norm(align(rendered, target) - target, axis=-1)
        errors[index] = found[found.mean(axis=1).argmin()]
    return Nearest(errors.mean(axis=1), errors)


def bends(joints: FloatArray) -> FloatArray:
    """(B, 15) degrees between successive bones, five fingers from base to end; the first is that of the palm's bone."""
    bones = np.diff(joints[:, _CHAINS], axis=2)
    bones = bones / np.linalg.norm(bones, axis=-1, keepdims=True)
    cosine = (bones[:, :, 1:] * bones[:, :, :-1]).sum(axis=-1)
    return np.asarray(np.degrees(np.arccos(np.clip(cosine, -1, 1)))).reshape(len(joints), -1)


def _row(folder: Path, real: FloatArray, kind: str, rendered: FloatArray, own_mm: float) -> GapRow:
    lengths = bone_lengths(rendered).mean(axis=0)
    size = bone_lengths(real)[:, 8] / lengths[8]  # bone 0-9: an error stays one of the real hand's size
    alone = nearest_pose(size[:, None, None] * turned_bones(real, lengths), rendered)
    low, high = np.percentile(bends(rendered), EDGE_PERCENT, axis=0)
    found = bends(real)
    outside = np.stack([(found < low).mean(axis=0), (found > high).mean(axis=0)], axis=1)
    worst: IntArray = np.argsort(-alone.error_mm)[:WORST_HANDS]
    return GapRow(
        data=folder.name,
        kind=kind,
        images=len(real),
        nearest_mm=float(nearest_pose(real, rendered).error_mm.mean()),
        pose_alone_mm=float(alone.error_mm.mean()),
        pose_alone_p90_mm=float(np.percentile(alone.error_mm, 90)),
        own_mm=own_mm,
        outside={name: (float(less), float(more)) for name, (less, more) in zip(BENDS, outside, strict=True)},
        worst=[(int(i), float(alone.error_mm[i]), _worst_joints(alone.joints_mm[i])) for i in worst],
    )


def _worst_joints(errors_mm: FloatArray) -> list[str]:
    return [f"{JOINT_NAMES[joint]} {errors_mm[joint]:.0f}" for joint in np.argsort(-errors_mm)[:WORST_JOINTS]]


def print_rows(rows: list[GapRow]) -> None:
    """The rows for people."""
    gap = Table(title="Nearest rendered pose to real hands, PA-PJPE in mm")
    for heading in ("data", "kind", "images", "nearest", "pose alone", "its 90 %", "rendered among themselves"):
        gap.add_column(heading, justify="left" if heading in ("data", "kind") else "right")
    for row in rows:
        figures = (row.nearest_mm, row.pose_alone_mm, row.pose_alone_p90_mm, row.own_mm)
        gap.add_row(row.data, row.kind, str(row.images), *(f"{figure:.2f}" for figure in figures))
    console = Console()
    console.print(gap)
    for name in dict.fromkeys(row.data for row in rows):
        best = min((row for row in rows if row.data == name), key=lambda row: row.pose_alone_mm)
        rare = sorted(best.outside.items(), key=lambda item: -sum(item[1]))[:RAREST_BENDS]
        shown = "; ".join(f"{bend} {less:.0%} straighter, {more:.0%} further bent" for bend, (less, more) in rare)
        console.print(f"{name}, {best.kind}: bends that hardly any rendered hand shows: {shown}")
        for index, error, joints in best.worst:
            console.print(f"  image {index}: {error:.1f} mm; {', '.join(joints)}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, nargs="+", required=True, help="folders in FreiHAND's layout")
    parser.add_argument("--kinds", nargs="+", default=sorted(KINDS), help=f"of {', '.join(KINDS)}")
    parser.add_argument("--hands", type=int, default=2000, help="rendered poses drawn of each kind")
    options = parser.parse_args()
    try:
        if options.hands <= OWN_HANDS:
            raise InputError(f"--hands is {options.hands}; give more than {OWN_HANDS}.")
        rows = pose_gap(options.real, options.kinds, hands=options.hands)
    except InputError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(2) from None
    print_rows(rows)
    sys.stdout.write(json.dumps({"rows": [dataclasses.asdict(row) for row in rows], "commit": git_commit()}) + "\n")


if __name__ == "__main__":
    main()
