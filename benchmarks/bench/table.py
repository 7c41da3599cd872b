"""The benchmark's report as a table for people."""

import io
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from benchmarks.bench.rows import Row
from benchmarks.bench.run import Report
from benchmarks.contestants.plans import skipped_lines
from benchmarks.measure.accuracy import AUC_RANGES_MM
from benchmarks.measure.intervals import Ratio
from benchmarks.measure.isolated import Isolated
from benchmarks.measure.photographs import SECOND_LOOK
from benchmarks.measure.roofline import Roofline
from cliphand.files import SHORT_HASH

MISSING = "-"
WIDEST = 1000  # columns; more than any table needs
WIDTH = 120  # columns of the table that is printed unless all of it is asked for
AUC_RANGE = f"{AUC_RANGES_MM[0][0]:g}-{AUC_RANGES_MM[0][1]:g}"
CROP_NOTES = {"joints": " (about the true joints: an upper bound)", "mask": " (about the true mask)"}
GATE: dict[bool | None, str] = {True: "in", False: "OUT", None: MISSING}
LEAST_FLOOR_MM = 0.005  # what is less is printed as 0.00
_MILLIMETRES = "{:.2f}"
_SHARE = "{:.3f}"

# Heading, and the cell's text. Figures of accuracy in millimetres unless the heading says otherwise.
COLUMNS: tuple[tuple[str, Callable[[Row], str]], ...] = (
    ("engine", lambda row: row.engine),
    ("precision", lambda row: row.precision),
    ("batch", lambda row: str(row.batch)),
    ("threads", lambda row: _count(row.threads)),
    ("p50\nms", lambda row: f"{row.latency_ms_p50:.2f}"),
    ("p90\nms", lambda row: f"{row.latency_ms_p90:.2f}"),
    ("p99\nms", lambda row: f"{row.latency_ms_p99:.2f}"),
    ("FPS", lambda row: f"{row.fps:.1f}"),
    ("FPS end\nto end", lambda row: f"{row.end_to_end_fps:.1f}"),
    ("x Py-\nTorch", lambda row: _ratio(row.speedup)),
    ("roof-\nline", lambda row: _number(row.roofline_share, "{:.0%}")),
    ("over\nbare", lambda row: _ratio(row.overhead)),
    ("stream\n/model", lambda row: _ratio(row.pipelined_over_model)),
    ("PJPE", lambda row: _number(row.pjpe_mm, _MILLIMETRES)),
    ("PA-\nPJPE", lambda row: _number(row.pa_pjpe_mm, _MILLIMETRES)),
    ("PA-\nPVPE", lambda row: _number(row.pa_pvpe_mm, _MILLIMETRES)),
    ("F@5", lambda row: _number(row.f_at_5, _SHARE)),
    ("F@15", lambda row: _number(row.f_at_15, _SHARE)),
    (f"AUC\n{AUC_RANGE}", lambda row: _number((row.pa_pjpe_auc or {}).get(f"{AUC_RANGE} mm"), _SHARE)),
    ("lixel\nPA-PJPE", lambda row: _number(row.lixel_pa_pjpe_mm, _MILLIMETRES)),
    ("delta\nPA-PJPE", lambda row: _number(row.delta_pa_pjpe_mm, "{:+z.4f}")),
    ("delta PA-\nPVPE", lambda row: _number(row.delta_pa_pvpe_mm, "{:+z.4f}")),
    ("delta\nvertex", lambda row: _number((row.vertex_distance_mm or {}).get("max"), "{:.4f}")),
    ("gate", lambda row: GATE[row.within_gate]),
    ("size\nMB", lambda row: f"{row.size_mb:.1f}"),
)
# Headings that `--wide` adds; the JSON object and `cliphand report` have them in any case.
WIDE_ONLY: tuple[str, ...] = ("p90\nms", "p99\nms", "over\nbare", "stream\n/model", "PJPE", "PA-\nPVPE", "F@5", "F@15")
WIDE_ONLY += (f"AUC\n{AUC_RANGE}", "lixel\nPA-PJPE", "delta PA-\nPVPE")
# What was measured of each engine by itself, once for all batch sizes.
ISOLATED_COLUMNS: tuple[tuple[str, Callable[[Row, Isolated], str]], ...] = (
    ("engine", lambda row, isolated: row.engine),
    ("precision", lambda row, isolated: row.precision),
    ("threads", lambda row, isolated: _count(row.threads)),
    ("start\ns", lambda row, isolated: _of(isolated.cold_start, lambda start: f"{start.start_s:.2f}")),
    ("of it\nCPU s", lambda row, isolated: _of(isolated.cold_start, lambda start: f"{start.cpu_s:.2f}")),
    ("first\ncall ms", lambda row, isolated: _of(isolated.cold_start, lambda start: f"{start.first_call_ms:.1f}")),
    ("steady\nms", lambda row, isolated: _of(isolated.cold_start, lambda start: f"{start.steady_ms:.1f}")),
    ("peak\nMB", lambda row, isolated: _of(isolated.cold_start, lambda start: _number(start.peak_mb, "{:.0f}"))),
    ("threads\nFPS", lambda row, isolated: _of(isolated.throughput, lambda found: f"{found.images_per_s:.1f}")),
    ("processes\nFPS", lambda row, isolated: _of(isolated.processes, lambda found: f"{found.images_per_s:.1f}")),
    ("J an\nimage", lambda row, isolated: _of(isolated.energy, lambda energy: _number(energy.joules, "{:.3f}"))),
)
COLUMNS_NOTE = (
    "Errors are in millimetres. x PyTorch: how many times faster than PyTorch, the median of paired calls. Roofline: "
    "the graph's operations per second, over those of bare convolutions in the same precision here. Deltas "
    "are differences to PyTorch on the same images; that of the vertex is the largest distance of any vertex. Gate: "
    "whether the differences are within the export's default tolerances."
)
WIDE_NOTE = (
    "Over bare: the engine's call over the run-time's own call. Stream/model: the time from JPEG file to metres in a "
    "stream of images, over the time of the model alone."
)
NARROW_NOTE = "More columns with --wide; all of them stand in the JSON object and in `cliphand report`."
ISOLATED_TITLE = (
    "Each engine in processes of its own: from the start of a new process to its first result; images per second of "
    "callers side by side, one thread each, as threads that share a model and as processes with a model each."
)
LEFT_ALIGNED = ("engine", "precision")
FOLDED, NARROWEST = "engine", 16  # the column whose texts may take several lines, and its characters
Found = TypeVar("Found")


