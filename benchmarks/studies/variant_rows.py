"""A variant of the network as one line: its size, what it misses by, and how long it takes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich import box
from rich.table import Table

from benchmarks.bench.table import MISSING
from benchmarks.studies.variant_times import Times
from cliphand.arrays import FloatArray
from export.gate.parity import bootstrap_interval


@dataclass(frozen=True, slots=True, eq=False)
class Errors:
    """Of a trained variant on the evaluation split.

    Attributes:
        pa_pjpe_mm: (N,) of each image, joints regressed from the mesh, in PyTorch.
        lixel_pa_pjpe_mm: mean, of the joint regressor's own joints.
        int8_pa_pjpe_mm: mean, of the mesh's joints, of the INT8 graph in OpenVINO.
    """

    pa_pjpe_mm: FloatArray
    lixel_pa_pjpe_mm: float
    int8_pa_pjpe_mm: float


@dataclass(frozen=True, slots=True)
class Row:
    """One variant; latencies are medians of one image's call.

    Attributes:
        gflop: of one image.
        pa_pjpe_mm: on the evaluation split, as all errors; None where the variant was not trained, as for all errors.
        change_mm: of PA-PJPE from the first trained variant.
        change_interval_mm: its 95 % bootstrap interval over images. Another seed moves a variant as well.
        lixel_pa_pjpe_mm: of the joint regressor's own joints.
        int8_pa_pjpe_mm: of the INT8 graph.
        ort_fp32_ms, openvino_fp32_ms, openvino_int8_ms: wall times.
        times_faster: INT8 than the published form.
    """

    variant: str
    parameters: int
    gflop: float
    pa_pjpe_mm: float | None
    change_mm: float | None
    change_interval_mm: tuple[float, float] | None
    lixel_pa_pjpe_mm: float | None
    int8_pa_pjpe_mm: float | None
    ort_fp32_ms: float
    openvino_fp32_ms: float
    openvino_int8_ms: float
    times_faster: float


def make_row(variant: str, size: tuple[int, float], times: Times, *, trained: Mapping[str, Errors]) -> Row:
    """A variant's line.

    Args:
        variant: its name.
        size: numbers in its weights, and GFLOP.
        times: of its calls.
        trained: errors of the trained variants, by name; the first is what the others are compared with.
    """
    if variant not in trained:
        return Row(variant, *size, None, None, None, None, None, *times)
    errors, first = trained[variant], next(iter(trained.values()))
    change = errors.pa_pjpe_mm - first.pa_pjpe_mm
    return Row(
        variant,
        *size,
        float(errors.pa_pjpe_mm.mean()),
        float(change.mean()),
        bootstrap_interval(change),
        errors.lixel_pa_pjpe_mm,
        errors.int8_pa_pjpe_mm,
        *times,
    )


def table(rows: Sequence[Row], title: str) -> Table:
    """The rows for people; what was not measured is a dash."""
    result = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    headings = ("variant", "million weights", "GFLOP", "PA-PJPE mm", "change (95 %)", "lixel mm", "INT8 mm")
    for heading in (*headings, "ORT fp32 ms", "OpenVINO fp32 ms", "OpenVINO INT8 ms", "times faster"):
        result.add_column(heading, justify="left" if heading == "variant" else "right")
    for row in rows:
        result.add_row(
            row.variant,
            f"{row.parameters / 1e6:.1f}",
            f"{row.gflop:.2f}",
            _millimetres(row.pa_pjpe_mm),
            _change(row),
            *(_millimetres(error) for error in (row.lixel_pa_pjpe_mm, row.int8_pa_pjpe_mm)),
            *(f"{time:.1f}" for time in (row.ort_fp32_ms, row.openvino_fp32_ms, row.openvino_int8_ms)),
            f"{row.times_faster:.1f}",
        )
    return result


def _millimetres(error: float | None) -> str:
    return MISSING if error is None else f"{error:.2f}"


def _change(row: Row) -> str:
    if row.change_mm is None or row.change_interval_mm is None:
        return MISSING
    low, high = row.change_interval_mm
    return f"{row.change_mm:+.2f} ({low:+.2f} to {high:+.2f})"
