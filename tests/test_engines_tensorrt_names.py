"""The engines' code against the real bindings of TensorRT 11, TensorRT 10 and TensorRT for RTX."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fake_gpu import FakeGpu, fake_tensorrt
from typed_graphs import save_typed_export
from vendor_wheels import TENSORRT_VERSIONS, cached, tensorrt_name

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("build", "layers", "run")


def run_python(arguments: list[str], bindings: Path | None) -> subprocess.CompletedProcess[str]:
    """Run Python in the repository, with the bindings in its path where they are given."""
    environment = dict(os.environ)
    if bindings is not None:
        environment |= {"LD_LIBRARY_PATH": str(bindings / "lib"), "PYTHONPATH": f"{bindings}{os.pathsep}{ROOT}"}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, cwd=ROOT, env=environment
    )


def look_up(module: str, sources: list[str], bindings: Path | None) -> dict[str, list[str]]:
    result = run_python([str(ROOT / "tests" / "tensorrt_names.py"), module, *sources], bindings)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


@pytest.fixture(scope="module", params=TENSORRT_VERSIONS)
def bindings(request: pytest.FixtureRequest) -> Path:
    return cached(tensorrt_name(request.param))


def engine_sources() -> list[str]:
    return [str(ROOT / "engines" / "tensorrt" / f"{name}.py") for name in SOURCES]


def test_every_name_and_keyword_exists_in_tensorrt(bindings: Path) -> None:
    seen = look_up("tensorrt", engine_sources(), bindings)
    assert (seen["missing"], seen["bad_keywords"]) == ([], [])


def test_every_name_and_keyword_exists_in_tensorrt_for_rtx() -> None:
    seen = look_up("tensorrt_rtx", engine_sources(), None)
    assert (seen["missing"], seen["bad_keywords"]) == ([], [])


def test_the_names_looked_up_are_those_that_the_engines_use() -> None:
    """A name that is dropped from the code, or that the look-up stops seeing, shows here."""
    seen = look_up("tensorrt_rtx", engine_sources(), None)
    assert seen["found"] == [
        "BuilderFlag",
        "BuilderFlag.REFIT_IDENTICAL",
        "ComputeCapability",
        "CudaGraphStrategy",
        "CudaGraphStrategy.DISABLED",
        "CudaGraphStrategy.WHOLE_GRAPH_CAPTURE",
        "EngineInspector.execution_context",
        "EngineInspector.get_engine_information",
        "EngineInvalidityDiagnostics",
        "EngineValidity",
        "EngineValidity.INVALID",
        "ExecutionContextAllocationStrategy",
        "ExecutionContextAllocationStrategy.USER_MANAGED",
        "HardwareCompatibilityLevel",
        "HardwareCompatibilityLevel.AMPERE_PLUS",
        "HardwareCompatibilityLevel.SAME_COMPUTE_CAPABILITY",
        "IBuilderConfig.num_compute_capabilities",
        "IBuilderConfig.set_compute_capability",
        "IBuilderConfig.set_flag",
        "ICudaEngine.create_engine_inspector",
        "ICudaEngine.create_execution_context",
        "ICudaEngine.create_runtime_config",
        "ICudaEngine.device_memory_size_v2",
        "ICudaEngine.get_tensor_dtype",
        "ICudaEngine.get_tensor_shape",
        "IExecutionContext.execute_async_v3",
        "IExecutionContext.get_tensor_shape",
        "IExecutionContext.set_device_memory",
        "IExecutionContext.set_input_shape",
        "IExecutionContext.set_optimization_profile_async",
        "IExecutionContext.set_tensor_address",
        "ILayer.get_input",
        "ILayer.get_output",
        "ILayer.num_inputs",
        "ILayer.type",
        "ILogger",
        "ILogger.ERROR",
        "ILogger.INTERNAL_ERROR",
        "INetworkDefinition.get_layer",
        "INetworkDefinition.num_layers",
        "IProgressMonitor",
        "IRuntimeCache.deserialize",
        "IRuntimeCache.serialize",
        "IRuntimeConfig.create_runtime_cache",
        "IRuntimeConfig.cuda_graph_strategy",
        "IRuntimeConfig.set_execution_context_allocation_strategy",
        "IRuntimeConfig.set_runtime_cache",
        "ITensor.dtype",
        "ITensor.name",
        "LayerInformationFormat",
        "LayerInformationFormat.JSON",
        "MemoryPoolType",
        "MemoryPoolType.WORKSPACE",
        "OnnxParserRefitter",
        "OnnxParserRefitter.refit_from_file",
        "ProfilingVerbosity",
        "ProfilingVerbosity.DETAILED",
        "Refitter",
        "Refitter.refit_cuda_engine",
        "Runtime",
        "Runtime.deserialize_cuda_engine",
        "Runtime.engine_host_code_allowed",
        "Runtime.get_engine_validity",
    ]


def test_a_name_that_tensorrt_lacks_is_found_out(bindings: Path, tmp_path: Path) -> None:
    source = tmp_path / "wrong.py"
    source.write_text(
        "trt.BuilderFlag.FP61\nself._engine.create_context()\ncontext.execute_async_v3(streem=1)\n"
        "runtime_config.create_runtime_cache()\nlayer.get_output(0).kind\n"
    )
    seen = look_up("tensorrt", [str(source)], bindings)
    assert seen["missing"] == ["BuilderFlag.FP61", "ICudaEngine.create_context", "ITensor.kind"]
    assert seen["bad_keywords"] == ["IExecutionContext.execute_async_v3(streem=)"]


@pytest.mark.parametrize("module", ["tensorrt", "tensorrt_rtx"])
def test_the_recording_stand_in_has_no_name_that_tensorrt_lacks(module: str) -> None:
    """The runner is tested against a stand-in; what that allows, the real one must have."""
    names = [
        f"{item.__name__}.{member}"
        for item in vars(fake_tensorrt(FakeGpu(), module)).values()
        if isinstance(item, type)
        for member in vars(item)
        if not member.startswith("_") and member != "information"
    ]
    program = (
        f"import json, sys, {module} as trt\n"
        "print(json.dumps([name for name in sys.argv[1:] if not hasattr(getattr(trt, name.split('.')[0], None), "
        "name.split('.')[1])]))"
    )
    for folder in (
        (cached(tensorrt_name(version)) for version in TENSORRT_VERSIONS) if module == "tensorrt" else (None,)
    ):
        result = run_python(["-c", program, *names], folder)
        assert json.loads(result.stdout) == [], result.stderr
    assert len(names) > 15


def test_the_recording_stand_in_has_no_name_that_cuda_bindings_lack() -> None:
    real, stand_in = importlib.import_module("cuda.bindings.driver"), FakeGpu().driver.module()
    names = [name for name in vars(stand_in) if name.startswith("cu")]
    assert len(names) > 25
    assert [name for name in names if not hasattr(real, name)] == []
    for holder in ("CUresult", "CUdevice_attribute", "CUstream_flags", "CUstreamCaptureMode"):
        members = [name for name in dir(getattr(stand_in, holder)) if name.startswith("CU")]
        assert members
        assert [name for name in members if not hasattr(getattr(real, holder), name)] == []


NULL_PARTS = """
import pathlib, sys
import pytest, tensorrt as real
from fake_gpu import FakeGpu
from cliphand.errors import InputError
from cliphand.files import sha256_of
from engines.host.cuda_device import find_gpu
from engines.tensorrt.build import parse
from engines.tensorrt.flavour import TENSORRT
from engines.tensorrt.plan import BuildSettings, PlanKey, PlanRecord, write_record
from engines.tensorrt.run import TrtEngine

