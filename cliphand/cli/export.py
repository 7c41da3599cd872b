"""`cliphand export`: a checkpoint to an export folder."""

from pathlib import Path
from typing import Annotated

import typer

RUNS = Path("runs")
EXPORTS = Path("exports")


def export(
    checkpoint: Annotated[
        Path | None, typer.Argument(help="Checkpoint folder.", show_default="the newest run's best/")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Export folder to write.", show_default="exports/RUN")] = None,
) -> None:
    """Strip what only training needs and write the ONNX graph, checked against PyTorch."""
    from rich.console import Console

    from cliphand.checkpoint import newest_checkpoint
    from export.folder import GRAPH_NAME, export_checkpoint

    source = checkpoint or newest_checkpoint(RUNS)
    name = source.parent.name if source.name in ("best", "last") else source.name
    target = out or EXPORTS / name
    manifest = export_checkpoint(source, target)
    facts, artefact = manifest.exporter, manifest.artefacts[GRAPH_NAME]
    Console(soft_wrap=True).print(
        f"{target / GRAPH_NAME}: {artefact.bytes / 1e6:.1f} MB, opset {facts['opset']}, differs from PyTorch by at "
        f"most {facts['max_difference_uvd']:.2g} uvd = {facts['max_difference_mm']:.2g} mm at batches "
        f"{facts['batches_checked']}"
    )
