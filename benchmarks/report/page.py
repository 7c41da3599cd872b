"""What a report consists of, and how it becomes one HTML file and a folder of PNG files."""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path

import cv2
import jinja2
import numpy as np
import vl_convert
from markupsafe import Markup, escape

from benchmarks.report.theme import LIGHT, PNG_WIDTH, Spec, theme_configs
from cliphand.arrays import ByteArray
from cliphand.claims import check_file, check_folder, mark_of, marked_png
from cliphand.files import whole_file, whole_folder
from cliphand.kinds import REPORT, REPORT_FIGURES
from cliphand.pictures import CAPTION_PX, PAPER, caption

PNG_SCALE = 2.0
JPEG_QUALITY = 88


@dataclass(frozen=True, slots=True)
class Chart:
    """A Vega-Lite chart; `alt` says in words what it shows."""

    name: str
    title: str
    spec: Spec
    alt: str
    caption: str = ""
    narrow: bool = False  # stands beside others


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells; the first `n_words` columns are words, the others numbers."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    n_words: int = 1
    caption: str = ""
    narrow: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """One image with what stands below it."""

    image: ByteArray
    label: str
    alt: str


@dataclass(frozen=True, slots=True, eq=False)
class PictureRow:
    """Pictures of one photograph."""

    title: str
    pictures: Sequence[Picture]


@dataclass(frozen=True, slots=True, eq=False)
class Sheet:
    """Rows of pictures; as PNG they are one contact sheet."""

    name: str
    title: str
    rows: Sequence[PictureRow]
    caption: str = ""


Part = Chart | Table | Sheet


@dataclass(frozen=True, slots=True)
class Section:
    """A heading of the page, sentences, and what stands below them."""

    key: str
    title: str
    sentences: Sequence[str] = ()
    parts: Sequence[Part] = ()


@dataclass(frozen=True, slots=True)
class GateVerdict:
    """What the gate says: `passed`, `failed`, or `open` where nothing was judged."""

    state: str
    headline: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Page:
    """A whole report."""

    title: str
    summary: str
    verdict: GateVerdict
    sections: Sequence[Section]
    footer: str
    key_figures: Sequence[tuple[str, str]] = field(default=())


def write_page(page: Page, path: Path) -> Path:
    """Write the HTML file and, in the folder `<stem>_figures` beside it, every figure as PNG.

    Returns:
        The folder of figures.
    """
    figures = figures_of(path)
    with whole_folder(figures, REPORT_FIGURES) as folder:
        for section in page.sections:
            for part in section.parts:
                if isinstance(part, Chart):
                    _write_figure(folder / f"{part.name}.png", chart_png(part))
                elif isinstance(part, Sheet):
                    _write_figure(folder / f"{part.name}.png", _encode(contact_sheet(part), ".png"))
    with whole_file(path, REPORT) as temporary:
        temporary.write_text(f"{page_html(page, figures.name)}<!-- {mark_of(REPORT.writer)} -->\n", encoding="utf-8")
    return figures


def check_targets(path: Path) -> None:
    """Refuse a place where the report or its figures cannot be, or something else is.

    Raises:
        InputError: see `cliphand.claims`.
    """
    check_file(path, REPORT)
    check_folder(figures_of(path), REPORT_FIGURES)


def figures_of(path: Path) -> Path:
    """The folder of a report's figures."""
    return path.with_name(f"{path.stem}_figures")


def _write_figure(path: Path, png: bytes) -> None:
    path.write_bytes(marked_png(png, REPORT.writer))


def page_html(page: Page, figures: str) -> str:
    """The page as text: styles, scripts, charts and pictures are all within it."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters |= {"jpeg": _jpeg_url, "prose": _prose}
    environment.tests |= {kind.__name__.lower(): _is(kind) for kind in (Chart, Table, Sheet)}
    charts = {part.name: part.spec for section in page.sections for part in section.parts if isinstance(part, Chart)}
    return environment.from_string(_own_file("page.html")).render(
        page=page,
        figures=figures,
        style=Markup(_own_file("page.css")),  # noqa: S704  # the project's own file
        script=Markup(_own_file("page.js")),  # noqa: S704
        library=Markup(_library()),  # noqa: S704
        charts=Markup(script_json(charts)),  # noqa: S704
        themes=Markup(script_json(theme_configs())),  # noqa: S704
    )


def script_json(value: Mapping[str, object]) -> str:
    """JSON that may stand within a script element: no text in it can end the element."""
    return json.dumps(value, allow_nan=False).replace("<", "\\u003c")


def chart_png(chart: Chart) -> bytes:
    """A chart on white paper."""
    spec = {**chart.spec, "width": PNG_WIDTH // 2 if chart.narrow else PNG_WIDTH, "title": chart.title}
    return vl_convert.vegalite_to_png(spec, scale=PNG_SCALE, config={**LIGHT, "background": "white"})


def contact_sheet(sheet: Sheet) -> ByteArray:
    """All pictures of a sheet in one, RGB."""
    height, width = sheet.rows[0].pictures[0].image.shape[:2]
    columns = max(len(row.pictures) for row in sheet.rows)
    lines = []
    for row in sheet.rows:
        lines.append(caption(row.title, width * columns))
        strip = np.full((height + CAPTION_PX, width * columns, 3), PAPER, np.uint8)
        for place, picture in enumerate(row.pictures):
            strip[:height, place * width : (place + 1) * width] = picture.image
            strip[height:, place * width : (place + 1) * width] = caption(picture.label, width)
        lines.append(strip)
    return np.vstack(lines)


def _is(kind: type) -> Callable[[object], bool]:
    return lambda part: isinstance(part, kind)


def _prose(sentence: str) -> Markup:
    """A sentence whose `commands` stand in a typewriter face."""
    words = sentence.split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(word) if place % 2 else escape(word) for place, word in enumerate(words)
    )


def _jpeg_url(image: ByteArray) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(_encode(image, '.jpg')).decode()}"


def _encode(image: ByteArray, suffix: str) -> bytes:
    """An RGB image as a file's bytes."""
    options = (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY) if suffix == ".jpg" else ()
    good, data = cv2.imencode(suffix, image[..., ::-1], options)
    if not good:
        raise OSError(f"OpenCV could not encode a picture as {suffix}")
    return data.tobytes()


def _own_file(name: str) -> str:
    return resources.files("benchmarks.report").joinpath(name).read_text("utf-8")


@cache
def _library() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script."""
    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
