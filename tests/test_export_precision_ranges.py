"""The range report: the largest magnitude of each tensor over all images, against FP16's range."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from planted_graphs import OVERFLOW, images, save_planted

from export.precision.ranges import TensorRange, measure_ranges


def test_each_tensors_largest_magnitude_is_found_over_all_batches(tmp_path: Path) -> None:
    source = save_planted(tmp_path / "model.onnx")
    seen = images(9)  # three batches, the last not full
    found = {entry.tensor: entry.largest for entry in measure_ranges(source, seen)}
    graph = onnx.load(source)
    names = [node.output[0] for node in graph.graph.node]
    del graph.graph.output[:]
    graph.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    for name, value in zip(names, session.run(None, {"image": seen}), strict=True):
        assert found[name] == pytest.approx(np.abs(value).max(), rel=1e-5)
    assert set(found) == set(names)


def test_the_largest_comes_first_with_the_node_that_makes_it(tmp_path: Path) -> None:
    found = measure_ranges(save_planted(tmp_path / "model.onnx", overflow=True), images(2))
    assert found[0].node == OVERFLOW[0]
    assert found[0].risky
    assert [entry.node for entry in found if entry.risky] == [OVERFLOW[0]]


@pytest.mark.parametrize(("largest", "risky"), [(16376.0, False), (16377.0, True), (float("inf"), True), (0.0, False)])
def test_a_quarter_of_fp16s_range_is_the_limit(largest: float, risky: bool) -> None:
    assert TensorRange("t", "n", largest).risky is risky
