"""Backgrounds from packages: what is taken, under which licence, and what is refused."""

import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.studies import backgrounds
from benchmarks.studies.packages import read_copyright, stanza_of

COPYRIGHT = """Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
Copyright: 2020 A. Painter
License: GPL-2+

Files: art/closed*
 art/secret*
Copyright: 2021 B. Owner
License: non-free-terms
 Ask first.

Files: art/shared*
Copyright: 2022 C. Giver
License: CC-BY-4.0
"""

Run = Callable[..., int]


def photo(seed: int, side: int = 240) -> np.ndarray:
    """Detail of many sizes, unlike that of another seed."""
    rng = np.random.default_rng(seed)
    coarse = cv2.resize(rng.integers(0, 256, (6, 6, 3)).astype(np.uint8), (side, side), interpolation=cv2.INTER_CUBIC)
    return np.asarray(np.clip(coarse + rng.normal(0, 6, coarse.shape), 0, 255), np.uint8)


def picture(path: Path) -> np.ndarray:
    return np.asarray(cv2.imread(str(path), cv2.IMREAD_UNCHANGED))


def cut_out(image: np.ndarray) -> np.ndarray:
    alpha = np.zeros(image.shape[:2], np.uint8)
    cv2.circle(alpha, (120, 120), 90, 255, -1)
    return np.dstack([image, alpha])


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Builds the package of these pictures and runs the command on it; returns its exit code."""
    if shutil.which("dpkg-deb") is None:
        pytest.skip("dpkg-deb is not here")

    def call(pictures: dict[str, np.ndarray], *, sha256: str = "", **fields: object) -> int:
        tree, store = tmp_path / "tree", tmp_path / "store"
        for name, image in pictures.items():
            path = tree / "usr/share/tiny" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(path), image)
        notes = tree / "usr/share/doc/tiny-art"
        notes.mkdir(parents=True, exist_ok=True)
        (notes / "copyright").write_text(COPYRIGHT)
        (tree / "DEBIAN").mkdir(exist_ok=True)
        control = (
            "Package: tiny-art\nVersion: 1:2.0-1\nArchitecture: all\nMaintainer: T <t@example.org>\nDescription: t\n"
        )
        (tree / "DEBIAN/control").write_text(control)
        store.mkdir(exist_ok=True)
        package = store / "tiny-art_1%3a2.0-1_all.deb"
        subprocess.run(["dpkg-deb", "--build", tree, package], check=True, capture_output=True)
        row = {
            "package": "tiny-art",
            "version": "1:2.0-1",
            "sha256": sha256 or hashlib.sha256(package.read_bytes()).hexdigest(),
            "kind": "deb",
            "root": "usr/share/tiny",
            "origin": "art/",
            "take": ["*.png", "*.jpg"],
        }
        (tmp_path / "list.json").write_text(json.dumps({"sources": [row | fields]}))
        options = ["--out", str(tmp_path / "out"), "--sources", str(tmp_path / "list.json"), "--store", str(store)]
        monkeypatch.setattr("sys.argv", ["backgrounds", *options])
        try:
            backgrounds.main()
        except SystemExit as stop:
            return int(str(stop.code))
        return 0

    return call


def record(folder: Path) -> dict[str, dict[str, str]]:
    rows = json.loads((folder / "out/sources.json").read_text())
    return {row["member"]: row for row in rows}


def test_free_pictures_are_taken_with_licence_holders_and_hash(run: Run, tmp_path: Path) -> None:
    assert run({"shared.png": photo(1), "other.png": photo(2, 900)}) == 0
    rows = record(tmp_path)
    assert {name: row["licence"] for name, row in rows.items()} == {"shared.png": "CC-BY-4.0", "other.png": "GPL-2+"}
    assert "C. Giver" in rows["shared.png"]["holders"]
    source = (tmp_path / "tree/usr/share/tiny/shared.png").read_bytes()
    assert rows["shared.png"]["sha256"] == hashlib.sha256(source).hexdigest()
    assert picture(tmp_path / "out" / rows["other.png"]["file"]).shape == (512, 512, 3)


def test_pictures_without_a_free_licence_copies_and_plain_ones_are_left(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = np.clip(photo(1).astype(int) + 2, 0, 255).astype(np.uint8)
    grey = np.full((240, 240, 3), 90, np.uint8)
    pictures = {
        "a.png": photo(1),
        "closed.png": photo(2),
        "copy.png": again,
        "grey.png": grey,
        "small.png": photo(3, 40),
    }
    assert run(pictures) == 0
    assert list(record(tmp_path)) == ["a.png"]
    left = json.loads(capsys.readouterr().out)["left"]
    assert left == {"licence non-free-terms": 1, "copy": 1, "plain": 1, "too small or too long": 1}


def test_photographed_things_are_taken_and_drawings_left(run: Run, tmp_path: Path) -> None:
    drawing = np.full((240, 240, 3), 200, np.uint8)
    assert (
        run({"apple.png": cut_out(photo(4)), "cartoon.png": cut_out(drawing), "whole.png": photo(5)}, things=True) == 0
    )
    rows = record(tmp_path)
    assert list(rows) == ["apple.png"]
    assert picture(tmp_path / "out" / rows["apple.png"]["file"]).shape == (240, 240, 4)


def test_a_package_of_other_bytes_is_refused_and_nothing_written(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run({"a.png": photo(1)}, sha256="0" * 64) == 2
    assert "sha256" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_of_the_users_is_not_replaced(run: Run, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("kept")
    assert run({"a.png": photo(1)}) == 2
    assert (tmp_path / "out/mine.txt").read_text() == "kept"


def test_own_output_is_replaced(run: Run, tmp_path: Path) -> None:
    assert run({"a.png": photo(1)}) == 0
    assert run({"b.png": photo(2)}) == 0
    assert set(record(tmp_path)) == {"a.png", "b.png"}


def test_a_list_of_another_form_is_named(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run({"a.png": photo(1)}, colour="red") == 2
    assert "list of sources" in capsys.readouterr().err


def test_the_last_matching_paragraph_rules_and_prose_rules_nothing(tmp_path: Path) -> None:
    (tmp_path / "copyright").write_text(COPYRIGHT)
    stanzas = read_copyright(tmp_path / "copyright")
    found = {path: stanza_of(stanzas, path) for path in ("art/secret1.png", "art/x.png")}
    assert {path: stanza.licence for path, stanza in found.items() if stanza} == {
        "art/secret1.png": "non-free-terms",
        "art/x.png": "GPL-2+",
    }
    (tmp_path / "prose").write_text("Licensed under something free, surely.\n")
    assert read_copyright(tmp_path / "prose") == ()


def test_the_pinned_list_is_whole() -> None:
    sources = backgrounds.read_sources(backgrounds.SOURCES)
    assert len(sources) >= 8
    assert all(len(source.sha256) == 64 and source.take and source.kind in ("deb", "wheel") for source in sources)
    assert all(source.licences for source in sources if source.kind == "wheel")
