"""What is no readable file is refused in one sentence by every reader of users' files; none waits for ever."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from linear_hand import save_export
from refusal import refused

from cliphand.data.label_file import read_labels
from cliphand.data.photograph import read_image, read_mask
from cliphand.data.predictions import read_predictions
from cliphand.errors import InputError
from cliphand.files import read_json_object, sha256_of
from cliphand.hand import HandTopology, load_hand
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
    "a list": (b"[1]", r"holds a list; it must hold a JSON object\.$"),
    "a number": (b"1.5", r"holds a number; it must hold a JSON object\.$"),
    "a text": (b'"model"', r"holds a text; it must hold a JSON object\.$"),
    "true": (b"true", r"holds true or false; it must hold a JSON object\.$"),
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


# a command with a file or folder that is not there, and how the advice begins
FOLDER_OF_DATA = "give a folder in FreiHAND's layout"
CHECKPOINT = "give a checkpoint or a run folder, as `cliphand train` writes them"
EXPORT = "give a folder that `cliphand export` wrote"
TRAIN = ("train", "--data", "data", "--out", "made")
ABSENT: dict[str, tuple[tuple[str, ...], str]] = {
    "train, data": (("train", "--data", "nowhere", "--out", "made"), FOLDER_OF_DATA),
    "train, start": ((*TRAIN, "--start", "nowhere"), CHECKPOINT),
    "train, start's weights": ((*TRAIN, "--start", "nowhere/model.safetensors"), CHECKPOINT),
    "train, teacher": ((*TRAIN, "--teacher", "nowhere"), CHECKPOINT),
    "train, fine-tune": ((*TRAIN, "--quantise-aware", "nowhere"), CHECKPOINT),
    "train, config": ((*TRAIN, "--config", "nowhere"), "give the path of a file"),
    "train, hand": ((*TRAIN, "--hand", "nowhere"), ""),
    "export": (("export", "nowhere", "--no-tensorrt"), CHECKPOINT),
    "export, best": (("export", "nowhere/best", "--no-tensorrt"), CHECKPOINT),
    "bench": (("bench", "nowhere", "--data", "data"), EXPORT),
    "bench, data": (("bench", "export", "--data", "nowhere"), FOLDER_OF_DATA),
    "bench, checkpoint": (("bench", "export", "--data", "data", "--checkpoint", "nowhere"), ""),
    "report": (("report", "nowhere", "--data", "data"), EXPORT),
    "report, data": (("report", "export", "--data", "nowhere"), FOLDER_OF_DATA),
    "report, checkpoint": (("report", "export", "--data", "data", "--checkpoint", "nowhere"), ""),
    "report, bench": (("report", "export", "--data", "data", "--bench", "nowhere"), ""),
    "predict": (("predict", "nowhere", "--export", "export"), ""),
    "predict, export": (("predict", "data/training/rgb/00000000.jpg", "--export", "nowhere"), EXPORT),
    "inspect": (("inspect", "nowhere"), EXPORT),
    "build": (("build", "nowhere"), EXPORT),
    "build, data": (("build", "export", "--gate-data", "nowhere"), FOLDER_OF_DATA),
    "score": (("score", "nowhere", "--data", "data"), ""),
    "hand": (("hand", "nowhere", "--out", "made.npz"), ""),
    "import-released": (("import-released", "nowhere", "--out", "made"), ""),
    "synth, backgrounds": (("synth", "--out", "made", "--backgrounds", "nowhere"), "name a folder of photographs"),
    "data check": (("data", "check", "nowhere"), FOLDER_OF_DATA),
    "data allow": (("data", "allow", "nowhere", "bone"), FOLDER_OF_DATA),
}


@pytest.fixture(scope="module")
def begun(hand_topology: HandTopology, freihand_folder: Callable[..., Path]) -> Path:
    """A folder with `data` and `export`."""
    data = freihand_folder(n_labels=1)
    save_export(data.parent / "place" / "export", hand_topology)
    return data.rename(data.parent / "place" / "data").parent


@pytest.mark.parametrize("command", ABSENT)
def test_what_does_not_exist_is_said_not_to(
    command: str, begun: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(begun)
    words, advice = ABSENT[command]
    sentence = refused(capsys, *words, watched=begun)
    assert sentence.startswith("nowhere")
    assert f"does not exist; {advice}" in sentence
