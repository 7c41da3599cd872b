"""What only a GPU can tell: run by `pytest -m gpu` and by `benchmarks.gpu.check`; skipped with a reason elsewhere."""

from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from linear_hand import LinearHand
from typed_graphs import SIDE, save_typed_export

from cliphand.errors import InputError
from engines.host.cuda_device import find_gpu
from engines.runtimes.inductor import InductorEngine
from engines.runtimes.ort import OrtEngine
from engines.tensorrt.cuda import open_cuda
from engines.tensorrt.flavour import FLAVOURS, why_not_built
from engines.tensorrt.plan import BatchRange, BuildSettings, plan_path
from engines.tensorrt.process import build_plans
from engines.tensorrt.run import TrtEngine

pytestmark = pytest.mark.gpu
PRECISIONS = ("fp32", "fp16", "int8")
# Of the output's range: rounding of the type, over three layers.
TOLERANCE = {"fp32": 1e-4, "fp16": 1e-2, "int8": 5e-2}


@pytest.fixture(autouse=True)
def _needs_gpu() -> None:
    gpu = find_gpu()
    if isinstance(gpu, str):
        pytest.skip(gpu)


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_typed_export(
        tmp_path_factory.mktemp("gpu"), fp32={}, fp16={"half": True}, int8={"half": True, "quantised": True}
    )


def images(count: int) -> np.ndarray:
    return np.random.default_rng(count).uniform(-1, 1, (count, 3, SIDE, SIDE)).astype(np.float32)


def test_buffers_streams_and_events_carry_data_there_and_back() -> None:
    cuda = open_cuda()
    with cuda.current(), ExitStack() as stack:
        stream, first, last = cuda.stream(stack), cuda.event(stack), cuda.event(stack)
        buffer = cuda.buffer((4, 5), stack)
        buffer.host[...] = np.arange(20, dtype=np.float32).reshape(4, 5)
        cuda.record(first, stream)
        cuda.upload(buffer, 4, stream)
        cuda.synchronise(stream)
        buffer.host[...] = 0
        cuda.download(buffer, 4, stream)
        cuda.record(last, stream)
        cuda.synchronise(stream)
        np.testing.assert_array_equal(buffer.host.ravel(), np.arange(20))
        assert cuda.milliseconds(first, last) > 0


def test_a_captured_copy_is_replayed_with_what_lies_there_then() -> None:
    cuda = open_cuda()
    with cuda.current(), ExitStack() as stack:
        stream, buffer = cuda.stream(stack), cuda.buffer((8,), stack)

        def copies() -> None:
            cuda.upload(buffer, 4, stream)
            cuda.download(buffer, 8, stream)

        buffer.host[...] = 7
        cuda.upload(buffer, 8, stream)
        replay = cuda.capture(copies, stream, stack)
        for value in (3.0, 5.0):
            buffer.host[...] = value
            replay()
            cuda.synchronise(stream)
            np.testing.assert_array_equal(buffer.host, [value] * 4 + [7] * 4)


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("cuda_graphs", [True, False])
def test_a_plan_agrees_with_its_graph_at_every_batch(
    export: Path, flavour: str, precision: str, cuda_graphs: bool
) -> None:
    why = why_not_built(FLAVOURS[flavour])
    if why is not None:
        pytest.skip(why)
    settings = BuildSettings(profiles=(BatchRange(1, 1, 1), BatchRange(2, 8, 64)))
    build_plans(export, flavour=flavour, settings=settings)
    graph = export / ("model.onnx" if precision == "fp32" else f"model.{precision}.onnx")
    with (
        TrtEngine(plan_path(graph, FLAVOURS[flavour]), cuda_graphs=cuda_graphs) as engine,
        OrtEngine(graph) as reference,
    ):
        for batch in (8, 64, 1, 8, 65, 8):  # a graph must outlive calls of other sizes
            ours, theirs = engine(images(batch)), reference(images(batch))
            for name in ("joints_uvd", "verts_uvd"):
                found, expected = getattr(ours, name), getattr(theirs, name)
                assert np.abs(found - expected).max() <= TOLERANCE[precision] * np.ptp(expected)
        timing = engine.time_calls(images(8), calls=5)
        assert (timing.device_ms > 0).all()
        assert (timing.device_with_transfers_ms > timing.device_ms).all()


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_stripped_plan_gets_its_weights_back(export: Path, flavour: str) -> None:
    why = why_not_built(FLAVOURS[flavour])
    if why is not None:
        pytest.skip(why)
    build_plans(export, flavour=flavour, settings=BuildSettings(stripped=True))
    graph = export / "model.onnx"
    with TrtEngine(plan_path(graph, FLAVOURS[flavour])) as engine, OrtEngine(graph) as reference:
        np.testing.assert_allclose(engine(images(3)).verts_uvd, reference(images(3)).verts_uvd, atol=1e-4)


def test_onnx_runtime_runs_on_the_gpu_or_says_why_not(export: Path) -> None:
    graph = export / "model.onnx"
    try:
        engine = OrtEngine(graph, device="cuda")
    except InputError as error:
        pytest.skip(str(error))
    with engine, OrtEngine(graph) as reference:
        np.testing.assert_allclose(engine(images(3)).verts_uvd, reference(images(3)).verts_uvd, atol=1e-3)


@pytest.mark.parametrize("cuda_graphs", [True, False])
def test_a_compiled_package_agrees_with_eager(tmp_path: Path, cuda_graphs: bool) -> None:
    import torch

    from export.folder.inductor_package import build_package

    if not torch.cuda.is_available():
        pytest.skip("PyTorch sees no GPU")
    model = LinearHand().eval()
    build_package(model, tmp_path / "model.pt2", input_size=SIDE, precision="fp16", device="cuda")
    with InductorEngine(tmp_path / "model.pt2", cuda_graphs=cuda_graphs) as engine:
        for batch in (1, 8, 1):
            expected = model.cpu()(torch.from_numpy(images(batch)))[1].numpy()
            np.testing.assert_allclose(engine(images(batch)).verts_uvd, expected, atol=1e-2)
