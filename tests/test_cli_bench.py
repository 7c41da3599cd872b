import json
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from linear_hand import make_manifest, save_export_with_checkpoint, save_onnx
from typer.testing import CliRunner, Result

from benchmarks.bench.fuller import measured_again
from benchmarks.bench.run import BenchRequest
from benchmarks.measure.isolated import IsolatedSettings
from benchmarks.measure.roofline import Roofline
from cliphand.cli.app import main
from cliphand.cli.bench import bench
from cliphand.errors import InputError
from cliphand.hand import HandTopology
from cliphand.kinds import BENCH
from engines.artefact.manifest import write_manifest

app = typer.Typer()
app.command()(bench)
QUICK = (
    *("--calls", "2", "--seconds", "1", "--threads", "1"),
    *("--engine", "onnxruntime", "--cold-starts", "0", "--side-by-side", "0", "--energy", "0"),
)


@pytest.fixture(scope="module")
def data(freihand_folder: Callable[..., Path]) -> Path:
    return freihand_folder(n_labels=2)


@pytest.fixture
def export(tmp_path: Path, hand_topology: HandTopology, monkeypatch: pytest.MonkeyPatch) -> Path:
    """exports/first under the current folder, with its checkpoint."""
    monkeypatch.chdir(tmp_path)
    return save_export_with_checkpoint(tmp_path / "exports" / "first", hand_topology, monkeypatch)


@pytest.fixture(autouse=True)
def roof(monkeypatch: pytest.MonkeyPatch) -> None:
    """What its measurement finds has tests of its own."""
    monkeypatch.setattr("benchmarks.bench.run.measure_roofline", lambda threads: Roofline({"fp32": 100.0}, threads))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in (*arguments, *QUICK)])


def test_the_last_line_is_the_json_object_and_the_file_holds_the_same(export: Path, data: Path, tmp_path: Path) -> None:
    result = run(export, "--data", data, "--batch", 1, "--batch", 2, "--json", tmp_path / "out.json")
    assert result.exit_code == 0, result.output
    value = json.loads(result.stdout.splitlines()[-1])
    assert [(row["engine"], row["batch"]) for row in value["rows"]] == [
        ("pytorch", 1),
        ("pytorch", 2),
        ("onnxruntime", 1),
        ("onnxruntime", 2),
    ]
    assert json.loads((tmp_path / "out.json").read_text()) == value
    assert BENCH.is_own(tmp_path / "out.json")


def test_the_table_is_whole_where_stdout_is_a_pipe(export: Path, data: Path) -> None:
    for flags, columns in ((), 14), (("--wide",), 25):
        lines = run(export, "--data", data, *flags).stdout.splitlines()[:-1]
        rows = [line for line in lines if line.strip().startswith(("pytorch", "onnxruntime")) and "fp32" in line]
        assert [len(row.split()) for row in rows] == [columns, columns]
        assert not any("…" in line for line in lines)
        if not flags:
            assert max(map(len, lines)) <= 120


def test_the_newest_export_is_the_default(export: Path, data: Path) -> None:
    result = run("--data", data)
    value = json.loads(result.stdout.splitlines()[-1])
    assert value["export"]["path"] == "exports/first"
    assert json.loads((export / "bench.json").read_text()) == value


def test_options_reach_the_report(export: Path, data: Path, tmp_path: Path) -> None:
    result = run(
        *(export, "--data", data, "--root", "scale", "--split", "training", "--images", 1),
        *("--checkpoint", export / "checkpoint", "--predictions", tmp_path / "pred.json"),
    )
    value = json.loads(result.stdout.splitlines()[-1])
    assert (value["root"], value["data"]["split"], value["data"]["images"]) == ("scale", "training", 1)
    assert value["speed"]["calls"] == 2
    assert len(json.loads((tmp_path / "pred.json").read_text())[0]) == 1


