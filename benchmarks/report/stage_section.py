"""Where in the network time and bytes go."""

from collections.abc import Mapping

from benchmarks.report.charts import stage_bars
from benchmarks.report.page import Chart, Section, Table
from benchmarks.report.stage_times import PROFILED_CALLS, share
from benchmarks.report.theme import make_palette
from export.inventory import StageCost, total
from export.node_names import STAGES

MISSING = "-"
MEGA = 1e6


def stage_section(
    costs: Mapping[str, tuple[StageCost, ...]], times_ms: Mapping[str, Mapping[str, float]], *, threads: int | None
) -> Section:
    """Time and bytes of each stage of each graph, by the graph's file name."""
    staged = {label: [cost for cost in found if cost.stage in STAGES] for label, found in costs.items()}
    labels = [label for label in staged if staged[label]]
    if not labels:
        return Section("stages", "Stage by stage", ["The folder holds no ONNX graph whose nodes name their stages."])
    timed = [label for label in labels if times_ms.get(label)]
    time_rows = [
        {"stage": stage, "label": label, "value": round(times_ms[label].get(stage, 0.0), 4)}
        for label in timed
        for stage in STAGES
    ]
    byte_rows = [
        {"stage": cost.stage, "label": label, "value": round(cost.weight_bytes / MEGA, 4)}
        for label in labels
        for cost in staged[label]
    ]
    first = labels[0]
    parts: list[Chart | Table] = []
    if time_rows:
        slowest = max(times_ms[timed[0]], key=lambda stage: times_ms[timed[0]][stage])
        alt = f"In {timed[0]} the stage {slowest} takes {share(times_ms[timed[0]], slowest):.0%} of the time."
        parts.append(
            Chart(
                "stage_times", "Time by stage", stage_bars(time_rows, STAGES, make_palette(timed), "ms an image"), alt
            )
        )
    heaviest = max(staged[first], key=lambda cost: cost.weight_bytes)
    alt = f"In {first} the stage {heaviest.stage} holds {heaviest.weight_bytes / MEGA:.1f} MB of weights."
    parts.append(
        Chart("stage_bytes", "Weights by stage", stage_bars(byte_rows, STAGES, make_palette(labels), "MB"), alt)
    )
    parts += [_stage_table(label, found, times_ms.get(label, {})) for label, found in costs.items()]
    sentence = (
        f"Time: batch 1 in ONNX Runtime on the CPU, mean of {PROFILED_CALLS} calls with its profiler on (which "
        f"slows it a little), threads {threads or 'as it chooses'}. "
        "GFLOP: convolutions and matrix products of one image. Results: all that nodes write, nothing being fused."
    )
    return Section("stages", "Stage by stage", [sentence], parts)


def _stage_table(label: str, costs: tuple[StageCost, ...], times_ms: Mapping[str, float]) -> Table:
    rows = []
    for cost in (*costs, total(costs)):
        time = sum(times_ms.values()) if cost.stage == "total" else times_ms.get(cost.stage)
        rows.append(
            [
                cost.stage if cost.stage in (*STAGES, "total") else "other",
                _number(time if times_ms else None, ".2f"),
                f"{cost.gflop:.3f}",
                f"{cost.weight_bytes / MEGA:.2f}",
                f"{cost.activation_bytes / MEGA:.2f}",
                str(sum(cost.operators.values())),
            ]
        )
    return Table(label, ("stage", "ms", "GFLOP", "weights, MB", "results, MB", "nodes"), rows)


def _number(value: float | None, form: str) -> str:
    return MISSING if value is None else format(value, form)
