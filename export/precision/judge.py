"""The judge of graphs: held-out photographs and PyTorch's hands on them in, millimetres out."""

import importlib.util
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cliphand.arrays import FloatArray
from cliphand.data.crop import normalise
from cliphand.progress import Progress
from engines.base import Engine
from engines.runtimes.openvino_cpu import OpenVinoEngine
from engines.runtimes.ort import OrtEngine
from export.gate.images import GateImages
from export.gate.parity import ROUNDED, Comparison, Hands, Tolerance, compare, engine_words
from export.precision.rounding import holds_half, write_rounded

LATENCY_CALLS = 5


@dataclass(frozen=True, slots=True, eq=False)
class Judge:
    """Compares graphs with PyTorch.

    Attributes:
        scratch: folder for what it runs beside the graph itself.
        gate: the photographs.
        joint_regressor: (21, 778) from vertices to joints.
        reference: PyTorch's hands on the photographs.
        tolerances: by precision.
        threads: of one call; None leaves the choice to each run-time.
        progress: called with what is being done, images done and images in all.
    """

    scratch: Path
    gate: GateImages
    joint_regressor: FloatArray
    reference: Hands
    tolerances: Mapping[str, Tolerance]
    threads: int | None
    progress: Progress

    def rows(self, path: Path, precision: str) -> tuple[Comparison, ...]:
        """Compare a graph with PyTorch in every engine for it that is installed."""
        with ExitStack() as stack:
            engines: dict[str, Engine] = {"onnxruntime": OrtEngine(path, precision=precision, threads=self.threads)}
            # OpenVINO is the CPU's engine for INT8; with FP16 it would only compute in float32.
            if precision != "fp16" and importlib.util.find_spec("openvino") is not None:
                engines["openvino"] = OpenVinoEngine(path, precision=precision, threads=self.threads)
            if holds_half(path):
                twin = self.scratch / f"{path.stem}.rounded.onnx"
                write_rounded(path, twin)
                engines[ROUNDED] = OrtEngine(twin, precision=precision, threads=self.threads)
            for engine in engines.values():
                stack.enter_context(engine)
            return tuple(self._row(engine, name, path.name, precision) for name, engine in engines.items())

    def latency_ms(self, path: Path, precision: str) -> float:
        """Median of a few calls with one image in ONNX Runtime."""
        image = normalise(self.gate.crops[:1], self.gate.crop)
        times = []
        with OrtEngine(path, precision=precision, threads=self.threads) as engine:
            for _ in range(1 + LATENCY_CALLS):
                start = time.perf_counter()
                engine(image)
                times.append(time.perf_counter() - start)
        return float(np.median(times[1:])) * 1000

    def _row(self, engine: Engine, name: str, artefact: str, precision: str) -> Comparison:
        total, what = len(self.gate.indices), f"comparing {artefact} in {engine_words(name, precision)}"
        hands = self.gate.predict(engine, self.joint_regressor, progress=lambda done: self.progress(what, done, total))
        return compare(
            hands,
            self.reference,
            self.gate.truth,
            names=self.gate.names,
            tolerance=self.tolerances[precision],
            artefact=artefact,
            engine=name,
            precision=precision,
        )
