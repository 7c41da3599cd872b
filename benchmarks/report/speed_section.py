"""What the benchmark says of speed, beside accuracy."""

from collections.abc import Callable, Mapping, Sequence

from benchmarks.bench.table import MISSING
from benchmarks.measure.interleaved import MS_PER_S
from benchmarks.report.bench_file import BenchFile, Percentiles, SpeedRow, smallest_batch, speedup
from benchmarks.report.charts import latency_ranges, speed_accuracy
from benchmarks.report.page import Chart, Section, Table
from benchmarks.report.theme import Palette, part_of

_ALONE = ("isolated", "cold_start")
_THREADS, _PROCESSES = (("isolated", how, "images_per_s") for how in ("throughput", "processes"))
Rows = Sequence[SpeedRow]
# Heading, and the cell's text.
SPEED_COLUMNS: tuple[tuple[str, Callable[[SpeedRow, Rows], str]], ...] = (
    ("engine", lambda row, rows: row.label),
    ("batch", lambda row, rows: str(row.batch)),
    ("threads", lambda row, rows: "own" if row.threads is None else str(row.threads)),
    ("p50, ms", lambda row, rows: f"{row.model.p50:.2f}"),
    ("95 % of p50, ms", lambda row, rows: _interval(row)),
    ("p90, ms", lambda row, rows: f"{row.model.p90:.2f}"),
    ("p99, ms", lambda row, rows: f"{row.model.p99:.2f}"),
    ("images/s", lambda row, rows: f"{row.batch * MS_PER_S / row.model.p50:.1f}"),
    ("times PyTorch", lambda row, rows: _text(speedup(row, rows), ".2f")),
    ("over bare call", lambda row, rows: _text(row.number("overhead", "median"), ".3f")),
    ("PA-PJPE, mm", lambda row, rows: _text(row.pa_pjpe_mm, ".2f")),
    ("change, mm", lambda row, rows: _text(row.number("delta_pa_pjpe_mm"), "+z.4f")),
)
WHOLE_COLUMNS: tuple[tuple[str, Callable[[SpeedRow, Rows], str]], ...] = (
    ("engine", lambda row, rows: row.label),
    ("batch", lambda row, rows: str(row.batch)),
    ("threads", lambda row, rows: "own" if row.threads is None else str(row.threads)),
    ("JPEG to metres p50, ms", lambda row, rows: _text(None if row.end_to_end is None else row.end_to_end.p50, ".2f")),
    ("p99, ms", lambda row, rows: _text(None if row.end_to_end is None else row.end_to_end.p99, ".2f")),
    ("as a stream, ms", lambda row, rows: _text(row.number("pipelined_ms_p50"), ".2f")),
    ("stream over model", lambda row, rows: _text(row.number("pipelined_over_model", "median"), ".3f")),
    ("start to first result, s", lambda row, rows: _text(row.number(*_ALONE, "start_s"), ".2f")),
    ("first call, ms", lambda row, rows: _text(row.number(*_ALONE, "first_call_ms"), ".1f")),
    ("peak memory, MB", lambda row, rows: _text(row.number(*_ALONE, "peak_mb"), ".0f")),
    ("threads side by side, images/s", lambda row, rows: _text(row.number(*_THREADS), ".1f")),
    ("processes side by side, images/s", lambda row, rows: _text(row.number(*_PROCESSES), ".1f")),
    ("energy, J an image", lambda row, rows: _text(row.number("isolated", "energy", "joules"), ".3f")),
    ("size, MB", lambda row, rows: _text(row.number("size_mb"), ".1f")),
)


