"""Which model file of an export folder to run in which engine: the fastest that was proven, and why.

A graph that failed the parity gate is never chosen. Where the folder holds `bench.json` (from `cliphand bench`),
the fastest row within the gate wins. Where nothing was measured, the order is that of `ORDER`, which was measured with
resnet50 at 256 px on two cores; what computes in less than FP32 then needs a pass in `parity.json`.
"""

import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cliphand.config import require
from cliphand.errors import InputError
from cliphand.extras import install_extra
from cliphand.files import read_json_object
from engines.manifest import Manifest
from engines.open import REJECTED, RUNNERS, file_kind

BENCH_NAME = "bench.json"
PARITY_NAME = "parity.json"
AUTO = "auto"
ALIASES = {"ort": "onnxruntime"}
MODULES = {"onnxruntime": "onnxruntime", "openvino": "openvino", "openvino-reduced": "openvino"}
# Fastest first: runner, and precision of the graph. ONNX Runtime runs INT8 slower than FP32 on CPUs, so it is not here.
ORDER = (("openvino", "int8"), ("openvino", "fp32"), ("onnxruntime", "fp32"), ("onnxruntime", "fp16"))
EXACT = "fp32"


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """A file, the engine to open it with, and the reason in one sentence."""

    path: Path
    runner: str
    why: str


def choose_engine(export: Path, manifest: Manifest, engine: str = AUTO) -> EngineChoice:
    """What to run.

    Args:
        export: folder that `cliphand export` wrote.
        manifest: its manifest.
        engine: `auto`, or a name that `engines.open` lists (`ort` for short); the best graph for it is taken.

    Raises:
        InputError: the name is unknown, is not installed, or nothing in the folder runs here.
    """
    wanted = ALIASES.get(engine, engine)
    valid = [AUTO, *ALIASES, *RUNNERS[".onnx"]]
    require(engine in valid, f"there is no engine {engine!r}; valid are {', '.join(valid)}.")
    runners = tuple(MODULES) if wanted == AUTO else (wanted,)
    installed = [name for name in runners if importlib.util.find_spec(MODULES[name]) is not None]
    require(len(installed) > 0, f"{engine} is not installed: {install_extra('openvino')}.")
    found = _measured(export, manifest, installed) or _ordered(export, manifest, installed)
    if found is None:
        raise InputError(f"{export} holds no graph that {', '.join(installed)} runs within the gate; export it again.")
    return found


def _graphs(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Names and precisions of the ONNX graphs that were not rejected."""
    for name, artefact in manifest.artefacts.items():
        if file_kind(Path(name)) == ".onnx" and not name.endswith(REJECTED):
            yield name, artefact.precision


def _measured(export: Path, manifest: Manifest, installed: list[str]) -> EngineChoice | None:
    """The fastest row of the benchmark within the gate."""
    names = dict(_graphs(manifest))
    rows = []
    for row in _rows(export / BENCH_NAME):
        name, latency = row.get("artefact"), row.get("latency_ms_p50")
        runner = row.get("runner")
        usable = name in names and runner in installed and row.get("within_gate") is True and row.get("batch") == 1
        if usable and isinstance(latency, int | float):
            rows.append((float(latency), str(name), str(runner), str(row.get("precision"))))
    if not rows:
        return None
    latency, name, runner, precision = min(rows)
    return EngineChoice(
        export / name,
        runner,
        f"{name} in {runner} ({precision}) is the fastest of {len(rows)} that {BENCH_NAME} found within the gate, "
        f"{latency:.1f} ms an image",
    )


def _ordered(export: Path, manifest: Manifest, installed: list[str]) -> EngineChoice | None:
    """The first of `ORDER` that is there, and that is exact or has passed the gate."""
    passed = _verdicts(export / PARITY_NAME)
    for runner, precision in ORDER:
        for name, stored in _graphs(manifest):
            if runner not in installed or stored != precision:
                continue
            verdict = passed.get((name, runner))
            if verdict is False or (verdict is None and precision != EXACT):
                continue
            proof = f"{PARITY_NAME} says that it passed the gate" if verdict else "FP32 needs no gate"
            why = f"{name} in {runner} comes first of what is installed, and {proof}; there is no usable {BENCH_NAME}"
            return EngineChoice(export / name, runner, why)
    if installed == ["openvino-reduced"]:
        graph = next((name for name, stored in _graphs(manifest) if stored == EXACT), None)
        return None if graph is None else EngineChoice(export / graph, installed[0], "it was asked for by name")
    return None


def _verdicts(path: Path) -> dict[tuple[str, str], bool]:
    """Whether a graph passed in an engine, as the export found; several rows of one engine must all have passed."""
    found: dict[tuple[str, str], bool] = {}
    for row in _rows(path):
        # The gate's engines may carry a note after a comma.
        key = (str(row.get("artefact")), str(row.get("engine")).partition(",")[0])
        found[key] = found.get(key, True) and row.get("passed") is True
    return found


def _rows(path: Path) -> list[Mapping[str, object]]:
    """The rows of a report, none where there is no such file."""
    rows = read_json_object(path).get("rows") if path.exists() else None
    return [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []
