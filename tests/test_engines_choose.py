"""--engine auto takes the fastest engine that was proven, and says why."""

import dataclasses
import json
from pathlib import Path

import pytest
from linear_hand import make_manifest, save_onnx

from cliphand.errors import InputError
from engines.choose import choose_engine
from engines.manifest import Manifest

PRECISIONS = {"model.onnx": "fp32", "model.fp16.onnx": "fp16", "model.int8.onnx": "int8"}


@pytest.fixture
def export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("engines.choose.importlib.util.find_spec", lambda name: name)
    for name in PRECISIONS:
        save_onnx(tmp_path / name)
    return tmp_path


def manifest_of(export: Path, names: dict[str, str] = PRECISIONS) -> Manifest:
    return make_manifest(export, names)


def save_rows(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text(json.dumps({"rows": rows}))


def bench_row(name: str, runner: str, ms: float, **changes: object) -> dict[str, object]:
    row = {"artefact": name, "runner": runner, "latency_ms_p50": ms, "batch": 1, "within_gate": True, "precision": "x"}
    return row | changes


def test_the_fastest_within_the_gate_wins(export: Path) -> None:
    rows = [
        bench_row("model.onnx", "onnxruntime", 40.0),
        bench_row("model.onnx", "openvino-reduced", 20.0),
        bench_row("model.int8.onnx", "openvino", 10.0, within_gate=False),
        bench_row("model.fp16.onnx", "onnxruntime", 1.0, batch=8),
        bench_row("checkpoint", "pytorch", 0.5),
    ]
    save_rows(export / "bench.json", rows)
    found = choose_engine(export, manifest_of(export))
    assert (found.path.name, found.runner) == ("model.onnx", "openvino-reduced")
    assert "fastest of 2" in found.why
    assert "20.0 ms" in found.why


def test_an_engine_asked_for_gets_its_best_graph(export: Path) -> None:
    rows = [bench_row("model.onnx", "onnxruntime", 40.0), bench_row("model.int8.onnx", "openvino", 10.0)]
    save_rows(export / "bench.json", rows)
    assert choose_engine(export, manifest_of(export), "ort").path.name == "model.onnx"
    assert choose_engine(export, manifest_of(export), "openvino").path.name == "model.int8.onnx"


def test_without_measurements_int8_needs_a_pass_of_the_gate(export: Path) -> None:
    manifest = manifest_of(export)
    found = choose_engine(export, manifest)
    assert (found.path.name, found.runner) == ("model.onnx", "openvino")
    assert "FP32 needs no gate" in found.why
    save_rows(export / "parity.json", [{"artefact": "model.int8.onnx", "engine": "openvino", "passed": True}])
    assert choose_engine(export, manifest).path.name == "model.int8.onnx"
    save_rows(export / "parity.json", [{"artefact": "model.int8.onnx", "engine": "openvino", "passed": False}])
    assert choose_engine(export, manifest).path.name == "model.onnx"


def test_a_rejected_graph_is_never_chosen(export: Path) -> None:
    name = "model.int8.onnx.rejected"
    (export / "model.int8.onnx").rename(export / name)
    manifest = manifest_of(export, {"model.onnx": "fp32", name: "int8"})
    save_rows(export / "bench.json", [bench_row(name, "openvino", 1.0), bench_row("model.onnx", "openvino", 9.0)])
    assert choose_engine(export, manifest).path.name == "model.onnx"
    save_rows(export / "parity.json", [{"artefact": name, "engine": "openvino", "passed": True}])
    (export / "bench.json").unlink()
    assert choose_engine(export, manifest).path.name == "model.onnx"


def test_what_is_not_installed_is_not_chosen(export: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engines.choose.importlib.util.find_spec", lambda name: None if name == "openvino" else name)
    assert choose_engine(export, manifest_of(export)).runner == "onnxruntime"
    with pytest.raises(InputError, match=r"openvino is not installed: pip install 'cliphand\[openvino\]'"):
        choose_engine(export, manifest_of(export), "openvino")


def test_an_unknown_engine_is_refused_with_the_valid_ones(export: Path) -> None:
    with pytest.raises(InputError, match="no engine 'tflite'; valid are auto, ort, onnxruntime"):
        choose_engine(export, manifest_of(export), "tflite")


def test_reduced_precision_by_name_takes_the_fp32_graph(export: Path) -> None:
    found = choose_engine(export, manifest_of(export), "openvino-reduced")
    assert (found.path.name, found.runner) == ("model.onnx", "openvino-reduced")


def test_a_folder_without_a_usable_graph_says_so(export: Path) -> None:
    manifest = dataclasses.replace(manifest_of(export), artefacts={})
    with pytest.raises(InputError, match="holds no graph"):
        choose_engine(export, manifest)
