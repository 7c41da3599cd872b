"""Export folders from strangers: every bad file in one is a sentence and exit code 2, and nothing is written.

The tables hold what is wrong; the commands run in this process, through the door that users take.
"""

import dataclasses
import json
import os
import re
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from bad_graphs import GRAPHS
from linear_hand import make_manifest, save_export

from cliphand.cli.app import main
from cliphand.errors import InputError
from cliphand.files import sha256_of, write_json
from cliphand.hand import HandTopology
from engines.artefact.graph_file import read_graph
from engines.artefact.manifest import MANIFEST_NAME, write_manifest
from engines.open import open_engine
from engines.runtimes.inductor import PRECISION_KEY, SIZE_KEY, read_facts
from engines.tensorrt.build import parse
from engines.tensorrt.flavour import TENSORRT_RTX
from engines.tensorrt.plan import BuildSettings, PlanKey, PlanRecord, read_record
from engines.tensorrt.process import build_folder

MODEL = "model.onnx"


@pytest.fixture(scope="module")
def photograph(freihand_folder: Callable[..., Path]) -> Path:
    return next((freihand_folder(n_labels=1) / "evaluation" / "rgb").glob("*.jpg"))


@pytest.fixture
def export(tmp_path: Path, hand_topology: HandTopology) -> Path:
    return save_export(tmp_path / "export", hand_topology)


def rehash(folder: Path) -> None:
    """Make the manifest describe the files as they now are."""
    write_manifest(make_manifest(folder, {MODEL: "fp32"}), folder)


def contents(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.lstat().st_size, path.lstat().st_mtime_ns) for path in folder.rglob("*")}


def command(name: str, export: Path, photograph: Path) -> list[str]:
    """A command that reads an export folder."""
    arguments = {
        "inspect": [str(export)],
        "predict": [str(photograph), "--export", str(export), "--engine", "onnxruntime", "--threads", "1"],
        "bench": [str(export), "--data", str(photograph.parents[2]), "--engine", "onnxruntime", "--calls", "2"],
        "build": [str(export), "--flavour", "tensorrt-rtx"],
    }
    out = ["--out", str(export / "out"), "--no-cache"] if name == "predict" else []
    return [name, *arguments[name], *out]