folder = pathlib.Path(sys.argv[1])
try:
    parse(folder / "model.onnx", TENSORRT)
except InputError as error:
    print(error)
gpu, patch = FakeGpu(), pytest.MonkeyPatch()
gpu.install(patch)
sys.modules["tensorrt"] = real
key = PlanKey("tensorrt", "fp32", "", "", real.__version__, find_gpu(), BuildSettings())
write_record(PlanRecord(key, "model.onnx", 8, sha256_of(folder / "model.onnx"), 0.0), folder / "model.onnx")
try:
    TrtEngine(folder / "model.onnx")
except InputError as error:
    print(error)
print(gpu.alive)
"""


def test_a_builder_or_runtime_that_is_null_is_one_sentence(bindings: Path, tmp_path: Path) -> None:
    """The stand-in library creates nothing: what a broken installation looks like."""
    folder = save_typed_export(tmp_path, fp32={})
    result = run_python(["-c", f"import sys; sys.path.append('tests')\n{NULL_PARTS}", str(folder)], bindings)
    version, null = bindings.name.removeprefix("tensorrt-"), "pybind11::init(): factory function returned nullptr"
    assert result.stdout.splitlines() == [
        f"TensorRT {version} rejects {folder / 'model.onnx'}: {null}",
        f"TensorRT has no runtime here ({null}); is a driver installed?",
        "[]",
    ], result.stderr


def test_full_tensorrt_without_a_gpu_says_why_it_does_not_build(bindings: Path, tmp_path: Path) -> None:
    folder = save_typed_export(tmp_path, fp32={})
    program = (
        "import sys, pathlib\n"
        "from cliphand.errors import InputError\n"
        "from engines.tensorrt.process import build_plans\n"
        "try:\n"
        "    build_plans(pathlib.Path(sys.argv[1]), flavour='tensorrt')\n"
        "except InputError as error:\n"
        "    print(error)\n"
    )
    result = run_python(["-c", program, str(folder)], bindings)
    assert result.stdout.startswith(
        "plans of TensorRT cannot be built here: it builds only on the GPU that will run the plans, and "
    ), result.stderr
