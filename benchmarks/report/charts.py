"""The report's charts as Vega-Lite. Engines that agree lie upon one another: earlier ones are drawn larger, below."""

from collections.abc import Mapping, Sequence

from benchmarks.report.theme import Palette, Spec
from cliphand.arrays import FloatArray
from cliphand.metrics import pck_curve, pck_thresholds

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
HEIGHT = 300
STEP = 30  # pixels of a bar with its margin
MARGIN = 1.1  # how far beyond the last percentile single calls are drawn
LEAST_SPAN_MM = 0.5  # so that rounding does not look like a difference
POINTS_SHOWN = 500
Records = Sequence[Mapping[str, object]]


def speed_accuracy(points: Records, palette: Palette, reference_mm: float | None) -> Spec:
    """Latency against PA-PJPE.

    Args:
        points: `label`, `latency_ms`, `pa_pjpe_mm`, `batch`.
        palette: engines in their order of drawing.
        reference_mm: PA-PJPE of PyTorch, drawn as a line.
    """
    errors = [value for point in points if isinstance(value := point["pa_pjpe_mm"], float)]
    low, high = _at_least(min(errors), max(errors), LEAST_SPAN_MM)
    y = _quantity("pa_pjpe_mm", "PA-PJPE, mm", format=".2f") | {
        "scale": {"domain": [low, high], "nice": False, "zero": False}
    }
    dots: Spec = {
        "mark": {"type": "point", "size": 200},
        "encoding": {
            "x": _quantity("latency_ms", "latency of one call, ms (median)") | {"scale": {"zero": True}},
            "y": y,
            "color": _colour(palette) | {"type": "nominal"},
            "shape": _label(palette) | {"type": "nominal"},
            "tooltip": _tooltips(label="engine", latency_ms="latency, ms", pa_pjpe_mm="PA-PJPE, mm", batch="batch"),
        },
    }
    line: Spec = {
        "data": {"values": [{"pa_pjpe_mm": reference_mm}]},
        "mark": {"type": "rule", "strokeDash": [4, 4]},
        "encoding": {"y": y},
    }
    layers = [dots] if reference_mm is None else [line, dots]
    return _chart(points, HEIGHT, layer=layers)


def latency_ranges(rows: Records, palette: Palette, title: str) -> Spec:
    """A mark for each call, the median as a point, 90th and 99th percentile as bars that end there.

    Args:
        rows: `row`, `label`, `p50`, `p90`, `p99`, and `ms`, a list of single calls that may be empty.
        palette: engines in their order of drawing.
        title: of the times, with their unit.
    """
    y = {"field": "row", "type": "nominal", "sort": [row["row"] for row in rows], "title": None}
    tips = _tooltips(row="engine", p50="p50, ms", p90="p90, ms", p99="p99, ms")
    layers: list[Spec] = [
        {
            "mark": {"type": "bar", "height": height, "opacity": opacity},
            "encoding": {"x": _quantity("p50", title), "x2": {"field": end}, "y": y, "color": colour, "tooltip": tips},
        }
        for end, height, opacity, colour in (
            ("p99", 4, 0.6, _colour(palette, legend=False)),
            ("p90", 12, 0.75, _colour(palette, legend=False)),
        )
    ]
    beyond = MARGIN * max(value for row in rows if isinstance(value := row["p99"], float))
    if any(row["ms"] for row in rows):
        x = _quantity("ms", title) | {"scale": {"domainMax": beyond}}
        layers.append(
            {
                "transform": [{"flatten": ["ms"]}],  # the rows' lists are far shorter than a record for each call
                "mark": {"type": "tick", "thickness": 1, "size": 20, "opacity": 0.35, "clip": True},
                "encoding": {"x": x, "y": y, "color": _colour(palette, legend=False)},
            }
        )
    layers.append(
        {
            "mark": {"type": "point", "size": 130},
            "encoding": {
                "x": _quantity("p50", title),
                "y": y,
                "color": _colour(palette, legend=False),
                "tooltip": tips,
            },
        }
    )
    return _chart(rows, STEP * len(rows) + STEP, layer=layers)


def pck_curves(errors_mm: Mapping[str, FloatArray], palette: Palette) -> Spec:
    """Share of joints within each threshold; (N, 21) aligned errors by engine."""
    thresholds = pck_thresholds()
    values = [
        {"label": label, "threshold": round(float(threshold), 3), "share": round(float(share), 5)}
        for label, errors in errors_mm.items()
        for threshold, share in zip(thresholds, pck_curve(errors, thresholds), strict=True)
    ]
    encoding = {
        "x": _quantity("threshold", "threshold, mm"),
        "y": _quantity("share", "joints within it, %", format=".0%") | {"scale": {"domain": [0, 1]}},
        "color": _colour(palette),
        "strokeWidth": _size(palette, 6, 2),
        "tooltip": _tooltips(label="engine", threshold="threshold, mm", share="share"),
    }
    return _chart(values, HEIGHT, mark={"type": "line", "clip": True}, encoding=encoding)


