"""What the builder is told, and what is done with its engine, against stand-ins: no TensorRT, no GPU."""

import json
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from fake_gpu import FakeGpu, fake_tensorrt
from typed_graphs import save_graph

from cliphand.errors import InputError
from engines.cuda_device import Gpu
from engines.trt_build import Job, _inspect, _optimise
from engines.trt_flavour import TENSORRT, TENSORRT_RTX, Flavour
from engines.trt_network import Parsed, count_layers, parse
from engines.trt_plan import BatchRange, BuildSettings, make_key

L4 = Gpu("NVIDIA L4", "8.9", "13.2", "580.95.05")


def job(
    folder: Path, settings: BuildSettings, *, flavour: Flavour = TENSORRT, gpu: Gpu | None = L4, precision: str = "fp16"
) -> Job:
    key = make_key(
        flavour, settings, version="11.4.0", gpu=gpu, precision=precision, checkpoint_sha256="0", onnx_sha256="1"
    )
    return Job(folder / "model.onnx", 256, flavour, key, gpu)


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
        )
        backend = ModuleType("polygraphy")
        backend.CreateConfig = self.create_config
        backend.Profile = lambda: names(add=lambda name, **shapes: (name, shapes))
        backend.engine_bytes_from_network = self.build
        self.parsed = Parsed(self.trt, backend, "builder", "network", "parser", "logger")

    def create_config(self, **options: object) -> object:
        self.options = options
        return lambda builder, network: self

    def set_flag(self, flag: str) -> None:
        self.flags.append(flag)

    def set_compute_capability(self, target: object, index: int) -> bool:
        self.targets.append((target, index))
        return target != "none"

    def build(self, network: object, **options: object) -> bytearray:
        self.built = {"network": network, **options}
        return bytearray(b"plan")


def optimise(told: Told, work: Job) -> bytes:
    return _optimise(told.parsed, work, lambda phase, done, total: None)


