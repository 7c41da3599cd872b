"""What the builder is told, and what is done with its engine, against stand-ins: no TensorRT, no GPU."""

import dataclasses
import json
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from fake_gpu import FakeGpu, fake_tensorrt

from cliphand.errors import InputError
from engines.host.cuda_device import Gpu
from engines.tensorrt.build import build_bytes, inspect, timing_cache
from engines.tensorrt.flavour import FLAVOURS
from engines.tensorrt.plan import NOT_EXECUTED, BatchRange, BuildSettings, PlanKey, read_record
from engines.tensorrt.process import build_plan

L4 = Gpu("NVIDIA L4", "8.9", "13.2", "580.95.05")
H200 = Gpu("NVIDIA H200", "9.0", "13.2", "580.95.05")


def key_of(
    settings: BuildSettings | None = None,
    *,
    flavour: str = "tensorrt",
    gpu: Gpu | None = L4,
    precision: str = "fp16",
    version: str = "11.4.0",
) -> PlanKey:
    return PlanKey(flavour, precision, "0", "1", version, gpu, settings or BuildSettings())


class Told:
    """A builder's configuration and Polygraphy's backend that write down what they are told."""

    def __init__(self) -> None:
        self.options: dict[str, object] = {}
        self.flags: list[str] = []
        self.targets: list[tuple[object, int]] = []
        self.built: dict[str, object] = {}
        names = SimpleNamespace
        self.trt = names(
            HardwareCompatibilityLevel=names(AMPERE_PLUS="ampere", SAME_COMPUTE_CAPABILITY="same"),
            MemoryPoolType=names(WORKSPACE="workspace"),
            ProfilingVerbosity=names(DETAILED="detailed"),
            BuilderFlag=names(REFIT_IDENTICAL="refit identical"),
            ComputeCapability=names(__members__={"SM86": "sm86", "SM120": "sm120", "NONE": "none"}),
            IProgressMonitor=object,
            __name__="tensorrt_rtx",
            __version__="11.4.0",
        )
        self.backend = ModuleType("polygraphy")
        self.backend.create_config = self.create_config
        self.backend.Profile = lambda: names(add=lambda *shapes: shapes)
        self.backend.engine_bytes_from_network = self.build

    def create_config(self, builder: str, network: str, **options: object) -> object:
        assert (builder, network) == ("builder", "network")
        self.options = options
        return self

    def set_flag(self, flag: str) -> None:
        self.flags.append(flag)

    def set_compute_capability(self, target: object, index: int) -> bool:
        self.targets.append((target, index))
        return target != "none"

    def build(self, network: object, **options: object) -> bytearray:
        self.built = {"network": network, **options}
        return bytearray(b"plan")


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Told:
    """Stand-ins for everything that a build takes from TensorRT; a graph with one FP16 convolution."""
    stand_in = Told()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("engines.tensorrt.build.load_tensorrt", lambda flavour: stand_in.trt)
    monkeypatch.setattr("engines.tensorrt.build.load_polygraphy", lambda flavour: stand_in.backend)
    monkeypatch.setattr("engines.tensorrt.build.parse", lambda onnx, flavour: ("builder", "network", "parser"))
    monkeypatch.setattr("engines.tensorrt.build.count_layers", lambda network: {"CONVOLUTION HALF": 1})
    return stand_in


def build(key: PlanKey, steps: list[object] | None = None) -> tuple[bytes, dict[str, int]]:
    progress = (lambda *step: None) if steps is None else (lambda *step: steps.append(step))
    return build_bytes(Path("model.onnx"), key, input_size=256, progress=progress)


def test_the_builder_is_told_every_setting(told: Told, tmp_path: Path) -> None:
    settings = BuildSettings(
        profiles=(BatchRange(1, 1, 1), BatchRange(2, 8, 64)),
        level=5,
        workspace_mib=512,
        tf32=True,
        version_compatible=True,
        hardware="ampere_plus",
        stripped=True,
    )
    assert build(key_of(settings)) == (b"plan", {"CONVOLUTION HALF": 1})
    told.options.pop("progress_monitor")
    timing = str(tmp_path / "cliphand" / "tensorrt" / "tensorrt-11.4.0-cuda13.2-NVIDIA-L4-8.9.timing")
    assert told.options == {
        "profiles": [
            ("image", (1, 3, 256, 256), (1, 3, 256, 256), (1, 3, 256, 256)),
            ("image", (2, 3, 256, 256), (8, 3, 256, 256), (64, 3, 256, 256)),
        ],
        "builder_optimization_level": 5,
        "memory_pool_limits": {"workspace": 512 * 2**20},
        "tf32": True,
        "load_timing_cache": timing,
        "hardware_compatibility_level": "ampere",
        "version_compatible": True,
        "strip_plan": True,
        "profiling_verbosity": "detailed",
    }
    assert told.flags == ["refit identical"]
    assert told.built == {"network": ("builder", "network", "parser"), "config": told, "save_timing_cache": timing}


