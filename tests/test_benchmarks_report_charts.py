"""Charts compile, show every engine, and do not make rounding look like a difference."""

import json
from collections.abc import Callable, Mapping

import numpy as np
import pytest
import vl_convert

from benchmarks.report import charts
from benchmarks.report.theme import ENGINE_COLOURS, Spec, make_palette

TWO = ["pytorch fp32", "onnxruntime int8"]


def speed(labels: list[str]) -> Spec:
    points = [
        {"label": label, "latency_ms": 10.0 + place, "pa_pjpe_mm": 2.5, "batch": 1}
        for place, label in enumerate(labels)
    ]
    return charts.speed_accuracy(points, make_palette(labels), 2.5)


def against(labels: list[str]) -> Spec:
    points = [{"label": label, "position": 3.0, "error_mm": 2.0, "image": "0.jpg"} for label in labels]
    means = [{"label": label, "position": 3.0, "error_mm": 2.0, "range": "0 to 6", "images": 4} for label in labels]
    return charts.error_against(points, means, make_palette(labels), "angle, degrees")


CHARTS: dict[str, Callable[[list[str]], Spec]] = {
    "speed": speed,
    "pck": lambda labels: charts.pck_curves({label: np.full((2, 21), 3.0) for label in labels}, make_palette(labels)),
    "joints": lambda labels: charts.named_errors(
        [{"name": "wrist", "label": label, "error_mm": 1.0} for label in labels], ["wrist"], make_palette(labels)
    ),
    "against": against,
    "stages": lambda labels: charts.stage_bars(
        [{"stage": "encoder", "label": label, "value": 1.0} for label in labels],
        ["encoder"],
        make_palette(labels),
        "ms",
    ),
}


def compiled(spec: Spec) -> Mapping[str, object]:
    return vl_convert.vegalite_to_vega(json.loads(json.dumps(spec)))


def scale(vega: Mapping[str, object], name: str) -> Mapping[str, object]:
    return next(scale for scale in vega["scales"] if scale["name"] == name)


def drawn(item: Mapping[str, object], kind: str) -> list[Mapping[str, object]]:
    """Items of every mark of a kind in a scene, in order of drawing."""
    items = item.get("items", [])
    own = list(items) if item.get("marktype") == kind else []
    return own + [found for child in items for found in drawn(child, kind)]


@pytest.mark.parametrize("name", CHARTS)
def test_a_legend_names_the_engines_where_there_is_more_than_one(name: str) -> None:
    assert len(compiled(CHARTS[name](TWO))["legends"]) == 1
    assert not compiled(CHARTS[name](TWO[:1])).get("legends")


def test_every_chart_fills_what_holds_it() -> None:
    for make in CHARTS.values():
        assert make(TWO)["width"] == "container"


def test_the_first_engine_is_drawn_largest_so_that_those_upon_it_do_not_hide_it() -> None:
    spec = {**CHARTS["joints"](["a", "b", "c"]), "width": 300}
    symbols = drawn(vl_convert.vegalite_to_scenegraph(spec)["scenegraph"], "symbol")
    look = [(symbol["size"], symbol["stroke"]) for symbol in symbols]
    assert look == list(zip((190, 120, 50), ENGINE_COLOURS, strict=False)) * 2  # the marks, and their legend
    assert scale(compiled(spec), "color")["domain"] == ["a", "b", "c"]


def test_equal_errors_stand_in_the_middle_of_half_a_millimetre() -> None:
    assert scale(compiled(speed(TWO)), "y")["domain"] == pytest.approx([2.25, 2.75])


def test_distant_errors_get_a_margin_and_none_starts_below_zero() -> None:
    points = [
        {"label": label, "latency_ms": 1.0, "pa_pjpe_mm": error, "batch": 1}
        for label, error in zip(TWO, (0.1, 10.1), strict=True)
    ]
    assert scale(compiled(charts.speed_accuracy(points, make_palette(TWO), None)), "y")["domain"] == pytest.approx(
        [0, 11.1]
    )


def test_pck_rises_at_the_error() -> None:
    values = CHARTS["pck"](["a"])["data"]["values"]
    assert max(value["threshold"] for value in values if value["share"] == 0) < 3
    assert min(value["threshold"] for value in values if value["share"] == 1) == pytest.approx(3.03, abs=0.01)


def test_latencies_keep_their_order_and_their_percentiles() -> None:
    rows = [{"row": name, "label": "a", "p50": 2.0, "p90": 3.0, "p99": 4.0, "ms": []} for name in ("z", "a")]
    vega = compiled(charts.latency_ranges(rows, make_palette(["a"]), "ms"))
    assert scale(vega, "y")["domain"] == ["z", "a"] or scale(vega, "y")["domain"]["sort"]
    ends = {mark["encode"]["update"]["x2"]["field"] for mark in vega["marks"] if "x2" in mark["encode"]["update"]}
    assert ends == {"p90", "p99"}


def test_every_call_that_was_kept_is_a_mark_unless_it_lies_far_beyond_the_last_percentile() -> None:
    rows = [
        {"row": "z", "label": "a", "p50": 2.0, "p90": 3.0, "p99": 4.0, "ms": [1.5, 2.0, 2.5, 90.0]},
        {"row": "a", "label": "a", "p50": 3.0, "p90": 3.0, "p99": 3.0, "ms": [3.0]},
    ]
    spec = {**charts.latency_ranges(rows, make_palette(["a"]), "ms"), "width": 400}
    ticks = drawn(vl_convert.vegalite_to_scenegraph(spec)["scenegraph"], "rect")
    thin = sorted(round(item["x"], 1) for item in ticks if item.get("width") == 1)
    assert len(thin) == 5
    assert scale(compiled(spec), "x")["domainMax"] == pytest.approx(4.4)
    assert sum(position < 400 for position in thin) == 4


def test_a_logit_matrix_has_poses_in_rows() -> None:
    spec = charts.logit_matrix(np.array([[1.0, 2.0], [3.0, 4.0]]))
    cells = {(value["pose"], value["prompt"]): value["logit"] for value in spec["data"]["values"]}
    assert cells == {(0, 0): 1, (0, 1): 2, (1, 0): 3, (1, 1): 4}
    assert spec["encoding"]["y"]["field"] == "pose"
    assert len(compiled(spec)["marks"]) == 1
