"""An export folder with its typed graphs: accepted or rejected, listed, proven, and told in parity.json."""

import io
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from planted_graphs import OUTLIER, planted_workshop, request_on, save_planted_export
from rich.console import Console

from cliphand.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from cliphand.cli.parity_table import print_parity
from cliphand.config import CropConfig, ModelConfig
from cliphand.errors import InputError
from cliphand.files import sha256_of
from cliphand.hand import HandTopology
from cliphand.model.hand_model import HandModel, level_templates
from cliphand.progress import Progress
from engines.artefact.manifest import Manifest, read_manifest
from engines.open import open_engine
from engines.runtimes.ort import OrtEngine
from export.folder.contents import EXPORT
from export.folder.write import export_checkpoint
from export.gate.parity import TOLERANCES, Tolerance
from export.precision.proof import Proof
from export.precision.request import TypedRequest
from export.precision.table import TABLE, Keep
from export.precision.typed_graphs import ParityReport, write_typed_graphs
from export.precision.workshop import Workshop, open_workshop

KEYS = {
    "artefact",
    "engine",
    "precision",
    "images",
    "pa_pjpe_mm",
    "reference_pa_pjpe_mm",
    "delta_pa_pjpe_mm",
    "delta_pa_pvpe_mm",
    "vertex_distance_mm",
    "passed",
}


@pytest.fixture(scope="module")
def data(freihand_folder: Callable[..., Path]) -> Path:
    return freihand_folder(n_labels=4, size_px=96)


@pytest.fixture(autouse=True, scope="module")
def planted(hand_topology: HandTopology) -> Iterator[None]:
    """A small graph in ONNX Runtime stands for the checkpoint in PyTorch; the last test has the real thing."""

    @contextmanager
    def open_planted(
        folder: Path, manifest: Manifest, checkpoint: Checkpoint | None, request: TypedRequest, progress: Progress
    ) -> Iterator[Workshop]:
        with planted_workshop(folder, hand_topology, request) as workshop:
            yield workshop

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("export.precision.typed_graphs.open_workshop", open_planted)
        yield


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory, hand_topology: HandTopology) -> Path:
    """An export with the FP32 graph alone."""
    return save_planted_export(tmp_path_factory.mktemp("typed") / "export", hand_topology)


def write(
    folder: Path, data: Path, *precisions: str, checkpoint: Checkpoint | None = None, **changes: object
) -> ParityReport:
    request = request_on(data, precisions=precisions, **({"search_s": 0.0} | changes))
    return write_typed_graphs(folder, checkpoint, request, lambda *_: None)


@pytest.fixture(scope="module")
def written(fresh: Path, data: Path) -> tuple[Path, ParityReport]:
    folder = fresh.parent / "written"
    shutil.copytree(fresh, folder)
    return folder, write(folder, data, "fp16", "int8")


def test_graphs_are_written_and_listed_as_what_they_are(written: tuple[Path, ParityReport]) -> None:
    folder, report = written
    assert report.passed
    manifest = read_manifest(folder)
    assert {name: entry.precision for name, entry in manifest.artefacts.items()} == {
        "model.onnx": "fp32",
        "model.fp16.onnx": "fp16",
        "model.int8.onnx": "int8",
    }
    for name in manifest.artefacts:
        open_engine(folder / name).close()  # compares the hash
    assert not list(folder.glob(".*"))
    assert EXPORT.foreign(folder) == []  # the next export may replace all of it


def test_parity_json_holds_a_row_for_each_graph_and_engine(written: tuple[Path, ParityReport]) -> None:
    folder, report = written
    content = json.loads((folder / "parity.json").read_text())
    rows = {(row["artefact"], row["engine"]) for row in content["rows"]}
    assert {("model.onnx", "onnxruntime"), ("model.fp16.onnx", "onnxruntime"), ("model.int8.onnx", "openvino")} <= rows
    for row in content["rows"]:
        assert set(row) >= KEYS
        assert set(row["vertex_distance_mm"]) == {"mean", "median", "p99", "max"}
        assert row["passed"] is True
        assert row["images"] == 4
        assert row["sha256"] == sha256_of(folder / row["artefact"])
    assert content["calibration"]["split"] == "training"
    assert len(content["calibration"]["sha256"]) == 64
    assert content["passed"] is True
    assert len(report.verdicts) == 3