def named_errors(rows: Records, names: Sequence[str], palette: Palette) -> Spec:
    """One line for each name with every engine's mean error on it: `name`, `label`, `error_mm`."""
    encoding = {
        "x": _quantity("error_mm", "mean error after alignment, mm") | {"scale": {"zero": True}},
        "y": {"field": "name", "type": "nominal", "sort": list(names), "title": None, "axis": {"grid": True}},
        "color": _colour(palette),
        "size": _size(palette, 190, 50),
        "tooltip": _tooltips(name="", label="engine", error_mm="error, mm"),
    }
    return _chart(rows, 21 * len(names) + 10, mark={"type": "point"}, encoding=encoding)


def error_against(points: Records, means: Records, palette: Palette, title: str) -> Spec:
    """Error of each image over a quantity, and means over ranges of it.

    Args:
        points: `label`, `position`, `error_mm`, `image`.
        means: `label`, `position` (the range's middle), `error_mm`, `range`, `images`; may be empty.
        palette: engines in their order of drawing.
        title: of the quantity, with its unit.
    """
    x = _quantity("position", title) | {"scale": {"zero": False, "nice": True}}
    y = _quantity("error_mm", "PA-PJPE, mm")
    dots: Spec = {
        "mark": {"type": "point", "opacity": 0.35 if means else 0.9},
        "encoding": {
            "x": x,
            "y": y,
            "color": _colour(palette),
            "size": _size(palette, 110, 30),
            "tooltip": _tooltips(image="image", label="engine", position=title, error_mm="PA-PJPE, mm"),
        },
    }
    line: Spec = {
        "data": {"values": list(means)},
        "mark": {"type": "line", "point": {"size": 60}},
        "encoding": {
            "x": x,
            "y": y,
            "color": _colour(palette),
            "strokeWidth": _size(palette, 6, 2),
            "tooltip": _tooltips(label="engine", range=title, error_mm="mean PA-PJPE, mm", images="images"),
        },
    }
    return _chart(points, HEIGHT, layer=[dots, line] if means else [dots])


def logit_matrix(logits: FloatArray) -> Spec:
    """(B, B) logits of poses (rows) and prompts (columns)."""
    values = [
        {"pose": row, "prompt": column, "logit": round(float(logits[row, column]), 3)}
        for row in range(len(logits))
        for column in range(len(logits))
    ]
    axis = {"labels": False, "ticks": False, "domain": False, "grid": False}
    encoding = {
        "x": {"field": "prompt", "type": "ordinal", "title": "prompt of image", "axis": axis},
        "y": {"field": "pose", "type": "ordinal", "title": "pose of image", "axis": axis},
        "color": {
            "field": "logit",
            "type": "quantitative",
            "title": "logit",
            "scale": {"scheme": "viridis"},
            "legend": {"gradientLength": 120, "format": ".0f"},
        },
        "tooltip": _tooltips(pose="pose of image", prompt="prompt of image", logit="logit"),
    }
    return _chart(values, 240, mark={"type": "rect"}, encoding=encoding)


def stage_bars(rows: Records, stages: Sequence[str], palette: Palette, title: str) -> Spec:
    """Bars of each stage and graph: `stage`, `label`, `value`."""
    encoding = {
        "x": _quantity("value", title),
        "y": {"field": "stage", "type": "nominal", "sort": list(stages), "title": None},
        "yOffset": {"field": "label", "type": "nominal", "sort": list(palette)},
        "color": _colour(palette),
        "tooltip": _tooltips(stage="stage", label="graph", value=title),
    }
    height = (14 * len(palette) + 14) * len(stages)
    return _chart(rows, height, mark={"type": "bar", "cornerRadiusEnd": 2}, encoding=encoding)


def _chart(values: Records, height: int, **content: object) -> Spec:
    """A chart as wide as what holds it."""
    return {
        "$schema": SCHEMA,
        "data": {"values": list(values)},
        "width": "container",
        "height": height,
        "autosize": {"type": "fit-x", "contains": "padding"},
        **content,
    }


def _quantity(name: str, title: str, format: str | None = None) -> Spec:  # noqa: A002  # Vega-Lite's own word
    axis: Spec = {"tickCount": 5} if format is None else {"tickCount": 5, "format": format}
    return {"field": name, "type": "quantitative", "title": title, "axis": axis}


def _label(palette: Palette, **scale: object) -> Spec:
    """An engine's label on a channel, in a fixed order."""
    scale = {"type": "ordinal", "domain": list(palette), **scale}
    channel: Spec = {"field": "label", "type": "ordinal", "title": None, "scale": scale}
    return channel if len(palette) > 1 else {**channel, "legend": None}


def _colour(palette: Palette, *, legend: bool = True) -> Spec:
    colour = _label(palette, range=list(palette.values()))
    return colour if legend else {**colour, "legend": None}


def _size(palette: Palette, first: float, last: float) -> Spec:
    """From the first engine's size to the last one's."""
    steps = max(len(palette) - 1, 1)
    return _label(palette, range=[first + (last - first) * place / steps for place in range(len(palette))])


def _tooltips(**titles: str) -> list[Spec]:
    """Fields of a tooltip with their titles."""
    return [{"field": name, "title": title or name} for name, title in titles.items()]


def _at_least(low: float, high: float, span: float) -> tuple[float, float]:
    """A range around [low, high] with a margin, at least `span` wide and not below zero."""
    margin = max((span - (high - low)) / 2, 0.1 * (high - low))
    return max(low - margin, 0.0), high + margin
