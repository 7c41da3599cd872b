"""--engine auto takes the fastest engine that was proven, and says why."""

import dataclasses
import json
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest
from fake_gpu import FakeGpu
from linear_hand import SIDE, make_manifest, save_onnx

from cliphand.errors import InputError
from cliphand.files import sha256_of
from engines.artefact.manifest import Manifest
from engines.choice.choose import choose_engine
from engines.host.available import choices
from engines.host.cuda_device import Gpu
from engines.tensorrt.plan import BatchRange, BuildSettings, PlanKey, PlanRecord, write_record

PRECISIONS = {"model.onnx": "fp32", "model.fp16.onnx": "fp16", "model.int8.onnx": "int8"}


@pytest.fixture
def export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("engines.host.available.is_installed", lambda name: True)
    monkeypatch.setattr("engines.choice.choose.find_gpu", lambda: "there is no NVIDIA GPU")
    for name in PRECISIONS:
        save_onnx(tmp_path / name)
    return tmp_path


def manifest_of(export: Path, names: dict[str, str] = PRECISIONS) -> Manifest:
    return make_manifest(export, names)


def save_rows(path: Path, rows: list[dict[str, object]], *, bound: bool = True) -> None:
    """Rows about the files of the folder as they are now, or without their hashes."""
    files = {row["artefact"]: path.parent / str(row["artefact"]) for row in rows if bound}
    hashes = {name: sha256_of(file) for name, file in files.items() if file.exists()}
    told = [{"sha256": hashes[row["artefact"]]} | row if row["artefact"] in hashes else row for row in rows]
    path.write_text(json.dumps({"rows": told}))


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


def test_onnx_runtime_takes_int8_last_so_that_a_folder_of_int8_alone_runs(export: Path) -> None:
    verdicts = [{"artefact": name, "engine": "onnxruntime", "passed": True} for name in PRECISIONS]
    save_rows(export / "parity.json", verdicts)
    chosen = [
        choose_engine(export, manifest_of(export, dict(list(PRECISIONS.items())[left_out:])), "ort").path.name
        for left_out in range(3)
    ]
    assert chosen == list(PRECISIONS)
    (export / "parity.json").unlink()
    with pytest.raises(InputError, match="holds nothing that onnxruntime runs within the gate"):
        choose_engine(export, manifest_of(export, {"model.int8.onnx": "int8"}), "ort")


PARITY = [{"artefact": name, "engine": "openvino", "passed": True} for name in ("model.onnx", "model.int8.onnx")]


@pytest.mark.parametrize("touched", [True, False])
def test_a_verdict_holds_for_the_bytes_that_were_judged_and_for_no_others(export: Path, touched: bool) -> None:
    """A graph that was changed, its manifest with it; or a file of verdicts from before it held hashes."""
    save_rows(export / "parity.json", PARITY, bound=touched)
    if touched:
        assert choose_engine(export, manifest_of(export)).path.name == "model.int8.onnx"
        for name in PRECISIONS:
            save_onnx(export / name, seed=1)
    found = choose_engine(export, manifest_of(export))
    assert found.path.name == "model.onnx"
    assert "it passed the gate" not in found.why
    assert "FP32 needs no gate" in found.why
    names = "model.onnx and model.int8.onnx"
    other = f"; {names} is not the one that parity.json judged (its sha256 differs), which proves nothing of it: export"
    silent = f"; parity.json does not say which {names} it judged (it holds no sha256): export again"
    assert (other if touched else silent) in found.why
    int8_only = manifest_of(export, {"model.int8.onnx": "int8"})
    with pytest.raises(InputError, match=r"model\.int8\.onnx (is not the one|it judged)"):
        choose_engine(export, int8_only)


@pytest.mark.parametrize("touched", [True, False])
def test_a_measurement_holds_for_the_bytes_that_were_measured_and_for_no_others(export: Path, touched: bool) -> None:
    save_rows(export / "bench.json", [bench_row("model.int8.onnx", "openvino", 10.0)], bound=touched)
    if touched:
        assert choose_engine(export, manifest_of(export)).path.name == "model.int8.onnx"
        save_onnx(export / "model.int8.onnx", seed=1)
    found = choose_engine(export, manifest_of(export))
    assert found.path.name == "model.onnx"
    other = "model.int8.onnx is not the one that bench.json measured (its sha256 differs)"
    silent = "bench.json does not say which model.int8.onnx it measured (it holds no sha256)"
    assert (other if touched else silent) in found.why
    assert "run `cliphand bench` again" in found.why


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
    monkeypatch.setattr("engines.host.available.is_installed", lambda name: name != "openvino")
    assert choose_engine(export, manifest_of(export)).runner == "onnxruntime"
    with pytest.raises(InputError, match=r"openvino cannot be used here: openvino not installed: `pip install -e"):
        choose_engine(export, manifest_of(export), "openvino")