def _count(threads: int | None) -> str:
    return "own" if threads is None else str(threads)


def _ratio(ratio: Ratio | None) -> str:
    return MISSING if ratio is None else f"{ratio.median:.2f}"


def _of(found: Found | None, cell: Callable[[Found], str]) -> str:
    return MISSING if found is None else cell(found)


def _number(value: float | None, form: str) -> str:
    return MISSING if value is None else form.format(value)


def bench_table(report: Report, *, wide: bool = False) -> Table:
    """One row per engine x precision x batch; the title states the conditions, the caption what is missing."""
    columns = [column for column in COLUMNS if wide or column[0] not in WIDE_ONLY]
    notes = [COLUMNS_NOTE, WIDE_NOTE if wide else NARROW_NOTE]
    return _table(
        [heading for heading, _ in columns],
        [[cell(row) for _, cell in columns] for row in report.rows],
        title=title(report),
        caption="\n".join(
            [*notes, *_proofs(report.rows), *skipped_lines(report.skipped), *report.omitted, *report.warnings]
        ),
    )


def _proofs(rows: Sequence[Row]) -> list[str]:
    """What each plan's layers prove of its precision."""
    return list(dict.fromkeys(f"{row.key}: {row.layers}" for row in rows if row.layers is not None))


def isolated_table(report: Report) -> Table | None:
    """Cold start, memory, throughput and energy, one row per engine x precision x threads; None without any."""
    first = {row.key: row for row in reversed(report.rows)}
    rows = [(row, row.isolated) for row in reversed(first.values()) if row.isolated is not None]
    if not rows:
        return None
    reasons = {isolated.energy.reason for _, isolated in rows if isolated.energy is not None and isolated.energy.reason}
    notes = [f"{row.key}: {note}" for row, isolated in rows for note in isolated.notes]
    return _table(
        [heading for heading, _ in ISOLATED_COLUMNS],
        [[cell(row, isolated) for _, cell in ISOLATED_COLUMNS] for row, isolated in rows],
        title=ISOLATED_TITLE,
        caption="\n".join([*sorted(reasons), *notes]),
    )


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, title: str, caption: str) -> Table:
    table = Table(
        title=Text(title),
        caption=Text(caption),
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        show_edge=False,
    )
    for heading in headings:
        table.add_column(
            heading,
            justify="left" if heading in LEFT_ALIGNED else "right",
            no_wrap=heading != FOLDED,
            min_width=NARROWEST if heading == FOLDED else None,
            overflow="fold",
            vertical="bottom",
        )
    for row in rows:
        table.add_row(*row)
    return table


