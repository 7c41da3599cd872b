"""Where in the network time and bytes go."""

from collections.abc import Mapping, Sequence

from benchmarks.report.charts import stage_bars
from benchmarks.report.page import Chart, Section, Table
from benchmarks.report.stage_times import PROFILED_CALLS, StageTimes
from benchmarks.report.theme import make_palette
from export.graph.inventory import StageCost, total
from export.graph.node_names import STAGES

MEGA = 1e6


def stage_section(
    costs: Mapping[str, tuple[StageCost, ...]], times: Sequence[StageTimes], *, threads: int | None
) -> Section:
    """Time of each stage of each graph in each run-time that tells it, and bytes by the graph's file name."""
    staged = {label: [cost for cost in found if cost.stage in STAGES] for label, found in costs.items()}
    staged = {label: found for label, found in staged.items() if found}
    if not staged:
        return Section("stages", "Stage by stage", ["The folder holds no ONNX graph whose nodes name their stages."])
    parts: list[Chart | Table] = []
    if times:
        parts += [_time_chart(times), _time_table(times)]
    parts.append(_byte_chart(staged))
    parts += [_cost_table(label, found) for label, found in costs.items()]
    sentence = (
        f"Time: batch 1 on the CPU, mean of {PROFILED_CALLS} calls with the run-time's own profiler on (which slows it "
        f"a little), threads {threads or 'as it chooses'}; what OpenVINO does not compute in INT8 it computes in FP32. "
        "A fused node counts to the stage of its first part; nodes that name no stage, which the run-time made itself, "
        "stand apart. GFLOP: convolutions and matrix products of one image. Results: all that nodes write, nothing "
        "being fused."
    )
    return Section("stages", "Stage by stage", [sentence], parts)


def _time_chart(times: Sequence[StageTimes]) -> Chart:
    rows = [
        {"stage": stage, "label": each.label, "value": round(each.stages_ms[stage], 4)}
        for each in times
        for stage in STAGES
    ]
    shares = []
    for each in times:
        slowest = max(each.stages_ms, key=lambda stage: each.stages_ms[stage])
        shares.append(f"{slowest} {each.stages_ms[slowest] / each.sum_ms:.0%} of {each.label}")
    palette = make_palette([each.label for each in times])
    alt = f"The stage that takes most of the time: {'; '.join(shares)}."
    return Chart("stage_times", "Time by stage", stage_bars(rows, STAGES, palette, "ms an image"), alt)


def _time_table(times: Sequence[StageTimes]) -> Table:
    """Stages, what no stage can be told of, their sum, and the call by the clock."""
    head = ("ms an image", *STAGES, "no stage named", "all nodes", "whole call")
    rows = [
        [
            each.label,
            *(f"{each.stages_ms[stage]:.2f}" for stage in STAGES),
            f"{each.other_ms:.2f} ({each.other_ms / each.sum_ms:.1%})",
            f"{each.sum_ms:.2f}",
            f"{each.whole_ms:.2f}",
        ]
        for each in times
    ]
    return Table("Time by stage", head, rows)


def _byte_chart(staged: Mapping[str, Sequence[StageCost]]) -> Chart:
    rows = [
        {"stage": cost.stage, "label": label, "value": round(cost.weight_bytes / MEGA, 4)}
        for label, found in staged.items()
        for cost in found
    ]
    first = next(iter(staged))
    heaviest = max(staged[first], key=lambda cost: cost.weight_bytes)
    alt = f"In {first} the stage {heaviest.stage} holds {heaviest.weight_bytes / MEGA:.1f} MB of weights."
    return Chart("stage_bytes", "Weights by stage", stage_bars(rows, STAGES, make_palette(list(staged)), "MB"), alt)


def _cost_table(label: str, costs: tuple[StageCost, ...]) -> Table:
    rows = [
        [
            cost.stage if cost.stage in (*STAGES, "total") else "other",
            f"{cost.gflop:.3f}",
            f"{cost.weight_bytes / MEGA:.2f}",
            f"{cost.activation_bytes / MEGA:.2f}",
            str(sum(cost.operators.values())),
        ]
        for cost in (*costs, total(costs))
    ]
    return Table(label, ("stage", "GFLOP", "weights, MB", "results, MB", "nodes"), rows)
