"""Every node's time goes to a stage, or is told apart."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks.report import stage_times as module
from benchmarks.report.stage_times import (
    PROFILERS,
    StageTimes,
    mean_of_calls,
    mean_since,
    stage_times,
    sum_stages,
)
from cliphand.errors import InputError
from export.graph.node_names import STAGES

OPSET = [helper.make_opsetid("", 18)]
CALL = [
    ("encoder/Conv_kernel_time", 100.0),
    ("encoder/Conv_fence_before", 999.0),
    ("ReorderOutput_kernel_time", 20.0),  # made by the run-time
    ("fused joint_regressor/MatMul_kernel_time", 30.0),
    ("mesh_regressor/Add_kernel_time", 3.0),
]


def test_nodes_count_to_their_stage_and_those_without_one_to_none() -> None:
    stages, other = sum_stages(mean_of_calls(CALL))
    assert stages == pytest.approx({"encoder": 0.1, "joint_regressor": 0.03, "heatmap": 0, "mesh_regressor": 0.003})
    assert other == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("name", "stage"),
    [
        ("heatmap/Mul", "heatmap"),
        ("ConvolutionBackpropData_7,joint_regressor/upsample/0/ConvTranspose", "joint_regressor"),
        ("joint_regressor/Add,mesh_regressor/Add", "joint_regressor"),  # fused: the first part's
        ("mesh_regressor/from_encoder/Conv", "mesh_regressor"),
        ("MVN_12,", None),
    ],
)
def test_a_fused_node_counts_to_its_first_part(name: str, stage: str | None) -> None:
    stages, other = sum_stages([(name, 2.0)])
    assert (stages if stage else {None: other}).get(stage) == 2
    assert sum(stages.values()) + other == 2


def test_times_are_means_over_the_calls_after_the_warm_up() -> None:
    slow = [(name, time_us * 50) for name, time_us in CALL]
    doubled = [(name, time_us * 3) for name, time_us in CALL]
    stages, other = sum_stages(mean_of_calls(slow * module.WARM_UP_CALLS + CALL + doubled))
    assert stages["encoder"] == pytest.approx(0.2)
    assert other == pytest.approx(0.04)


def test_the_sum_holds_what_names_no_stage() -> None:
    times = StageTimes("model.onnx", "openvino", {"encoder": 3.0, "heatmap": 1.0}, 0.5, 5.0)
    assert (times.sum_ms, times.label) == (4.5, "model.onnx in openvino")


def save_chain(path: Path, names: tuple[str, ...]) -> Path:
    """A graph of one convolution for each name; OpenVINO gives the transposed one, the second, a name of its own."""
    constants = {"weight": np.full((3, 3, 3, 3), 0.1, np.float32), "bias": np.ones(3, np.float32)}
    kinds = ["ConvTranspose" if place == 1 else "Conv" for place in range(len(names))]
    # As in an export, a value has its node's name: ONNX Runtime names what it makes of a node after either.
    values = ["image", *(f"{name}/{kind}" for name, kind in zip(names, kinds, strict=True))]
    nodes = [
        helper.make_node(kind, [values[place], *constants], [values[place + 1]], values[place + 1], pads=[1, 1, 1, 1])
        for place, kind in enumerate(kinds)
    ]
    shape = ["B", 3, 64, 64]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in (values[0], values[-1])]
    weights = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], weights)
    onnx.save(helper.make_model(graph, ir_version=10, opset_imports=OPSET), path)
    return path


@pytest.mark.parametrize("engine", PROFILERS)
def test_a_graph_spends_time_in_every_stage_and_the_nodes_together_no_more_than_the_call(
    tmp_path: Path, engine: str
) -> None:
    pytest.importorskip(engine, reason="not installed")
    graph = save_chain(tmp_path / "model.onnx", STAGES)
    (found,) = stage_times(graph, np.zeros((1, 3, 64, 64), np.float32), engines=[engine], threads=1)
    assert set(found.stages_ms) == set(STAGES)
    assert min(found.stages_ms.values()) > 0
    assert found.sum_ms <= 1.05 * found.whole_ms  # the profile counts whole microseconds
    assert found.engine == engine


def test_a_graph_that_names_no_stage_has_no_times(tmp_path: Path) -> None:
    graph = save_chain(tmp_path / "model.onnx", ("first", "second"))
    assert stage_times(graph, np.zeros((1, 3, 64, 64), np.float32), engines=PROFILERS) == ()


def test_a_graph_that_openvino_refuses_is_one_sentence(tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="not installed")
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(InputError, match="is not an ONNX graph"):
        stage_times(tmp_path / "model.onnx", np.zeros((1, 3, 64, 64), np.float32), engines=["openvino"])


def test_the_calls_that_warm_up_are_in_no_mean() -> None:
    warm, timed = 50.0, 2.0
    calls = module.WARM_UP_CALLS + module.PROFILED_CALLS
    mean = (warm * module.WARM_UP_CALLS + timed * module.PROFILED_CALLS) / calls
    assert mean_since([("a", warm), ("b", 1.0)], [("a", mean), ("b", 0.1)]) == [("a", pytest.approx(2)), ("b", 0)]
    noted: list[int] = []
    seen: list[None] = []
    module._time(lambda: seen.append(None), warmed=lambda: noted.append(len(seen)))
    assert (noted, len(seen)) == ([module.WARM_UP_CALLS], calls)


def test_openvino_tells_means_over_all_calls() -> None:
    """What `mean_since` builds upon."""
    openvino = pytest.importorskip("openvino", reason="not installed")
    value = openvino.opset13.parameter([-1, 1 << 16], np.float32)
    model = openvino.Model([openvino.opset13.exp(openvino.opset13.sqrt(value))], [value])
    request = openvino.Core().compile_model(model, "CPU", {"PERF_COUNT": True}).create_infer_request()
    told_s = []
    for batch in (1, 256, 1):
        request.infer([np.ones((batch, 1 << 16), np.float32)])
        told_s.append(sum(node.real_time.total_seconds() for node in request.profiling_info))
    # The last call has a two-hundredth of the work: told alone it would be far below, in a sum it would add. The mean
    # of three is at least two thirds of that of the first two, and below it where the last is shorter than that.
    assert told_s[1] / 2 < told_s[2] < told_s[1]