def asked(monkeypatch: pytest.MonkeyPatch, *lines: tuple[object, ...]) -> list[BenchRequest]:
    """What command lines ask for."""
    requests = []

    def measure(request: BenchRequest) -> None:
        requests.append(request)
        raise InputError("enough.")

    monkeypatch.setattr("cliphand.cli.bench.measure", measure)
    for line in lines:
        CliRunner().invoke(app, [str(argument) for argument in line])
    return requests


def test_what_is_measured_alone_is_as_asked_for(monkeypatch: pytest.MonkeyPatch, export: Path, data: Path) -> None:
    requests = asked(
        monkeypatch,
        (export, "--data", data),
        (export, "--data", data, "--cold-starts", 1, "--side-by-side", 0.5, "--processes", 3, "--energy", 0.25),
    )
    assert [request.isolated for request in requests] == [
        IsolatedSettings(cold_starts=3, throughput_s=2.0, processes=None, energy_s=1.0),
        IsolatedSettings(cold_starts=1, throughput_s=0.5, processes=3, energy_s=0.25),
    ]


def test_the_roof_is_measured_for_any_engine_of_openvino(
    monkeypatch: pytest.MonkeyPatch, export: Path, data: Path
) -> None:
    engines = ("onnxruntime", "openvino", "openvino-reduced")
    requests = asked(monkeypatch, *((export, "--data", data, "--engine", engine) for engine in engines))
    assert [request.roofline for request in requests] == [False, True, True]


def test_progress_stays_off_stdout(export: Path, data: Path) -> None:
    result = run(export, "--data", data)
    assert "accuracy" in result.stderr
    assert "accuracy  " not in result.stdout


def test_a_folder_that_is_no_export_is_one_sentence(tmp_path: Path, data: Path) -> None:
    result = run(tmp_path, "--data", data)
    assert isinstance(result.exception, InputError)
    assert "has no manifest.json" in str(result.exception)


def test_another_root_is_refused_with_the_valid_ones(export: Path, data: Path) -> None:
    result = run(export, "--data", data, "--root", "guess")
    assert result.exit_code == 2
    assert "truth" in result.stderr
    assert "scale" in result.stderr