def test_by_default_nothing_is_limited_and_tf32_is_off(told: Told) -> None:
    build(key_of(flavour="tensorrt-rtx", gpu=None))
    assert told.options["tf32"] is False
    assert told.options["strip_plan"] is False
    assert [told.options[name] for name in ("memory_pool_limits", "load_timing_cache")] == [None, None]
    assert told.options["hardware_compatibility_level"] is None
    assert told.options["builder_optimization_level"] == 3
    assert (told.flags, told.targets, hasattr(told, "num_compute_capabilities")) == ([], [], False)


def test_hardware_levels_are_tensorrts(told: Told) -> None:
    build(key_of(BuildSettings(hardware="same_compute_capability")))
    assert told.options["hardware_compatibility_level"] == "same"


def test_targets_are_counted_before_they_are_named(told: Told) -> None:
    build(key_of(BuildSettings(compute_capabilities=("8.6", "12.0")), flavour="tensorrt-rtx", gpu=None))
    assert told.num_compute_capabilities == 2
    assert told.targets == [("sm86", 0), ("sm120", 1)]


def test_a_target_that_tensorrt_declines_is_an_error(told: Told) -> None:
    told.trt.ComputeCapability.__members__["SM90"] = "none"
    with pytest.raises(InputError, match=r"compute capability 9\.0 is not one that tensorrt_rtx builds for: 86, 120"):
        build(key_of(BuildSettings(compute_capabilities=("9.0",)), flavour="tensorrt-rtx", gpu=None))


def test_the_monitor_reports_each_phase_from_its_start_to_its_end(told: Told) -> None:
    steps: list[object] = []
    build(key_of(), steps)
    monitor = told.options["progress_monitor"]
    monitor.phase_start("Timing", None, 3)
    assert monitor.step_complete("Timing", 0) is True
    monitor.phase_finish("Timing")
    assert steps == [("Timing", 0, 3), ("Timing", 1, 3), ("Timing", 3, 3)]


def test_timings_are_kept_for_one_gpu_cuda_and_tensorrt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert timing_cache(key_of(gpu=None)) is None
    kept = timing_cache(key_of(gpu=H200))
    assert kept == str(tmp_path / "cliphand" / "tensorrt" / "tensorrt-11.4.0-cuda13.2-NVIDIA-H200-9.0.timing")
    others = {
        timing_cache(key_of(gpu=H200, version="10.16.1")),
        timing_cache(key_of(gpu=Gpu("A/100", "8.0", "13.2", "5"))),
        timing_cache(key_of(gpu=Gpu("NVIDIA H200", "9.0", "12.8", "5"))),
    }
    assert len(others - {kept}) == 3


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> FakeGpu:
    """A GPU whose TensorRT loads what was built."""
    stand_in = FakeGpu(side=256, profiles=((1, 8, 64),))
    trt = stand_in.trt = fake_tensorrt(stand_in, "tensorrt")
    trt.LayerInformationFormat = SimpleNamespace(JSON="JSON")
    logger = type("Logger", (trt.ILogger,), {"log": lambda self, severity, msg: None})()
    monkeypatch.setattr("engines.tensorrt.build.load_tensorrt", lambda flavour: trt)

    def engine_from_bytes(content: bytes) -> object:
        engine = trt.Runtime(logger).deserialize_cuda_engine(content)
        if engine is None:
            raise RuntimeError("it is of no use")
        return engine

    backend = SimpleNamespace(engine_from_bytes=engine_from_bytes)
    monkeypatch.setattr("engines.tensorrt.build.load_polygraphy", lambda flavour: backend)
    return stand_in


