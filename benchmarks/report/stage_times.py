"""Time of each stage of an ONNX graph on this machine, from ONNX Runtime's own profile."""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

import onnxruntime as ort

from cliphand.arrays import FloatArray
from engines.base import INPUT_NAME
from export.node_names import STAGES

WARM_UP_CALLS = 3
PROFILED_CALLS = 10
KERNEL = "_kernel_time"
US_PER_MS = 1000.0


def stage_times_ms(graph: Path, image: FloatArray, *, threads: int | None = None) -> dict[str, float]:
    """Mean milliseconds of each stage in one call.

    Nodes that ONNX Runtime made itself have no stage in their name; each counts to the stage that runs before it.

    Args:
        graph: an ONNX file with named nodes.
        image: (1, 3, S, S) float32.
        threads: of the call; None leaves the choice to ONNX Runtime.
    """
    options = ort.SessionOptions()
    options.enable_profiling = True
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        for _ in range(WARM_UP_CALLS + PROFILED_CALLS):
            session.run(None, {INPUT_NAME: image})
        events = json.loads(Path(session.end_profiling()).read_text())
    return sum_stages([(event["name"], event["dur"]) for event in events if event.get("cat") == "Node"])


def sum_stages(nodes: list[tuple[str, float]]) -> dict[str, float]:
    """Mean milliseconds of each stage from (name, microseconds) of every node of every call, in order of running.

    Nothing where no node's name holds a stage.
    """
    kernels = [(name.removesuffix(KERNEL), time) for name, time in nodes if name.endswith(KERNEL)]
    if not any(stage in name for name, _ in kernels for stage in STAGES):
        return {}
    first = kernels[0][0]
    calls = [place for place, (name, _) in enumerate(kernels) if name == first]
    measured = kernels[calls[min(WARM_UP_CALLS, len(calls) - 1)] :]
    n_calls = sum(name == first for name, _ in measured)
    total: dict[str, float] = dict.fromkeys(STAGES, 0.0)
    stage = STAGES[0]
    for name, time in measured:
        stage = next((known for known in STAGES if known in name), stage)
        total[stage] += time / US_PER_MS / n_calls
    return total


def share(times_ms: Mapping[str, float], stage: str) -> float:
    """Share of a stage in the whole, in [0, 1]."""
    return times_ms.get(stage, 0.0) / max(sum(times_ms.values()), 1e-12)
