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
from benchmarks.measure.isolated import Alone
from benchmarks.measure.roofline import Roofline
from cliphand.files import SHORT_HASH

MISSING = "-"
WIDEST = 1000  # columns; more than any table needs
AUC_RANGE = f"{AUC_RANGES_MM[0][0]:g}-{AUC_RANGES_MM[0][1]:g}"
CROP_NOTES = {"joints": " (about the true joints: an upper bound)", "mask": " (about the true mask)"}
GATE: dict[bool | None, str] = {True: "in", False: "OUT", None: MISSING}
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
    ("times\nPyTorch", lambda row: _ratio(row.speedup)),
    ("of\nroof", lambda row: _number(row.share_of_roof, "{:.0%}")),
    ("over\nbare", lambda row: _ratio(row.overhead)),
    ("stream\n/model", lambda row: _ratio(row.pipelined_over_model)),
    ("PJPE", lambda row: _number(row.pjpe_mm, _MILLIMETRES)),
    ("PA-\nPJPE", lambda row: _number(row.pa_pjpe_mm, _MILLIMETRES)),
    ("PA-\nPVPE", lambda row: _number(row.pa_pvpe_mm, _MILLIMETRES)),
    ("F@5", lambda row: _number(row.f_at_5, _SHARE)),
    ("F@15", lambda row: _number(row.f_at_15, _SHARE)),
    (f"AUC\n{AUC_RANGE}", lambda row: _number((row.pa_pjpe_auc or {}).get(f"{AUC_RANGE} mm"), _SHARE)),
    ("lixel\nPA-PJPE", lambda row: _number(row.lixel_pa_pjpe_mm, _MILLIMETRES)),
    ("delta PA-\nPJPE", lambda row: _number(row.delta_pa_pjpe_mm, "{:+z.4f}")),
    ("delta PA-\nPVPE", lambda row: _number(row.delta_pa_pvpe_mm, "{:+z.4f}")),
    ("delta\nvertex", lambda row: _number((row.vertex_distance_mm or {}).get("max"), "{:.4f}")),
    ("gate", lambda row: GATE[row.within_gate]),
    ("size\nMB", lambda row: f"{row.size_mb:.1f}"),
)
# What was measured of each engine by itself, once for all batch sizes.
ALONE_COLUMNS: tuple[tuple[str, Callable[[Row, Alone], str]], ...] = (
    ("engine", lambda row, alone: row.engine),
    ("precision", lambda row, alone: row.precision),
    ("threads", lambda row, alone: _count(row.threads)),
    ("start\ns", lambda row, alone: _of(alone.cold_start, lambda start: f"{start.start_s:.2f}")),
    ("of it\nCPU s", lambda row, alone: _of(alone.cold_start, lambda start: f"{start.cpu_s:.2f}")),
    ("first\ncall ms", lambda row, alone: _of(alone.cold_start, lambda start: f"{start.first_call_ms:.1f}")),
    ("steady\nms", lambda row, alone: _of(alone.cold_start, lambda start: f"{start.steady_ms:.1f}")),
    ("peak\nMB", lambda row, alone: _of(alone.cold_start, lambda start: _number(start.peak_mb, "{:.0f}"))),
    ("threads\nFPS", lambda row, alone: _of(alone.throughput, lambda found: f"{found.images_per_s:.1f}")),
    ("processes\nFPS", lambda row, alone: _of(alone.processes, lambda found: f"{found.images_per_s:.1f}")),
    ("J an\nimage", lambda row, alone: _of(alone.energy, lambda energy: _number(energy.joules, "{:.3f}"))),
)
COLUMNS_NOTE = (
    "Errors in mm. Times PyTorch: how many times faster, median over turns. Of roof: the graph's GFLOP in that time, "
    "over what bare convolutions in that precision reach here. Over bare: the engine's call over the run-time's own. "
    "Stream/model: JPEG to metres as a stream, over the model alone. Deltas to PyTorch on the same images: PA-PJPE, "
    "PA-PVPE, and the largest distance of a vertex; gate: within the export's default tolerances."
)
ALONE_TITLE = (
    "each engine alone: a new process from its start to the first result; images a second of callers side by side, one "
    "thread each: threads that share a model, and processes with a model each"
)
LEFT_ALIGNED = ("engine", "precision")
Found = TypeVar("Found")


