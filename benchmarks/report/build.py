"""From an export folder to the report: what is read, what is run, and in which order it is told."""

import datetime
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from benchmarks.contestants.exported import POINTLESS, Contestant, Skipped, installed_runners, open_contestants
from benchmarks.contestants.plans import open_plans, skipped_lines
from benchmarks.measure.accuracy import batch_sizes, predict
from benchmarks.measure.machine import machine_facts
from benchmarks.measure.photographs import Photographs, Root, read_batch
from benchmarks.report.accuracy_sections import accuracy_sections, image_section
from benchmarks.report.bench_file import BenchFile, read_bench
from benchmarks.report.gate_section import measured_rows, parity_section, verdict
from benchmarks.report.matching_section import matching_section
from benchmarks.report.measured import Measured, measure
from benchmarks.report.origin_section import key_figures, origin_section, summary, title
from benchmarks.report.page import Page, check_targets, write_page
from benchmarks.report.speed_section import speed_section
from benchmarks.report.stage_section import stage_section
from benchmarks.report.stage_times import PROFILERS, StageTimes, stage_times
from benchmarks.report.theme import make_palette
from cliphand.checked import checked
from cliphand.config import require
from cliphand.data.freihand import Split, open_freihand
from cliphand.data.identity import refuse_other_hand
from cliphand.errors import InputError
from cliphand.hand import HAND_NAME
from cliphand.limits import ALL, THREADS
from cliphand.progress import Progress
from engines.artefact.manifest import Manifest, mesh_warnings, open_hand, read_manifest
from engines.choice.verdicts import BENCH_NAME, exported_parity, model_files
from engines.choice.verdicts import measured_rows as bench_rows
from engines.open import RUNNERS
from export.folder.contents import REPORT_NAME
from export.graph.inventory import StageCost, read_inventory

if TYPE_CHECKING:
    from cliphand.checkpoint import Checkpoint

SPLIT: Split = "evaluation"
ROOT: Root = "truth"


@checked
class ReportRequest:
    """What to report on. None is the benchmark's own choice, or the usual one where there is no benchmark.

    Attributes:
        export: folder that `cliphand export` wrote.
        out: HTML file; None is `report.html` in the export folder.
        data: folder in FreiHAND's layout.
        bench: what `cliphand bench` wrote; None looks for `bench.json` in the export folder.
        split: of the data.
        root: where the absolute depth comes from.
        n_images: run the first so many images.
        checkpoint: of PyTorch; None takes the one that the manifest records.
        threads: of one call.
        runners: engines for ONNX graphs, of those that `engines.open` lists; none are all that are installed.
        rejected: whether graphs that failed the gate run as well.
    """

    export: Path
    out: Path | None = None
    data: Path | None = None
    bench: Path | None = None
    split: Split | None = None
    root: Root | None = None
    n_images: Annotated[int, ALL] | None = None
    checkpoint: Path | None = None
    threads: Annotated[int, THREADS] | None = None
    runners: tuple[str, ...] = ()
    rejected: bool = False

    def __post_init__(self) -> None:
        """Check names."""
        unknown, known = sorted(set(self.runners) - set(RUNNERS[".onnx"])), sorted(RUNNERS[".onnx"])
        require(not unknown, f"--engine is {', '.join(unknown)}; engines for ONNX graphs are {', '.join(known)}.")


@dataclass(frozen=True, slots=True)
class Written:
    """Where the report is, its verdict, and the files that it tells nothing of because their engines refuse them."""

    html: Path
    figures: Path
    verdict: str
    broken: tuple[Skipped, ...]


@dataclass(frozen=True, slots=True)
class Run:
    """What the engines gave, and what did not run: sentences, and files that their engines refuse.

    Attributes:
        checkpoint: that PyTorch ran; None where it did not run.
    """

    measured: Measured
    checkpoint: "Checkpoint | None"
    omitted: tuple[str, ...]
    broken: tuple[Skipped, ...]


def write_report(request: ReportRequest, *, progress: Progress | None = None) -> Written:
    """Run what the report needs and write it.

    Raises:
        InputError: the export folder, the data, the benchmark's file or the checkpoint are missing or do not fit.
    """
    advance = progress or (lambda what, done, all_steps: None)
    manifest = read_manifest(request.export)
    out = request.out or request.export / REPORT_NAME
    check_targets(out)
    bench = find_bench(request, manifest)
    photographs = _photographs(request, manifest, bench)
    run = _measure(request, manifest, photographs, bench, advance)
    page = _page(request, manifest, run, bench, advance)
    advance("drawing", 0, 1)
    figures = write_page(page, out)
    advance("drawing", 1, 1)
    return Written(out, figures, f"{page.verdict.headline}. {page.verdict.sentence}", run.broken)


def find_bench(request: ReportRequest, manifest: Manifest) -> BenchFile | str:
    """The benchmark's result, or the sentence that stands where it would be shown.

    Raises:
        InputError: a file that was named is missing, or is not a benchmark's.
    """
    path = request.bench or request.export / BENCH_NAME
    again = f"`cliphand bench {request.export} --data DATA`"
    if request.bench is None and not path.exists():
        return f"There is no {BENCH_NAME} in {request.export}: run {again}, then this report again."
    bench = read_bench(path)
    given = bench.fact("export", "checkpoint_sha256", str)
    if given != manifest.checkpoint.sha256:
        require(request.bench is None, f"{path} was measured on another checkpoint than {request.export} holds.")
        return f"{path} was measured on another checkpoint than this export's: run {again}, then this report again."
    if stale := "; ".join(bench_rows(path, model_files(request.export, manifest)).stale):
        require(request.bench is None, f"{stale}.")
        return f"No latencies are shown: {stale}, then write this report again."
    return bench


