"""Run a TensorRT plan, of either flavour: numpy in, numpy out, no PyTorch. Needs a GPU.

One stream, one set of buffers, one execution context for each optimisation profile. Every batch size is captured once
as a CUDA graph and replayed from then on; TensorRT for RTX does that itself.
"""

import time
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cliphand.arrays import FloatArray
from cliphand.config import require
from cliphand.errors import InputError
from cliphand.files import sha256_of
from engines.base import INPUT_NAME, OUTPUT_SHAPES, Engine, HandOutput, check_images, input_shape
from engines.cuda_device import find_gpu
from engines.trt_cuda import Buffer, open_cuda
from engines.trt_flavour import FLAVOURS, TENSORRT, load_tensorrt
from engines.trt_plan import PlanRecord, check_runs_here, read_record, split_batch
from engines.trt_session import PlanSession

NS_PER_MS = 1e6


class PlanTiming(NamedTuple):
    """Milliseconds of N calls, (N,) each: CUDA events around the work, and the wall clock around the call.

    Attributes:
        device_ms: the inference between two events.
        device_with_transfers_ms: the copies to and from the device as well.
        wall_ms: from enqueuing the inference to its end.
        wall_with_transfers_ms: a whole call, from the caller's array to the caller's arrays.
    """

    device_ms: FloatArray
    device_with_transfers_ms: FloatArray
    wall_ms: FloatArray
    wall_with_transfers_ms: FloatArray


