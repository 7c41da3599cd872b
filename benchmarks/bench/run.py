"""Every engine of an export folder, its speed and its accuracy, in one report.

Accuracy is measured once for each engine and precision, speed for each batch size and number of threads, on the same
photographs with the same crop. The report is one JSON object; `benchmarks.bench.table` prints it.
"""

import dataclasses
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from annotated_types import Len

from benchmarks.bench.conditions import data_facts, export_facts, protocol
from benchmarks.bench.rows import Findings, Row, make_rows
from benchmarks.contestants.exported import (
    DEFAULT_RUNNERS,
    REFERENCE,
    Contestant,
    Skipped,
    exported_key,
    open_contestants,
)
from benchmarks.contestants.plans import open_plans
from benchmarks.measure.accuracy import Accuracy, batch_sizes, predict, score
from benchmarks.measure.interleaved import SpeedSettings
from benchmarks.measure.isolated import Isolated, IsolatedSettings, measure_isolated
from benchmarks.measure.machine import machine_facts, usable_cores
from benchmarks.measure.photographs import Photographs, Root, read_batch
from benchmarks.measure.roofline import Roofline, is_told_by, measure_roofline
from benchmarks.measure.speed import Speed, measure_speed
from cliphand.arrays import FloatArray
from cliphand.checked import checked
from cliphand.config import require
from cliphand.data.freihand import Split, open_freihand
from cliphand.data.identity import refuse_other_hand
from cliphand.data.predictions import write_predictions
from cliphand.errors import InputError
from cliphand.files import sha256_of
from cliphand.hand import HAND_NAME
from cliphand.limits import ALL, BATCH, THREADS
from cliphand.progress import Progress
from cliphand.provenance import git_commit, library_versions
from engines.artefact.manifest import Manifest, mesh_warnings, open_hand, read_manifest
from engines.open import RUNNERS


