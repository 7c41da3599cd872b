"""The benchmark's report as a table for people."""

import io
from collections.abc import Callable, Mapping

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from benchmarks.accuracy import AUC_RANGES_MM
from benchmarks.bench import Report
from benchmarks.rows import Row

MISSING = "-"
WIDEST = 1000  # columns; more than any table needs
AUC_RANGE = f"{AUC_RANGES_MM[0][0]:g}-{AUC_RANGES_MM[0][1]:g}"
SHORT_HASH = 12
_MILLIMETRES = "{:.2f}"
_SHARE = "{:.3f}"

# Heading, and the cell's text. Figures of accuracy in millimetres unless the heading says otherwise.
COLUMNS: tuple[tuple[str, Callable[[Row], str]], ...] = (
    ("engine", lambda row: row.engine),
    ("precision", lambda row: row.precision),
    ("batch", lambda row: str(row.batch)),
    ("p50\nms", lambda row: f"{row.latency_ms_p50:.2f}"),
    ("p90\nms", lambda row: f"{row.latency_ms_p90:.2f}"),
    ("p99\nms", lambda row: f"{row.latency_ms_p99:.2f}"),
    ("FPS", lambda row: f"{row.fps:.1f}"),
    ("FPS end\nto end", lambda row: f"{row.end_to_end_fps:.1f}"),
    ("PJPE", lambda row: _number(row.pjpe_mm, _MILLIMETRES)),
    ("PA-\nPJPE", lambda row: _number(row.pa_pjpe_mm, _MILLIMETRES)),
    ("PA-\nPVPE", lambda row: _number(row.pa_pvpe_mm, _MILLIMETRES)),
    ("F@5", lambda row: _number(row.f_at_5, _SHARE)),
    ("F@15", lambda row: _number(row.f_at_15, _SHARE)),
    (f"AUC\n{AUC_RANGE}", lambda row: _number((row.pa_pjpe_auc or {}).get(f"{AUC_RANGE} mm"), _SHARE)),
    ("lixel\nPA-PJPE", lambda row: _number(row.lixel_pa_pjpe_mm, _MILLIMETRES)),
    ("delta PA-\nPJPE", lambda row: _number(row.delta_pa_pjpe_mm, "{:+z.4f}")),
    ("delta\nvertex", lambda row: _number((row.vertex_distance_mm or {}).get("max"), "{:.4f}")),
    ("size\nMB", lambda row: f"{row.size_mb:.1f}"),
)
COLUMNS_NOTE = "Errors in mm. Deltas to PyTorch on the same images: PA-PJPE, and the largest distance of a vertex."
LEFT_ALIGNED = ("engine", "precision")


def _number(value: float | None, form: str) -> str:
    return MISSING if value is None else form.format(value)


def bench_table(report: Report) -> Table:
    """One row per engine x precision x batch; the title states the conditions, the caption what is missing."""
    table = Table(
        title=Text(title(report)),
        caption=Text("\n".join([COLUMNS_NOTE, *report.omitted, *report.warnings])),
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for heading, _ in COLUMNS:
        table.add_column(
            heading, justify="left" if heading in LEFT_ALIGNED else "right", no_wrap=True, vertical="bottom"
        )
    for row in report.rows:
        table.add_row(*(cell(row) for _, cell in COLUMNS))
    return table


def table_text(report: Report) -> str:
    """The report's table as plain text."""
    return plain_text(bench_table(report))


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
        f"crop: {crop['rule']}, {crop['input_size']} px",
        f"protocol: {report.protocol}",
        f"speed: {report.machine['cpu']}, {report.machine['cores']} cores, load before {report.machine['load']}, "
        f"threads {speed['threads'] or 'as each run-time chooses'}; engines in turns, up to {speed['calls']} calls or "
        f"{speed['seconds']:g} s each; FPS at the median; end to end from JPEG file to vertices in metres",
    ]
    return "\n".join(lines)


def _facts(training: Mapping[str, object]) -> str:
    """Training facts on one line; longer values stand in the JSON only."""
    plain = {name: value for name, value in training.items() if isinstance(value, str | int | float)}
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in plain.items()
    )