def table_text(report: Report, *, wide: bool = False) -> str:
    """The report's tables as plain text, in WIDTH columns or as wide as all columns need."""
    width, isolated = WIDEST if wide else WIDTH, isolated_table(report)
    main = plain_text(bench_table(report, wide=wide), width=width)
    return main + ("" if isolated is None else plain_text(isolated, width=width))


def plain_text(table: Table, *, width: int = WIDEST) -> str:
    """A table as plain text, as wide as it needs to be: figures are worth more than a terminal's margin.

    Args:
        table: the table.
        width: columns beyond which long texts are folded.
    """
    needed = min(width, Measurement.get(Console(), Console().options.update(max_width=WIDEST), table).maximum)
    console = Console(highlight=False, width=needed, file=io.StringIO())
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def title(report: Report) -> str:
    """What the figures were measured on and how they are to be read, a line for each kind of condition."""
    data, crop, speed = report.data, report.crop, report.speed
    lines = [
        f"{report.export['path']} (checkpoint {str(report.export['checkpoint_sha256'])[:SHORT_HASH]}): "
        f"{_facts(report.training)}",
        f"data: {data['path']}, {data['split']} split, {data['images']} images",
        *_floor(data["regressor_pa_pjpe_mm"]),
        f"crop: {crop['rule']}{CROP_NOTES.get(str(crop['rule']), '')}, {crop['input_size']} px"
        + (f", {SECOND_LOOK}; latency and FPS are of one look, end to end of both" if crop.get("second_look") else ""),
        f"protocol: {report.protocol}",
        f"speed: {report.machine['cpu']}, {report.machine['cores']} cores, load before {report.machine['load']}, "
        f"threads {_threads(speed)}; engines interleaved, up to {speed['calls']} calls or "
        f"{speed['seconds']:g} s each; FPS at the median; end to end from JPEG file to vertices in metres",
        *(f"roofline: {_roofline(roofline)}" for roofline in report.rooflines),
    ]
    return "\n".join(lines)


def _floor(error_mm: object) -> list[str]:
    """What a perfect mesh would score, where the labels' joints are of another definition than the regressor's."""
    if not isinstance(error_mm, float) or error_mm < LEAST_FLOOR_MM:
        return []
    return [
        f"floor: PA-PJPE would be {error_mm:.2f} mm for a perfect mesh: so far are the joints regressed from the "
        "labelled meshes from the labelled joints"
    ]


def _roofline(roofline: Roofline) -> str:
    speeds = ", ".join(f"{name} {speed:.0f}" for name, speed in roofline.gflop_per_s.items())
    return f"{speeds} GFLOP/s in bare 3 x 3 convolutions (OpenVINO, {_count(roofline.threads)} threads)"


def _threads(speed: Mapping[str, object]) -> str:
    counts = speed.get("thread_counts")
    numbers = list(counts) if isinstance(counts, Sequence) else [speed.get("threads")]
    return " and ".join("as each run-time chooses" if count is None else str(count) for count in numbers)


def _facts(training: Mapping[str, object]) -> str:
    """Training facts on one line; longer values stand in the JSON only."""
    plain = {name: value for name, value in training.items() if isinstance(value, str | int | float)}
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in plain.items()
    )
