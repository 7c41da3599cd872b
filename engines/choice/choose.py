"""Which model file of an export folder to run in which engine: the fastest that was proven, and why.

What failed the gate is never chosen, and a verdict or a measurement holds for the bytes that it was found of.
Where the folder holds `bench.json` (from `cliphand bench`), the fastest row within the gate that can run here wins.
Where nothing was measured, the order is that of `engines.host.available.RUN_TIMES`; what computes in less than FP32
then needs a pass in `parity.json`, and a plan one in its sidecar.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from annotated_types import Interval

from cliphand.checked import require_within
from cliphand.config import require
from cliphand.errors import InputError
from engines.artefact.manifest import MANIFEST_NAME, Manifest
from engines.base import NATIVE_CODE
from engines.choice.verdicts import BENCH_NAME, exported_parity, measured_rows
from engines.host.available import BY_NAME, RUN_TIMES, RunTime, is_there, package_fault, probe
from engines.host.cuda_device import Gpu, find_gpu
from engines.open import REJECTED, file_kind
from engines.tensorrt.flavour import FLAVOURS, load_tensorrt
from engines.tensorrt.plan import PlanRecord, check_runs_here, choose_profile, has_passed, read_record

AUTO = "auto"
ALIASES = {"ort": "onnxruntime"}
REFERENCE = "pytorch"  # runs a checkpoint, which an export folder does not hold
NAMES = (AUTO, *ALIASES, *(run_time.engine for run_time in RUN_TIMES if run_time.engine != REFERENCE))
EXACT = "fp32"
LATENCY_MS = Interval(gt=0, le=1e9)
PACKAGE = ".pt2"
MADE_BY = {".onnx": "`cliphand export`", ".plan": "`cliphand build`", PACKAGE: "`cliphand export --aot`"}


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """A file, the engine to open it with, and the reason in one sentence."""

    path: Path
    runner: str
    why: str


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A file in an engine that can run it here; `passed` is the gate's verdict, None where there is none."""

    name: str
    sha256: str
    run_time: RunTime
    precision: str
    passed: bool | None

    @property
    def proven(self) -> bool:
        """Whether it may be taken without a measurement."""
        exact = self.precision == EXACT and self.run_time.kind == ".onnx"
        return self.passed is True or (self.passed is None and exact)


def choose_engine(export: Path, manifest: Manifest, engine: str = AUTO, *, trust: bool = False) -> EngineChoice:
    """What to run.

    Args:
        export: folder that `cliphand export` wrote.
        manifest: its manifest.
        engine: one of `NAMES`; the best file for it is taken.
        trust: whether files that bring native code may be chosen.

    Raises:
        InputError: the name is unknown, it cannot be used here, or nothing in the folder runs here.
    """
    wanted = ALIASES.get(engine, engine)
    require(engine in NAMES, f"there is no engine {engine!r}; valid are {', '.join(NAMES)}.")
    gpu = find_gpu()
    native = () if trust or wanted != AUTO else (PACKAGE,)
    asked = [item for item in RUN_TIMES if item.engine in NAMES and wanted in (AUTO, item.engine)]
    if wanted != AUTO and not (working := probe(asked[0], gpu)).usable:
        raise InputError(f"{engine} cannot be used here: {working.why}.")
    asked = [item for item in asked if item.kind not in native and is_there(item, gpu)]
    refused: list[str] = []
    found = [one for item in asked for one in _candidates(export, manifest, item, gpu, refused, trust=trust)]
    measured = measured_rows(export / BENCH_NAME, {one.name: one.sha256 for one in found})
    stale = (*exported_parity(export, manifest).stale, *measured.stale)
    ranked = chain(_measured(export, found, measured.rows), _ordered(export, found))
    # What does not work is found out only when its turn comes: PyTorch takes seconds to import.
    for choice in ranked if wanted == AUTO else chain(ranked, _named(export, found)):
        working = probe(BY_NAME[choice.runner], gpu)
        if working.usable:
            return replace(
                choice, why="; passed over: ".join(("; ".join((choice.why, *stale)), *dict.fromkeys(refused)))
            )
        refused.append(f"{choice.runner}: {working.why}")
    raise _nothing_runs(export, asked, (*dict.fromkeys(refused), *stale))


def _nothing_runs(export: Path, asked: list[RunTime], reasons: Iterable[str]) -> InputError:
    """Why nothing was chosen, and what makes something."""
    names, why = ", ".join(item.engine for item in asked), "".join(f"; {reason}" for reason in reasons)
    remedies = " or ".join(dict.fromkeys(MADE_BY[item.kind] for item in asked))
    return InputError(f"{export} holds nothing that {names} runs within the gate{why}; make it with {remedies}.")


