"""The runner against a recording stand-in: results, the order of calls, and nothing left behind after any failure."""

import dataclasses
import gc
import re
import tempfile
from pathlib import Path

import numpy as np
import pytest
from fake_gpu import OUTPUTS, FakeGpu, answer
from linear_hand import save_onnx

from cliphand.errors import InputError
from cliphand.files import sha256_of
from engines.host.cuda_device import DriverError, Gpu
from engines.tensorrt.plan import BatchRange, BuildSettings, PlanKey, PlanRecord, write_record
from engines.tensorrt.run import TrtEngine, listener, load

L4 = Gpu("NVIDIA L4", "8.9", "13.2", "CUDA 13.3")
MODULES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
WAIT = "cuStreamSynchronize"
TRANSFERS_UP = ["cuMemcpyHtoDAsync"]
TRANSFERS_DOWN = ["cuMemcpyDtoHAsync", "cuMemcpyDtoHAsync", WAIT]
CONTEXT = ["create_execution_context", "set_optimization_profile_async 0"]
CONTEXT += [*(f"set_tensor_address {name}" for name in ("image", *OUTPUTS)), WAIT]


def images(count: int, side: int = 8) -> np.ndarray:
    return np.random.default_rng(count).normal(size=(count, 3, side, side)).astype(np.float32)


def save_plan(folder: Path, gpu: FakeGpu, *, flavour: str = "tensorrt", **settings: object) -> Path:
    """A plan that the stand-in runs, and its sidecar."""
    plan = folder / "model.plan"
    plan.write_bytes(b"plan")
    profiles = tuple(BatchRange(*span) for span in gpu.profiles)
    version = {"tensorrt": "11.4.0", "tensorrt-rtx": "1.7.1"}[flavour]
    onnx = folder / "model.onnx"
    graph = sha256_of(onnx) if onnx.exists() else "1"
    key = PlanKey(flavour, "fp16", "0", graph, version, L4, BuildSettings(profiles=profiles, **settings))
    record = PlanRecord(key=key, onnx="model.onnx", input_size=gpu.side, plan_sha256=sha256_of(plan), build_s=1.0)
    write_record(record, plan)
    return plan


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeGpu:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    recorder = FakeGpu(profiles=((1, 1, 4),))
    recorder.install(monkeypatch)
    return recorder


