"""`cliphand inspect`: what the graphs of an export folder hold, cost, and how closely they follow PyTorch."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cliphand.cli.options import ExportFolder

if TYPE_CHECKING:
    from rich.table import Table

    from engines.artefact.manifest import Manifest
    from export.graph.inventory import StageCost

MEGA = 1e6
COMMON = 4  # operators named in a stage's row
# Of the manifest's facts about the export: key and how a reader knows it.
AGREEMENT = (
    ("max_difference_uvd", "largest difference, uvd"),
    ("max_difference_relative", "largest difference over the output's largest value"),
    ("max_difference_mm", "largest distance, mm"),
    ("max_neighbour_effect", "largest effect of the rest of a batch on an image"),
)
PARITY = ("artefact", "engine", "images", "pa_pjpe_mm", "delta_pa_pjpe_mm", "delta_pa_pvpe_mm", "passed")


def inspect(
    folder: ExportFolder = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the JSON object here as well.")] = None,
) -> None:
    """Count operators, GFLOP and bytes of each graph, stage by stage, and show its parity with PyTorch.

    GFLOP and bytes are per image; the last line of stdout is one JSON object.
    """
    import json

    from benchmarks.bench.table import plain_text
    from cliphand.claims import check_file
    from cliphand.files import write_json
    from cliphand.kinds import INSPECT
    from engines.artefact.manifest import read_manifest
    from engines.choice.verdicts import exported_parity
    from export.folder.shipped import default_export

    if json_file is not None:
        check_file(json_file, INSPECT)
    source = folder or default_export(typer.echo)
    manifest = read_manifest(source)
    costs = _costs(source, manifest)
    judged = exported_parity(source, manifest)
    parity = judged.rows
    for name, stages in costs.items():
        typer.echo(plain_text(_cost_table(f"{source / name}: {manifest.artefacts[name].precision}", stages)))
    typer.echo(plain_text(_agreement_table(manifest.exporter)))
    if parity:
        typer.echo(plain_text(_parity_table(parity)))
    for sentence in judged.stale:
        typer.echo(f"{sentence}.")
    value = _json(source, manifest, costs, parity)
    if json_file is not None:
        write_json(json_file, value, INSPECT)
    typer.echo(json.dumps(value))


def _costs(source: Path, manifest: "Manifest") -> "dict[str, tuple[StageCost, ...]]":
    """Costs by stage of every ONNX file, the sum at the end."""
    from cliphand.config import require
    from engines.artefact.manifest import check_artefact
    from export.graph.inventory import read_inventory, total

    costs = {}
    for name in manifest.artefacts:
        path = source / name
        if path.suffix != ".onnx":
            continue
        check_artefact(manifest, path)
        stages = read_inventory(path)
        costs[name] = (*stages, total(stages))
    require(len(costs) > 0, f"{source} holds no ONNX graph; give a folder that `cliphand export` wrote.")
    return costs


def _cost_table(title: str, stages: "Sequence[StageCost]") -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", caption_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("stage", "nodes", "GFLOP", "weights MB", "results MB", "operators"):
        table.add_column(heading, justify="left" if heading in ("stage", "operators") else "right", no_wrap=True)
    for stage in stages:
        common = [f"{count} {name}" for name, count in list(stage.operators.items())[:COMMON]]
        table.add_row(
            stage.stage,
            str(sum(stage.operators.values())),
            f"{stage.gflop:.3f}",
            f"{stage.weight_bytes / MEGA:.1f}",
            f"{stage.activation_bytes / MEGA:.1f}",
            ", ".join([*common, "..."] if len(stage.operators) > COMMON else common),
        )
    table.caption = (
        "For one image. GFLOP: convolutions and matrix products. Results: all that nodes write, nothing being fused."
    )
    return table


def _agreement_table(exporter: Mapping[str, object]) -> "Table":
    from rich import box
    from rich.table import Table

    title = f"model.onnx in ONNX Runtime beside PyTorch, noise images, batches {exporter.get('batches_checked', '?')}"
    table = Table("", "", title=title, title_justify="left", box=box.SIMPLE, show_header=False, pad_edge=False)
    for key, meaning in AGREEMENT:
        value = exporter.get(key)
        table.add_row(meaning, f"{value:.2g}" if isinstance(value, int | float) else "-")
    version = exporter.get("tensorrt_rtx")
    table.add_row("parsed and built by TensorRT for RTX", str(version) if version else "not asked")
    return table


def _parity_table(rows: Sequence[Mapping[str, object]]) -> "Table":
    from rich import box
    from rich.table import Table

    from export.gate.parity import engine_words

    title = "parity.json: on real images, mm"
    table = Table(*PARITY, title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        told = {**row, "engine": engine_words(str(row.get("engine")), str(row.get("precision")))}
        cells = [told.get(key) for key in PARITY]
        table.add_row(*(f"{cell:.4f}" if isinstance(cell, float) else str(cell) for cell in cells))
    return table


def _json(
    source: Path,
    manifest: "Manifest",
    costs: "Mapping[str, Sequence[StageCost]]",
    parity: Sequence[Mapping[str, object]],
) -> dict[str, object]:
    import dataclasses

    graphs = {name: [dataclasses.asdict(stage) for stage in stages] for name, stages in costs.items()}
    agreement = {key: manifest.exporter.get(key) for key, _ in AGREEMENT}
    return {
        "export": str(source),
        "commit": manifest.commit,
        "graphs": graphs,
        "agreement": agreement | {"batches": manifest.exporter.get("batches_checked")},
        "tensorrt_rtx": manifest.exporter.get("tensorrt_rtx"),
        "parity": parity,
    }
