"""Time and bytes of the stages that a graph names."""

import pytest

from benchmarks.report.page import Chart, Table
from benchmarks.report.stage_section import stage_section
from export.inventory import StageCost

COSTS = {
    "model.onnx": (
        StageCost("encoder", {"Conv": 3}, 1.5, 2_000_000, 500_000),
        StageCost("mesh_regressor", {"MatMul": 2}, 0.5, 1_000_000, 250_000),
        StageCost("graph", {"Cast": 1}, 0.0, 0, 0),
    )
}
TIMES = {"model.onnx": {"encoder": 3.0, "joint_regressor": 0.0, "heatmap": 0.0, "mesh_regressor": 1.0}}


def test_charts_and_tables_hold_time_and_bytes() -> None:
    time, weights, table = stage_section(COSTS, TIMES, threads=1).parts
    assert isinstance(time, Chart)
    assert isinstance(weights, Chart)
    assert isinstance(table, Table)
    assert time.alt == "In model.onnx the stage encoder takes 75% of the time."
    assert {row["stage"]: row["value"] for row in weights.spec["data"]["values"]} == {"encoder": 2, "mesh_regressor": 1}
    assert [list(row) for row in table.rows] == [
        ["encoder", "3.00", "1.500", "2.00", "0.50", "3"],
        ["mesh_regressor", "1.00", "0.500", "1.00", "0.25", "2"],
        ["other", "-", "0.000", "0.00", "0.00", "1"],
        ["total", "4.00", "2.000", "3.00", "0.75", "6"],
    ]


def test_without_times_only_bytes_are_shown() -> None:
    parts = stage_section(COSTS, {}, threads=None).parts
    assert [part.name for part in parts if isinstance(part, Chart)] == ["stage_bytes"]


@pytest.mark.parametrize("costs", [{}, {"model.onnx": COSTS["model.onnx"][2:]}])
def test_graphs_that_name_no_stage_are_told_in_a_sentence(costs: dict[str, tuple[StageCost, ...]]) -> None:
    section = stage_section(costs, {}, threads=None)
    assert not section.parts
    assert "no ONNX graph whose nodes name their stages" in section.sentences[0]
