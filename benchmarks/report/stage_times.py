"""Time of each stage of an ONNX graph on this machine, from the profile of the run-time that runs it.

A node that a run-time made itself has no stage in its name: its time is told apart and counted to none.
"""

import json
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import onnxruntime as ort

from benchmarks.measure.interleaved import MS_PER_S
from cliphand.arrays import FloatArray
from engines.base import INPUT_NAME
from engines.runtimes.openvino_cpu import OpenVinoOptions, compile_graph
from export.graph.node_names import STAGES

if TYPE_CHECKING:
    from openvino import CompiledModel

WARM_UP_CALLS = 3
PROFILED_CALLS = 10
KERNEL = "_kernel_time"
US_PER_MS = 1000.0
FUSED = "originalLayersNames"  # OpenVINO's name for what a node of its own was made from
Nodes = Iterable[tuple[str, float]]  # name, milliseconds


@dataclass(frozen=True, slots=True)
class StageTimes:
    """Of one call at batch 1, the mean of several, milliseconds.

    Attributes:
        graph: its file's name.
        engine: that ran it.
        stages_ms: by stage.
        other_ms: of nodes whose name holds no stage.
        whole_ms: of the same calls by the clock.
    """

    graph: str
    engine: str
    stages_ms: Mapping[str, float]
    other_ms: float
    whole_ms: float

    @property
    def label(self) -> str:
        """Graph and engine."""
        return f"{self.graph} in {self.engine}"

    @property
    def sum_ms(self) -> float:
        """Of all nodes."""
        return sum(self.stages_ms.values()) + self.other_ms


def stage_times(
    graph: Path, image: FloatArray, *, engines: Iterable[str], threads: int | None = None
) -> tuple[StageTimes, ...]:
    """Profile a graph; nothing for one whose nodes name no stage.

    Args:
        graph: an ONNX file with named nodes.
        image: (1, 3, S, S) float32.
        engines: of `PROFILERS`.
        threads: of the call; None leaves the choice to each run-time.

    Raises:
        InputError: OpenVINO is not installed, or refuses the graph.
    """
    found = []
    for engine in engines:
        nodes, whole_ms = PROFILERS[engine](graph, image, threads)
        stages_ms, other_ms = sum_stages(nodes)
        if any(stages_ms.values()):
            found.append(StageTimes(graph.name, engine, stages_ms, other_ms, whole_ms))
    return tuple(found)


def sum_stages(nodes: Nodes) -> tuple[dict[str, float], float]:
    """Sums of node times: by stage, and of nodes whose name holds none."""
    stages_ms, other_ms = dict.fromkeys(STAGES, 0.0), 0.0
    for name, time_ms in nodes:
        places = {name.find(stage): stage for stage in STAGES if stage in name}
        if places:
            stages_ms[places[min(places)]] += time_ms  # a fused node's name begins with that of its first part
        else:
            other_ms += time_ms
    return stages_ms, other_ms


def _profile_onnxruntime(graph: Path, image: FloatArray, threads: int | None) -> tuple[Nodes, float]:
    """Mean time of each node in a call, and of the call."""
    options = ort.SessionOptions()
    options.enable_profiling = True
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        whole_ms = _time(lambda: session.run(None, {INPUT_NAME: image}))
        events = json.loads(Path(session.end_profiling()).read_text())
    return mean_of_calls([(event["name"], event["dur"]) for event in events if event.get("cat") == "Node"]), whole_ms


def mean_of_calls(events: list[tuple[str, float]]) -> list[tuple[str, float]]:
    """Milliseconds of each node in a call from ONNX Runtime's events (name, microseconds) of all of them, in order."""
    kernels = [(name.removesuffix(KERNEL), time_us) for name, time_us in events if name.endswith(KERNEL)]
    starts = [place for place, (name, _) in enumerate(kernels) if name == kernels[0][0]]
    measured = starts[min(WARM_UP_CALLS, len(starts) - 1) :]
    return [(name, time_us / US_PER_MS / len(measured)) for name, time_us in kernels[measured[0] :]]


def _profile_openvino(graph: Path, image: FloatArray, threads: int | None) -> tuple[Nodes, float]:
    """Mean time of each node in a call, and of the call; what is not INT8 computes in FP32."""
    compiled = compile_graph(graph, OpenVinoOptions(threads=threads, profiled=True))
    request = compiled.create_infer_request()
    names = _origins(compiled)
    warm: list[tuple[str, float]] = []

    def profile() -> list[tuple[str, float]]:
        return [
            (names.get(node.node_name, node.node_name), node.real_time.total_seconds() * MS_PER_S)
            for node in request.profiling_info
        ]

    whole_ms = _time(lambda: request.infer([image]), warmed=lambda: warm.extend(profile()))
    return mean_since(warm, profile()), whole_ms


def mean_since(warm: list[tuple[str, float]], whole: list[tuple[str, float]]) -> list[tuple[str, float]]:
    """Mean of the timed calls alone: OpenVINO's profiles are means over all calls, those to warm up among them."""
    n_all = WARM_UP_CALLS + PROFILED_CALLS
    return [
        (name, max(0.0, (mean_ms * n_all - first_ms * WARM_UP_CALLS) / PROFILED_CALLS))
        for (_, first_ms), (name, mean_ms) in zip(warm, whole, strict=True)
    ]


def _origins(compiled: "CompiledModel") -> dict[str, str]:
    """What each node that OpenVINO runs was made from: names of the graph's nodes, after its own."""
    return {
        node.get_friendly_name(): f"{node.get_friendly_name()},{node.get_rt_info()[FUSED].astype(str)}"
        for node in compiled.get_runtime_model().get_ordered_ops()
    }


def _time(call: Callable[[], object], warmed: Callable[[], None] = lambda: None) -> float:
    """Mean milliseconds of a call after some untimed ones, and after being told that those are done."""
    for _ in range(WARM_UP_CALLS):
        call()
    warmed()
    start = time.perf_counter()
    for _ in range(PROFILED_CALLS):
        call()
    return (time.perf_counter() - start) * MS_PER_S / PROFILED_CALLS


PROFILERS: dict[str, Callable[[Path, FloatArray, int | None], tuple[Nodes, float]]] = {
    "onnxruntime": _profile_onnxruntime,
    "openvino": _profile_openvino,
}