def _candidates(
    export: Path, manifest: Manifest, run_time: RunTime, gpu: Gpu | str, refused: list[str], *, trust: bool
) -> Iterator[_Candidate]:
    """Files of the folder that the engine can run; `refused` gets why it cannot run others."""
    if run_time.kind == ".plan":
        yield from _plans(export, manifest, run_time, gpu, refused, trust=trust)
        return
    verdicts = _verdicts(exported_parity(export, manifest).rows)
    for name, artefact in manifest.artefacts.items():
        if file_kind(Path(name)) != run_time.kind or name.endswith(REJECTED):
            continue
        if not (export / name).exists():
            refused.append(f"{export / name} is listed in {MANIFEST_NAME} but is not there, export again")
        else:
            yield _Candidate(name, artefact.sha256, run_time, artefact.precision, verdicts.get((name, run_time.engine)))


def _plans(
    export: Path, manifest: Manifest, run_time: RunTime, gpu: Gpu | str, refused: list[str], *, trust: bool
) -> Iterator[_Candidate]:
    """Plans of the engine's flavour that were built from the folder's graphs and run here, one photograph at a time."""
    for path in sorted(export.glob("*.plan")):
        try:
            record = read_record(path)
            if record.key.flavour != run_time.engine:
                continue
            native = record.key.settings.version_compatible
            require(trust or not native, f"{path} is version-compatible: {NATIVE_CODE}")
            _check_plan(path, record, manifest, gpu)
        except InputError as error:
            refused.append(str(error).rstrip("."))
        else:
            yield _Candidate(path.name, record.plan_sha256, run_time, record.key.precision, has_passed(record))


def _check_plan(path: Path, record: PlanRecord, manifest: Manifest, gpu: Gpu | str) -> None:
    """Refuse a plan of another graph than the folder's, of other batches than one, or for another machine."""
    graph = manifest.artefacts.get(record.onnx)
    same = graph is not None and graph.sha256 == record.key.onnx_sha256
    require(same, f"{path} was built from another {record.onnx} than the folder's; build it again.")
    choose_profile(record.key.settings.profiles, 1)
    fault = package_fault(record.key.flavour)
    require(fault is None, f"{path} needs {record.key.flavour}: {fault}.")
    flavour, lean = FLAVOURS[record.key.flavour], record.key.settings.version_compatible
    check_runs_here(record, path, version=load_tensorrt(flavour, lean=lean).__version__, gpu=gpu)


def _measured(
    export: Path, found: list[_Candidate], measured: Iterable[Mapping[str, object]]
) -> Iterator[EngineChoice]:
    """The benchmark's rows within the gate, the fastest first."""
    runnable = {(one.name, one.run_time.engine) for one in found if one.passed is not False}
    rows = []
    for row in measured:
        name, latency, runner = row.get("artefact"), row.get("latency_ms_p50"), row.get("runner")
        usable = (name, runner) in runnable and row.get("within_gate") is True and row.get("batch") == 1
        if usable and isinstance(latency, int | float):
            require_within(latency, LATENCY_MS, name=f"{export / BENCH_NAME}: latency_ms_p50 of {name}", kind=float)
            rows.append((float(latency), str(name), str(runner), str(row.get("precision"))))
    for place, (latency, name, runner, precision) in enumerate(sorted(rows)):
        rank = "the fastest" if place == 0 else f"number {place + 1} in speed"
        yield EngineChoice(
            export / name,
            runner,
            f"{name} in {runner} ({precision}) is {rank} of {len(rows)} that {BENCH_NAME} found within the gate, "
            f"{latency:.1f} ms an image",
        )


def _ordered(export: Path, found: list[_Candidate]) -> Iterator[EngineChoice]:
    """What is exact or has passed the gate, in the order of the engines and of their precisions."""
    proven = [one for one in found if one.proven and one.precision in one.run_time.precisions]
    for one in sorted(
        proven, key=lambda one: (RUN_TIMES.index(one.run_time), one.run_time.precisions.index(one.precision))
    ):
        runner, proof = one.run_time.engine, "it passed the gate" if one.passed else "FP32 needs no gate"
        why = f"{one.name} in {runner} comes first of what runs here, and {proof}; no {BENCH_NAME} is of use"
        yield EngineChoice(export / one.name, runner, why)


def _named(export: Path, found: list[_Candidate]) -> Iterator[EngineChoice]:
    """What an engine that was asked for by name runs although nothing is proven: no graph that is less than FP32."""
    for one in found:
        if one.passed is not False and (one.precision == EXACT or one.run_time.kind != ".onnx"):
            runner = one.run_time.engine
            yield EngineChoice(export / one.name, runner, f"{one.name} in {runner}: it was asked for by name")


def _verdicts(rows: Iterable[Mapping[str, object]]) -> dict[tuple[str, str], bool]:
    """Whether a graph passed in an engine, as the export found; several rows of one engine must all have passed."""
    found: dict[tuple[str, str], bool] = {}
    for row in rows:
        # The gate's engines may carry a note after a comma.
        key = (str(row.get("artefact")), str(row.get("engine")).partition(",")[0])
        found[key] = found.get(key, True) and row.get("passed") is True
    return found