@pytest.fixture
def rtx(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeGpu:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    recorder = FakeGpu(profiles=((1, 1, 4),))
    recorder.install(monkeypatch, "tensorrt_rtx")
    return recorder


def check_outputs(engine: TrtEngine, batch: int) -> None:
    given = images(batch)
    output = engine(given)
    for name in OUTPUTS:
        np.testing.assert_array_equal(getattr(output, name), answer(given, name))


@pytest.mark.parametrize("flavour", MODULES)
@pytest.mark.parametrize("cuda_graphs", [True, False])
@pytest.mark.parametrize("batch", [1, 3, 4, 5, 9])
def test_every_image_gets_its_own_result_at_any_batch(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, flavour: str, cuda_graphs: bool, batch: int
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    recorder = FakeGpu(profiles=((1, 1, 2), (3, 4, 4)))
    recorder.install(monkeypatch, MODULES[flavour])
    with TrtEngine(save_plan(tmp_path, recorder, flavour=flavour), cuda_graphs=cuda_graphs) as engine:
        for size in (batch, 1, 2, 3, 4, batch):  # a graph or a shape of the one must not serve the other
            check_outputs(engine, size)


def test_a_plan_tells_what_it_is(gpu: FakeGpu, tmp_path: Path) -> None:
    with load(save_plan(tmp_path, gpu), precision="unstated", threads=3) as engine:
        assert (engine.name, engine.precision, engine.input_size) == ("tensorrt", "fp16", 8)


def test_an_output_stays_the_callers_after_the_next_call(gpu: FakeGpu, tmp_path: Path) -> None:
    with TrtEngine(save_plan(tmp_path, gpu)) as engine:
        first = engine(images(2))
        kept = first.verts_uvd.copy()
        engine(images(2) * 2)
    np.testing.assert_array_equal(first.verts_uvd, kept)


def test_tensorrt_is_opened_run_and_released_in_order(gpu: FakeGpu, tmp_path: Path) -> None:
    engine = TrtEngine(save_plan(tmp_path, gpu))
    assert gpu.calls == [
        "cuStreamCreate",
        *["cuMemHostAlloc", "cuMemAlloc"] * 3,
        "Runtime",
        "deserialize_cuda_engine, host code False",
        "create_runtime_config",
        "cuMemAlloc",
    ]
    gpu.calls.clear()
    engine(images(2))
    capture = ["cuStreamBeginCapture", "execute_async_v3", "cuStreamEndCapture", "cuGraphInstantiate"]
    warm_up = [*CONTEXT, "set_input_shape 2", "execute_async_v3", WAIT]
    assert gpu.calls == [*TRANSFERS_UP, *warm_up, *capture, "cuGraphLaunch", *TRANSFERS_DOWN]
    gpu.calls.clear()
    engine(images(2))
    assert gpu.calls == [*TRANSFERS_UP, "cuGraphLaunch", *TRANSFERS_DOWN]
    gpu.calls.clear()
    engine.close()
    assert gpu.calls == [
        "cuGraphExecDestroy",
        "cuGraphDestroy",
        "del context",
        "cuMemFree",
        "del config",
        "del engine",
        "del runtime",
        *["cuMemFree", "cuMemFreeHost"] * 3,
        "cuStreamDestroy",
    ]
    assert gpu.alive == []


def test_tensorrt_for_rtx_captures_itself_and_keeps_its_kernels(rtx: FakeGpu, tmp_path: Path) -> None:
    plan = save_plan(tmp_path, rtx, flavour="tensorrt-rtx")
    with TrtEngine(plan) as engine:
        assert "get_engine_validity" in rtx.calls
        rtx.calls.clear()
        engine(images(2))
        assert rtx.calls == [*TRANSFERS_UP, *CONTEXT, "set_input_shape 2", "execute_async_v3", *TRANSFERS_DOWN]
        assert engine._contexts[0, None].graphs
        rtx.calls.clear()
    assert rtx.calls[:4] == ["del context", "cache.serialize", "del cache", "del config"]
    assert rtx.alive == []
    kept = list((tmp_path / "cache").rglob("*.jit"))
    assert [file.read_bytes() for file in kept] == [b"fresh"]
    with TrtEngine(plan):
        pass
    assert kept[0].read_bytes() == b"fresh+"


def test_kernels_of_another_machine_are_thrown_away(rtx: FakeGpu, tmp_path: Path) -> None:
    plan = save_plan(tmp_path, rtx, flavour="tensorrt-rtx")
    TrtEngine(plan).close()
    file = next((tmp_path / "cache").rglob("*.jit"))
    file.write_bytes(b"foreign")
    rtx.calls.clear()
    rtx.fail_at = 12  # cache.deserialize
    with TrtEngine(plan):
        assert rtx.calls[12] == "cache.deserialize"
    assert file.read_bytes() == b"fresh"


def test_plain_enqueue_is_only_for_who_asks(gpu: FakeGpu, rtx: FakeGpu, tmp_path: Path) -> None:
    with TrtEngine(save_plan(tmp_path, rtx, flavour="tensorrt-rtx"), cuda_graphs=False) as engine:
        engine(images(2))
        assert not engine._contexts[0, None].graphs


def test_without_graphs_tensorrt_enqueues_every_call(gpu: FakeGpu, tmp_path: Path) -> None:
    with TrtEngine(save_plan(tmp_path, gpu), cuda_graphs=False) as engine:
        engine(images(2))
        gpu.calls.clear()
        engine(images(2))
    assert gpu.calls[:2] == [*TRANSFERS_UP, "execute_async_v3"]  # the batch is set already


def test_a_version_compatible_plan_runs_its_own_code_only_where_it_is_trusted(gpu: FakeGpu, tmp_path: Path) -> None:
    plan = save_plan(tmp_path, gpu, version_compatible=True)
    with pytest.raises(InputError, match=r"is version-compatible: it brings native code, .*--trust"):
        TrtEngine(plan)
    assert gpu.calls == []
    with load(plan, precision="unstated", threads=None, trust=True):
        assert "deserialize_cuda_engine, host code True" in gpu.calls


def test_trust_lets_no_other_plan_run_code(gpu: FakeGpu, tmp_path: Path) -> None:
    """What a sidecar does not say is not allowed, whatever the plan holds."""
    with TrtEngine(save_plan(tmp_path, gpu), trust=True):
        assert "deserialize_cuda_engine, host code False" in gpu.calls


def test_a_stripped_plan_gets_its_weights_from_the_graph(gpu: FakeGpu, tmp_path: Path) -> None:
    plan = save_plan(tmp_path, gpu, stripped=True)
    with pytest.raises(InputError, match=r"has no weights and .*model\.onnx is not there"):
        TrtEngine(plan)
    save_onnx(tmp_path / "model.onnx")
    with pytest.raises(InputError, match=r"was built from another model\.onnx than lies beside it; build it again"):
        TrtEngine(plan)
    save_plan(tmp_path, gpu, stripped=True)
    gpu.calls.clear()
    with TrtEngine(plan):
        start = gpu.calls.index("deserialize_cuda_engine, host code False")
        assert gpu.calls[start + 1 : start + 3] == ["refit_from_file model.onnx", "refit_cuda_engine"]


def every_fault(flavour: str, *, stripped: bool) -> list[str]:
    """The calls of one life of an engine: open, two batch sizes, close."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setenv("XDG_CACHE_HOME", folder)
        recorder = FakeGpu(profiles=((1, 1, 2), (3, 4, 4)))
        recorder.install(patch, MODULES[flavour])
        live(recorder, Path(folder), flavour, stripped=stripped)
        return recorder.calls


def live(recorder: FakeGpu, folder: Path, flavour: str, *, stripped: bool) -> None:
    save_onnx(folder / "model.onnx")
    with TrtEngine(save_plan(folder, recorder, flavour=flavour, stripped=stripped)) as engine:
        engine(images(1))
        engine(images(3))


# Each before what it stands on.
RELEASE = ("del context", "del cache", "del config", "del engine", "del runtime", "cuMemFreeHost", "cuStreamDestroy")
# What reports no failure, or tolerates one.
SAFE = ("del ", "cache.")
FAULTS = [
    (flavour, stripped, place, call)
    for flavour, stripped in (("tensorrt", False), ("tensorrt", True), ("tensorrt-rtx", False))
    for place, call in enumerate(every_fault(flavour, stripped=stripped))
    if not call.startswith(SAFE)
]


@pytest.mark.parametrize(("flavour", "stripped", "place", "call"), FAULTS)
def test_a_failure_at_any_call_is_told_and_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, flavour: str, stripped: bool, place: int, call: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    recorder = FakeGpu(profiles=((1, 1, 2), (3, 4, 4)))
    recorder.install(monkeypatch, MODULES[flavour])
    recorder.fail_at = place
    try:
        live(recorder, tmp_path, flavour, stripped=stripped)
    except (InputError, DriverError) as error:
        told = str(error)
    else:
        told = ""
    gc.collect()  # the error's traceback is gone by now, and what it held with it
    assert recorder.calls[place] == call
    assert told
    assert recorder.alive == []
    released = [RELEASE.index(step) for step in recorder.calls if step in RELEASE]
    assert released == sorted(released)


def test_faults_cover_every_call_that_can_fail() -> None:
    names = {call.split()[0].rstrip(",") for _, _, _, call in FAULTS}
    assert names == {
        *("cuStreamCreate", WAIT, "cuMemHostAlloc", "cuMemAlloc", "cuMemcpyHtoDAsync", "cuMemcpyDtoHAsync"),
        *("cuStreamBeginCapture", "cuStreamEndCapture", "cuGraphInstantiate", "cuGraphLaunch"),
        *("cuGraphExecDestroy", "cuGraphDestroy", "cuMemFree", "cuMemFreeHost", "cuStreamDestroy"),
        *("Runtime", "get_engine_validity", "deserialize_cuda_engine"),
        *("create_runtime_config", "create_runtime_cache"),
        *("refit_from_file", "refit_cuda_engine", "create_execution_context", "set_runtime_cache"),
        *("set_optimization_profile_async", "set_tensor_address", "set_input_shape", "execute_async_v3"),
    }


def test_tensorrts_own_words_are_part_of_the_sentence(gpu: FakeGpu, tmp_path: Path) -> None:
    plan = save_plan(tmp_path, gpu)
    gpu.fail_at = 8
    with pytest.raises(
        InputError, match=r"TensorRT 11\.4\.0 fails at deserialize_cuda_engine on .*: the plan is of no use$"
    ):
        TrtEngine(plan)


def test_what_an_earlier_plan_was_told_is_not_a_later_ones_reason(gpu: FakeGpu, tmp_path: Path) -> None:
    plan = save_plan(tmp_path, gpu)
    TrtEngine(plan).close()
    listener(gpu.trt).log(gpu.trt.ILogger.ERROR, "the earlier plan's trouble")
    gpu.calls.clear()
    gpu.fail_at = 9
    with pytest.raises(InputError, match=r"fails at create_runtime_config on .*: it says nothing$"):
        TrtEngine(plan)


@pytest.mark.parametrize("name", ["image", *OUTPUTS])
@pytest.mark.parametrize("kind", ["HALF", "FLOAT"])
def test_tensors_that_the_buffers_do_not_fit_are_refused(gpu: FakeGpu, tmp_path: Path, name: str, kind: str) -> None:
    shape = gpu.shapes[name]
    if kind == "HALF":
        gpu.types[name] = kind
    else:
        gpu.shapes[name] = (*shape[:-1], 4)
    told = f"model.plan: '{name}' is {kind} {gpu.shapes[name]}; it must be FLOAT {shape}, -1 being any batch."
    with pytest.raises(InputError, match=f"{re.escape(told)}$"):
        TrtEngine(save_plan(tmp_path, gpu))
    assert not any(call.startswith("set_tensor_address") for call in gpu.calls)
    assert gpu.alive == []


def test_a_plan_for_one_batch_size_is_opened(gpu: FakeGpu, tmp_path: Path) -> None:
    gpu.profiles = ((4, 4, 4),)
    gpu.shapes = {name: (4, *shape[1:]) for name, shape in gpu.shapes.items()}
    with TrtEngine(save_plan(tmp_path, gpu)) as engine:
        check_outputs(engine, 4)


def test_kernels_that_rtx_does_not_give_are_not_kept(rtx: FakeGpu, tmp_path: Path) -> None:
    engine = TrtEngine(save_plan(tmp_path, rtx, flavour="tensorrt-rtx"))
    rtx.calls.clear()
    rtx.fail_at = 0
    engine.close()
    assert rtx.calls[0] == "cache.serialize"
    assert list((tmp_path / "cache").rglob("*.jit*")) == []
    assert rtx.alive == []


def test_a_plan_that_rtx_finds_invalid_is_refused_with_its_reason(rtx: FakeGpu, tmp_path: Path) -> None:
    plan = save_plan(tmp_path, rtx, flavour="tensorrt-rtx")
    rtx.fail_at = 8
    with pytest.raises(InputError, match=r"fails at get_engine_validity UNSUPPORTED_CC on .*model\.plan"):
        TrtEngine(plan)


def test_times_are_the_devices_and_the_clocks_with_and_without_transfers(gpu: FakeGpu, tmp_path: Path) -> None:
    with TrtEngine(save_plan(tmp_path, gpu)) as engine:
        timing = engine.time_calls(images(3), calls=5)
        with pytest.raises(InputError, match="cannot be timed"):
            engine.time_calls(images(5), calls=1)
    np.testing.assert_array_equal(timing.device_ms, np.full(5, 0.5))  # the stand-in's clock ticks at each event
    np.testing.assert_array_equal(timing.device_with_transfers_ms, np.full(5, 1.5))
    assert (timing.wall_ms > 0).all()
    assert (timing.wall_with_transfers_ms > timing.wall_ms).mean() > 0.5


def test_a_closed_engine_says_so(gpu: FakeGpu, tmp_path: Path) -> None:
    engine = TrtEngine(save_plan(tmp_path, gpu))
    engine.close()
    engine.close()
    with pytest.raises(RuntimeError, match="closed"):
        engine(images(1))


def test_images_of_another_size_are_refused_before_anything_is_copied(gpu: FakeGpu, tmp_path: Path) -> None:
    with TrtEngine(save_plan(tmp_path, gpu)) as engine:
        gpu.calls.clear()
        with pytest.raises(InputError, match=r"this engine takes \(B, 3, 8, 8\)"):
            engine(images(1, side=16))
        assert gpu.calls == []


def test_a_batch_that_no_profile_serves_is_refused(gpu: FakeGpu, tmp_path: Path) -> None:
    gpu.profiles = ((2, 2, 4),)
    with TrtEngine(save_plan(tmp_path, gpu)) as engine, pytest.raises(InputError, match="a call of 1 images"):
        engine(images(1))


def test_another_gpu_is_refused_before_the_plan_is_loaded(gpu: FakeGpu, tmp_path: Path) -> None:
    plan = save_plan(tmp_path, gpu)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("engines.tensorrt.run.find_gpu", lambda: dataclasses.replace(L4, compute_capability="9.0"))
        with pytest.raises(InputError, match=r"differs in compute_capability: built for 8\.9, here is 9\.0"):
            TrtEngine(plan)
        patch.setattr("engines.tensorrt.run.find_gpu", lambda: "there is no NVIDIA GPU")
        with pytest.raises(InputError, match=r"needs a GPU and there is no NVIDIA GPU; run the ONNX graph model\.onnx"):
            TrtEngine(plan)
    assert gpu.calls == []


def test_a_plan_that_is_not_its_sidecars_is_refused(gpu: FakeGpu, tmp_path: Path) -> None:
    plan = save_plan(tmp_path, gpu)
    plan.write_bytes(b"another")
    with pytest.raises(InputError, match="plan_sha256 differs"):
        TrtEngine(plan)
    with pytest.raises(InputError, match=r"other\.plan\.json does not exist"):
        TrtEngine(tmp_path / "other.plan")
