"""What a benchmark wrote, as a report reads it."""

import json
from pathlib import Path

import pytest

from benchmarks.report.bench_file import BenchFile, Percentiles, read_bench, reference_row, smallest_batch, speedup
from cliphand.errors import InputError


def row(
    engine: str = "pytorch", precision: str = "fp32", batch: int = 1, p50: float = 10.0, **more: object
) -> dict[str, object]:
    times = {f"latency_ms_{name}": p50 * factor for name, factor in (("p50", 1.0), ("p90", 1.1), ("p99", 1.5))}
    return {"engine": engine, "precision": precision, "batch": batch, **times, **more}


def read(folder: Path, *rows: object, **facts: object) -> BenchFile:
    path = folder / "bench.json"
    path.write_text(json.dumps({"rows": rows, **facts}))
    return read_bench(path)


def test_a_row_keeps_its_figures_and_tells_what_is_missing_as_none(tmp_path: Path) -> None:
    whole = {"end_to_end_ms_p50": 11, "end_to_end_ms_p90": 12, "end_to_end_ms_p99": 13.0}
    full, bare = read(tmp_path, row(threads=2, pa_pjpe_mm=2.5, size_mb=70, **whole), row("openvino", "int8")).rows
    assert (full.label, full.batch, full.threads) == ("pytorch fp32", 1, 2)
    assert full.model == Percentiles(10, 11, 15)
    assert full.end_to_end == Percentiles(11, 12, 13)
    assert (full.pa_pjpe_mm, full.number("size_mb"), full.number("size_mb", "deeper")) == (2.5, 70, None)
    assert (bare.label, bare.threads, bare.end_to_end, bare.pa_pjpe_mm) == ("openvino int8", None, None, None)


def test_the_smallest_batch_stands_for_a_label_with_its_fastest_threads(tmp_path: Path) -> None:
    rows = (row(batch=8, p50=1), row(p50=12, threads=1), row(p50=9, threads=2), row("openvino", p50=3))
    found = smallest_batch(read(tmp_path, *rows).rows)
    assert [(speed.label, speed.model.p50) for speed in found] == [("pytorch fp32", 9), ("openvino fp32", 3)]


def test_speed_is_over_pytorch_of_the_same_batch_and_threads_as_the_benchmark_tells_it(tmp_path: Path) -> None:
    rows = read(
        tmp_path,
        row("pytorch, as published", p50=100),
        row(p50=20),
        row(p50=12, threads=2),
        row(batch=4, p50=50),
        row("openvino", p50=4, threads=2),
        row("openvino", p50=4, threads=3),
        row("openvino", p50=4, batch=8),
        row("openvino", p50=4, speedup={"median": 7.5}),
    ).rows
    assert [speedup(one, rows) for one in rows[4:]] == [3, 5, None, 7.5]
    assert reference_row(rows, rows[0]) == rows[1]


def test_a_rejected_graph_is_named_so(tmp_path: Path) -> None:
    rejected, other = read(tmp_path, row(artefact="model.int8.onnx.rejected"), row(artefact="model.onnx")).rows
    assert (rejected.label, rejected.is_rejected) == ("pytorch fp32 (rejected)", True)
    assert (other.label, other.is_rejected) == ("pytorch fp32", False)


def test_facts_are_told_by_type_and_absent_ones_as_unknown(tmp_path: Path) -> None:
    bench = read(tmp_path, row(), machine={"cpu": "EPYC", "cores": 2})
    assert (bench.fact("machine", "cpu", str), bench.fact("machine", "cores", str)) == ("EPYC", None)
    assert (bench.text("machine", "cores"), bench.text("data", "path")) == ("2", "unknown")


@pytest.mark.parametrize("rows", [(), ({"engine": "pytorch"},), (3,), ({**row(), "latency_ms_p99": None},)])
def test_what_a_benchmark_did_not_write_is_refused_in_one_sentence(tmp_path: Path, rows: tuple[object, ...]) -> None:
    with pytest.raises(InputError, match=r"bench\.json.*cliphand bench"):
        read(tmp_path, *rows)


def test_single_calls_and_what_was_skipped_are_read_where_they_were_kept(tmp_path: Path) -> None:
    kept = {"latency_samples_ms": [9.5, 10], "end_to_end_samples_ms": [11.0]}
    whole = {"end_to_end_ms_p50": 11, "end_to_end_ms_p90": 12, "end_to_end_ms_p99": 13.0}
    skipped = {"key": "model.plan", "engine": "tensorrt", "precision": "fp32", "reason": "there is no GPU"}
    bench = read(tmp_path, row(**kept, **whole), row("openvino"), skipped=[skipped, 3])
    first, second = bench.rows
    assert (first.model.samples, second.model.samples) == ((9.5, 10), ())
    assert first.end_to_end is not None
    assert first.end_to_end.samples == (11,)
    assert bench.skipped == ["tensorrt, model.plan: skipped: there is no GPU"]
    assert read(tmp_path, row()).skipped == []