def test_the_inspectors_table_is_kept_and_counted(gpu: FakeGpu, tmp_path: Path) -> None:
    settings = BuildSettings(profiles=(BatchRange(1, 8, 64),))
    assert inspect(b"plan", tmp_path / "model.plan", key_of(settings), input_size=256) == {"CONVOLUTION HALF": 1}
    kept = json.loads((tmp_path / "model.plan.layers.json").read_text())
    assert kept["Layers"][0]["Name"] == "a"
    assert "get_engine_information JSON at batch 8" in gpu.calls


def test_a_plan_that_its_own_gpu_does_not_load_fails(gpu: FakeGpu, tmp_path: Path) -> None:
    gpu.fail_at = 1
    with pytest.raises(InputError, match=r"built .*model\.plan, but this GPU does not load it: it is of no use"):
        inspect(b"plan", tmp_path / "model.plan", key_of(), input_size=256)


def test_a_stripped_plan_is_inspected_without_a_context(gpu: FakeGpu, tmp_path: Path) -> None:
    inspect(b"plan", tmp_path / "model.plan", key_of(BuildSettings(stripped=True)), input_size=256)
    assert any(call.startswith("get_engine_information") for call in gpu.calls)
    assert "create_execution_context" not in gpu.calls


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_an_engine_of_another_precision_than_its_graph_leaves_no_plan(
    gpu: FakeGpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flavour: str
) -> None:
    monkeypatch.setattr("engines.tensorrt.process.build_bytes", lambda *arguments, **options: (b"plan", {}))
    key = key_of(precision="int8", flavour=flavour)
    with pytest.raises(InputError, match=r"is called int8, but TensorRT sees 0 of 1 convolutions in INT8"):
        build_plan(tmp_path / "model.onnx", key, input_size=256, progress=lambda *step: None)
    assert not list(tmp_path.glob("*.plan"))


def test_a_plan_whose_layers_do_not_tell_their_types_stays(
    gpu: FakeGpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorRT for RTX before its just-in-time compilation."""
    information = '{"Layers": [{"Name": "a", "LayerType": "conv", "Inputs": [{"Format/Datatype": "N/A"}]}]}'
    monkeypatch.setattr(gpu.trt.EngineInspector, "information", information)
    monkeypatch.setattr("engines.tensorrt.process.build_bytes", lambda *arguments, **options: (b"plan", {}))
    key = key_of(precision="int8", flavour="tensorrt-rtx")
    built = build_plan(tmp_path / "model.onnx", key, input_size=256, progress=lambda *step: None)
    assert built.record.findings["engine_layers"] == {"CONVOLUTION UNTOLD": 1}


@pytest.mark.parametrize(
    ("place", "call"),
    [(3, "create_engine_inspector"), (4, "create_execution_context"), (5, "set_input_shape 1")],
)
def test_an_inspection_that_fails_is_told(gpu: FakeGpu, tmp_path: Path, place: int, call: str) -> None:
    gpu.fail_at = place
    with pytest.raises(InputError, match=rf"but this GPU does not load it: {call.split()[0]} failed$"):
        inspect(b"plan", tmp_path / "model.plan", key_of(), input_size=256)
    assert gpu.calls[place] == call


def test_what_a_gpu_tells_of_its_plan_is_in_the_sidecar(
    gpu: FakeGpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = {"CONVOLUTION HALF": 2}
    monkeypatch.setattr("engines.tensorrt.process.build_bytes", lambda *arguments, **options: (b"plan", layers))
    onnx = tmp_path / "model.onnx"
    built = build_plan(onnx, key_of(), input_size=256, progress=lambda *step: None)
    assert built.record == read_record(tmp_path / "model.plan")
    assert built.record.findings == {
        "layers": layers,
        "engine_layers": {"CONVOLUTION HALF": 1},
        "proof": "1 of 1 convolutions and matrix products in HALF (of the finished engine)",
        "gpu": "NVIDIA L4",
        "parity": NOT_EXECUTED,
    }


def test_a_plan_of_tensorrt_for_rtx_stays_where_this_gpu_does_not_load_it(
    gpu: FakeGpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu.fail_at = 1
    monkeypatch.setattr("engines.tensorrt.process.build_bytes", lambda *arguments, **options: (b"plan", {"a": 1}))
    key = dataclasses.replace(key_of(), flavour="tensorrt-rtx")
    built = build_plan(tmp_path / "model.onnx", key, input_size=256, progress=lambda *step: None)
    assert built.path.read_bytes() == b"plan"
    assert "but this GPU does not load it: it is of no use" in str(built.record.findings["engine_layers"])