def _photographs(request: ReportRequest, manifest: Manifest, bench: BenchFile | str) -> Photographs:
    """The data that was asked for, else the benchmark's."""
    told = None if isinstance(bench, str) else bench
    recorded = told and told.fact("data", "path", str)
    root = request.data or (Path(recorded) if recorded else None)
    if root is None or (request.data is None and not root.is_dir()):
        gone = f"the data that {BENCH_NAME} names, {recorded}, is not here" if recorded else "no data is named"
        raise InputError(
            f"{gone}; give --data DATA, a folder in FreiHAND's layout that the engines run on (`cliphand bench "
            f"{request.export} --data DATA` before it brings the latencies)."
        )
    split = request.split or _known_split(told and told.fact("data", "split", str))
    data = open_freihand(root, split)
    return Photographs(
        data=data,
        crop=manifest.crop,
        input_size=manifest.input_size,
        root=request.root or _known_root(told and told.facts.get("root")),
    )


def _known_split(value: object) -> Split:
    return "training" if value == "training" else SPLIT


def _known_root(value: object) -> Root:
    return "scale" if value == "scale" else ROOT


def _measure(
    request: ReportRequest, manifest: Manifest, photographs: Photographs, bench: BenchFile | str, advance: Progress
) -> Run:
    """Run every engine over the images; a file that its engine refuses costs no other its place."""
    recorded = None if isinstance(bench, str) or request.data else bench.fact("data", "images", int)
    n_images = min(request.n_images or recorded or len(photographs.data), len(photographs.data))
    topology = open_hand(manifest, request.export)
    refuse_other_hand(photographs.data, topology, source=request.export / HAND_NAME)
    broken: list[Skipped] = []
    with ExitStack() as stack:
        contestants, omitted = open_contestants(
            request.export,
            manifest,
            stack,
            threads=request.threads,
            checkpoint=request.checkpoint,
            runners=request.runners or installed_runners(),
            rejected=request.rejected,
            skipped=broken,
        )
        plans, skipped = open_plans(request.export, manifest, stack, batches=batch_sizes(n_images))
        contestants |= plans
        omitted += tuple(skipped_lines([*broken, *skipped]))
        predictions = predict(
            {key: contestant.engine for key, contestant in contestants.items()},
            photographs,
            topology.joint_regressor,
            n_images=n_images,
            progress=lambda done: advance("running the engines", done, n_images),
        )
        measured = measure(contestants, predictions, photographs, topology)
        return Run(measured, _reference_checkpoint(contestants.values()), omitted, tuple(broken))


def _page(
    request: ReportRequest,
    manifest: Manifest,
    run: Run,
    bench: BenchFile | str,
    advance: Progress,
) -> Page:
    measured, omitted = run.measured, run.omitted
    sound = [name for name in manifest.artefacts if name not in {one.file for one in run.broken}]
    at_export, here = exported_parity(request.export, manifest), measured_rows(measured.gate)
    where = f"{measured.n_images} images of {measured.photographs.data.root}"
    why_not = next((text for text in omitted if "PyTorch" in text), "Nothing can be compared without true joints.")
    costs = _costs(request.export, sound)
    times = _stage_times(request, manifest, sound, measured.photographs, advance)
    advance("matching poses and prompts", 0, 1)
    matching = matching_section(
        run.checkpoint, measured.photographs, n_images=measured.n_images, why_not=why_not.rstrip(".")
    )
    advance("matching poses and prompts", 1, 1)
    palette = make_palette([*measured.hands, *([] if isinstance(bench, str) else bench.labels)])
    sections = [
        speed_section(bench, palette),
        *accuracy_sections(measured, palette),
        image_section(measured),
        matching,
        stage_section(costs, times, threads=request.threads),
        parity_section(at_export.rows, here, where=where, why_not=why_not, stale=at_export.stale),
        origin_section(manifest, measured, bench, omitted=omitted, machine=machine_facts()),
    ]
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    return Page(
        title=title(request.export, manifest),
        summary=summary(measured, bench),
        verdict=verdict(
            at_export.rows,
            here,
            refusals=at_export.refusals,
            skipped=run.broken,
            notes=[*at_export.stale, *mesh_warnings(manifest.training)],
        ),
        sections=sections,
        footer=f"Written by cliphand on {now} from {request.export}.",
        key_figures=key_figures(manifest, measured, bench),
    )


def _reference_checkpoint(contestants: Iterable[Contestant]) -> "Checkpoint | None":
    """What PyTorch ran; without torch it ran nothing."""
    reference = next((one.engine for one in contestants if one.kind == "reference"), None)
    if reference is None:
        return None
    from engines.runtimes.eager import EagerEngine

    return reference.checkpoint if isinstance(reference, EagerEngine) else None


def _costs(export: Path, names: list[str]) -> dict[str, tuple[StageCost, ...]]:
    """Costs of the ONNX graphs among the files, by their names."""
    return {name: read_inventory(export / name) for name in names if name.endswith(".onnx")}


def _stage_times(
    request: ReportRequest, manifest: Manifest, names: list[str], photographs: Photographs, advance: Progress
) -> list[StageTimes]:
    """Of the ONNX graphs among the files in every run-time that was asked for and can tell."""
    image = read_batch(photographs, [0]).images
    graphs = {name: manifest.artefacts[name].precision for name in names if name.endswith(".onnx")}
    engines = [name for name in request.runners or installed_runners() if name in PROFILERS]
    found: list[StageTimes] = []
    for place, (name, precision) in enumerate(graphs.items()):
        apt = [engine for engine in engines if (engine, precision) not in POINTLESS]
        found += stage_times(request.export / name, image, engines=apt, threads=request.threads)
        advance("timing stages", place + 1, len(graphs))
    return found