def test_a_benchmark_without_data_says_what_it_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["cliphand", "bench"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert capsys.readouterr().err == (
        "cliphand: missing option '--data' (a folder in FreiHAND's layout); `cliphand bench --help` tells what is "
        "valid.\n"
    )


def add_half_a_graph(export: Path) -> None:
    """What is left of a copy that was stopped, with a manifest that says so."""
    content = (export / "model.onnx").read_bytes()
    (export / "model.int8.onnx").write_bytes(content[: len(content) // 2])
    write_manifest(make_manifest(export, {"model.onnx": "fp32", "model.int8.onnx": "int8"}), export)


@pytest.mark.parametrize(
    ("engine", "key"), [("onnxruntime", "model.int8.onnx"), ("openvino", "model.int8.onnx, openvino")]
)
def test_a_bad_graph_is_skipped_with_its_reason_and_the_exit_code_says_so(
    export: Path, data: Path, engine: str, key: str
) -> None:
    pytest.importorskip(engine, reason=f"{engine} is not installed")
    add_half_a_graph(export)
    words = ["--data", data, *QUICK]
    words[words.index("onnxruntime")] = engine
    result = CliRunner().invoke(app, [str(word) for word in (export, *words)])
    assert result.exit_code == 1, result.exception
    value = json.loads(result.stdout.splitlines()[-1])
    assert [row["engine"] for row in value["rows"]] == ["pytorch", engine]
    assert [(one["key"], one["broken"]) for one in value["skipped"]] == [(key, True)]
    assert f"{engine}, {key}: skipped: " in result.stdout
    assert "is not an ONNX graph, or only the beginning of one" in result.stdout


def test_an_engine_that_this_machine_lacks_is_left_out_and_no_file_is_blamed(
    export: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    monkeypatch.setattr("engines.runtimes.openvino_cpu.computed_in", lambda compiled: "f32")  # a processor without AMX
    result = run(export, "--data", data, "--engine", "openvino-reduced")
    assert result.exit_code == 0, result.exception
    value = json.loads(result.stdout.splitlines()[-1])
    assert value["skipped"] == []
    assert any("openvino-reduced is left out: OpenVINO knows no reduced precision" in one for one in value["omitted"])


@pytest.fixture
def measured(export: Path, data: Path) -> bytes:
    """What bench.json holds after a benchmark of two batch sizes."""
    assert run(export, "--data", data, "--batch", 1, "--batch", 2).exit_code == 0
    return (export / "bench.json").read_bytes()


@pytest.mark.parametrize(
    ("words", "lost"),
    [
        (("--batch", "1"), "(of pytorch at batch 2; model.onnx at batch 2)"),
        (("--batch", "1", "--batch", "2", "--images", "1"), "(on 2 images)"),
    ],
)
def test_a_narrower_benchmark_replaces_a_fuller_one_only_where_it_is_named(
    export: Path, data: Path, measured: bytes, words: tuple[str, ...], lost: str
) -> None:
    result = run(export, "--data", data, *words)
    assert isinstance(result.exception, InputError)
    assert f"bench.json holds results that this benchmark leaves out {lost}" in str(result.exception)
    assert (export / "bench.json").read_bytes() == measured
    assert run(export, "--data", data, *words, "--json", export / "bench.json").exit_code == 0
    assert (export / "bench.json").read_bytes() != measured


def test_a_fuller_benchmark_replaces_a_narrower_one(export: Path, data: Path, measured: bytes) -> None:
    assert run(export, "--data", data, "--batch", 1, "--batch", 2, "--threads", 2).exit_code == 0
    assert len(json.loads((export / "bench.json").read_text())["rows"]) > len(json.loads(measured)["rows"])


def test_what_was_measured_of_another_model_is_replaced(export: Path, data: Path, measured: bytes) -> None:
    save_onnx(export / "model.onnx", seed=1)
    write_manifest(make_manifest(export, {"model.onnx": "fp32"}), export)
    value = json.loads(measured)
    value["export"]["checkpoint_sha256"] = "0" * 64  # as the other model's
    (export / "bench.json").write_text(json.dumps(value))
    assert run(export, "--data", data).exit_code == 0


@pytest.mark.parametrize(
    ("row", "options", "kept"),
    [
        ({"runner": "onnxruntime"}, {}, True),
        ({"runner": "openvino"}, {}, False),
        ({"threads": 4}, {}, False),
        ({"artefact": "model.int8.onnx.rejected"}, {}, False),
        ({"artefact": "model.int8.onnx.rejected"}, {"rejected": True}, True),
        ({"artefact": "model.pt2", "runner": "inductor"}, {}, False),
        ({"artefact": "model.pt2", "runner": "inductor"}, {"trust": True}, True),
        ({"artefact": "model.plan", "runner": "tensorrt", "threads": None}, {"threads": (1,)}, True),
        ({"kind": "baseline", "runner": ""}, {}, False),
        ({"kind": "baseline", "runner": ""}, {"baselines": True}, True),
        ({"kind": "reference", "runner": "pytorch"}, {}, True),
        ({"isolated": {"energy": None}}, {}, False),
        ({"isolated": {"energy": None}}, {"isolated": IsolatedSettings(cold_starts=1)}, True),
    ],
)
def test_what_a_benchmark_measures_again(row: dict[str, object], options: dict[str, object], kept: bool) -> None:
    usual = {"key": "a", "kind": "artefact", "artefact": "model.onnx", "runner": "onnxruntime", "batch": 1}
    request = BenchRequest(export=Path(), data=Path(), **options)
    assert measured_again({**usual, "threads": request.threads[0], **row}, request) is kept
