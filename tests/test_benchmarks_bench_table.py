import dataclasses
import io

import pytest
from rich.console import Console

from benchmarks.bench.rows import Row
from benchmarks.bench.run import Report
from benchmarks.bench.table import bench_table, table_text
from benchmarks.measure.cold_start import ColdStart
from benchmarks.measure.energy import Energy
from benchmarks.measure.intervals import Ratio
from benchmarks.measure.isolated import Isolated
from benchmarks.measure.roofline import Roofline
from benchmarks.measure.throughput import Throughput

ROW = Row(
    engine="onnxruntime",
    precision="fp32",
    batch=4,
    latency_ms_p50=12.345,
    latency_ms_p90=13.456,
    latency_ms_p99=14.567,
    fps=324.0,
    end_to_end_fps=210.5,
    pjpe_mm=9.876,
    pa_pjpe_mm=6.543,
    pa_pvpe_mm=6.789,
    f_at_5=0.7281,
    f_at_15=0.9812,
    lixel_pa_pjpe_mm=7.012,
    delta_pa_pjpe_mm=-0.00001,
    size_mb=165.44,
    artefact="model.onnx",
    threads=2,
    calls=100,
    end_to_end_ms_p50=19.0,
    end_to_end_ms_p90=20.0,
    end_to_end_ms_p99=21.0,
    end_to_end_calls=100,
    pvpe_mm=9.9,
    pa_pjpe_median_mm=6.1,
    pa_pjpe_auc={"0-50 mm": 0.8695, "0-30 mm": 0.8, "20-50 mm": 0.99},
    lixel_pjpe_mm=10.1,
    vertex_distance_mm={"mean": 0.001, "median": 0.001, "p99": 0.002, "max": 0.00345},
    nonfinite_images=0,
    key="model.onnx",
    speedup=Ratio(2.345, 2.2, 2.5),
    overhead=Ratio(1.0149, 1.0, 1.03),
    pipelined_over_model=Ratio(1.12, 1.1, 1.2),
    delta_pa_pvpe_mm=0.00213,
    within_gate=True,
    roofline_share=0.8125,
)
REPORT = Report(
    machine={"cpu": "Abacus 3000", "cores": 2, "memory_gib": 16.0, "load": 0.3, "os": "Linux", "gpu": None},
    versions={"torch": "2.15.0"},
    commit="abc",
    export={"path": "exports/a", "checkpoint_sha256": "c0ffee" * 10 + "beef"},
    data={"path": "data/real", "split": "evaluation", "images": 5, "regressor_pa_pjpe_mm": 1.75},
    crop={"rule": "centre", "input_size": 256},
    root="scale",
    protocol="root scale (solved); AUC of PA-PJPE over 0-50 mm",
    training={"backbone": "resnet18", "text_tower": "random", "val_pa_pjpe_mm": 2.71888, "losses": {"clip": 0.1}},
    speed={"calls": 100, "seconds": 10.0, "threads": None},
    omitted=("PyTorch is left out: its checkpoint is gone",),
    warnings=("model.onnx: 2 of 5 hands fit better mirrored",),
    rows=(ROW,),
    rooflines=(Roofline({"fp32": 232.4, "int8": 836.2}, None),),
)


def printed(report: Report) -> str:
    console = Console(file=io.StringIO(), width=250)
    console.print(bench_table(report, wide=True))
    return console.file.getvalue()


def test_every_figure_stands_in_its_row() -> None:
    row = next(line for line in printed(REPORT).splitlines() if line.strip().startswith("onnxruntime"))
    assert row.split() == [
        *("onnxruntime", "fp32", "4", "2", "12.35", "13.46", "14.57", "324.0", "210.5", "2.35", "81%", "1.01", "1.12"),
        *("9.88", "6.54", "6.79", "0.728", "0.981", "0.870", "7.01", "+0.0000", "+0.0021", "0.0034", "in", "165.4"),
    ]


def test_the_table_fits_120_columns_and_names_where_the_rest_is() -> None:
    long = dataclasses.replace(
        ROW,
        engine="pytorch, as published, in FP32",
        batch=128,
        latency_ms_p50=1234.56,
        fps=1234.5,
        end_to_end_fps=999.9,
    )
    text = table_text(dataclasses.replace(REPORT, rows=(ROW, long)))
    assert max(len(line) for line in text.splitlines()) <= 120
    row = next(line for line in text.splitlines() if line.strip().startswith("onnxruntime"))
    assert row.split() == [
        *("onnxruntime", "fp32", "4", "2", "12.35", "324.0", "210.5", "2.35", "81%", "6.54", "+0.0000", "0.0034", "in"),
        "165.4",
    ]
    assert "1234.56" in text
    assert "More columns with --wide; all of them stand in the JSON object" in text
    wide = table_text(REPORT, wide=True)
    assert "F@15" in wide
    assert "F@15" not in text


