"""`cliphand score`: a prediction file against a folder's evaluation labels."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from cliphand.arrays import FloatArray
    from cliphand.data.predictions import Predictions
    from cliphand.metrics import JointScore, MeshScore


def score(
    predictions: Annotated[
        Path, typer.Argument(metavar="PRED.json", help="JSON list of xyz and verts, in metres, as FreiHAND's.")
    ],
    *,
    data: Annotated[Path, typer.Option("--data", help="Folder with evaluation_xyz.json and evaluation_verts.json.")],
    official: Annotated[
        bool, typer.Option("--official", help="The official evaluator's keys, centimetres and alignment.")
    ] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the JSON object here as well.")] = None,
) -> None:
    """Score a FreiHAND-style prediction file; the last line printed is one JSON object.

    Mesh figures need vertices in both the predictions and the folder; without them they are null, and left out of
    the official keys.
    """
    import json

    from rich.console import Console

    from cliphand.claims import check_file
    from cliphand.data.predictions import doubt_about_unit, read_predictions
    from cliphand.files import write_json
    from cliphand.kinds import SCORE
    from cliphand.metrics import score_joints, score_mesh

    if json_file is not None:
        check_file(json_file, SCORE)
    read = read_predictions(predictions)
    doubt = doubt_about_unit(read.xyz)
    xyz, verts = _truth(read, predictions, data)
    joints = score_joints(read.xyz, xyz, reflections=official)
    mesh = None
    if read.verts is not None and verts is not None:
        mesh = score_mesh(read.verts, verts, reflections=official)
    result = _official(joints, mesh) if official else _full(predictions, data, len(xyz), joints, mesh)
    table = _official_table(result) if official else _table(joints, mesh)
    alignment = "reflections allowed" if official else "rotations only"
    typer.echo(f"{predictions} against {data}: {len(xyz)} images, alignment with {alignment}")
    Console().print(table)
    for warning in (doubt, joints.warning, mesh.warning if mesh else None):
        if warning:
            typer.echo(f"warning: {warning}", err=True)
    if json_file is not None:
        write_json(json_file, result, SCORE)
    typer.echo(json.dumps(result, allow_nan=False))


def _truth(read: "Predictions", source: Path, data: Path) -> tuple["FloatArray", "FloatArray | None"]:
    """The folder's evaluation joints, and its vertices where they are there and wanted."""
    from cliphand.data.freihand import label_path
    from cliphand.data.label_file import read_labels
    from cliphand.data.plausible import Labels, check_plausible
    from cliphand.errors import InputError

    truth: dict[str, FloatArray] = {}
    for field, predicted in (("xyz", read.xyz), ("verts", read.verts)):
        path = label_path(data, "evaluation", field)
        if predicted is None or (field == "verts" and not path.exists()):
            continue
        labels = read_labels(path, field)
        if len(labels) != len(predicted):
            raise InputError(
                f"{source}: field '{field}' has {len(predicted)} entries but {path} has {len(labels)}; "
                "both need one per image, in the same order."
            )
        truth[field] = labels
    check_plausible(Labels(**truth), root=data, place=lambda field: label_path(data, "evaluation", field))
    return truth["xyz"], truth.get("verts")


def _official(joints: "JointScore", mesh: "MeshScore | None") -> dict[str, object]:
    from cliphand.metrics import official_joint_scores, official_mesh_scores

    return {**official_joint_scores(joints), **(official_mesh_scores(mesh) if mesh else {})}


def _full(
    predictions: Path, data: Path, n_images: int, joints: "JointScore", mesh: "MeshScore | None"
) -> dict[str, object]:
    from dataclasses import asdict

    from cliphand.provenance import git_commit

    return {
        "predictions": str(predictions),
        "data": str(data),
        "images": n_images,
        "commit": git_commit(),
        "alignment": "rotation",
        "joints": asdict(joints),
        "mesh": asdict(mesh) if mesh else None,
    }


def _table(joints: "JointScore", mesh: "MeshScore | None") -> "Table":
    from rich.table import Table

    low, high = joints.auc_range_mm
    table = Table("", "as predicted", "aligned")
    rows = [
        ("PJPE mm", joints.pjpe_mm, joints.pa_pjpe_mm),
        ("PJPE median mm", joints.pjpe_median_mm, joints.pa_pjpe_median_mm),
        (f"joint AUC {low:g}-{high:g} mm", joints.auc, joints.pa_auc),
    ]
    if mesh is not None:
        rows += [
            ("PVPE mm", mesh.pvpe_mm, mesh.pa_pvpe_mm),
            ("PVPE median mm", mesh.pvpe_median_mm, mesh.pa_pvpe_median_mm),
            (f"vertex AUC {low:g}-{high:g} mm", mesh.auc, mesh.pa_auc),
            ("F@5", mesh.f_at_5, mesh.pa_f_at_5),
            ("F@15", mesh.f_at_15, mesh.pa_f_at_15),
        ]
    for name, plain, aligned in rows:
        table.add_row(name, f"{plain:.4f}", f"{aligned:.4f}")
    if mesh is None:
        table.caption = "No vertices in the predictions or in the folder: no mesh figures."
    return table


def _official_table(result: dict[str, object]) -> "Table":
    from rich.table import Table

    table = Table("official key", "value")
    for key, value in result.items():
        table.add_row(key, f"{value:.6f}")
    return table
