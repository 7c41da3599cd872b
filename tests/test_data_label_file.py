"""cliphand.data.label_file: large label files are parsed sample by sample, once, and cached."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cliphand.data import label_file
from cliphand.data.label_file import cache_path, read_labels
from cliphand.errors import InputError


@pytest.fixture(scope="module")
def intact(freihand_folder: Callable[..., Path]) -> Path:
    return freihand_folder(n_labels=3) / "training_verts.json"


@pytest.fixture
def small(intact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a vertex file, and a cache folder of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return shutil.copy(intact, tmp_path / "training_verts.json")


@pytest.fixture
def cached(small: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, taken for large enough to be cached."""
    monkeypatch.setattr(label_file, "CACHE_FROM_BYTES", 0)
    return small


def refuse_to_parse(*_: object) -> None:
    raise AssertionError("parsed again")


@settings(max_examples=60)
@given(
    scales=st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=20),
    block=st.integers(2, 40),
    indent=st.sampled_from([None, 0, 3]),
)
def test_a_file_read_in_blocks_holds_the_same_numbers(
    scales: list[float], block: int, indent: int | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "blocks_scale.json"
    path.write_text(" " + json.dumps(scales, indent=indent) + "\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(label_file, "BLOCK_CHARACTERS", block)
        np.testing.assert_array_equal(read_labels(path, "scale"), scales)


def test_a_large_file_is_parsed_once(cached: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = read_labels(cached, "verts")
    assert cache_path(cached).is_file()
    monkeypatch.setattr(label_file, "_parse", refuse_to_parse)
    np.testing.assert_array_equal(read_labels(cached, "verts"), first)


def test_a_small_file_leaves_no_cache(small: Path, tmp_path: Path) -> None:
    read_labels(small, "verts")
    assert not (tmp_path / "cache").exists()


def test_a_changed_file_is_parsed_again_and_replaces_its_cache(cached: Path) -> None:
    before = read_labels(cached, "verts")
    time_ns = cached.stat().st_mtime_ns
    text = cached.read_text()
    cached.write_text(json.dumps(json.loads(text)[::-1]))
    assert len(cached.read_text()) == len(text)  # only the time of change tells
    os.utime(cached, ns=(time_ns, time_ns + 1000))
    np.testing.assert_array_equal(read_labels(cached, "verts"), before[::-1])
    assert [path.name for path in cache_path(cached).parent.iterdir()] == [cache_path(cached).name]


def test_files_of_the_same_name_have_caches_of_their_own(cached: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / cached.name
    other.parent.mkdir()
    other.write_text(json.dumps(json.loads(cached.read_text())[::-1]))
    stat = cached.stat()
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert other.stat().st_size == stat.st_size  # only the place tells
    here = read_labels(cached, "verts")
    np.testing.assert_array_equal(read_labels(other, "verts"), here[::-1])
    assert cache_path(cached).is_file()


def save(path: Path, array: np.ndarray) -> None:
    with path.open("wb") as stream:
        np.save(stream, array, allow_pickle=True)


BROKEN_CACHES: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("no array"),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:5000]),
    "another shape": lambda path: save(path, np.ones((3, 21, 3))),
    "another type": lambda path: save(path, np.ones((3, 778, 3), np.float32)),
    "NaN": lambda path: save(path, np.full((3, 778, 3), np.nan)),
    "pickled objects": lambda path: save(path, np.array([{"a": 1}], dtype=object)),
}


@pytest.mark.parametrize("case", BROKEN_CACHES)
def test_a_broken_cache_is_rebuilt(cached: Path, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = np.array(read_labels(cached, "verts"))
    cache = cache_path(cached)
    cache.unlink()  # not written over: another process may still look at the file through its map
    save(cache, expected)
    BROKEN_CACHES[case](cache)
    np.testing.assert_array_equal(read_labels(cached, "verts"), expected)
    monkeypatch.setattr(label_file, "_parse", refuse_to_parse)
    np.testing.assert_array_equal(read_labels(cached, "verts"), expected)


def test_without_a_writable_cache_labels_are_still_read(
    cached: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert read_labels(cached, "verts").shape == (3, 778, 3)
    assert "cannot be written" in caplog.text


def test_a_relative_cache_folder_is_not_used(cached: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_path(cached).parent == tmp_path / "home" / ".cache" / "cliphand"


def test_a_bad_label_is_never_cached(cached: Path) -> None:
    labels = json.loads(cached.read_text())
    labels[1][3][0] = float("nan")
    cached.write_text(json.dumps(labels))
    for _ in range(2):
        with pytest.raises(InputError, match="entry 1 holds NaN"):
            read_labels(cached, "verts")
