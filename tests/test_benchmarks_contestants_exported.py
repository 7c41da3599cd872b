import dataclasses
import shutil
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from linear_hand import SIDE, make_manifest, save_export_with_checkpoint, save_onnx

from benchmarks.contestants.exported import REFERENCE, Contestant, exported_key, installed_runners, open_contestants
from cliphand.errors import InputError
from cliphand.hand import HandTopology
from engines.artefact.manifest import Manifest, describe, read_manifest, write_manifest


@pytest.fixture
def export(tmp_path: Path, hand_topology: HandTopology, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An export folder with its checkpoint, whose model is `LinearHand`."""
    return save_export_with_checkpoint(tmp_path / "export", hand_topology, monkeypatch)


def opened(
    export: Path, stack: ExitStack, *, manifest: Manifest | None = None, checkpoint: Path | None = None
) -> tuple[dict[str, Contestant], tuple[str, ...]]:
    return open_contestants(export, manifest or read_manifest(export), stack, threads=1, checkpoint=checkpoint)


def test_pytorch_comes_first_and_every_model_file_after_it(export: Path, stack: ExitStack) -> None:
    contestants, omitted = opened(export, stack)
    assert list(contestants) == [REFERENCE, "model.onnx"]
    assert [contestant.engine.name for contestant in contestants.values()] == ["pytorch", "onnxruntime"]
    assert omitted == ()
    assert exported_key(contestants) == "model.onnx"


def test_sizes_are_the_files_and_for_pytorch_the_weights(export: Path, stack: ExitStack) -> None:
    contestants, _ = opened(export, stack)
    assert contestants["model.onnx"].size_mb == (export / "model.onnx").stat().st_size / 1e6
    # A matrix (3, n) and an offset (n,) of float32 for 21 and 778 points of 3 coordinates.
    assert contestants[REFERENCE].size_mb == 4 * 4 * 3 * (21 + 778) / 1e6


def test_engines_are_closed_with_the_stack(export: Path) -> None:
    with ExitStack() as stack:
        engine = opened(export, stack)[0]["model.onnx"].engine
    with pytest.raises(RuntimeError, match="closed"):
        engine(np.zeros((1, 3, SIDE, SIDE), np.float32))


def test_a_missing_checkpoint_is_an_omission_that_is_stated(export: Path, stack: ExitStack) -> None:
    (export / "checkpoint").rmdir()
    contestants, omitted = opened(export, stack)
    assert list(contestants) == ["model.onnx"]
    assert omitted == (
        f"PyTorch is left out: its checkpoint {export / 'checkpoint'} does not exist; name it with --checkpoint",
    )


def test_a_checkpoint_named_by_hand_must_exist(export: Path, stack: ExitStack) -> None:
    with pytest.raises(InputError, match=r"elsewhere does not exist; give the checkpoint that was exported"):
        opened(export, stack, checkpoint=export / "elsewhere")


def test_a_checkpoint_named_by_hand_is_used(export: Path, stack: ExitStack) -> None:
    shutil.move(export / "checkpoint", export.parent / "moved")
    contestants, _ = opened(export, stack, checkpoint=export.parent / "moved")
    assert contestants[REFERENCE].artefact == str(export.parent / "moved")


def test_another_checkpoint_than_the_exported_one_is_refused(export: Path, stack: ExitStack) -> None:
    manifest = read_manifest(export)
    other = dataclasses.replace(manifest, checkpoint=dataclasses.replace(manifest.checkpoint, sha256="0" * 64))
    with pytest.raises(InputError, match=r"is not the checkpoint that was exported \(sha256 c0ffee.*, not 0000"):
        opened(export, stack, manifest=other)


def test_a_model_file_in_place_of_a_checkpoint_is_refused(export: Path, stack: ExitStack) -> None:
    with pytest.raises(InputError, match=r"model\.onnx is not a checkpoint"):
        opened(export, stack, checkpoint=export / "model.onnx")


def test_without_torch_its_absence_is_stated(export: Path, stack: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engines.host.available.is_installed", lambda name: name != "torch")
    assert opened(export, stack)[1][0].startswith("PyTorch is left out: torch not installed: `pip install")


def test_a_file_that_nothing_here_runs_is_an_omission_that_is_stated(export: Path, stack: ExitStack) -> None:
    shutil.copy(export / "model.onnx", export / "model.engine")
    manifest = make_manifest(export, {"model.onnx": "fp32", "model.engine": "fp16"})
    contestants, omitted = opened(export, stack, manifest=manifest)
    assert "model.engine" not in contestants
    assert omitted == ("model.engine is left out: no engine here runs '.engine' files",)


def test_nothing_to_run_is_an_error(export: Path, stack: ExitStack) -> None:
    (export / "checkpoint").rmdir()
    with pytest.raises(InputError, match=r"nothing in .* can be run here"):
        opened(export, stack, manifest=make_manifest(export, {}))


def test_a_listed_file_that_is_gone_is_named(export: Path, stack: ExitStack) -> None:
    (export / "model.onnx").unlink()
    with pytest.raises(InputError, match=r"model\.onnx does not exist"):
        opened(export, stack)


def test_a_precision_is_the_manifests(export: Path, stack: ExitStack) -> None:
    save_onnx(export / "model.int8.onnx")
    manifest = make_manifest(export, {"model.onnx": "fp32"})
    artefacts = manifest.artefacts | {"model.int8.onnx": describe(export / "model.int8.onnx", precision="int8")}
    both = dataclasses.replace(manifest, artefacts=artefacts)
    write_manifest(both, export)
    contestants, _ = opened(export, stack)
    assert [contestant.engine.precision for contestant in contestants.values()] == ["fp32", "fp32", "int8"]


RUNNERS = ("onnxruntime", "openvino", "openvino-reduced")


def test_each_graph_runs_in_every_engine_asked_for(export: Path, stack: ExitStack) -> None:
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    save_onnx(export / "model.fp16.onnx")
    write_manifest(make_manifest(export, {"model.onnx": "fp32", "model.fp16.onnx": "fp16"}), export)
    contestants, omitted = open_contestants(
        export, read_manifest(export), stack, threads=1, checkpoint=None, runners=RUNNERS
    )
    found = {key: contestant.engine.name for key, contestant in contestants.items()}
    reduced = found.pop("model.onnx, openvino-reduced", None)
    assert reduced == "openvino" or "no reduced precision" in omitted[0]
    # An FP16 graph in OpenVINO would only be another row of FP32 or bfloat16.
    assert found == {
        REFERENCE: "pytorch",
        "model.onnx": "onnxruntime",
        "model.onnx, openvino": "openvino",
        "model.fp16.onnx": "onnxruntime",
    }


def test_an_engine_that_is_not_installed_is_an_omission(
    export: Path, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engines.host.available.is_installed", lambda name: name != "openvino")
    monkeypatch.setattr("benchmarks.contestants.exported.find_gpu", lambda: "there is no NVIDIA GPU")
    assert installed_runners() == ("onnxruntime",)
    _, omitted = open_contestants(export, read_manifest(export), stack, threads=1, checkpoint=None, runners=RUNNERS[:2])
    assert omitted[0].startswith("model.onnx, openvino is left out: openvino not installed: `pip install")


def test_a_rejected_graph_runs_only_where_it_is_asked_for(export: Path, stack: ExitStack) -> None:
    name = "model.int8.onnx.rejected"
    save_onnx(export / name)
    manifest = make_manifest(export, {"model.onnx": "fp32", name: "int8"})
    write_manifest(manifest, export)
    contestants, omitted = opened(export, stack, manifest=manifest)
    assert name not in contestants
    assert omitted == (f"{name} is left out: it failed the gate in millimetres; --rejected runs it nevertheless",)
    contestants, omitted = open_contestants(export, manifest, stack, threads=1, checkpoint=None, rejected=True)
    assert contestants[name].engine.precision == "int8"
    assert omitted == ()


def test_a_package_of_native_code_is_left_out_until_it_is_trusted(export: Path, stack: ExitStack) -> None:
    (export / "model.pt2").write_bytes(b"native code")
    manifest = make_manifest(export, {"model.onnx": "fp32", "model.pt2": "fp32"})
    write_manifest(manifest, export)
    contestants, omitted = open_contestants(export, manifest, stack, threads=1, checkpoint=None)
    assert "model.pt2" not in contestants
    assert any(
        text.startswith("model.pt2 is left out: it brings native code, which opening it runs") for text in omitted
    )
    with pytest.raises(InputError, match=r"model\.pt2 is not an AOTInductor package"):
        open_contestants(export, manifest, stack, threads=1, checkpoint=None, trust=True)