def test_the_proof_and_the_kept_nodes_are_told(written: tuple[Path, ParityReport]) -> None:
    content = json.loads((written[0] / "parity.json").read_text())
    half, whole = content["artefacts"]["model.fp16.onnx"], content["artefacts"]["model.int8.onnx"]
    assert half["kept"]["outputs"] == ["mesh_regressor/joints_uvd/Reshape", "mesh_regressor/verts_uvd/Reshape"]
    assert half["proof"]["layers"]["CONVOLUTION HALF"] == 3
    assert whole["proof"]["layers"]["CONVOLUTION INT8"] == 3
    assert 0.5 < whole["int8_ranges"]["image"] <= 1
    assert {entry["node"] for entry in content["ranges"]} >= {"encoder/first/Conv", "mesh_regressor/MatMul"}


def test_what_is_printed_says_how_few_images_judged_and_what_emulated_means(
    written: tuple[Path, ParityReport],
) -> None:
    print_parity(written[1], Console(file=(printed := io.StringIO()), width=200))
    said = printed.getvalue()
    count = written[1].verdicts[0].rows[0].images
    assert f"\nCompared on {count} images; under 50 images a gate says little.\n" in said
    assert "onnxruntime int8, FP16 emulated" in said
    assert "\nFP16 emulated: ONNX Runtime computes FP16 nodes of a graph in FP32 on a CPU; there every" in said


def test_the_fp16_file_is_half_of_the_fp32_file(written: tuple[Path, ParityReport]) -> None:
    sizes = {name: entry.bytes for name, entry in read_manifest(written[0]).artefacts.items()}
    assert sizes["model.fp16.onnx"] < 0.6 * sizes["model.onnx"]


