"""A page holds everything within itself, says what it was given and nothing else, and has its figures as PNG."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.report import page as page_module
from benchmarks.report.charts import pck_curves
from benchmarks.report.page import (
    Chart,
    GateVerdict,
    Page,
    Picture,
    PictureRow,
    Section,
    Sheet,
    Table,
    contact_sheet,
    script_json,
    write_page,
)
from benchmarks.report.theme import make_palette
from cliphand.errors import InputError
from cliphand.pictures import CAPTION_PX

RED = np.full((8, 8, 3), (255, 0, 0), np.uint8)
BLUE = np.full((8, 8, 3), (0, 0, 255), np.uint8)
EVIL = "</script><script>alert(1)</script>"
SHEET = Sheet("look", "Look", [PictureRow("0.jpg", [Picture(RED, "truth", "0.jpg <b>"), Picture(BLUE, "engine", "")])])


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, Path]:
    """The page's text and its folder of figures; the chart library is left out, for it takes seconds to pack."""
    monkeypatch.setattr(page_module, "_library", lambda: "/* library */")
    chart = Chart(
        "pck", EVIL, pck_curves({EVIL: np.full((1, 21), 2.0)}, make_palette([EVIL])), 'says "much"', narrow=True
    )
    table = Table("Numbers & words", ("name", "mm"), [["<i>a</i>", "1.00"]])
    section = Section("first", "First", ["Run `cliphand bench <DIR>` & see."], [chart, table, SHEET])
    page = Page(
        "Title", "Summary.", GateVerdict("failed", "Gate failed", "because"), [section], "Foot.", [("PA-PJPE", "2 mm")]
    )
    figures = write_page(page, tmp_path / "out" / "report.html")
    return (tmp_path / "out" / "report.html").read_text(), figures


def test_what_is_given_cannot_become_markup(written: tuple[str, Path]) -> None:
    text, _ = written
    assert "alert(1)</script>" not in text
    assert "&lt;i&gt;a&lt;/i&gt;" in text
    assert "<code>cliphand bench &lt;DIR&gt;</code> &amp; see." in text
    assert 'aria-label="says &#34;much&#34;"' in text


def test_json_in_a_script_cannot_end_it() -> None:
    assert "<" not in script_json({"a": EVIL})


def test_the_page_refers_to_nothing_outside(written: tuple[str, Path]) -> None:
    text, _ = written
    assert not re.findall(r'(?:src|href)="(?!#|data:)', text)
    assert "@import" not in text
    assert "url(" not in text


def test_headings_contents_and_alternatives_are_there(written: tuple[str, Path]) -> None:
    text, _ = written
    assert text.count("<h1>") == 1
    assert '<a href="#first">First</a>' in text
    assert 'section id="first"' in text
    assert '<html lang="en">' in text
    assert all("alt=" in tag for tag in re.findall(r"<img[^>]*>", text))
    assert 'class="verdict failed"' in text


def test_every_figure_is_there_as_png(written: tuple[str, Path]) -> None:
    _, figures = written
    assert figures.name == "report_figures"
    assert sorted(path.name for path in figures.iterdir()) == ["look.png", "pck.png"]
    drawn = cv2.imread(str(figures / "pck.png"))
    assert drawn.shape[1] >= page_module.PNG_WIDTH  # half the width, twice the scale
    assert (drawn[0, 0] == 255).all()  # on white paper
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) > 10
    red = cv2.imread(str(figures / "look.png"))[CAPTION_PX, 0]
    assert red.tolist() == [0, 0, 255]  # OpenCV reads blue first


def test_a_contact_sheet_has_pictures_side_by_side_under_their_title() -> None:
    sheet = contact_sheet(SHEET)
    height = CAPTION_PX
    assert sheet.shape == (2 * height + 8, 16, 3)
    assert (sheet[height : height + 8, :8] == (255, 0, 0)).all()
    assert (sheet[height : height + 8, 8:] == (0, 0, 255)).all()


def test_a_second_report_replaces_the_figures_of_the_first(written: tuple[str, Path]) -> None:
    _, figures = written
    assert list(figures.iterdir())
    page = Page("T", "S", GateVerdict("open", "h", "s"), [], "f")
    write_page(page, figures.with_name("report.html"))
    assert not list(figures.iterdir())
    (figures / "mine.png").write_bytes(b"\x89PNG of mine")
    with pytest.raises(InputError, match=r"holds mine\.png, which `cliphand report` did not write"):
        write_page(page, figures.with_name("report.html"))