def _count(threads: int | None) -> str:
    return "own" if threads is None else str(threads)


def _ratio(ratio: Ratio | None) -> str:
    return MISSING if ratio is None else f"{ratio.median:.2f}"


def _of(found: Found | None, cell: Callable[[Found], str]) -> str:
    return MISSING if found is None else cell(found)


def _number(value: float | None, form: str) -> str:
    return MISSING if value is None else form.format(value)


def bench_table(report: Report) -> Table:
    """One row per engine x precision x batch; the title states the conditions, the caption what is missing."""
    return _table(
        [heading for heading, _ in COLUMNS],
        [[cell(row) for _, cell in COLUMNS] for row in report.rows],
        title=title(report),
        caption="\n".join(
            [COLUMNS_NOTE, *_proofs(report.rows), *skipped_lines(report.skipped), *report.omitted, *report.warnings]
        ),
    )


def _proofs(rows: Sequence[Row]) -> list[str]:
    """What each plan's layers prove of its precision."""
    return list(dict.fromkeys(f"{row.key}: {row.layers}" for row in rows if row.layers is not None))


def alone_table(report: Report) -> Table | None:
    """Cold start, memory, throughput and energy, one row per engine x precision x threads; None without any."""
    first = {row.key: row for row in reversed(report.rows)}
    rows = [(row, row.alone) for row in reversed(first.values()) if row.alone is not None]
    if not rows:
        return None
    reasons = {alone.energy.reason for _, alone in rows if alone.energy is not None and alone.energy.reason}
    notes = [f"{row.key}: {note}" for row, alone in rows for note in alone.notes]
    return _table(
        [heading for heading, _ in ALONE_COLUMNS],
        [[cell(row, alone) for _, cell in ALONE_COLUMNS] for row, alone in rows],
        title=ALONE_TITLE,
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
    )
    for heading in headings:
        table.add_column(
            heading, justify="left" if heading in LEFT_ALIGNED else "right", no_wrap=True, vertical="bottom"
        )
    for row in rows:
        table.add_row(*row)
    return table


def table_text(report: Report) -> str:
    """The report's tables as plain text."""
    alone = alone_table(report)
    return plain_text(bench_table(report)) + ("" if alone is None else plain_text(alone))


def plain_text(table: Table) -> str:
    """A table as plain text, as wide as it needs to be: figures are worth more than a terminal's margin."""
    needed = Measurement.get(Console(), Console().options.update(max_width=WIDEST), table).maximum
    console = Console(highlight=False, width=needed, file=io.StringIO())
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def title(report: Report) -> str:
    """What the figures were measured on and how they are to be read, a line for each kind of condition."""
    data, crop, speed = report.data, report.crop, report.speed
    floor = data["floor_pa_pjpe_mm"]
    floor_text = f", floor of the joint regressor {floor:.2f} mm PA-PJPE" if isinstance(floor, float) else ""
    lines = [
        f"{report.export['path']} (checkpoint {str(report.export['checkpoint_sha256'])[:SHORT_HASH]}): "
        f"{_facts(report.training)}",
        f"data: {data['path']}, {data['split']} split, {data['images']} images{floor_text}",
        f"crop: {crop['rule']}{CROP_NOTES.get(str(crop['rule']), '')}, {crop['input_size']} px",
        f"protocol: {report.protocol}",
        f"speed: {report.machine['cpu']}, {report.machine['cores']} cores, load before {report.machine['load']}, "
        f"threads {_threads(speed)}; engines in turns, up to {speed['calls']} calls or "
        f"{speed['seconds']:g} s each; FPS at the median; end to end from JPEG file to vertices in metres",
        *(f"roof: {_roof(roofline)}" for roofline in report.rooflines),
    ]
    return "\n".join(lines)


def _roof(roofline: Roofline) -> str:
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
