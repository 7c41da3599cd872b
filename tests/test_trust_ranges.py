"""Numbers that no run can have are refused, by option and by field, before anything is done."""

import dataclasses
import inspect
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, get_args, get_origin, get_type_hints

import pytest
import typer.main
from annotated_types import Interval

from benchmarks.bench.run import BenchRequest
from benchmarks.measure.interleaved import SpeedSettings
from benchmarks.measure.isolated import IsolatedSettings
from benchmarks.report.bench_file import read_bench
from benchmarks.report.build import ReportRequest
from cliphand.checked import from_json, to_json
from cliphand.cli import app as command_line
from cliphand.cli.ranges import RANGES
from cliphand.cli.train import train
from cliphand.config import AugmentConfig, CropConfig, LossConfig, ModelConfig, TextConfig, TrainConfig
from cliphand.errors import InputError
from cliphand.training.distil_config import DistilConfig
from cliphand.training.option_names import (
    AUGMENT_OPTIONS,
    CROP_OPTIONS,
    LOSS_OPTIONS,
    MODEL_OPTIONS,
    TEACHER_OPTIONS,
    TEXT_OPTIONS,
    TRAIN_OPTIONS,
)
from engines.choice.choose import _Candidate, _measured
from engines.host.available import RUN_TIMES
from engines.tensorrt.plan import parse_range
from export.gate.images import GateRequest
from export.gate.parity import Tolerance
from export.precision.calibration import CalibrationRequest, HeldOut
from export.precision.request import TypedRequest

NEVER = ("nan", "inf", "-inf", "1e400", "-1e30", "1e30", "1" + "0" * 30, "-1" + "0" * 30, "many", "0x10", "9" * 5000)
REQUIRED = {
    "bench": ("--data", "data"),
    "build": ("export",),
    "export": ("run",),
    "import_released": ("weights.pth.tar", "--out", "made"),
    "predict": ("photo.jpg", "--export", "export"),
    "report": (),
    "synth": ("--out", "made"),
    "train": ("--data", "data", "--out", "made"),
}
OPTIONS_OF_TRAIN = {
    **TRAIN_OPTIONS,
    **AUGMENT_OPTIONS,
    **LOSS_OPTIONS,
    **TEXT_OPTIONS,
    **CROP_OPTIONS,
    **MODEL_OPTIONS,
    **TEACHER_OPTIONS,
}


def numbers_of(command: Callable[..., None]) -> Iterator[tuple[str, int]]:
    """The numeric options of a command and how many numbers each takes."""
    for name, hint in get_type_hints(command).items():
        kinds = [kind for kind in (hint, *get_args(hint)) if kind is not type(None)]
        inner = [part for kind in kinds for part in (kind, *get_args(kind))]
        if float in inner or int in inner:
            fixed = next((get_args(kind) for kind in kinds if get_origin(kind) is tuple), (0,))
            yield name, len(fixed)