@checked
class BenchRequest:
    """What to measure.

    Attributes:
        export: folder that `cliphand export` wrote.
        data: folder in FreiHAND's layout.
        batches: batch sizes to time.
        threads: numbers of threads of one call to compare; None leaves the choice to each run-time.
        runners: engines for ONNX graphs, of those that `engines.open` lists.
        rejected: whether graphs that failed the gate run as well.
        trust: whether packages of native code and version-compatible plans, which bring some, are opened.
        baselines: whether other ways to run the checkpoint's weights are compared, too.
        roofline: whether the processor's own limit is measured, which needs OpenVINO.
        root: where the absolute depth comes from.
        n_images: score the first so many images; None all.
        split: of the data.
        checkpoint: of the PyTorch row; None takes the one that the manifest records.
        predictions: file for the exported model's hands in FreiHAND's submission format.
        speed: how much is timed interleaved.
        alone: how much is measured of each engine by itself.
    """

    export: Path
    data: Path
    batches: Annotated[tuple[Annotated[int, BATCH], ...], Len(1)] = (1,)
    threads: Annotated[tuple[Annotated[int, THREADS] | None, ...], Len(1)] = (None,)
    runners: tuple[str, ...] = DEFAULT_RUNNERS
    rejected: bool = False
    trust: bool = False
    baselines: bool = False
    roofline: bool = False
    root: Root = "truth"
    n_images: Annotated[int, ALL] | None = None
    split: Split = "evaluation"
    checkpoint: Path | None = None
    predictions: Path | None = None
    speed: SpeedSettings = field(default_factory=SpeedSettings)
    isolated: IsolatedSettings = field(default_factory=IsolatedSettings)

    def __post_init__(self) -> None:
        """Check names."""
        unknown = sorted(set(self.runners) - set(RUNNERS[".onnx"]))
        known = ", ".join(RUNNERS[".onnx"])
        require(not unknown, f"there is no engine {', '.join(unknown)} for ONNX graphs; valid are {known}.")


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that one run found; `dataclasses.asdict` is its JSON form."""

    machine: Mapping[str, object]
    versions: Mapping[str, str]
    commit: str
    export: Mapping[str, object]
    data: Mapping[str, object]
    crop: Mapping[str, object]
    root: Root
    protocol: str
    training: Mapping[str, object]
    speed: Mapping[str, object]
    omitted: tuple[str, ...]
    warnings: tuple[str, ...]
    rows: tuple[Row, ...]
    skipped: tuple[Skipped, ...] = ()
    rooflines: tuple[Roofline, ...] = ()


def run_bench(request: BenchRequest, *, progress: Progress | None = None) -> Report:
    """Measure every engine of an export folder.

    Raises:
        InputError: the export folder, the checkpoint or the data are missing or do not fit one another.
    """
    manifest = read_manifest(request.export)
    hand = open_hand(manifest, request.export)
    regressor = hand.joint_regressor
    data = open_freihand(request.data, request.split)
    refuse_other_hand(data, hand, source=request.export / HAND_NAME)
    photographs = Photographs(data=data, crop=manifest.crop, input_size=manifest.input_size, root=request.root)
    n_images = min(request.n_images or len(data), len(data))
    with ExitStack() as stack:
        broken: list[Skipped] = []
        contestants, omitted = _open(request, manifest, stack, broken)
        plans, skipped = open_plans(
            request.export, manifest, stack, batches=_batches(request, n_images), trust=request.trust
        )
        contestants |= plans
        machine = machine_facts()  # the load is that of others: nothing has been measured yet
        rooflines, without = _rooflines(request)
        findings = _measure(contestants, photographs, regressor, request, n_images=n_images, progress=progress)
        gflop = manifest.exporter.get("gflop")
        known = gflop if isinstance(gflop, float) else None
        rows = make_rows(contestants, dataclasses.replace(findings, rooflines=rooflines, gflop=known))
    written, refused = _write_predictions(request.predictions, findings, exported_key(contestants))
    return Report(
        machine=machine,
        versions=library_versions(),
        commit=git_commit(),
        export=export_facts(request.export, manifest) | {"predictions": written},
        data=data_facts(request.data, data, regressor, n_images=n_images),
        crop=dataclasses.asdict(manifest.crop) | {"input_size": manifest.input_size},
        root=request.root,
        protocol=protocol(request.export, request.root),
        training=manifest.training,
        speed=_speed_facts(request),
        omitted=omitted + without + refused,
        warnings=mesh_warnings(manifest.training) + _warnings(findings.accuracy),
        rows=rows,
        skipped=(*dict.fromkeys(broken), *skipped),
        rooflines=tuple(rooflines.values()),
    )


def _open(
    request: BenchRequest, manifest: Manifest, stack: ExitStack, skipped: list[Skipped]
) -> tuple[dict[str, Contestant], tuple[str, ...]]:
    """Every contestant; beyond the first number of threads the keys name it. `skipped` gets broken files."""
    contestants: dict[str, Contestant] = {}
    omitted: dict[str, None] = {}  # each sentence once, in order
    for place, threads in enumerate(request.threads):
        found, left_out = open_contestants(
            request.export,
            manifest,
            stack,
            threads=threads,
            checkpoint=request.checkpoint,
            runners=request.runners,
            rejected=request.rejected,
            trust=request.trust,
            skipped=skipped,
        )
        omitted |= dict.fromkeys(left_out)
        if request.baselines and REFERENCE in found:
            from benchmarks.contestants.baselines import open_baselines

            baselines, left_out = open_baselines(found[REFERENCE])
            found, omitted = found | baselines, omitted | dict.fromkeys(left_out)
        contestants |= {
            key if place == 0 else f"{key}, {threads} threads": contestant for key, contestant in found.items()
        }
    return contestants, tuple(omitted)


def _rooflines(request: BenchRequest) -> tuple[dict[int | None, Roofline], tuple[str, ...]]:
    """The processor's limit for each number of threads, and why there is none where there is none."""
    if not request.roofline:
        return {}, () if is_told_by(request.runners) else ("no roofline: it is measured where an OpenVINO engine runs",)
    rooflines: dict[int | None, Roofline] = {}
    omitted: dict[str, None] = {}
    for threads in request.threads:
        try:
            rooflines[threads] = measure_roofline(threads)
        except InputError as error:
            omitted[f"no roofline: {error}"] = None
    return rooflines, tuple(omitted)


