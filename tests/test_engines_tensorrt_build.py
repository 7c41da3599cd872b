"""Real builds with TensorRT for RTX, which needs no GPU; a stand-in where only a GPU would tell."""

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typed_graphs import double, lacking_op, save_graph, save_typed_export, unknown_op

from cliphand.errors import InputError
from engines.host.cuda_device import find_gpu
from engines.tensorrt.plan import NOT_EXECUTED, BatchRange, BuildSettings, read_record
from engines.tensorrt.process import NO_GPU, BuiltPlan, build_plans

RTX = "tensorrt-rtx"


@pytest.fixture(scope="module")
def typed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export folder with FP32, FP16 and INT8 graphs, and their plans."""
    folder = save_typed_export(
        tmp_path_factory.mktemp("export"), fp32={}, fp16={"half": True}, int8={"half": True, "quantised": True}
    )
    build_plans(folder, flavour=RTX)
    return folder


def plan_of(folder: Path, settings: BuildSettings | None = None) -> BuiltPlan:
    """The plan of the only graph."""
    built = build_plans(folder, flavour=RTX, settings=settings)
    assert built.failures == {}
    return built.plans[0]


def failure_of(folder: Path, settings: BuildSettings | None = None) -> str:
    """Why the only graph has none."""
    built = build_plans(folder, flavour=RTX, settings=settings)
    assert built.plans == ()
    return built.failures["model.onnx"]


def test_a_folder_gets_a_plan_with_a_sidecar_for_each_graph(typed: Path) -> None:
    assert sorted(path.name for path in typed.glob("*plan*")) == [
        "model.fp16.rtx.plan",
        "model.fp16.rtx.plan.json",
        "model.int8.rtx.plan",
        "model.int8.rtx.plan.json",
        "model.rtx.plan",
        "model.rtx.plan.json",
    ]


def test_the_sidecar_tells_what_the_plan_was_built_from_with_and_for(typed: Path) -> None:
    plan = typed / "model.fp16.rtx.plan"
    record = read_record(plan)
    assert record.plan_sha256 == hashlib.sha256(plan.read_bytes()).hexdigest()
    assert record.key.onnx_sha256 == hashlib.sha256((typed / "model.fp16.onnx").read_bytes()).hexdigest()
    manifest = json.loads((typed / "manifest.json").read_text())
    assert record.key.checkpoint_sha256 == manifest["checkpoint"]["sha256"]
    assert (record.key.flavour, record.key.precision, record.onnx) == (RTX, "fp16", "model.fp16.onnx")
    assert record.key.tensorrt_version.startswith("1.")
    assert record.key.gpu is None
    assert {name: record.findings[name] for name in ("gpu", "parity", "engine_layers")} == {
        "gpu": NO_GPU,
        "parity": NOT_EXECUTED,
        "engine_layers": None,
    }
    assert record.build_s > 0


def test_layers_are_counted_in_the_type_that_the_graph_gives_them(typed: Path) -> None:
    counts = {name: read_record(typed / f"model.{name}rtx.plan").findings["layers"] for name in ("", "fp16.", "int8.")}
    assert (counts[""]["CONVOLUTION FLOAT"], counts[""]["MATRIX_MULTIPLY FLOAT"]) == (2, 2)
    assert (counts["fp16."]["CONVOLUTION HALF"], counts["fp16."]["MATRIX_MULTIPLY HALF"]) == (2, 2)
    assert (counts["int8."]["CONVOLUTION INT8"], counts["int8."]["MATRIX_MULTIPLY HALF"]) == (2, 2)
    assert counts["int8."]["QUANTIZE INT8"] == 2
    proof = read_record(typed / "model.int8.rtx.plan").findings["proof"]
    assert proof.startswith("2 of 4 convolutions and matrix products in INT8 (of the parsed network: without a GPU, ")


def test_half_the_weights_make_a_smaller_plan(typed: Path) -> None:
    sizes = [(typed / name).stat().st_size for name in ("model.rtx.plan", "model.fp16.rtx.plan")]
    assert sizes[1] < sizes[0]


def test_an_equal_plan_is_kept_and_a_changed_setting_builds_anew(tmp_path: Path) -> None:
    folder = save_typed_export(tmp_path, fp32={})
    first = plan_of(folder)
    written = first.path.stat().st_mtime_ns
    again = plan_of(folder)
    assert (again.reused, again.path.stat().st_mtime_ns, again.record) == (True, written, first.record)
    other = plan_of(folder, BuildSettings(profiles=(BatchRange(1, 1, 2),)))
    assert not other.reused
    assert other.record.key.settings.profiles == (BatchRange(1, 1, 2),)


def test_a_plan_that_was_damaged_is_built_anew(tmp_path: Path) -> None:
    folder = save_typed_export(tmp_path, fp32={})
    plan = plan_of(folder).path
    plan.write_bytes(plan.read_bytes()[:-1])
    assert not plan_of(folder).reused


def test_several_profiles_targets_and_tf32_are_built(tmp_path: Path) -> None:
    settings = BuildSettings(
        profiles=(BatchRange(1, 1, 1), BatchRange(2, 8, 64)), tf32=True, level=1, compute_capabilities=("8.6", "12.0")
    )
    record = plan_of(save_typed_export(tmp_path, fp32={}), settings).record
    assert record.key.settings == settings


def test_progress_goes_through_every_phase_to_its_end(tmp_path: Path) -> None:
    steps: list[tuple[str, int, int]] = []
    build_plans(save_typed_export(tmp_path, fp32={}), flavour=RTX, progress=lambda *step: steps.append(step))
    last = {phase: (done, total) for phase, done, total in steps}
    assert "Building engine" in last
    assert all(done == total for done, total in last.values())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"quantised": True, "int32_bias": True}, "rejects .*Int32 but must have type FP8, FP4, Int4, Int8, or UInt8"),
        ({"fault": lacking_op}, r"rejects .*operator: Det .*UNSUPPORTED_NODE"),
        ({"fault": unknown_op}, r"asks for nobody\.knows\.NoSuchOp .*no operator of ONNX"),
        ({"fault": double}, r"holds float64 tensors \(cast_0\), which TensorRT rounds to float32; export it again"),
        ({"batch": 2}, r"cannot build .*Input dimensions are \[2,3,32,32\] but profile dimensions are \[1,3,32,32\]"),
    ],
)
def test_a_graph_that_tensorrt_refuses_is_refused_in_its_words(
    tmp_path: Path, options: dict[str, object], said: str
) -> None:
    folder = save_typed_export(tmp_path, fp32=options)
    words = failure_of(folder)
    assert re.search(said, words)
    assert not re.search("\n|ModelImporter|catchCudaError", words)  # nor the trace of the importer
    assert list(folder.glob("*plan*")) == []


@pytest.mark.parametrize(
    ("precision", "options"),
    [("fp16", {}), ("int8", {"half": True}), ("fp32", {"half": True}), ("fp32", {"quantised": True})],
)
def test_a_graph_that_is_not_what_its_name_says_is_refused(
    tmp_path: Path, precision: str, options: dict[str, object]
) -> None:
    (words,) = build_plans(save_typed_export(tmp_path, **{precision: options}), flavour=RTX).failures.values()
    assert f"is called {precision}, but TensorRT sees" in words


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            BuildSettings(version_compatible=True),
            "version_compatible is set; it exists in TensorRT, not in",
        ),
        (BuildSettings(hardware="ampere_plus"), "hardware is set; it exists in TensorRT, not in TensorRT for RTX"),
        (BuildSettings(stripped=True), "a stripped plan can only be built with a GPU at hand"),
    ],
)
def test_a_setting_that_rtx_cannot_serve_here_is_refused(tmp_path: Path, settings: BuildSettings, said: str) -> None:
    with pytest.raises(InputError, match=said):
        build_plans(save_typed_export(tmp_path, fp32={}), flavour=RTX, settings=settings)


def test_a_target_that_rtx_does_not_build_for_is_told(tmp_path: Path) -> None:
    words = failure_of(save_typed_export(tmp_path, fp32={}), BuildSettings(compute_capabilities=("9.0",)))
    assert re.search(r"compute capability 9\.0 is not one .*: 75, 80, 86, 89, 120", words)


def test_a_graph_that_is_refused_costs_no_other_its_plan(tmp_path: Path) -> None:
    folder = save_typed_export(
        tmp_path, fp32={}, fp16={"half": True, "fault": lacking_op}, int8={"half": True, "quantised": True}
    )
    built = build_plans(folder, flavour=RTX)
    assert [plan.path.name for plan in built.plans] == ["model.rtx.plan", "model.int8.rtx.plan"]
    assert list(built.failures) == ["model.fp16.onnx"]
    assert "operator: Det" in built.failures["model.fp16.onnx"]
    assert sorted(path.name for path in folder.glob("*.plan")) == ["model.int8.rtx.plan", "model.rtx.plan"]


def test_a_workspace_too_small_fails_in_tensorrts_words(tmp_path: Path) -> None:
    folder = save_typed_export(tmp_path, fp32={})
    settings = BuildSettings(profiles=(BatchRange(1, 1, 4096),), workspace_mib=1)
    assert re.search(r"cannot build .*within workspace limit", failure_of(folder, settings))


def test_a_graph_that_was_replaced_after_the_export_is_refused(tmp_path: Path) -> None:
    folder = save_typed_export(tmp_path, fp32={})
    save_graph(folder / "model.onnx", half=True)
    assert "is not the file that manifest.json describes" in failure_of(folder)


def test_building_and_the_runner_never_import_torch(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib\n"
        "from engines.tensorrt.flavour import TENSORRT_RTX\n"
        "from engines.tensorrt.plan import BuildSettings\n"
        "from engines.tensorrt.process import build_folder\n"
        "build_folder(pathlib.Path(sys.argv[1]), TENSORRT_RTX, BuildSettings(), ['model.onnx'], lambda message: None)\n"
        "import engines.tensorrt.run, export.gate.plans, cliphand.cli.build\n"
        "print(sorted(name for name in ('torch', 'timm', 'lightning') if name in sys.modules))\n"
    )
    folder = save_typed_export(tmp_path, fp32={})
    result = subprocess.run([sys.executable, "-c", program, str(folder)], capture_output=True, text=True, check=False)
    assert result.stdout.splitlines() == ["[]"], result.stderr
    assert (folder / "model.rtx.plan").exists()


WITHOUT_A_GPU = """
import pathlib, sys
sys.path.append("tests")
import pytest
import tensorrt_rtx as real
from fake_gpu import FakeGpu
from cliphand.errors import InputError
from engines.host.cuda_device import find_gpu
from engines.tensorrt.build import inspect
from engines.tensorrt.plan import read_record
from engines.tensorrt.run import TrtEngine

plan = pathlib.Path(sys.argv[1])
key, gpu = read_record(plan).key, FakeGpu()
gpu.install(pytest.MonkeyPatch(), "tensorrt_rtx")
sys.modules["tensorrt_rtx"] = real
for use in (lambda: inspect(plan.read_bytes(), plan, key, input_size=32), lambda: TrtEngine(plan)):
    try:
        use()
    except InputError as error:
        print(error)
print(gpu.alive)
"""


def test_a_plan_that_this_machine_does_not_load_is_refused_in_tensorrts_words(typed: Path) -> None:
    """The real runtime, with a GPU that only the driver's stand-in shows."""
    if not isinstance(find_gpu(), str):
        pytest.skip("a GPU may load it")
    plan = typed / "model.fp16.rtx.plan"
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_A_GPU, str(plan)], capture_output=True, text=True, check=False
    )
    inspected, opened, alive = result.stdout.splitlines()
    assert inspected.startswith(f"TensorRT for RTX built {plan}, but this GPU does not load it: IRuntime::deserialize")
    assert re.search(r"^TensorRT for RTX 1\.\S+ fails at get_engine_validity.* on \S+: .*driver", opened)
    assert alive == "[]"