def test_the_same_request_gives_the_same_bytes(
    written: tuple[Path, ParityReport], fresh: Path, data: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(fresh, tmp_path / "export")
    write(folder, data, "fp16", "int8")
    for name in ("model.fp16.onnx", "model.int8.onnx"):
        assert (folder / name).read_bytes() == (written[0] / name).read_bytes()


def test_a_graph_outside_the_tolerance_is_set_aside_and_no_older_one_stays(
    fresh: Path, data: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(fresh, tmp_path / "export")
    assert write(folder, data, "fp16").passed
    strict = dict(TOLERANCES) | {"fp16": Tolerance(delta_mm=1e-9, p99_mm=1e-9)}
    report = write(folder, data, "fp16", tolerances=strict)
    assert not report.passed
    assert report.verdicts[1].name == "model.fp16.onnx.rejected"
    assert not (folder / "model.fp16.onnx").exists()
    assert set(read_manifest(folder).artefacts) == {"model.onnx", "model.fp16.onnx.rejected"}
    assert json.loads((folder / "parity.json").read_text())["passed"] is False
    assert write(folder, data, "fp16").passed
    assert not (folder / "model.fp16.onnx.rejected").exists()


def test_an_output_that_is_not_a_number_is_set_aside(
    fresh: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(fresh, tmp_path / "export")
    run = OrtEngine.__call__

    def spoilt(engine: OrtEngine, images: np.ndarray) -> object:
        output = run(engine, images)
        if engine.precision == "fp16":
            output.verts_uvd[0, 0, 0] = np.nan
        return output

    monkeypatch.setattr(OrtEngine, "__call__", spoilt)
    report = write(folder, data, "fp16")
    assert not report.passed
    rows = json.loads((folder / "parity.json").read_text())["rows"]
    assert [(row["passed"], row["pa_pjpe_mm"] is None) for row in rows if row["precision"] == "fp16"] == [
        (False, True),
        (False, True),
    ]


def test_kept_by_name_is_kept_and_told(fresh: Path, data: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(fresh, tmp_path / "export")
    report = write(folder, data, "fp16", keep=Keep(more=("heatmap/third",)))
    artefact = report.content["artefacts"]["model.fp16.onnx"]
    assert artefact["kept"]["heatmap/third"] == ["heatmap/third/Conv", "heatmap/third/Relu"]


def test_what_tensorrt_refuses_is_set_aside_with_its_words(
    fresh: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, precision: str, *, tensorrt: bool) -> Proof:
        raise InputError("TensorRT does not like it.")

    monkeypatch.setattr("export.precision.typed_graphs.prove", refuse)
    folder = shutil.copytree(fresh, tmp_path / "export")
    report = write(folder, data, "fp16")
    assert not report.passed
    assert report.verdicts[1].name == "model.fp16.onnx.rejected"
    assert report.content["artefacts"]["model.fp16.onnx.rejected"]["refusal"] == "TensorRT does not like it."


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory, hand_topology: HandTopology) -> Path:
    return save_planted_export(tmp_path_factory.mktemp("faulty") / "export", hand_topology, outlier=True)


def test_the_search_names_the_layer_and_leaves_the_rejected_graph_as_it_was(
    faulty: Path, data: Path, tmp_path: Path
) -> None:
    plain, searched = (shutil.copytree(faulty, tmp_path / name) for name in ("plain", "searched"))
    write(plain, data, "int8")
    report = write(searched, data, "int8", search_s=60.0)
    assert not report.passed
    name = "model.int8.onnx.rejected"
    assert (plain / name).read_bytes() == (searched / name).read_bytes()
    blame = json.loads((searched / "parity.json").read_text())["artefacts"][name]["blame"]
    assert blame["nodes"] == list(OUTLIER)
    assert [group["group"] for group in blame["groups"]] == ["encoder", "heatmap", "joint_regressor"]
    assert all(group["trial"]["latency_ms"] > 0 for group in blame["groups"])


def test_auto_keeps_what_the_search_blames(faulty: Path, data: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(faulty, tmp_path / "export")
    # Without the blamed convolution hardly half of this small graph's weights are INT8.
    report = write(folder, data, "int8", search_s=60.0, auto=True)
    assert all(row.within_tolerance for row in report.verdicts[1].rows)
    assert report.content["artefacts"][report.verdicts[1].name]["kept"]["blamed"] == list(OUTLIER)


MODEL = ModelConfig(
    backbone="test_resnet",
    input_size=64,
    lixel_channels=32,
    joint_feature=64,
    feature_sizes=(64, 48, 32, 24),
    depths=(1, 0, 0, 0),
    heads=(4, 4, 4, 4),
)


def test_a_real_model_passes_and_another_checkpoint_is_refused(
    tmp_path: Path, data: Path, hand_topology: HandTopology, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("export.precision.typed_graphs.open_workshop", open_workshop)
    torch.manual_seed(0)
    holder = torch.nn.Module()
    holder.hand = HandModel(MODEL, level_templates(hand_topology, MODEL.levels)).eval()
    facts = {
        "model_config": MODEL,
        "crop": CropConfig(rule="whole"),
        "topology": hand_topology,
        "train": None,
        "facts": {},
    }
    save_checkpoint(tmp_path / "checkpoint", model=holder, **facts)
    folder = tmp_path / "export"
    checkpoint = load_checkpoint(tmp_path / "checkpoint")
    export_checkpoint(checkpoint, folder, tensorrt=False)
    report = write(folder, data, "fp16", checkpoint=checkpoint)
    assert report.passed
    kept = report.content["artefacts"]["model.fp16.onnx"]["kept"]
    assert all(kept[rule.name] for rule in TABLE if "fp16" in rule.out_of)  # the table knows this model's names
    assert not list(folder.glob(".*"))
    assert EXPORT.foreign(folder) == []  # the next export may replace all of it

    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["checkpoint"]["sha256"] = "0" * 64
    path.write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="is not the checkpoint that"):
        write(folder, data, "fp16", checkpoint=checkpoint)
