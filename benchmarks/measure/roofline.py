"""What the processor can do at most, to hold engines against: the speed of convolutions with nothing between them.

Measured with OpenVINO, by whose convolutions the fastest engine here is bounded as well: a chain of 3 x 3 convolutions
of one width, in FP32, in the processor's own reduced precision, and in INT8 between Q and DQ.
"""

import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from benchmarks.measure.interleaved import MS_PER_S, SpeedSettings, measure_interleaved
from engines.runtimes.openvino_cpu import NAMES, QUANTISED, OpenVinoOptions, compile_graph, computed_in

if TYPE_CHECKING:
    from openvino import CompiledModel

CHANNELS, SIDE, KERNEL, DEPTH = 128, 64, 3, 4
GFLOP = 2 * CHANNELS**2 * KERNEL**2 * SIDE**2 * DEPTH / 1e9
SCALE = 0.05  # of INT8; what the numbers are does not matter
SETTINGS = SpeedSettings(warmup_calls=2, calls=40, seconds=0.5)
OPSET = 18


@dataclass(frozen=True, slots=True)
class Roofline:
    """The fastest that was seen.

    Attributes:
        gflop_per_s: by precision, as engines name theirs.
        threads: of one product; None left the choice to the run-time.
    """

    gflop_per_s: dict[str, float]
    threads: int | None

    def share(self, precision: str, *, gflop: float, latency_ms: float) -> float | None:
        """Of the roofline that a call of so many GFLOP uses; None where there is no roofline for its precision.

        Usually below 1: a network whose convolutions have faster shapes than the chain's can exceed it.

        Of a mixed precision, such as `int8-bf16`, the first is what the products are in.
        """
        roofline = self.gflop_per_s.get(precision.partition("-")[0])
        return None if roofline is None else gflop * MS_PER_S / latency_ms / roofline


def is_told_by(runners: Iterable[str]) -> bool:
    """Whether any of these engines for ONNX graphs is OpenVINO, which the roofline is measured with."""
    return any(runner.startswith("openvino") for runner in runners)


def measure_roofline(threads: int | None) -> Roofline:
    """Time the chains interleaved.

    Raises:
        InputError: OpenVINO is not installed, or does not run the chains.
    """
    calls: dict[str, Callable[[], object]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for int8, reduced in ((False, False), (False, True), (True, False)):
            path = Path(scratch) / f"{int8}.onnx"
            onnx.save_model(chain(int8=int8), path)
            compiled = compile_graph(path, OpenVinoOptions(threads=threads, reduced=reduced))
            # Where the processor has no reduced precision, the name is FP32's, and so is the speed.
            calls[QUANTISED if int8 else NAMES[computed_in(compiled)]] = _call(compiled)
    timings = measure_interleaved(calls, SETTINGS)
    # The shortest call: what others on the machine take away is not the processor's limit.
    fastest_ms = {name: float(timing.wall_ms.min()) for name, timing in timings.items()}
    return Roofline({name: GFLOP * MS_PER_S / fastest for name, fastest in fastest_ms.items()}, threads)


def _call(compiled: "CompiledModel") -> Callable[[], object]:
    image = np.random.default_rng(0).normal(size=(1, CHANNELS, SIDE, SIDE)).astype(np.float32)
    return partial(compiled.create_infer_request().infer, [image], share_inputs=True, share_outputs=True)


def chain(*, int8: bool) -> onnx.ModelProto:
    """The convolutions as an ONNX model, each with a ReLU; with `int8` their inputs and weights between Q and DQ."""
    shape = [1, CHANNELS, SIDE, SIDE]
    kernel = np.random.default_rng(0).integers(-127, 128, (CHANNELS, CHANNELS, KERNEL, KERNEL), dtype=np.int8)
    constants: dict[str, NDArray[np.float32 | np.int8]] = {}
    if int8:
        constants = {"scale": np.array(SCALE, np.float32), "zero": np.array(0, np.int8)}
    nodes, value = [], "x0"
    for place in range(DEPTH):
        weight, following = f"w{place}", f"x{place + 1}"
        constants[weight] = kernel if int8 else (kernel * (SCALE / 127)).astype(np.float32)
        if int8:
            nodes += [
                helper.make_node("QuantizeLinear", [value, "scale", "zero"], [f"{value}q"]),
                helper.make_node("DequantizeLinear", [f"{value}q", "scale", "zero"], [f"{value}d"]),
                helper.make_node("DequantizeLinear", [weight, "scale", "zero"], [f"{weight}d"]),
            ]
            value, weight = f"{value}d", f"{weight}d"
        pads = [KERNEL // 2] * 4
        nodes.append(helper.make_node("Conv", [value, weight], [f"c{place}"], pads=pads))
        nodes.append(helper.make_node("Relu", [f"c{place}"], [following]))
        value = following
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x0", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(value, TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model
