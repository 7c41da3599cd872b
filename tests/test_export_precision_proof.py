"""Proof of precision: what TensorRT's parser and builder, and the file's weights, say a graph is."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from planted_graphs import images, save_planted

from cliphand.errors import InputError
from export.precision.half import write_half
from export.precision.proof import check_weights, prove, weight_bytes
from export.precision.quantise import calibrate, write_quantised

NEEDS_TENSORRT = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None, reason="TensorRT for RTX is not installed"
)


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("proof")
    paths = {name: folder / f"{name}.onnx" for name in ("fp32", "fp16", "int8", "calibrated", "static")}
    source = save_planted(paths["fp32"])
    write_half(source, paths["fp16"], keep=["heatmap/third/Conv"], image=images(1))
    calibrate(source, paths["calibrated"], keep=(), images=images(2), method="max")
    write_quantised(paths["calibrated"], paths["int8"], unquantise=(), rest="fp16", keep_fp32=(), image=images(1))
    return paths


@NEEDS_TENSORRT
def test_the_fp16_graph_is_half_but_for_what_is_kept(graphs: dict[str, Path]) -> None:
    proof = prove(graphs["fp16"], "fp16")
    assert proof.layers["CONVOLUTION HALF"] == 2
    assert proof.layers["CONVOLUTION FLOAT"] == 1
    assert proof.plan_bytes > 10_000
    assert proof.tensorrt is not None


@NEEDS_TENSORRT
def test_the_int8_graphs_convolutions_are_int8(graphs: dict[str, Path]) -> None:
    proof = prove(graphs["int8"], "int8")
    assert proof.layers["CONVOLUTION INT8"] == 3
    assert "CONVOLUTION HALF" not in proof.layers
    assert proof.weight_bytes["INT8"] > proof.weight_bytes["FLOAT16"]


@NEEDS_TENSORRT
@pytest.mark.parametrize(("given", "called"), [("fp32", "fp16"), ("fp16", "int8"), ("fp32", "int8"), ("fp16", "fp32")])
def test_a_graph_under_another_precisions_name_is_refused(graphs: dict[str, Path], given: str, called: str) -> None:
    with pytest.raises(InputError, match=f"is called {called}, but"):
        prove(graphs[given], called)


@NEEDS_TENSORRT
def test_layers_of_another_type_are_refused_whatever_the_weights_are(
    graphs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("export.precision.proof.check_weights", lambda *_, **__: None)
    with pytest.raises(InputError, match="is called fp16, but TensorRT sees"):
        prove(graphs["fp32"], "fp16")


QUANTIZE_STATIC = """
import sys
import numpy as np
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

class Reader(CalibrationDataReader):
    left = [{"image": np.random.default_rng(0).uniform(-1, 1, (1, 3, 32, 32)).astype(np.float32)}]
    def get_next(self):
        return self.left.pop() if self.left else None

quantize_static(
    sys.argv[1], sys.argv[2], Reader(), quant_format=QuantFormat.QDQ, activation_type=QuantType.QInt8,
    weight_type=QuantType.QInt8, extra_options={"ActivationSymmetric": True, "WeightSymmetric": True},
)
"""


@NEEDS_TENSORRT
def test_an_int32_bias_runs_in_onnx_runtime_and_is_refused_in_tensorrts_words(graphs: dict[str, Path]) -> None:
    # In a process of its own, for ModelOpt changes ONNX Runtime's quantiser for the rest of this one.
    command = [sys.executable, "-c", QUANTIZE_STATIC, str(graphs["fp32"]), str(graphs["static"])]
    subprocess.run(command, check=True, capture_output=True)
    assert onnx.TensorProto.INT32 in {constant.data_type for constant in onnx.load(graphs["static"]).graph.initializer}
    session = onnxruntime.InferenceSession(str(graphs["static"]))
    assert np.isfinite(session.run(None, {"image": images(1)})[0]).all()
    with pytest.raises(InputError, match=r"TensorRT for RTX .* rejects .*Int32"):
        prove(graphs["static"], "int8")


def test_weight_bytes_leave_shapes_out(graphs: dict[str, Path]) -> None:
    counted = weight_bytes(onnx.load(graphs["fp32"]).graph)
    assert set(counted) == {"FLOAT"}
    constants = [onnx.numpy_helper.to_array(constant) for constant in onnx.load(graphs["fp32"]).graph.initializer]
    assert counted["FLOAT"] == sum(array.nbytes for array in constants if array.dtype == np.float32)


def test_half_of_the_numbers_must_be_of_the_type() -> None:
    check_weights("fp16", {"FLOAT": 400, "FLOAT16": 200}, source="a")
    with pytest.raises(InputError, match=r"50%|49%"):
        check_weights("fp16", {"FLOAT": 404, "FLOAT16": 200}, source="a")
    with pytest.raises(InputError, match="0% of its weights are INT8"):
        check_weights("int8", {"FLOAT": 400}, source="a")


def test_without_tensorrt_the_weights_alone_are_counted(
    graphs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("export.precision.proof.why_not_built", lambda _: "tensorrt_rtx is not installed")
    proof = prove(graphs["fp16"], "fp16")
    assert (proof.tensorrt, proof.layers, proof.plan_bytes) == (None, {}, 0)
    with pytest.raises(InputError, match="is called int8"):
        prove(graphs["fp16"], "int8")
