"""What is no readable file is refused in one sentence by every reader of users' files; none waits for ever."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cliphand.data.label_file import read_labels
from cliphand.data.photograph import read_image, read_mask
from cliphand.data.predictions import read_predictions
from cliphand.errors import InputError
from cliphand.files import read_json_object, sha256_of
from cliphand.hand import load_hand
from cliphand.mano import read_mano
from cliphand.released import read_released
from engines.artefact.graph_file import read_graph

READERS: dict[str, Callable[[Path], object]] = {
    "json": read_json_object,
    "hash": sha256_of,
    "photograph": read_image,
    "mask": read_mask,
    "labels": lambda path: read_labels(path, "xyz"),
    "predictions": read_predictions,
    "hand": load_hand,
    "mano": read_mano,
    "released": read_released,
    "graph": read_graph,
}
PLACES = {
    "missing": lambda folder: folder / "missing",
    "a folder": lambda folder: folder,
    "a pipe": lambda folder: folder / "pipe",
    "a device that never ends": lambda _: Path("/dev/zero"),
    "a name that is too long": lambda folder: folder / ("x" * 300),
    "a name with a null byte": lambda folder: folder / "a\0b",
    "in a file": lambda folder: folder / "file" / "model",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()
    return tmp_path


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("reader", READERS)
def test_what_is_no_file_is_refused_at_once(folder: Path, reader: str, place: str) -> None:
    path = PLACES[place](folder)
    with pytest.raises(InputError) as caught:
        READERS[reader](path)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert path.name.partition("\0")[0] in sentence


REFUSED = {
    "nested deeply": (b'{"a":' * 100_000, r"not readable as JSON \(it is nested too deeply\); write it again"),
    "nested deeper than any file of ours": (b'{"a":' * 40 + b"1" + b"}" * 40, "nested more than 32 deep"),
    "lists nested deeply": (b'{"a":' + b"[" * 40 + b"]" * 40 + b"}", "nested more than 32 deep"),
    "an integer of 5,000 digits": (b'{"a":' + b"9" * 5000 + b"}", r"\(a number in it has thousands of digits\)"),
    "NaN": (b'{"a": NaN}', "NaN is no finite number"),
    "infinity": (b'{"a": -Infinity}', "-Infinity is no finite number"),
    "a float that overflows": (b'{"a": 1e999}', "1e999 is no finite number"),
    "bytes that are no text": (b'{"a": "\xff\xfe"}', "not readable as JSON"),
    "a key twice": (b'{"a": 1, "b": {"c": 1, "c": 2}}', "key 'c' stands there twice"),
    "a list": (b"[1]", "must hold an object"),
    "nothing": (b"", "not readable as JSON"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_json_that_misleads_or_breaks_a_reader_is_refused(tmp_path: Path, what: str) -> None:
    content, said = REFUSED[what]
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=said) as caught:
        read_json_object(path)
    assert str(caught.value).startswith(str(path))


def test_a_huge_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with (path := tmp_path / "bench.json").open("wb") as stream:
        stream.truncate(10**10)  # takes no space
    with pytest.raises(InputError, match="has 10000000000 bytes"):
        read_json_object(path)
