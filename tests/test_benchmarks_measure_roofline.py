"""The processor's own limit, and what share of it a call uses."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from benchmarks.measure import roofline
from benchmarks.measure.roofline import Roofline, chain, is_told_by, measure_roofline
from export.graph.inventory import inventory, total


def test_the_chains_flop_are_what_the_inventory_counts() -> None:
    assert total(inventory(chain(int8=False))).gflop == pytest.approx(roofline.GFLOP)


def test_the_int8_chain_is_convolutions_of_int8_and_nothing_else_of_weight() -> None:
    graph = chain(int8=True).graph
    dequantised = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert len(convolutions) == roofline.DEPTH
    assert all(set(node.input) <= dequantised for node in convolutions)
    stored = {tensor.data_type for tensor in graph.initializer if len(tensor.dims) == 4}
    assert stored == {onnx.TensorProto.INT8}


def test_both_chains_compute_something(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("CHANNELS", 3), ("SIDE", 5), ("DEPTH", 2)):
        monkeypatch.setattr(roofline, name, value)
    image = np.random.default_rng(0).normal(size=(1, 3, 5, 5)).astype(np.float32)
    for int8 in (False, True):
        model = chain(int8=int8)
        session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        (found,) = session.run(None, {"x0": image})
        assert found.shape == image.shape
        assert np.isfinite(found).all()
        assert found.max() > 0


def test_a_share_is_work_over_time_over_the_roof_of_the_products_precision() -> None:
    roofline = Roofline({"fp32": 200.0, "int8": 800.0}, 2)
    assert roofline.share("fp32", gflop=10.0, latency_ms=100.0) == pytest.approx(0.5)
    assert roofline.share("int8-bf16", gflop=10.0, latency_ms=100.0) == pytest.approx(0.125)
    assert roofline.share("fp16", gflop=10.0, latency_ms=100.0) is None


def test_any_engine_of_openvino_asks_for_the_roof() -> None:
    assert is_told_by(("onnxruntime", "openvino-reduced"))
    assert is_told_by(("openvino",))
    assert not is_told_by(("onnxruntime",))


def test_the_roof_is_measured_in_fp32_and_int8(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setattr(roofline, "SETTINGS", roofline.SpeedSettings(warmup_calls=1, calls=8, seconds=0.3))
    found = measure_roofline(1)
    assert found.threads == 1
    assert {"fp32", "int8"} <= set(found.gflop_per_s)
    assert min(found.gflop_per_s.values()) > 0  # which is the higher one is the processor's affair
