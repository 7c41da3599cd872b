"""Time and bytes of the stages that a graph names."""

import pytest

from benchmarks.report.page import Chart, Table
from benchmarks.report.stage_section import stage_section
from benchmarks.report.stage_times import StageTimes
from export.graph.inventory import StageCost

COSTS = {
    "model.onnx": (
        StageCost("encoder", {"Conv": 3}, 1.5, 2_000_000, 500_000),
        StageCost("mesh_regressor", {"MatMul": 2}, 0.5, 1_000_000, 250_000),
        StageCost("graph", {"Cast": 1}, 0.0, 0, 0),
    )
}
STAGES_MS = {"encoder": 3.0, "joint_regressor": 0.0, "heatmap": 0.0, "mesh_regressor": 0.5}
TIMES = [
    StageTimes("model.onnx", "onnxruntime", STAGES_MS, 0.5, 5.25),
    StageTimes("model.int8.onnx", "openvino", STAGES_MS | {"encoder": 0.4, "mesh_regressor": 0.6}, 0.0, 1.5),
]


def test_charts_and_tables_hold_time_and_bytes() -> None:
    time, times, weights, costs = stage_section(COSTS, TIMES, threads=1).parts
    assert isinstance(time, Chart)
    assert isinstance(times, Table)
    assert isinstance(weights, Chart)
    assert isinstance(costs, Table)
    assert time.alt == (
        "The stage that takes most of the time: encoder 75% of model.onnx in onnxruntime; mesh_regressor 60% of "
        "model.int8.onnx in openvino."
    )
    assert {row["label"] for row in time.spec["data"]["values"]} == {each.label for each in TIMES}
    # Stages, what names none, their sum, the call by the clock.
    assert [list(row) for row in times.rows] == [
        ["model.onnx in onnxruntime", "3.00", "0.00", "0.00", "0.50", "0.50 (12.5%)", "4.00", "5.25"],
        ["model.int8.onnx in openvino", "0.40", "0.00", "0.00", "0.60", "0.00 (0.0%)", "1.00", "1.50"],
    ]
    assert len(times.head) == 8
    assert {row["stage"]: row["value"] for row in weights.spec["data"]["values"]} == {"encoder": 2, "mesh_regressor": 1}
    assert [list(row) for row in costs.rows] == [
        ["encoder", "1.500", "2.00", "0.50", "3"],
        ["mesh_regressor", "0.500", "1.00", "0.25", "2"],
        ["other", "0.000", "0.00", "0.00", "1"],
        ["total", "2.000", "3.00", "0.75", "6"],
    ]


def test_without_times_only_bytes_are_shown() -> None:
    parts = stage_section(COSTS, [], threads=None).parts
    assert [part.name for part in parts if isinstance(part, Chart)] == ["stage_bytes"]


@pytest.mark.parametrize("costs", [{}, {"model.onnx": COSTS["model.onnx"][2:]}])
def test_graphs_that_name_no_stage_are_told_in_a_sentence(costs: dict[str, tuple[StageCost, ...]]) -> None:
    section = stage_section(costs, [], threads=None)
    assert not section.parts
    assert "no ONNX graph whose nodes name their stages" in section.sentences[0]
