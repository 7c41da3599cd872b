import dataclasses
from pathlib import Path

import pytest
from linear_hand import SIDE, make_manifest, save_onnx

from cliphand.errors import InputError
from engines.artefact.manifest import write_manifest
from engines.open import open_engine


def test_an_onnx_file_opens_in_onnx_runtime(tmp_path: Path) -> None:
    with open_engine(save_onnx(tmp_path / "model.onnx")) as engine:
        assert (engine.name, engine.precision, engine.input_size) == ("onnxruntime", "unstated", SIDE)


def test_the_manifest_beside_it_states_the_precision(tmp_path: Path) -> None:
    save_onnx(tmp_path / "model.fp16.onnx")
    write_manifest(make_manifest(tmp_path, {"model.fp16.onnx": "fp16"}), tmp_path)
    with open_engine(tmp_path / "model.fp16.onnx", threads=1) as engine:
        assert engine.precision == "fp16"


def test_a_file_that_was_replaced_after_the_export_is_refused(tmp_path: Path) -> None:
    save_onnx(tmp_path / "model.onnx")
    write_manifest(make_manifest(tmp_path, {"model.onnx": "fp32"}), tmp_path)
    save_onnx(tmp_path / "model.onnx", seed=1)
    with pytest.raises(InputError, match=r"is not the file that manifest\.json describes"):
        open_engine(tmp_path / "model.onnx")


def test_a_graph_for_another_crop_than_the_manifest_says_is_refused(tmp_path: Path) -> None:
    save_onnx(tmp_path / "model.onnx", side=64)
    write_manifest(make_manifest(tmp_path, {"model.onnx": "fp32"}), tmp_path)
    with pytest.raises(InputError, match=r"takes crops of 64 px but manifest\.json says 32"):
        open_engine(tmp_path / "model.onnx")


def test_a_file_no_engine_runs_is_refused_with_the_valid_endings(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ends in '\.tflite'; engines run \.onnx, \.plan, \.pt2, \.safetensors and"):
        open_engine(tmp_path / "model.tflite")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"best\.safetensors does not exist"):
        open_engine(tmp_path / "best.safetensors")


def test_no_threads_are_too_few(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="threads is 0; it must be at least 1"):
        open_engine(save_onnx(tmp_path / "model.onnx"), threads=0)


def test_a_folder_is_taken_for_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a checkpoint"):
        open_engine(tmp_path)


def test_a_manifest_of_another_export_is_no_help(tmp_path: Path) -> None:
    save_onnx(tmp_path / "model.onnx")
    manifest = make_manifest(tmp_path, {"model.onnx": "fp32"})
    write_manifest(dataclasses.replace(manifest, artefacts={}), tmp_path)
    with pytest.raises(InputError, match=r"model\.onnx is not in the manifest\.json"):
        open_engine(tmp_path / "model.onnx")


def test_an_engine_is_chosen_by_name(tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    path = save_onnx(tmp_path / "model.onnx")
    for name in ("onnxruntime", "openvino"):
        with open_engine(path, engine=name, threads=1) as engine:
            assert engine.name == name


def test_an_engine_that_does_not_run_such_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"does not run in 'tensorrt'; engines for it are onnxruntime, onnxr"):
        open_engine(save_onnx(tmp_path / "model.onnx"), engine="tensorrt")


def test_a_rejected_graph_opens_only_where_it_is_asked_for(tmp_path: Path) -> None:
    path = save_onnx(tmp_path / "model.int8.onnx.rejected")
    write_manifest(make_manifest(tmp_path, {path.name: "int8"}), tmp_path)
    with pytest.raises(InputError, match="failed the gate"):
        open_engine(path)
    with open_engine(path, rejected=True, threads=1) as engine:
        assert (engine.name, engine.precision) == ("onnxruntime", "int8")


def test_a_cache_reaches_the_engine_that_can_keep_one(tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    path, cache = save_onnx(tmp_path / "model.onnx"), tmp_path / "cache"
    for name in ("onnxruntime", "openvino"):
        open_engine(path, engine=name, threads=1, cache=cache).close()
        assert cache.exists() == (name == "openvino")


def test_a_package_of_native_code_is_opened_only_where_it_is_trusted(tmp_path: Path) -> None:
    package = tmp_path / "model.pt2"
    package.write_bytes(b"native code")
    with pytest.raises(InputError, match=r"model\.pt2 is a package of AOTInductor: it brings native code.* --trust"):
        open_engine(package)
    with pytest.raises(InputError, match=r"model\.pt2 is not an AOTInductor package"):
        open_engine(package, trust=True)