def test_the_builder_is_told_every_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    told = Told()
    settings = BuildSettings(
        profiles=(BatchRange(1, 1, 1), BatchRange(2, 8, 64)),
        level=5,
        workspace_mib=512,
        tf32=True,
        version_compatible=True,
        hardware="ampere_plus",
        stripped=True,
    )
    assert optimise(told, job(tmp_path, settings)) == b"plan"
    told.options.pop("progress_monitor")
    timing = str(tmp_path / "cliphand" / "tensorrt" / "tensorrt-11.4.0-cuda13.2-NVIDIA-L4-8.9.timing")
    assert told.options == {
        "profiles": [
            ("image", dict.fromkeys(("min", "opt", "max"), (1, 3, 256, 256))),
            ("image", {"min": (2, 3, 256, 256), "opt": (8, 3, 256, 256), "max": (64, 3, 256, 256)}),
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


def test_by_default_nothing_is_limited_and_tf32_is_off(tmp_path: Path) -> None:
    told = Told()
    optimise(told, job(tmp_path, BuildSettings(), flavour=TENSORRT_RTX, gpu=None))
    assert told.options["tf32"] is False
    assert told.options["strip_plan"] is False
    assert [told.options[name] for name in ("memory_pool_limits", "load_timing_cache")] == [None, None]
    assert told.options["hardware_compatibility_level"] is None
    assert told.options["builder_optimization_level"] == 3
    assert (told.flags, told.targets, hasattr(told, "num_compute_capabilities")) == ([], [], False)


def test_hardware_levels_are_tensorrts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    told = Told()
    optimise(told, job(tmp_path, BuildSettings(hardware="same_compute_capability")))
    assert told.options["hardware_compatibility_level"] == "same"


def test_targets_are_counted_before_they_are_named(tmp_path: Path) -> None:
    told = Told()
    settings = BuildSettings(compute_capabilities=("8.6", "12.0"))
    optimise(told, job(tmp_path, settings, flavour=TENSORRT_RTX, gpu=None))
    assert told.num_compute_capabilities == 2
    assert told.targets == [("sm86", 0), ("sm120", 1)]


def test_a_target_that_tensorrt_declines_is_an_error(tmp_path: Path) -> None:
    told = Told()
    told.trt.ComputeCapability.__members__["SM90"] = "none"
    settings = BuildSettings(compute_capabilities=("9.0",))
    with pytest.raises(InputError, match=r"compute capability 9\.0 is refused"):
        optimise(told, job(tmp_path, settings, flavour=TENSORRT_RTX, gpu=None))


def test_the_monitor_reports_each_phase_from_its_start_to_its_end(tmp_path: Path) -> None:
    told, steps = Told(), []
    _optimise(told.parsed, job(tmp_path, BuildSettings(), gpu=None), lambda *step: steps.append(step))
    monitor = told.options["progress_monitor"]
    monitor.phase_start("Timing", None, 3)
    assert monitor.step_complete("Timing", 0) is True
    monitor.phase_finish("Timing")
    assert steps == [("Timing", 0, 3), ("Timing", 1, 3), ("Timing", 3, 3)]


def test_a_network_is_always_strongly_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorRT 11 and TensorRT for RTX know nothing else; TensorRT 10 would choose the types itself."""
    asked: list[tuple[str, dict[str, object]]] = []

    def network_from_onnx_path(path: str, **options: object) -> tuple[str, str, str]:
        asked.append((path, options))
        return "builder", "network", "parser"

    backend = SimpleNamespace(network_from_onnx_path=network_from_onnx_path, get_trt_logger=lambda: "logger")
    monkeypatch.setattr("engines.trt_network.load_tensorrt", lambda flavour: SimpleNamespace(__version__="10.16"))
    monkeypatch.setattr("engines.trt_network.load_polygraphy", lambda flavour: backend)
    graph = save_graph(tmp_path / "model.onnx")
    parsed = parse(graph, TENSORRT)
    assert asked == [(str(graph), {"strongly_typed": True})]
    assert (parsed.builder, parsed.network, parsed.parser, parsed.logger) == ("builder", "network", "parser", "logger")


def parsed_with(gpu: FakeGpu) -> Parsed:
    trt = fake_tensorrt(gpu, "tensorrt")
    trt.LayerInformationFormat = SimpleNamespace(JSON="JSON")
    return Parsed(trt, ModuleType("polygraphy"), None, None, None, trt.ILogger())


def test_the_inspectors_table_is_kept_and_counted(tmp_path: Path) -> None:
    gpu = FakeGpu(side=256)
    settings = BuildSettings(profiles=(BatchRange(1, 8, 64),))
    assert _inspect(parsed_with(gpu), job(tmp_path, settings), b"plan") == {"FP16": 1}
    kept = json.loads((tmp_path / "model.plan.layers.json").read_text())
    assert kept["Layers"][0]["Name"] == "a"
    assert "get_engine_information JSON at batch 8" in gpu.calls


def test_an_engine_of_another_precision_than_its_graph_fails(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is called int8, but TensorRT built it from layers of"):
        _inspect(parsed_with(FakeGpu(side=256)), job(tmp_path, BuildSettings(), precision="int8"), b"plan")


def test_a_plan_that_its_own_gpu_does_not_load_fails(tmp_path: Path) -> None:
    gpu = FakeGpu(side=256)
    parsed = parsed_with(gpu)
    parsed.logger.log = lambda severity, msg: None
    gpu.fail_at = 1
    with pytest.raises(InputError, match="but NVIDIA L4 does not load it"):
        _inspect(parsed, job(tmp_path, BuildSettings()), b"plan")


def test_a_stripped_plan_is_inspected_without_a_context(tmp_path: Path) -> None:
    gpu = FakeGpu(side=256)
    _inspect(parsed_with(gpu), job(tmp_path, BuildSettings(stripped=True, version_compatible=True)), b"plan")
    assert "deserialize_cuda_engine, host code True" in gpu.calls
    assert "create_execution_context" not in gpu.calls


def test_layers_are_counted_by_their_first_output_and_int8_by_what_feeds_them() -> None:
    def layer(kind: str, given: str | None, result: str, dtype: str) -> SimpleNamespace:
        tensors = {
            name: SimpleNamespace(name=name, dtype=SimpleNamespace(name=dtype)) for name in (given, result) if name
        }
        return SimpleNamespace(
            type=SimpleNamespace(name=kind),
            num_inputs=int(given is not None),
            num_outputs=1,
            get_input=lambda index: tensors[given],
            get_output=lambda index: tensors[result],
        )

    layers = [
        layer("CONSTANT", None, "w", "FLOAT"),
        layer("QUANTIZE", "image", "q", "INT8"),
        layer("DEQUANTIZE", "q", "d", "HALF"),
        layer("CONVOLUTION", "d", "c", "HALF"),
        layer("CONVOLUTION", "c", "e", "HALF"),
    ]
    network = SimpleNamespace(num_layers=5, get_layer=lambda index: layers[index])
    assert count_layers(network) == {
        "CONSTANT FLOAT": 1,
        "CONVOLUTION HALF": 1,
        "CONVOLUTION INT8": 1,
        "DEQUANTIZE HALF": 1,
        "QUANTIZE INT8": 1,
    }
