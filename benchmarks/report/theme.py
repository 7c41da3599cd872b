"""How charts look: colours that colour-blind readers tell apart, on light and on dark paper."""

import json
from collections.abc import Iterable, Mapping

from engines.open import REJECTED

Spec = dict[str, object]  # Vega-Lite, as its JSON form

PNG_WIDTH = 720
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', Arial, sans-serif"
# Okabe and Ito 2008, in the order of best contrast on both papers; the first is the reference's.
ENGINE_COLOURS = (
    "#7a8594",
    "#0f8a6d",
    "#d55e00",
    "#3b82d9",
    "#c2589a",
    "#b08900",
    "#38a5c9",
    "#8b6fd6",
    "#5f9424",
    "#b5495b",
    "#5873a8",
    "#97785a",
)
# Label of an engine to its colour, in the order in which engines are drawn.
Palette = Mapping[str, str]


def engine_label(engine: str, precision: str, artefact: str) -> str:
    """How charts name an engine: `onnxruntime int8 (rejected)`."""
    return f"{engine} {precision}{' (rejected)' if artefact.endswith(REJECTED) else ''}"


def make_palette(labels: Iterable[str]) -> Palette:
    """A colour for each label; the first is the reference's."""
    return {label: ENGINE_COLOURS[place % len(ENGINE_COLOURS)] for place, label in enumerate(dict.fromkeys(labels))}


def part_of(palette: Palette, labels: Iterable[str]) -> Palette:
    """The colours of some labels, in the palette's order."""
    wanted = set(labels)
    return {label: colour for label, colour in palette.items() if label in wanted}


def _config(ink: str, faint: str, grid: str) -> Spec:
    text = {"labelColor": faint, "titleColor": ink, "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": 500}
    return {
        "background": "transparent",
        "font": FONT,
        "view": {"stroke": None},
        "axis": {
            **text,
            "gridColor": grid,
            "domainColor": grid,
            "tickColor": grid,
            "labelPadding": 6,
            "titlePadding": 8,
            "labelLimit": 175,
        },
        "legend": {
            **text,
            "orient": "top",
            "direction": "horizontal",
            "columns": 3,
            "symbolStrokeWidth": 3,
            "labelLimit": 240,
            "offset": 10,
        },
        "title": {"color": ink, "anchor": "start", "fontSize": 14, "fontWeight": 600, "offset": 12},
        "text": {"color": ink},
        "rule": {"color": faint},
        "point": {"filled": True, "opacity": 1},
        "range": {"category": list(ENGINE_COLOURS), "heatmap": {"scheme": "viridis"}},
    }


LIGHT = _config(ink="#1d2733", faint="#5a6675", grid="#e3e7ec")
DARK = _config(ink="#e7ebf0", faint="#a2adba", grid="#323b46")


def theme_configs() -> dict[str, object]:
    """Both configurations by name, as the page's script takes them."""
    return json.loads(json.dumps({"light": LIGHT, "dark": DARK}))  # type: ignore[no-any-return]
