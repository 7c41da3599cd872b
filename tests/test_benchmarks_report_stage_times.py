"""Every node's time goes to a stage."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from benchmarks.report import stage_times
from benchmarks.report.stage_times import share, stage_times_ms, sum_stages
from export.node_names import STAGES

OPSET = [helper.make_opsetid("", 18)]
CALL = [
    ("encoder/Conv_kernel_time", 100.0),
    ("encoder/Conv_fence_before", 999.0),
    ("ReorderOutput_kernel_time", 20.0),  # made by the run-time
    ("fused joint_regressor/MatMul_kernel_time", 30.0),
    ("BiasGelu_kernel_time", 7.0),
    ("mesh_regressor/Add_kernel_time", 3.0),
]


def test_nodes_without_a_stage_count_to_the_one_before_them() -> None:
    found = sum_stages(CALL)
    assert found == pytest.approx({"encoder": 0.12, "joint_regressor": 0.037, "heatmap": 0, "mesh_regressor": 0.003})
    assert share(found, "encoder") == pytest.approx(0.75)


def test_times_are_means_over_the_calls_after_the_warm_up() -> None:
    slow = [(name, time * 50) for name, time in CALL]
    doubled = [(name, time * 3) for name, time in CALL]
    found = sum_stages(slow * stage_times.WARM_UP_CALLS + CALL + doubled)
    assert found["encoder"] == pytest.approx(0.24)


def test_no_nodes_are_no_stages() -> None:
    assert sum_stages([]) == {}
    assert sum_stages([("BiasGelu_kernel_time", 1.0)]) == {}
    assert share({}, "encoder") == 0


def test_a_graph_spends_time_in_every_stage(tmp_path: Path) -> None:
    kinds = dict(zip(STAGES, ("Sigmoid", "Tanh", "Exp", "Relu"), strict=True))
    values = ["image", *STAGES]
    nodes = [
        helper.make_node(kind, [values[place]], [values[place + 1]], f"{stage}/{kind}")
        for place, (stage, kind) in enumerate(kinds.items())
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", 3, 64, 64]) for name in ("image", STAGES[-1])]
    model = helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:]), ir_version=10, opset_imports=OPSET)
    onnx.save(model, tmp_path / "model.onnx")
    found = stage_times_ms(tmp_path / "model.onnx", np.zeros((1, 3, 64, 64), np.float32), threads=1)
    assert set(found) == set(STAGES)
    assert min(found.values()) > 0