@pytest.mark.parametrize(
    "condition",
    [
        "exports/a (checkpoint c0ffeec0ffee): backbone resnet18, text_tower random, val_pa_pjpe_mm 2.719",
        "data: data/real, evaluation split, 5 images",
        "floor: PA-PJPE would be 1.75 mm for a perfect mesh: so far are the joints regressed from the labelled meshes",
        "crop: centre, 256 px",
        "protocol: root scale (solved); AUC of PA-PJPE over 0-50 mm",
        "Abacus 3000, 2 cores, load before 0.3, threads as each run-time chooses",
        "up to 100 calls or 10 s each",
        "roofline: fp32 232, int8 836 GFLOP/s in bare 3 x 3 convolutions (OpenVINO, own threads)",
        "PyTorch is left out: its checkpoint is gone",
        "model.onnx: 2 of 5 hands fit better mirrored",
    ],
)
def test_every_condition_stands_beside_the_figures(condition: str) -> None:
    assert condition in printed(REPORT)


def test_what_cannot_be_told_is_a_dash() -> None:
    bare = dataclasses.replace(
        ROW,
        pa_pvpe_mm=None,
        f_at_5=None,
        f_at_15=None,
        pa_pjpe_auc=None,
        delta_pa_pjpe_mm=None,
        vertex_distance_mm=None,
        speedup=None,
        overhead=None,
        pipelined_over_model=None,
        delta_pa_pvpe_mm=None,
        within_gate=None,
    )
    data = dict(REPORT.data) | {"regressor_pa_pjpe_mm": None}
    text = printed(dataclasses.replace(REPORT, rows=(bare,), data=data))
    row = next(line for line in text.splitlines() if line.strip().startswith("onnxruntime"))
    assert row.split().count("-") == 11
    assert "floor" not in text


def test_labels_whose_joints_are_the_regressors_have_no_floor() -> None:
    data = dict(REPORT.data) | {"regressor_pa_pjpe_mm": 0.0003}
    assert "floor" not in printed(dataclasses.replace(REPORT, data=data))


def test_asked_for_threads_are_named() -> None:
    assert "threads 2;" in printed(dataclasses.replace(REPORT, speed=dict(REPORT.speed) | {"threads": 2}))
    several = dict(REPORT.speed) | {"threads": None, "thread_counts": (None, 2)}
    assert "threads as each run-time chooses and 2;" in printed(dataclasses.replace(REPORT, speed=several))


def test_a_graph_outside_the_gate_is_marked() -> None:
    text = printed(dataclasses.replace(REPORT, rows=(dataclasses.replace(ROW, within_gate=False),)))
    assert "OUT" in text
    assert "OUT" not in printed(REPORT)


def test_what_was_measured_alone_has_a_table_of_its_own_with_the_reasons() -> None:
    isolated = Isolated(
        ColdStart(start_s=1.234, cpu_s=0.9, open_s=0.5, first_call_ms=45.6, steady_ms=31.2, peak_mb=512.3, torch=False),
        Throughput(images_per_s=43.21, workers=2),
        Energy(None, "no counter here"),
        ("something to know",),
        Throughput(images_per_s=56.78, workers=2),
    )
    rows = (dataclasses.replace(ROW, isolated=isolated), dataclasses.replace(ROW, batch=8, isolated=isolated))
    text = table_text(dataclasses.replace(REPORT, rows=rows))
    lines = [line.split() for line in text.splitlines() if line.strip().startswith("onnxruntime")]
    assert lines[-1] == ["onnxruntime", "fp32", "2", "1.23", "0.90", "45.6", "31.2", "512", "43.2", "56.8", "-"]
    assert len(lines) == 3  # two batch sizes, and once alone
    assert "no counter here" in text
    assert "model.onnx: something to know" in text
    assert "each engine alone" not in table_text(REPORT)


def test_a_model_that_looks_twice_says_which_times_are_of_one_look() -> None:
    crop = {"rule": "centre", "input_size": 256, "second_look": True}
    text = table_text(dataclasses.replace(REPORT, crop=crop))
    assert "crop: centre, 256 px, looked at twice" in text
    assert "latency and FPS are of one look, end to end of both" in text
    assert "looked at twice" not in table_text(REPORT)


def test_a_crop_about_the_true_joints_is_called_an_upper_bound() -> None:
    report = dataclasses.replace(REPORT, crop={"rule": "joints", "input_size": 256})
    assert "crop: joints (about the true joints: an upper bound), 256 px" in table_text(report)