def refusal(arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """The one sentence of a command that must end with exit code 2."""
    capsys.readouterr()
    monkeypatch.setattr(sys, "argv", ["cliphand", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    told = capsys.readouterr().err
    assert "Traceback" not in told
    line = told.splitlines()[-1]  # after the progress
    assert line.startswith("cliphand: ")
    assert len(line) < 900
    return line


def test_a_sound_export_passes_every_check(
    export: Path, photograph: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("inspect", "predict"):
        monkeypatch.setattr(sys, "argv", ["cliphand", *command(name, export, photograph)])
        with pytest.raises(SystemExit) as stop:
            main()
        assert stop.value.code == 0, capsys.readouterr().err
    parse(export / MODEL, TENSORRT_RTX)


@pytest.mark.parametrize("fault", GRAPHS)
def test_a_bad_graph_with_the_right_hash_is_a_sentence(
    fault: str, export: Path, photograph: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    damage, said = GRAPHS[fault]
    (export / MODEL).write_bytes(damage((export / MODEL).read_bytes()))
    rehash(export)
    before = contents(export)
    for name in ("inspect", "predict"):
        assert re.search(f"{MODEL}.*({said})", refusal(command(name, export, photograph), monkeypatch, capsys))
    with pytest.raises(InputError, match=MODEL):  # what `build` and `export` have TensorRT read
        parse(export / MODEL, TENSORRT_RTX)
    assert contents(export) == before


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino", "openvino-reduced"])
def test_every_engine_for_graphs_reads_them_with_the_same_checks(engine: str, export: Path) -> None:
    damage, said = GRAPHS["weights beside the file"]
    (export / MODEL).write_bytes(damage((export / MODEL).read_bytes()))
    (export / "weights.bin").write_bytes(bytes(36))
    rehash(export)
    with pytest.raises(InputError, match=said):
        open_engine(export / MODEL, engine=engine, threads=1)


def test_bench_refuses_a_bad_graph_and_build_says_why_it_has_no_plan(
    export: Path, photograph: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (export / MODEL).write_bytes(GRAPHS["weights at an absolute path"][0]((export / MODEL).read_bytes()))
    rehash(export)
    before = contents(export)
    said = "keeps weight 'joints_uvd.matrix' in another file (/etc/passwd)"
    assert said in refusal(command("bench", export, photograph), monkeypatch, capsys)
    monkeypatch.setattr(sys, "argv", ["cliphand", *command("build", export, photograph)])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 1  # the folder's other graphs would have been built
    told = capsys.readouterr()
    assert "Traceback" not in told.err
    assert f"{MODEL}: no plan: {export / MODEL} {said}" in told.out
    assert contents(export) == before


# What stands where the graph should, and what is said of it.
PLACES: dict[str, tuple[Callable[[Path], object], str]] = {
    "nothing": (lambda path: None, "does not exist, but manifest.json lists it"),
    "a folder": (lambda path: path.mkdir(), "does not exist, but manifest.json lists it"),
    "a pipe": (os.mkfifo, "does not exist, but manifest.json lists it"),
    "a link to a device": (lambda path: path.symlink_to("/dev/zero"), "does not exist, but manifest.json lists it"),
    "a link to nothing": (lambda path: path.symlink_to("nowhere"), "does not exist, but manifest.json lists it"),
    "a link to another file": (lambda path: path.symlink_to("/etc/passwd"), "is not the file that manifest.json"),
    "another graph": (lambda path: path.write_bytes(b"0"), "is not the file that manifest.json describes"),
}


@pytest.mark.parametrize("place", PLACES)
def test_what_is_not_the_file_of_the_manifest_is_refused(
    place: str, export: Path, photograph: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    put, said = PLACES[place]
    (export / MODEL).unlink()
    put(export / MODEL)
    assert said in refusal(command("inspect", export, photograph), monkeypatch, capsys)
    assert MODEL in refusal(command("predict", export, photograph), monkeypatch, capsys)
    messages: list[object] = []
    build_folder(export, TENSORRT_RTX, BuildSettings(), [MODEL], messages.append)
    ((name, reason),) = messages
    assert name == MODEL
    assert said in reason


IMPROPER = "is not a plain file name|Invalid JSON"
NAMES = (
    "/etc/passwd",
    "../model.onnx",
    "sub/model.onnx",
    "sub\\model.onnx",
    "C:model.onnx",
    "..",
    ".",
    "",
    "model.onnx\0.png",
    "model\n.onnx",
    "\ud800.onnx",
    "m" * 5000 + ".onnx",
)


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name[:20]))
def test_a_name_that_is_not_of_a_file_in_the_folder_is_refused(
    name: str, export: Path, photograph: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    value = json.loads((export / MANIFEST_NAME).read_text())
    value["artefacts"] = {name: value["artefacts"][MODEL]}
    (export / MANIFEST_NAME).write_text(json.dumps(value))
    for each in ("inspect", "predict", "bench", "build"):
        assert re.search(IMPROPER, refusal(command(each, export, photograph), monkeypatch, capsys))
    with pytest.raises(InputError, match=IMPROPER):
        read_record(save_plan(export, onnx=name))


def save_plan(folder: Path, **changes: object) -> Path:
    """A plan of no content with its sidecar."""
    plan = folder / "model.plan"
    plan.write_bytes(b"plan")
    key = PlanKey("tensorrt", "fp32", "", "", "11.4", None, BuildSettings())
    record = PlanRecord(key, MODEL, 32, sha256_of(plan), 1.0)
    write_json(plan.with_name("model.plan.json"), dataclasses.asdict(record) | changes, None)
    return plan


def facts_of(content: bytes, *, method: int = zipfile.ZIP_STORED, copies: int = 1) -> Callable[[Path], object]:
    """A package whose facts are these bytes."""

    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w", method) as archive:
            for copy in range(copies):
                archive.writestr(f"model/{copy}_metadata.json", content)

    return write


def stated(**changes: object) -> Callable[[Path], object]:
    facts = {PRECISION_KEY: "fp32", SIZE_KEY: "32", "AOTI_DEVICE_KEY": "cpu"} | changes
    return facts_of(json.dumps(facts).encode())


def flipped(path: Path) -> None:
    """Compressed facts with a byte changed in their middle."""
    facts_of(b"[" + b"1234567," * 200 + b"1]", method=zipfile.ZIP_DEFLATED)(path)
    content = bytearray(path.read_bytes())
    content[60] ^= 0xFF
    path.write_bytes(content)


# Of a package of native code: what it states, and what is said. Nothing of it has been run by then.
FACTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no archive": (lambda path: path.write_bytes(b"PK\3\4 and no more"), "is not an AOTInductor package"),
    "an archive cut short": (
        lambda path: (stated()(path), path.write_bytes(path.read_bytes()[:-30])),
        "is not an AOTInductor package",
    ),
    "damaged": (flipped, "is not an AOTInductor package"),
    "no JSON": (facts_of(b"no JSON"), "is not an AOTInductor package"),
    "no text": (facts_of(b"\xff\xfe\xfd"), "is not an AOTInductor package"),
    "a list": (facts_of(b"[1, 2]"), "no JSON object of texts"),
    "numbers": (stated(AOTI_CPU_ISA=3), "no JSON object of texts"),
    "lists in lists": (facts_of(b"[" * 100_000), "is not an AOTInductor package"),
    "objects in objects": (facts_of(b'{"a":' * 100_000), "is not an AOTInductor package"),
    "a bomb": (facts_of(bytes(20_000_000), method=zipfile.ZIP_DEFLATED), "states its facts in 20000000 bytes"),
    "many small bombs": (
        facts_of(bytes(900_000), method=zipfile.ZIP_DEFLATED, copies=20),
        "states its facts in 18000000 bytes",
    ),
    "nothing": (facts_of(b"{}"), "does not state"),
    "a size in words": (stated(**{SIZE_KEY: "large"}), "states crops of 'large' px"),
    "a negative size": (stated(**{SIZE_KEY: "-32"}), "states crops of '-32' px"),
    "a size of 5,000 digits": (stated(**{SIZE_KEY: "9" * 5000}), "states crops of '9999"),
}


@pytest.mark.parametrize("fault", FACTS)
def test_a_package_that_states_nonsense_is_a_sentence(fault: str, tmp_path: Path) -> None:
    write, said = FACTS[fault]
    write(tmp_path / "model.pt2")
    with pytest.raises(InputError, match=said) as caught:
        read_facts(tmp_path / "model.pt2")
    assert len(str(caught.value)) < 500


def test_a_file_beyond_what_the_format_holds_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / MODEL).open("wb") as stream:
        stream.truncate(3_000_000_000)  # no block of it is written
    with pytest.raises(InputError, match=r"has 3\.0 GB; an ONNX file ends at 2\.1 GB"):
        read_graph(tmp_path / MODEL)


def test_the_tables_hold_as_many_cases_as_they_say() -> None:
    counts = {"graphs": len(GRAPHS), "places": len(PLACES), "names": len(NAMES), "facts": len(FACTS)}
    sys.stdout.write(f"{sum(counts.values())} bad files of exports: {counts}\n")
    assert sum(counts.values()) >= 60