def hollow(patch: pytest.MonkeyPatch, name: str) -> None:
    """A package of which nothing but the folder is there."""
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None)
    patch.setitem(sys.modules, name, module)


@pytest.mark.parametrize("measured", [True, False])
def test_an_engine_that_is_half_installed_is_passed_over_and_by_name_its_remedy_is_said(
    export: Path, monkeypatch: pytest.MonkeyPatch, measured: bool
) -> None:
    hollow(monkeypatch, "openvino")
    if measured:
        rows = [bench_row("model.onnx", "openvino", 9.0), bench_row("model.onnx", "onnxruntime", 40.0)]
        save_rows(export / "bench.json", rows)
    found = choose_engine(export, manifest_of(export))
    assert found.runner == "onnxruntime"
    assert "; passed over: openvino: openvino is broken (it has no Core): `pip install" in found.why
    with pytest.raises(InputError, match=r"openvino cannot be used here: openvino is broken \(it has no Core\): `pip"):
        choose_engine(export, manifest_of(export), "openvino")
    hollow(monkeypatch, "onnxruntime")
    with pytest.raises(InputError, match=r"onnxruntime is broken \(it has no InferenceSession\)"):
        choose_engine(export, manifest_of(export))


def test_what_is_not_chosen_is_not_imported(export: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr("engines.host.available.import_fault", lambda module, part: asked.append(module))
    assert choose_engine(export, manifest_of(export)).runner == "openvino"
    assert asked == ["openvino"]


def test_a_listed_graph_that_is_gone_is_passed_over_and_by_itself_refused(export: Path) -> None:
    manifest = manifest_of(export, {"model.onnx": "fp32", "model.fp16.onnx": "fp16"})
    save_rows(export / "parity.json", [{"artefact": "model.fp16.onnx", "engine": "onnxruntime", "passed": True}])
    (export / "model.onnx").unlink()
    found = choose_engine(export, manifest)
    gone = f"{export / 'model.onnx'} is listed in manifest.json but is not there, export again"
    assert (found.path.name, found.why.count(gone)) == ("model.fp16.onnx", 1)
    (export / "model.fp16.onnx").unlink()
    with pytest.raises(InputError, match="is not there, export again"):
        choose_engine(export, manifest)


def test_without_a_package_the_command_that_compiles_one_is_named(export: Path) -> None:
    with pytest.raises(
        InputError, match=r"nothing that inductor runs within the gate; make it with `cliphand export --a"
    ):
        choose_engine(export, manifest_of(export), "inductor")


def test_an_unknown_engine_is_refused_with_the_valid_ones(export: Path) -> None:
    with pytest.raises(InputError, match="no engine 'tflite'; valid are auto, ort, tensorrt, "):
        choose_engine(export, manifest_of(export), "tflite")


def test_reduced_precision_by_name_takes_the_fp32_graph(export: Path) -> None:
    found = choose_engine(export, manifest_of(export), "openvino-reduced")
    assert (found.path.name, found.runner) == ("model.onnx", "openvino-reduced")


def test_a_folder_without_a_usable_graph_says_so(export: Path) -> None:
    manifest = dataclasses.replace(manifest_of(export), artefacts={})
    with pytest.raises(InputError, match="holds nothing that openvino"):
        choose_engine(export, manifest)


L4 = Gpu("NVIDIA L4", "8.9", "13.3", "CUDA 13.3")
PASSED = {"parity": {"passed": True, "failures": []}}


@pytest.fixture
def gpu(export: Path, monkeypatch: pytest.MonkeyPatch) -> FakeGpu:
    """A GPU that runs TensorRT's plans of the folder."""
    stand_in = FakeGpu(side=SIDE)
    stand_in.install(monkeypatch)
    monkeypatch.setattr("engines.choice.choose.find_gpu", lambda: L4)
    monkeypatch.setattr("engines.host.available.is_installed", lambda name: name != "tensorrt_rtx")
    monkeypatch.setattr("engines.host.available._has_distribution", lambda name: False)
    return stand_in


def save_plan(export: Path, name: str = "model.plan", *, precision: str = "fp32", **changes: object) -> Path:
    """A plan of `model.onnx` that passed the gate, changed."""
    plan = export / name
    plan.write_bytes(name.encode())
    settings = BuildSettings(profiles=(BatchRange(1, 1, 4),), version_compatible=bool(changes.pop("native", False)))
    findings = changes.pop("findings", PASSED)
    sha256 = sha256_of(export / "model.onnx")
    key = PlanKey("tensorrt", precision, "0", sha256, str(changes.pop("version", "11.4.0")), L4, settings)
    write_record(PlanRecord(key, "model.onnx", SIDE, sha256_of(plan), 1.0, findings), plan)
    return plan


def test_the_order_is_the_one_that_doctor_shows(export: Path, gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every engine in turn, as the better ones go; what doctor marks first is what is taken."""
    save_plan(export)
    gone: set[str] = set()
    monkeypatch.setattr("engines.host.available.is_installed", lambda name: name not in gone)
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CUDAExecutionProvider"])
    order = (("tensorrt", "tensorrt"), ("onnxruntime-cuda", ""), ("openvino", "openvino"), ("onnxruntime", ""))
    for expected, module in order:
        if expected == "openvino":
            monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
        gone.add("tensorrt_rtx")
        usable = [choice.engine for choice in choices(L4) if choice.usable]
        assert usable[0] == expected
        assert choose_engine(export, manifest_of(export)).runner == expected
        gone.add(module)


def test_a_plan_is_taken_where_it_passed_the_gate_and_the_better_precision_first(export: Path, gpu: FakeGpu) -> None:
    save_plan(export)
    found = choose_engine(export, manifest_of(export))
    assert (found.path.name, found.runner) == ("model.plan", "tensorrt")
    assert "it passed the gate" in found.why
    save_plan(export, "model.fp16.plan", precision="fp16")
    assert choose_engine(export, manifest_of(export)).path.name == "model.fp16.plan"
    save_plan(export, "model.fp16.plan", precision="fp16", findings={"parity": {"passed": False}})
    assert choose_engine(export, manifest_of(export)).path.name == "model.plan"


def test_a_plan_that_was_not_judged_is_taken_by_name_only(export: Path, gpu: FakeGpu) -> None:
    save_plan(export, findings={"parity": "not executed here"})
    assert choose_engine(export, manifest_of(export)).runner == "openvino"
    assert choose_engine(export, manifest_of(export), "tensorrt").path.name == "model.plan"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"version": "10.16.1"}, "differs in tensorrt_version: built for 10.16.1, here is 11.4.0"),
        ({"native": True}, "is version-compatible: it brings native code"),
    ],
)
def test_a_plan_that_does_not_run_here_is_no_choice_and_by_name_the_reason_is_said(
    export: Path, gpu: FakeGpu, changes: dict[str, object], said: str
) -> None:
    save_plan(export, **changes)
    assert choose_engine(export, manifest_of(export)).runner == "openvino"
    with pytest.raises(InputError) as caught:
        choose_engine(export, manifest_of(export), "tensorrt")
    assert said in str(caught.value)
    if "native" in changes:
        assert choose_engine(export, manifest_of(export), trust=True).runner == "tensorrt"


def test_without_a_gpu_a_plan_is_refused_by_name(export: Path) -> None:
    with pytest.raises(InputError, match="tensorrt cannot be used here: there is no NVIDIA GPU"):
        choose_engine(export, manifest_of(export), "tensorrt")


def test_a_package_of_native_code_is_no_choice_until_it_is_trusted(export: Path) -> None:
    (export / "model.pt2").write_bytes(b"native code")
    manifest = manifest_of(export, PRECISIONS | {"model.pt2": "fp32"})
    rows = [bench_row("model.pt2", "inductor", 1.0), bench_row("model.onnx", "onnxruntime", 40.0)]
    save_rows(export / "bench.json", rows)
    assert choose_engine(export, manifest).path.name == "model.onnx"
    assert choose_engine(export, manifest, trust=True).path.name == "model.pt2"