def _batches(request: BenchRequest, n_images: int) -> set[int]:
    """Every batch size that an engine will be called with."""
    return {1, *request.batches, *batch_sizes(n_images)}


def _measure(
    contestants: Mapping[str, Contestant],
    photographs: Photographs,
    regressor: FloatArray,
    request: BenchRequest,
    *,
    n_images: int,
    progress: Progress | None,
) -> Findings:
    """Accuracy of every contestant, then its latencies, then what is measured of it alone."""
    report = progress or (lambda what, done, total: None)
    # The number of threads changes the speed only: what the first one predicts holds for all.
    first = {
        key: contestant for key, contestant in contestants.items() if contestant.threads in (request.threads[0], None)
    }
    predictions = predict(
        {key: contestant.engine for key, contestant in first.items()},
        photographs,
        regressor,
        n_images=n_images,
        progress=lambda done: report("accuracy", done, n_images),
    )
    predictions |= {key: predictions[key.rpartition(",")[0]] for key in contestants if key not in predictions}
    accuracy = {key: score(predictions[key], photographs.data) for key in first}
    accuracy |= {key: accuracy[key.rpartition(",")[0]] for key in contestants if key not in accuracy}
    return Findings(
        accuracy=accuracy,
        predictions=predictions,
        speed=_time(contestants, photographs, request, report),
        isolated=_isolated(contestants, photographs, request, report),
    )


def _time(
    contestants: Mapping[str, Contestant], photographs: Photographs, request: BenchRequest, report: Progress
) -> dict[tuple[str, int], Speed]:
    """Speed by contestant and batch."""
    engines = {key: contestant.engine for key, contestant in contestants.items()}
    found: dict[tuple[str, int], Speed] = {}
    for place, batch in enumerate(request.batches):

        def advance(rounds: int, place: int = place) -> None:
            report("speed", 2 * place + rounds, 2 * len(request.batches))

        speeds = measure_speed(
            engines, photographs, batch, settings=request.speed, workers=usable_cores(), progress=advance
        )
        found.update({(key, batch): speed for key, speed in speeds.items()})
    return found


def _isolated(
    contestants: Mapping[str, Contestant], photographs: Photographs, request: BenchRequest, report: Progress
) -> dict[str, Isolated]:
    """Cold start, memory, throughput, energy; nothing where nothing of it was asked for."""
    if request.isolated == IsolatedSettings():
        return {}
    images = read_batch(photographs, [0]).images
    total = len(contestants)
    return measure_isolated(contestants, images, request.isolated, lambda done: report("each alone", done, total))


def _warnings(accuracy: Mapping[str, Accuracy]) -> tuple[str, ...]:
    """Each kind of warning once, in the words of the first contestant it holds for, after all of them."""
    found: dict[str, tuple[str, list[str]]] = {}
    for key, scored in accuracy.items():
        for text in scored.warnings:
            found.setdefault(text.partition(": ")[0], (text, []))[1].append(key)
    return tuple(f"{'; '.join(keys)}: {text}" for text, keys in found.values())


def _write_predictions(
    path: Path | None, findings: Findings, key: str
) -> tuple[dict[str, str] | None, tuple[str, ...]]:
    """Write the export's hands; return what was written, and why where nothing was although it was asked for."""
    if path is None:
        return None, ()
    predictions = findings.predictions[key]
    if predictions.n_nonfinite:
        return None, (f"{path} is not written: {key} gave NaN or infinity on {predictions.n_nonfinite} images",)
    write_predictions(path, predictions.xyz, predictions.verts)
    return {"file": str(path), "sha256": sha256_of(path), "of": key}, ()


def _speed_facts(request: BenchRequest) -> dict[str, object]:
    """How it was timed; `threads` is the first number of them."""
    counts = {"threads": request.threads[0], "thread_counts": request.threads}
    return dataclasses.asdict(request.speed) | counts | {"isolated": dataclasses.asdict(request.isolated)}
