"""OpenVINO follows the engine protocol, computes FP32 in FP32 and INT8 graphs as ONNX Runtime does."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from linear_hand import SIDE, expected, save_onnx
from onnx import TensorProto
from planted_graphs import images, save_planted

from cliphand.errors import InputError
from engines.openvino_cpu import OpenVinoEngine, load
from engines.ort import OrtEngine
from export.quantise import calibrate, write_quantised

pytest.importorskip("openvino", reason="OpenVINO is not installed")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_onnx(tmp_path_factory.mktemp("openvino") / "model.onnx")


def pictures(count: int) -> np.ndarray:
    return np.random.default_rng(count).normal(size=(count, 3, SIDE, SIDE)).astype(np.float32)


@pytest.mark.parametrize("batch", [1, 3])
def test_outputs_are_the_graphs_at_any_batch(model: Path, batch: int) -> None:
    with OpenVinoEngine(model, threads=1) as engine:
        output = engine(pictures(batch))
    for name, value in (("joints_uvd", output.joints_uvd), ("verts_uvd", output.verts_uvd)):
        assert value.dtype == np.float32
        # bfloat16, which OpenVINO takes unless told otherwise, would be off by 1e-3.
        np.testing.assert_allclose(value, expected(pictures(batch), name), atol=2e-6)


def test_an_output_stays_the_callers_after_the_next_call(model: Path) -> None:
    with OpenVinoEngine(model, threads=1) as engine:
        first = engine(pictures(2))
        kept = first.verts_uvd.copy()
        engine(-pictures(2))
    np.testing.assert_array_equal(first.verts_uvd, kept)


def test_the_hint_that_forbids_bfloat16_is_set(model: Path) -> None:
    with OpenVinoEngine(model, threads=1) as engine:
        assert engine._request is not None
        compiled = engine._request.get_compiled_model()
        assert compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name() == "f32"
        assert compiled.get_property("INFERENCE_NUM_THREADS") == 1


@pytest.mark.parametrize("rest", ["fp32", "fp16"])
def test_an_int8_graph_is_as_near_to_fp32_as_in_onnx_runtime(tmp_path: Path, rest: str) -> None:
    source, calibrated, path = (tmp_path / f"{name}.onnx" for name in ("model", "calibrated", "int8"))
    save_planted(source)
    calibrate(source, calibrated, keep=(), images=images(2), method="max")
    write_quantised(calibrated, path, unquantise=(), rest=rest, keep_fp32=(), image=images(1))
    with (
        OpenVinoEngine(path, precision="int8", threads=1) as ours,
        OrtEngine(path) as theirs,
        OrtEngine(source) as exact,
    ):
        found = [engine(images(3)).verts_uvd for engine in (ours, theirs, exact)]
        assert (ours.name, ours.precision, ours.input_size) == ("openvino", "int8", 32)
    ours_error, theirs_error = (np.sqrt(np.square(value - found[2]).mean()) for value in found[:2])
    assert 0 < ours_error < 1.5 * theirs_error


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"joints": "joints"}, "has outputs"),
        ({"image": "picture"}, "has inputs"),
        ({"batch": 1}, "'image' is f32"),
        ({"element": TensorProto.FLOAT16}, "is f16"),
    ],
)
def test_a_graph_with_other_tensors_is_refused(tmp_path: Path, change: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        OpenVinoEngine(save_onnx(tmp_path / "model.onnx", **change))


def test_a_file_that_is_no_graph_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"\x00no graph")
    with pytest.raises(InputError, match="cannot be run by OpenVINO"):
        OpenVinoEngine(path)
    with pytest.raises(InputError, match="does not exist"):
        OpenVinoEngine(tmp_path / "none.onnx")


def test_a_wrong_batch_is_refused_before_it_runs(model: Path) -> None:
    with OpenVinoEngine(model, threads=1) as engine, pytest.raises(InputError, match="this engine takes"):
        engine(np.zeros((1, 3, 64, 64), np.float32))


def test_a_closed_engine_says_so(model: Path) -> None:
    engine = load(model, precision="fp32", threads=1)
    engine.close()
    with pytest.raises(RuntimeError, match="closed"):
        engine(pictures(1))


def test_without_openvino_one_sentence_says_what_to_install(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(InputError, match=r"pip install 'cliphand\[openvino\]'"):
        OpenVinoEngine(model)


def test_it_needs_no_torch() -> None:
    code = "import sys, engines.openvino_cpu; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