def speed_section(bench: BenchFile | str, palette: Palette) -> Section:
    """Speed beside accuracy, and the distribution of latencies; or the sentence that says how to get them."""
    if isinstance(bench, str):
        return Section("speed", "Speed and accuracy", [bench])
    palette = part_of(palette, bench.labels)
    parts: list[Chart | Table] = []
    if (chart := _speed_accuracy_chart(bench.rows, palette)) is not None:
        parts.append(chart)
    for batch in sorted({row.batch for row in bench.rows}):
        rows = [row for row in bench.rows if row.batch == batch]
        title = f"Latency of the model's call, batch {batch}"
        parts.append(_latency_chart(f"latency_batch_{batch}", title, rows, palette, lambda row: row.model))
    first = [row for row in bench.rows if row.batch == min(row.batch for row in bench.rows) and row.end_to_end]
    if first:
        title = f"Latency from JPEG file to metres, batch {first[0].batch}"
        parts.append(_latency_chart("latency_end_to_end", title, first, palette, lambda row: row.end_to_end))
    parts.append(_table("The model's call", SPEED_COLUMNS, bench.rows))
    parts.append(_table("From file to metres, from nothing to the first result, and size", WHOLE_COLUMNS, bench.rows))
    cores, load = bench.text("machine", "cores"), bench.text("machine", "load")
    sentence = (
        f"Measured by `cliphand bench` ({bench.path.name}) on {bench.text('machine', 'cpu')}, {cores} cores, load "
        f"before {load}. Engines took turns, so that the machine's drift hits all alike; times PyTorch is the median "
        "of the ratios of the same turns, over bare call the engine's call over the run-time's own."
    )
    return Section("speed", "Speed and accuracy", [sentence, *(f"{line}." for line in bench.skipped)], parts)


def _speed_accuracy_chart(rows: Rows, palette: Palette) -> Chart | None:
    """None where the benchmark had no labels."""
    scored = [row for row in rows if row.pa_pjpe_mm is not None]
    if not scored:
        return None
    shown = smallest_batch(scored)
    points = [
        {"label": row.label, "latency_ms": round(row.model.p50, 3), "pa_pjpe_mm": row.pa_pjpe_mm, "batch": row.batch}
        for row in shown
    ]
    reference = next((row.pa_pjpe_mm for row in shown if row.is_reference), None)
    alt = "; ".join(f"{row.label} {row.model.p50:.1f} ms at {row.pa_pjpe_mm:.2f} mm" for row in shown)
    line = "; the dashed line is PyTorch's error" if reference is not None else ""
    return Chart(
        "speed_accuracy",
        "Speed against accuracy",
        speed_accuracy(points, part_of(palette, [row.label for row in shown]), reference),
        f"Median latency at batch {shown[0].batch} and PA-PJPE: {alt}.",
        f"Batch {shown[0].batch}, the fastest number of threads. Down and to the left is better{line}.",
    )


def _latency_chart(
    name: str, title: str, rows: Rows, palette: Palette, times_of: Callable[[SpeedRow], Percentiles | None]
) -> Chart:
    several = len({row.threads for row in rows}) > 1
    records: list[Mapping[str, object]] = []
    for row in rows:
        if (times := times_of(row)) is not None:
            threads = f", {row.threads or 'own'} threads" if several else ""
            records.append(
                {
                    "row": f"{row.label}{threads}",
                    "label": row.label,
                    "p50": round(times.p50, 3),
                    "p90": round(times.p90, 3),
                    "p99": round(times.p99, 3),
                    "ms": [round(sample, 3) for sample in times.samples],
                }
            )
    alt = "; ".join(f"{record['row']}: {record['p50']} ms, 99 % within {record['p99']} ms" for record in records)
    return Chart(
        name,
        title,
        latency_ranges(records, palette, "ms of one call"),
        f"Medians: {alt}.",
        "Each mark is one call, those far beyond the last bar left out. Point: median; thick bar: up to the 90th "
        "percentile; thin bar: up to the 99th.",
    )


def _table(title: str, columns: Sequence[tuple[str, Callable[[SpeedRow, Rows], str]]], rows: Rows) -> Table:
    """Only columns that say something."""
    cells = [[cell(row, rows) for row in rows] for _, cell in columns]
    told = [place for place, column in enumerate(cells) if any(text != MISSING for text in column)]
    head = [columns[place][0] for place in told]
    return Table(title, head, [[cells[place][number] for place in told] for number in range(len(rows))])


def _interval(row: SpeedRow) -> str:
    ends = row.facts.get("latency_interval_ms")
    numbers = [end for end in ends if isinstance(end, int | float)] if isinstance(ends, list) else []
    return " to ".join(f"{end:.2f}" for end in numbers) if len(numbers) == 2 else MISSING


def _text(value: float | None, form: str) -> str:
    return MISSING if value is None else format(value, form)
