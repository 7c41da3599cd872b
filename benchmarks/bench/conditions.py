"""What a report says of its conditions: the export, the data, and how the figures are to be read."""

from pathlib import Path

from benchmarks.measure.accuracy import AUC_RANGES_MM, regressor_pa_pjpe_mm
from benchmarks.measure.photographs import ROOT_SENTENCES, Root
from cliphand.arrays import FloatArray
from cliphand.data.freihand import FreiHand
from cliphand.files import sha256_of
from cliphand.hand import HAND_NAME
from engines.artefact.manifest import Manifest


def export_facts(export: Path, manifest: Manifest) -> dict[str, object]:
    """Where the artefacts lie and what they were made from and with."""
    return {
        "path": str(export),
        "checkpoint_sha256": manifest.checkpoint.sha256,
        "cliphand_version": manifest.cliphand_version,
        "commit": manifest.commit,
        "exporter": manifest.exporter,
    }


def data_facts(path: Path, data: FreiHand, regressor: FloatArray, *, n_images: int) -> dict[str, object]:
    """The data of the first so many images, and what the joint regressor's joints score on true meshes."""
    return {
        "path": str(path),
        "split": data.split,
        "images": n_images,
        "has_joints": data.xyz is not None,
        "has_vertices": data.verts is not None,
        "regressor_pa_pjpe_mm": regressor_pa_pjpe_mm(data, regressor, n_images=n_images),
    }


def protocol(export: Path, root: Root) -> str:
    """How the figures are to be read, in one line."""
    ranges = ", ".join(f"{low:g}-{high:g}" for low, high in AUC_RANGES_MM)
    digest = sha256_of(export / HAND_NAME)[:12]
    return (
        f"root {root} ({ROOT_SENTENCES[root]}); joints regressed from the mesh by {HAND_NAME} "
        f"{digest}; PJPE in the camera frame, no root subtracted; PA by a similarity with a proper rotation; "
        f"F of aligned meshes; AUC of PA-PJPE over {ranges} mm"
    )