PARSER = typer.main.get_command(command_line.app)  # the application would make one for every call
COMMANDS = {command.__name__: command for command in command_line.COMMANDS}
NUMERIC = {name: dict(numbers_of(command)) for name, command in COMMANDS.items()}
ROWS = [
    (command, option, (value, *["1"] * (count - 1)))
    for command, options in NUMERIC.items()
    for option, count in options.items()
    for value in NEVER
]
BELOW = [
    (command, option, ("1",) * (len(limits) - 1) + (str(least - 1),))
    for command, options in RANGES.items()
    for option, given in options.items()
    for limits in [given if isinstance(given, tuple) else (given,)]
    for least in [limits[-1].ge if limits[-1].gt is None else limits[-1].gt]
]
ZERO = [
    ("train", option, ("0",))
    for option in ("epochs", "batch", "learning_rate", "step_factor", "crop_side", "lixel_channels", "devices")
]


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """The command line in an empty folder: exit code and what stands on stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command_line, "app", PARSER)

    def call(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["cliphand", *arguments])
        with pytest.raises(SystemExit) as ended:
            command_line.main()
        assert list(tmp_path.iterdir()) == []
        return int(ended.value.code or 0), capsys.readouterr().err

    return call


def arguments_for(command: str, option: str, values: tuple[str, ...]) -> list[str]:
    teacher = ("--teacher", "teacher") if option.startswith("weight_teacher") else ()
    return [command.replace("_", "-"), *REQUIRED[command], *teacher, f"--{option.replace('_', '-')}", *values]


@pytest.mark.parametrize(("command", "option", "values"), [*ROWS, *BELOW, *ZERO])
def test_a_number_out_of_range_is_one_sentence_that_names_the_option(
    run: Callable[..., tuple[int, str]], command: str, option: str, values: tuple[str, ...]
) -> None:
    code, said = run(*arguments_for(command, option, values))
    assert code == 2
    assert f"--{option.replace('_', '-')}" in " ".join(said.split())
    assert "Traceback" not in said
    if said.startswith("cliphand: "):  # else the parser's own words, in a frame
        assert said.count("\n") == 1


def test_every_number_of_every_command_has_a_range_and_the_table_is_long() -> None:
    for command, options in NUMERIC.items():
        ranged = set(OPTIONS_OF_TRAIN) if command == "train" else set(RANGES.get(command, {}))
        assert set(options) <= ranged, f"{command} has numbers without a range: {set(options) - ranged}"
        assert command == "train" or ranged <= set(inspect.signature(COMMANDS[command]).parameters)
    print(f"{len(ROWS) + len(BELOW) + len(ZERO)} options out of range, {len(FIELDS) + len(BENCH_ROWS)} fields")  # noqa: T201
    assert len(ROWS) + len(BELOW) + len(ZERO) + len(FIELDS) >= 1000


CONFIGS = (CropConfig(), ModelConfig(), TextConfig(), AugmentConfig(), LossConfig(), DistilConfig(), TrainConfig())
WRONG: tuple[object, ...] = (None, "1", True, [], {}, float("nan"), float("inf"), -float("inf"), 1e30, -1e30, 10**30)
NEVER_TEXT: tuple[object, ...] = (None, 1, True, [], {}, 1.5, "", "x" * 5000)


def broken(value: dict[str, object]) -> Iterator[tuple[str, dict[str, object]]]:
    """A JSON object with one thing wrong, for every field at every depth and every wrong value."""
    for key, right in value.items():
        if isinstance(right, dict):
            for path, inner in broken(right):
                yield f"{key}.{path}", value | {key: inner}
            continue
        wrong = NEVER_TEXT if isinstance(right, str) else WRONG
        if isinstance(right, bool):
            wrong = tuple(bad for bad in WRONG if not isinstance(bad, bool))
        if isinstance(right, list | tuple):
            yield from ((key, value | {key: [bad, *right[1:]]}) for bad in wrong)
            yield from ((key, value | {key: bad}) for bad in (*right[:-1], [*right, right[0]], right[:-1]))
        yield from ((key, value | {key: bad}) for bad in wrong if bad != right)
    yield "surprise", value | {"surprise": 1}


FIELDS = [(type(config), path, value) for config in CONFIGS for path, value in broken(to_json(config))]


def test_a_field_of_the_wrong_type_or_out_of_range_is_one_sentence_that_names_it() -> None:
    for kind, path, value in FIELDS:
        with pytest.raises(InputError) as caught:
            from_json(kind, value, source="config.json")
        sentence = str(caught.value)
        assert sentence.startswith("config.json: "), sentence
        assert path.rpartition(".")[2] in sentence, (path, sentence)
        assert "\n" not in sentence
        assert len(sentence) < 400


LATENCY = {f"{stem}_ms_p{share}": 10.0 for stem in ("latency", "end_to_end") for share in (50, 90, 99)}
SAMPLES = {"latency_samples_ms": [9.0, 10.0], "end_to_end_samples_ms": [11.0]}
BENCH_ROW = {"engine": "openvino", "precision": "fp32", "batch": 1, "threads": 2, **LATENCY, **SAMPLES}
MAY_BE_NONE = {"threads", "end_to_end_ms_p50", "end_to_end_ms_p90", "end_to_end_ms_p99", *SAMPLES}
BENCH_ROWS = [
    (path, row)
    for path, row in broken(BENCH_ROW)
    if path != "surprise" and row[path] != [] and not (row[path] is None and path in MAY_BE_NONE)
]


def test_a_field_of_a_benchmark_that_it_cannot_have_written_is_one_sentence_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    for name, row in BENCH_ROWS:
        if name in SAMPLES and isinstance(row[name], list) and all(isinstance(one, float) for one in row[name]):
            continue  # as many samples as there are
        path.write_text(json.dumps({"rows": [row]}))
        with pytest.raises(InputError) as caught:
            read_bench(path)
        sentence = str(caught.value)
        assert sentence.startswith(str(path)), sentence
        assert name in sentence or "is no finite number" in sentence, (name, sentence)


@pytest.mark.parametrize("latency", [-1.0, 0, 1e30, True])
def test_a_latency_that_cannot_be_does_not_choose_the_engine(tmp_path: Path, latency: object) -> None:
    found = [_Candidate("model.onnx", "", RUN_TIMES[0], "fp32", passed=None)]
    row = {"artefact": "model.onnx", "runner": RUN_TIMES[0].engine, "within_gate": True, "batch": 1}
    with pytest.raises(InputError, match=r"bench\.json: latency_ms_p50 of model\.onnx is"):
        next(_measured(tmp_path, found, [row | {"latency_ms_p50": latency}]))


def test_every_number_of_a_config_has_limits() -> None:
    def limited(hint: object, limits: bool = False) -> bool:
        if get_origin(hint) is Annotated:
            inner, *facts = get_args(hint)
            return limited(inner, limits or any(isinstance(fact, Interval) for fact in facts))
        if get_args(hint):
            return all(limited(part) for part in get_args(hint) if part is not Ellipsis)
        return hint not in (int, float) or limits

    for config in (*CONFIGS, *REQUESTS):
        hints = get_type_hints(type(config), include_extras=True)
        for field in dataclasses.fields(config):
            assert limited(hints[field.name]), f"{type(config).__name__}.{field.name} has no range"


REQUESTS = (
    BenchRequest(Path("export"), Path("data")),
    SpeedSettings(),
    IsolatedSettings(),
    ReportRequest(Path("export")),
    TypedRequest(("fp16",), CalibrationRequest(Path("data")), GateRequest(Path("data"))),
    GateRequest(Path("data")),
    CalibrationRequest(Path("data")),
    HeldOut(Path("data"), 0.1, 0),
    Tolerance(0.1, 1.0),
)
FIELDS_OF_REQUESTS = [(request, field.name) for request in REQUESTS for field in dataclasses.fields(request)]


@pytest.mark.parametrize(
    ("given", "field"), FIELDS_OF_REQUESTS, ids=[f"{type(one).__name__}.{field}" for one, field in FIELDS_OF_REQUESTS]
)
def test_a_request_takes_nothing_of_another_type_or_out_of_range(given: object, field: str) -> None:
    hint = get_type_hints(type(given))[field]
    kinds = {hint, *get_args(hint)}
    right = [value for value, kind in ((None, type(None)), (True, bool)) if kind in kinds]
    right += [{}] if field == "tolerances" else []
    for wrong in (*WRONG, object()):
        if any(wrong is value or (value == {} and wrong == {}) for value in right):
            continue
        with pytest.raises(InputError) as caught:
            dataclasses.replace(given, **{field: wrong})  # type: ignore[type-var]
        assert field in str(caught.value), caught.value


def test_a_value_that_stands_in_its_place_is_refused_by_its_fields_name() -> None:
    with pytest.raises(InputError, match=r"^p99_mm is nan"):
        Tolerance(0.1, float("nan"))
    with pytest.raises(TypeError, match="positional arguments"):
        Tolerance(0.1, 1.0, 2.0)  # type: ignore[call-arg]


def test_a_config_in_json_is_what_it_was() -> None:
    for config in CONFIGS:
        assert from_json(type(config), json.loads(json.dumps(to_json(config))), source="x") == config


@pytest.mark.parametrize("text", ["0:0:0", "64:8:1", "-1:1:2", "1:1:1000000000", "1:2:3:4", "nan", "", "1" * 5000])
def test_a_profile_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse_range(text)


def test_train_knows_its_options() -> None:
    assert set(OPTIONS_OF_TRAIN) <= set(inspect.signature(train).parameters)


@pytest.mark.parametrize("arguments", [("export", ""), ("train", "--data", "x", "--out="), ("synth", "--out", "")])
def test_an_empty_argument_is_refused(run: Callable[..., tuple[int, str]], arguments: tuple[str, ...]) -> None:
    code, said = run(*arguments)
    assert code == 2
    assert said.startswith("cliphand: an argument is empty")


@pytest.mark.parametrize(
    "arguments",
    [
        ("export", "NAME"),
        ("bench", "NAME", "--data", "NAME"),
        ("inspect", "NAME"),
        ("build", "NAME"),
        ("predict", "NAME", "--export", "NAME"),
        ("report", "NAME"),
        ("score", "NAME", "--data", "NAME"),
        ("hand", "NAME", "--out", "hand.npz"),
        ("synth", "--out", "NAME", "--train", "1"),
        ("import-released", "NAME", "--out", "made"),
        ("train", "--data", "NAME", "--out", "made"),
        ("train", "--data", "data", "--out", "NAME"),
    ],
)
def test_a_name_that_no_file_system_takes_is_one_sentence(
    run: Callable[..., tuple[int, str]], arguments: tuple[str, ...]
) -> None:
    code, said = run(*(argument.replace("NAME", "n" * 300) for argument in arguments))
    assert code == 2
    assert said.splitlines()[-1].startswith("cliphand: ")  # a progress bar may have begun
    assert "Traceback" not in said


@pytest.mark.parametrize("fault", ["ENOSPC", "EACCES", "EROFS", "ENAMETOOLONG", "EISDIR"])
def test_what_the_system_refuses_is_one_sentence(
    run: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    import errno
    import os

    number = getattr(errno, fault)

    def refuse(**_: object) -> None:
        raise OSError(number, os.strerror(number), "a/file")

    monkeypatch.setattr(command_line, "app", refuse)
    code, said = run("synth")
    assert code == 2
    assert said.startswith(f"cliphand: a/file cannot be written or read ({os.strerror(number)}); ")


def test_a_fault_of_the_program_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: object) -> None:
        raise OSError("no file")

    monkeypatch.setattr(command_line, "app", fail)
    monkeypatch.setattr(sys, "argv", ["cliphand"])
    with pytest.raises(OSError, match="no file"):
        command_line.main()
