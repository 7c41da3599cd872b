"""Captured graphs: one execution context for each batch size, one scratch memory for all; and what a GPU refuses."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from fake_gpu import OUTPUTS, SCRATCH_BYTES, FakeGpu, answer
from test_engines_tensorrt_run import images, save_plan

from cliphand.errors import InputError
from engines.tensorrt.cuda import Cuda, open_cuda
from engines.tensorrt.run import MAX_GRAPHS, TrtEngine


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeGpu:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    recorder = FakeGpu(profiles=((1, 8, 64),))
    recorder.install(monkeypatch)
    return recorder


def run_each(engine: TrtEngine, batches: tuple[int, ...]) -> None:
    for batch in batches:
        output = engine(images(batch))
        for name in OUTPUTS:
            np.testing.assert_array_equal(getattr(output, name), answer(images(batch), name))


def test_a_graph_holds_after_calls_of_other_sizes(gpu: FakeGpu, tmp_path: Path) -> None:
    with TrtEngine(save_plan(tmp_path, gpu)) as engine:
        run_each(engine, (8, 64, 1, 8, 65, 8))
        assert gpu.calls.count("cuGraphInstantiate") == len({8, 64, 1, 33, 32})
        gpu.calls.clear()
        run_each(engine, (8, 64, 1))
        assert gpu.calls.count("cuGraphLaunch") == 3
        assert "execute_async_v3" not in gpu.calls


def test_graphs_from_one_context_are_refused(gpu: FakeGpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in sees what would be silent nonsense on a GPU: the context's shape has changed since the capture."""
    real = TrtEngine._enqueue
    monkeypatch.setattr(TrtEngine, "_enqueue", lambda self, batch, key: real(self, batch, (key[0], None)))
    with TrtEngine(save_plan(tmp_path, gpu)) as engine:
        run_each(engine, (8, 64))
        with pytest.raises(InputError, match="cuGraphLaunch: CUDA_ERROR_ILLEGAL_ADDRESS"):
            engine(images(8))


def test_all_contexts_share_one_scratch_memory(gpu: FakeGpu, tmp_path: Path) -> None:
    with TrtEngine(save_plan(tmp_path, gpu)) as engine:
        run_each(engine, (1, 2, 3))
        assert gpu.alive.count("context") == 3
        assert gpu.calls.count("cuMemAlloc") == 4  # an input, two outputs, the scratch memory


def test_sizes_beyond_the_last_graph_share_a_context(gpu: FakeGpu, tmp_path: Path) -> None:
    sizes = tuple(range(1, MAX_GRAPHS + 4))
    with TrtEngine(save_plan(tmp_path, gpu)) as engine:
        run_each(engine, (*sizes, *sizes))
        assert gpu.alive.count("graph exec") == MAX_GRAPHS
        assert gpu.alive.count("context") == MAX_GRAPHS + 1


def waits(cuda: Cuda, stream: int, stack: ExitStack) -> None:
    cuda.synchronise(stream)


def allocates(cuda: Cuda, stream: int, stack: ExitStack) -> None:
    cuda.device_memory(8, stack)


def captures(cuda: Cuda, stream: int, stack: ExitStack) -> None:
    cuda.capture(lambda: None, stream, stack)


@pytest.mark.parametrize(
    ("work", "said"),
    [(waits, "cuStreamSynchronize: CUDA_ERROR_STREAM"), (allocates, "cuMemAlloc: CUDA_ERROR_STREAM"), (captures, "Be")],
)
def test_the_stand_in_refuses_in_a_capture_what_a_gpu_refuses(
    gpu: FakeGpu, work: Callable[[Cuda, int, ExitStack], None], said: str
) -> None:
    cuda = open_cuda()
    with cuda.current(), ExitStack() as stack:
        stream = cuda.stream(stack)
        with pytest.raises(InputError, match=said):
            cuda.capture(lambda: work(cuda, stream, stack), stream, stack)
    assert gpu.alive == []


def test_a_capture_that_was_spoilt_gives_no_graph(gpu: FakeGpu) -> None:
    """As the first run of a context would: it allocates, and whoever ignores the error learns it at the end."""

    def ignorant() -> None:
        gpu.driver.cuMemAlloc(8)

    cuda = open_cuda()
    told = pytest.raises(InputError, match="cuStreamEndCapture: CUDA_ERROR_STREAM_CAPTURE_INVALIDATED")
    with cuda.current(), ExitStack() as stack, told:
        cuda.capture(ignorant, cuda.stream(stack), stack)
    assert gpu.alive == []


def test_a_call_without_a_current_context_is_refused(gpu: FakeGpu) -> None:
    with ExitStack() as stack, pytest.raises(InputError, match="cuStreamCreate: CUDA_ERROR_INVALID_CONTEXT"):
        open_cuda().stream(stack)


def test_a_batch_outside_the_profile_and_too_little_scratch_are_refused(gpu: FakeGpu, tmp_path: Path) -> None:
    with TrtEngine(save_plan(tmp_path, gpu)) as engine:
        gpu.profiles = ((1, 1, 4),)  # not what the sidecar says
        with pytest.raises(InputError, match="fails at set_input_shape to batch 5"):
            engine(images(5))
        engine._scratch_bytes = SCRATCH_BYTES - 1
        with pytest.raises(InputError, match="fails at execute_async_v3"):
            engine(images(2))
        engine._scratch_bytes = SCRATCH_BYTES
        run_each(engine, (3, 4))