class TrtEngine(Engine):
    """A plan on the GPU. Not for several threads at once: they would share its buffers.

    Args:
        plan: a `.plan` file beside its sidecar.
        cuda_graphs: replay captured graphs; False enqueues every kernel of every call.

    Raises:
        InputError: the plan or its sidecar cannot be read, or this machine cannot run it; the sentence says why.
    """

    def __init__(self, plan: Path, *, cuda_graphs: bool = True) -> None:
        record = _check_plan(plan)
        flavour = FLAVOURS[record.key.flavour]
        self.name, self.precision, self.input_size = flavour.name, record.key.precision, record.input_size
        self.profiles = record.key.settings.profiles
        self._captures = cuda_graphs and flavour is TENSORRT
        self._graphs: dict[int, object] = {}  # by batch
        self._buffers: dict[str, Buffer] = {}
        self._cuda = open_cuda(flavour.install)
        self._release: ExitStack | None = ExitStack()
        try:
            with self._cuda.current():
                self._open(plan, record, self._release, cuda_graphs=cuda_graphs)
        except BaseException:
            self.close()
            raise

    def __call__(self, images: FloatArray) -> HandOutput:
        """See `engines.base.Engine`; more images than the largest profile takes are run in several calls."""
        check_images(images, self.input_size)
        if self._release is None:
            raise RuntimeError("this engine is closed; open it again")
        outputs = {name: np.empty((len(images), *shape[1:]), np.float32) for name, shape in OUTPUT_SHAPES.items()}
        start = 0
        with self._cuda.current():
            for size in split_batch(self.profiles, len(images)):
                part = slice(start, start + size)
                self._upload(images[part])
                self._infer(size)
                self._download(size)
                self._stream.synchronize()
                for name, output in outputs.items():
                    output[part] = self._buffers[name].host[:size]
                start += size
        return HandOutput(**outputs)

    def time_calls(self, images: FloatArray, *, calls: int) -> PlanTiming:
        """Time a batch that one profile takes whole, after one untimed call.

        Args:
            images: as for a call.
            calls: how many to time.
        """
        require(len(split_batch(self.profiles, len(images))) == 1, "a batch that is run in parts cannot be timed.")
        self(images)
        times = np.empty((4, calls))
        size, stream = len(images), self._stream
        with self._cuda.current():
            marks = [self._cuda.driver.Event() for _ in range(4)]
            for index in range(calls):
                begin = time.perf_counter_ns()
                self._infer(size)
                stream.synchronize()
                between = time.perf_counter_ns()
                marks[0].record(stream)
                self._upload(images)
                marks[1].record(stream)
                self._infer(size)
                marks[2].record(stream)
                self._download(size)
                marks[3].record(stream)
                stream.synchronize()
                for buffer in self._buffers.values():
                    buffer.host[:size].copy()  # a call gives its caller arrays of their own
                end = time.perf_counter_ns()
                device, whole = marks[1].time_till(marks[2]), marks[0].time_till(marks[3])
                times[:, index] = device, whole, (between - begin) / NS_PER_MS, (end - between) / NS_PER_MS
        return PlanTiming(*times)

    def close(self) -> None:
        """Free graphs, contexts, engine and buffers, in this order; a second call does nothing."""
        release, self._release = self._release, None
        if release is not None:
            with self._cuda.current():
                release.close()

    def _open(self, plan: Path, record: PlanRecord, release: ExitStack, *, cuda_graphs: bool) -> None:
        """Acquire everything; what is acquired last is released first."""
        self._stream = self._cuda.driver.Stream()
        release.callback(vars(self).pop, "_stream")
        largest = max(span.max for span in self.profiles)
        for name, shape in {INPUT_NAME: input_shape(self.input_size), **OUTPUT_SHAPES}.items():
            self._buffers[name] = self._cuda.buffer((largest, *shape[1:]), release)
        self._session = PlanSession(plan, record, stream=self._stream.handle, cuda_graphs=cuda_graphs)
        release.callback(self._session.close)
        self._session.bind({name: buffer.address for name, buffer in self._buffers.items()})
        self._stream.synchronize()  # the contexts have switched to their profiles
        release.callback(self._destroy_graphs)

    def _upload(self, images: FloatArray) -> None:
        """Copy images to the device, by way of pinned memory."""
        address, host = self._buffers[INPUT_NAME]
        host[: len(images)] = images
        self._cuda.driver.memcpy_htod_async(address, host[: len(images)], self._stream)

    def _download(self, batch: int) -> None:
        """Copy the outputs into pinned memory."""
        for name in OUTPUT_SHAPES:
            address, host = self._buffers[name]
            self._cuda.driver.memcpy_dtoh_async(host[:batch], address, self._stream)

    def _infer(self, batch: int) -> None:
        """Enqueue the inference of what is on the device."""
        if self._captures and batch not in self._graphs:
            self._session.enqueue(batch)  # what TensorRT does at the first run must not be in the graph
            self._stream.synchronize()
            self._graphs[batch] = self._cuda.capture(lambda: self._session.enqueue(batch), self._stream)
        if batch in self._graphs:
            self._cuda.launch(self._graphs[batch], self._stream)
        else:
            self._session.enqueue(batch)

    def _destroy_graphs(self) -> None:
        with ExitStack() as each:  # one failure must not keep the others alive
            for graph in self._graphs.values():
                each.callback(self._cuda.destroy, graph)


def load(path: Path, *, precision: str, threads: int | None) -> TrtEngine:
    """Open a plan; the form that `engines.open` calls. Its sidecar states the precision, and threads are the CPU's."""
    return TrtEngine(path)


def _check_plan(plan: Path) -> PlanRecord:
    """The plan's sidecar, after checking that this machine can run what it describes."""
    require(plan.is_file(), f"{plan} does not exist; give a plan that `cliphand build` wrote.")
    record, gpu = read_record(plan), find_gpu()
    require(
        sha256_of(plan) == record.plan_sha256,
        f"{plan} is not the plan that its sidecar describes (plan_sha256 differs); build it again.",
    )
    if isinstance(gpu, str):
        raise InputError(f"{plan} needs a GPU and {gpu}; run the ONNX graph {record.onnx} instead.")
    trt = load_tensorrt(FLAVOURS[record.key.flavour], lean=record.key.settings.version_compatible)
    check_runs_here(record, plan, version=trt.__version__, gpu=gpu)
    return record
