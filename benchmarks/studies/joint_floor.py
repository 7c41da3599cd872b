"""What the rendered hands' proportions cost a perfect model: `python -m benchmarks.studies.joint_floor`.

A model that was trained on rendered hands alone knows their proportions only. What a folder of real hands still holds
against the best such model is its floor, in PA-PJPE:

- *turned bones*: every bone has the real hand's direction and the rendered hands' mean length;
- *best pose*: the mean rendered hand in the pose nearest to the real one (palm rigid, fingers turning freely);
- *best pose and shape*: the same with the shape fitted too, within the rendered population.

Each is given for the joints that the rendered bones turn about and for those that labels hold. *Own bones* is *turned
bones* with the real hands' own mean lengths: what differs from hand to hand. The last line is one JSON object.

    python -m benchmarks.studies.joint_floor --real FOLDER [FOLDER ...]
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

from benchmarks.studies.hand_fit import fit_hands, joint_form
from cliphand.arrays import FloatArray
from cliphand.data.freihand import open_freihand
from cliphand.data.synthetic.rigged_hand import RiggedHand, build_rigged_hand, random_hand
from cliphand.errors import InputError
from cliphand.hand import PARENTS
from cliphand.metrics.alignment import align
from cliphand.provenance import git_commit

SEED, HANDS = 0, 200  # of rendered hands, for their mean bone lengths
_PARENTS = np.array(PARENTS[1:])


@dataclass(frozen=True, slots=True)
class FloorRow:
    """One folder under one set of the rendered hand's joints, in millimetres.

    Attributes:
        joints: "skeleton" or "labelled".
        own_bones_mm, turned_bones_mm, best_pose_mm, best_shape_mm: see the module.
        worst: index of the joint that is furthest off in the best pose, and its error.
    """

    data: str
    images: int
    joints: str
    own_bones_mm: float
    turned_bones_mm: float
    best_pose_mm: float
    best_shape_mm: float
    worst_joint: int
    worst_joint_mm: float


def joint_floor(folders: list[Path]) -> list[FloorRow]:
    """Two rows for each folder.

    Raises:
        InputError: a folder is unreadable or has no joints.
    """
    real = {folder: real_joints(folder) for folder in folders}
    model = build_rigged_hand()
    regressors = {"skeleton": model.skeleton_regressor, "labelled": model.topology.joint_regressor}
    lengths = {name: _mean_lengths(model, regressor) for name, regressor in regressors.items()}
    return [
        _row(folder, joints, name, lengths[name], model, regressor)
        for folder, joints in real.items()
        for name, regressor in regressors.items()
    ]


def turned_bones(joints: FloatArray, lengths: FloatArray) -> FloatArray:
    """Hands (B, 21, 3) with the bones' directions of `joints` and other lengths (20,)."""
    bones = joints[:, 1:] - joints[:, _PARENTS]
    bones = bones / np.linalg.norm(bones, axis=-1, keepdims=True) * lengths[:, None]
    rebuilt = np.zeros_like(joints)
    for joint, parent in enumerate(_PARENTS, start=1):
        rebuilt[:, joint] = rebuilt[:, parent] + bones[:, joint - 1]
    return rebuilt


def bone_lengths(joints: FloatArray) -> FloatArray:
    """(B, 20) in the joints' unit."""
    return np.asarray(np.linalg.norm(joints[:, 1:] - joints[:, _PARENTS], axis=-1))


def _row(
    folder: Path, real: FloatArray, name: str, lengths: FloatArray, model: RiggedHand, regressor: FloatArray
) -> FloorRow:
    own = bone_lengths(real)
    form = joint_form(model, regressor)
    posed = _error_mm(fit_hands(form, real, shapes=False), real)
    worst = int(posed.mean(axis=0).argmax())
    return FloorRow(
        data=str(folder),
        images=len(real),
        joints=name,
        own_bones_mm=float(_error_mm(turned_bones(real, (own / own[:, 8:9]).mean(axis=0)), real).mean()),
        turned_bones_mm=float(_error_mm(turned_bones(real, lengths), real).mean()),
        best_pose_mm=float(posed.mean()),
        best_shape_mm=float(_error_mm(fit_hands(form, real, shapes=True), real).mean()),
        worst_joint=worst,
        worst_joint_mm=float(posed[:, worst].mean()),
    )


def _error_mm(hands: FloatArray, real: FloatArray) -> FloatArray:
    """(B, 21) distances after Procrustes alignment."""
    return np.asarray(1000 * np.linalg.norm(align(hands, real) - real, axis=-1))


def real_joints(folder: Path) -> FloatArray:
    """(B, 21, 3) metres, of a folder's evaluation split.

    Raises:
        InputError: it is unreadable or has no joints.
    """
    joints = open_freihand(folder, "evaluation").xyz
    if joints is None:
        raise InputError(f"{folder} has no evaluation joints (evaluation_xyz.json); name a folder that has them.")
    return np.asarray(joints, np.float64)


def _mean_lengths(model: RiggedHand, regressor: FloatArray) -> FloatArray:
    """(20,) metres, over rendered hands."""
    rng = np.random.default_rng(SEED)
    meshes = np.stack([random_hand(rng, model).mesh for _ in range(HANDS)])
    return np.asarray(bone_lengths(regressor @ meshes).mean(axis=0))


def table(rows: list[FloorRow]) -> Table:
    """The rows for people."""
    result = Table(title="PA-PJPE in mm that the rendered hand's proportions leave a perfect model")
    headings = (
        "data",
        "images",
        "joints",
        "own bones",
        "turned bones",
        "best pose",
        "best pose and shape",
        "worst joint",
    )
    for heading in headings:
        result.add_column(heading, justify="left" if heading in ("data", "joints") else "right")
    for row in rows:
        figures = (row.own_bones_mm, row.turned_bones_mm, row.best_pose_mm, row.best_shape_mm)
        worst = f"{row.worst_joint}: {row.worst_joint_mm:.1f}"
        result.add_row(
            Path(row.data).name, str(row.images), row.joints, *(f"{figure:.2f}" for figure in figures), worst
        )
    return result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, nargs="+", required=True, help="folders in FreiHAND's layout")
    try:
        rows = joint_floor(parser.parse_args().real)
    except InputError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(2) from None
    Console().print(table(rows))
    sys.stdout.write(json.dumps({"rows": [dataclasses.asdict(row) for row in rows], "commit": git_commit()}) + "\n")


if __name__ == "__main__":
    main()
