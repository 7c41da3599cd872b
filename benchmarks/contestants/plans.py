"""TensorRT's plans in an export folder: contestants where this machine runs them, else the reason why it does not."""

from collections.abc import Collection, Iterable
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from benchmarks.contestants.exported import BYTES_PER_MB, Contestant, Skipped
from cliphand.config import require
from cliphand.errors import InputError
from engines.artefact.manifest import Manifest
from engines.host.cuda_device import Gpu, find_gpu
from engines.open import UNSTATED, open_engine
from engines.tensorrt.flavour import TENSORRT, TENSORRT_RTX
from engines.tensorrt.plan import PlanRecord, read_record

SUFFIX = ".plan"


def open_plans(
    export: Path, manifest: Manifest, stack: ExitStack, *, batches: Collection[int], trust: bool = False
) -> tuple[dict[str, Contestant], tuple[Skipped, ...]]:
    """Open every plan of an export folder and try it once at each batch size.

    Args:
        export: the folder.
        manifest: its manifest; plans of other graphs than it lists are skipped.
        stack: closes the engines.
        batches: sizes that will be measured.
        trust: whether version-compatible plans, which bring native code, are opened.

    Returns:
        Contestants by file name, and what is skipped; nothing about a plan is an error.
    """
    contestants: dict[str, Contestant] = {}
    skipped: list[Skipped] = []
    gpu = find_gpu()
    for path in sorted(export.glob(f"*{SUFFIX}"), key=_order):
        precision = UNSTATED
        try:
            record = read_record(path)
            precision = record.key.precision
            _check_graph(record, manifest)
            contestants[path.name] = _open(path, record, stack, gpu, batches, trust=trust)
        except Exception as error:  # what the libraries raise shares no base but this
            reason = " ".join(str(error).split()).rstrip(".")
            skipped.append(Skipped(path.name, _flavour(path), precision, reason))
    return contestants, tuple(skipped)


def skipped_lines(skipped: Iterable[Skipped]) -> list[str]:
    """A line for each engine and reason."""
    groups: dict[tuple[str, str], list[str]] = {}
    for one in skipped:
        groups.setdefault((one.engine, one.reason), []).append(one.key)
    return [f"{engine}, {', '.join(keys)}: skipped: {reason}" for (engine, reason), keys in groups.items()]


def _order(path: Path) -> tuple[bool, int, str]:
    """TensorRT before its sibling, and `model.plan` before `model.fp16.plan`."""
    return path.name.endswith(TENSORRT_RTX.suffix), path.name.count("."), path.name


def _flavour(path: Path) -> str:
    return (TENSORRT_RTX if path.name.endswith(TENSORRT_RTX.suffix) else TENSORRT).name


def _check_graph(record: PlanRecord, manifest: Manifest) -> None:
    """Refuse a plan that was built from what is no longer in the folder."""
    artefact = manifest.artefacts.get(record.onnx)
    require(
        artefact is not None and artefact.sha256 == record.key.onnx_sha256,
        f"it was built from another {record.onnx} than the export's; build it again with `cliphand build`.",
    )


def _open(
    path: Path, record: PlanRecord, stack: ExitStack, gpu: Gpu | str, batches: Collection[int], *, trust: bool
) -> Contestant:
    if isinstance(gpu, str):
        raise InputError(f"it needs a GPU, and {gpu}.")
    with ExitStack() as trial:
        engine = trial.enter_context(open_engine(path, engine=record.key.flavour, trust=trust))
        for batch in sorted(batches):
            engine(np.zeros((batch, 3, engine.input_size, engine.input_size), np.float32))
        stack.enter_context(trial.pop_all())
    size_mb = path.stat().st_size / BYTES_PER_MB
    layers = record.findings.get("proof")
    return Contestant(
        engine,
        artefact=path.name,
        size_mb=size_mb,
        runner=record.key.flavour,
        path=path,
        sha256=record.plan_sha256,
        layers=layers if isinstance(layers, str) else None,
    )
