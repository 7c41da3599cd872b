import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from linear_hand import SIDE, make_manifest, save_export_with_checkpoint, save_onnx

from benchmarks.bench.run import BenchRequest, Report, run_bench
from benchmarks.measure.interleaved import SpeedSettings
from benchmarks.measure.isolated import IsolatedSettings
from benchmarks.measure.roofline import Roofline
from cliphand.config import CropConfig
from cliphand.data.predictions import read_predictions
from cliphand.errors import InputError
from cliphand.files import sha256_of, write_json
from cliphand.hand import HandTopology, load_hand, save_hand
from cliphand.kinds import BENCH, predictions_kind
from cliphand.metrics import score_joints, score_mesh
from engines.artefact.manifest import newest_export, read_manifest, write_manifest

QUICK = SpeedSettings(warmup_calls=1, calls=3, seconds=1)
KEYS = (
    *("engine", "precision", "batch", "latency_ms_p50", "latency_ms_p90", "latency_ms_p99", "fps", "end_to_end_fps"),
    *("pjpe_mm", "pa_pjpe_mm", "pa_pvpe_mm", "f_at_5", "f_at_15", "lixel_pa_pjpe_mm", "delta_pa_pjpe_mm", "size_mb"),
)
TOP_KEYS = {"machine", "versions", "commit", "data", "crop", "protocol", "training", "rows", "omitted"}


@pytest.fixture(scope="module")
def data(freihand_folder: Callable[..., Path]) -> Path:
    return freihand_folder(n_labels=5)


@pytest.fixture
def export(tmp_path: Path, hand_topology: HandTopology, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An export folder with its checkpoint, whose model is `LinearHand`."""
    crop = CropConfig(rule="centre", side_px=150)
    return save_export_with_checkpoint(tmp_path / "export", hand_topology, monkeypatch, crop=crop)


def bench(export: Path, data: Path, **options: object) -> Report:
    return run_bench(BenchRequest(**({"export": export, "data": data, "speed": QUICK, "threads": (1,)} | options)))


def test_there_is_a_row_for_each_engine_and_batch(export: Path, data: Path) -> None:
    report = bench(export, data, batches=(1, 3))
    rows = [(row.engine, row.precision, row.batch) for row in report.rows]
    assert rows == [
        ("pytorch", "fp32", 1),
        ("pytorch", "fp32", 3),
        ("onnxruntime", "fp32", 1),
        ("onnxruntime", "fp32", 3),
    ]
    for row in report.rows:
        assert row.latency_ms_p50 <= row.latency_ms_p90 <= row.latency_ms_p99
        assert row.fps == pytest.approx(row.batch * 1000 / row.latency_ms_p50)
        assert row.end_to_end_fps == pytest.approx(row.batch * 1000 / row.end_to_end_ms_p50)
        assert (row.threads, row.calls, row.end_to_end_calls) == (1, 3, 3)
        for samples, median in (
            (row.latency_samples_ms, row.latency_ms_p50),
            (row.end_to_end_samples_ms, row.end_to_end_ms_p50),
        ):
            assert sorted(samples)[1] == pytest.approx(median, abs=1e-4)


def test_the_same_weights_agree_to_a_hundredth_of_a_millimetre(export: Path, data: Path) -> None:
    pytorch, ort = bench(export, data).rows
    assert pytorch.delta_pa_pjpe_mm == 0
    assert abs(ort.delta_pa_pjpe_mm) < 0.01
    assert 0 < ort.vertex_distance_mm["max"] < 0.01
    assert ort.delta_pa_pjpe_mm == ort.pa_pjpe_mm - pytorch.pa_pjpe_mm


def test_each_row_says_what_share_of_the_processors_roof_it_uses(
    export: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.bench.run.measure_roofline", lambda threads: Roofline({"fp32": 100.0}, threads))
    manifest = read_manifest(export)
    write_manifest(dataclasses.replace(manifest, exporter={"gflop": 0.5}), export)
    report = bench(export, data, batches=(1, 3), roofline=True)
    assert report.rooflines == (Roofline({"fp32": 100.0}, 1),)
    for row in report.rows:
        assert row.roofline_share == pytest.approx(row.batch * 0.5 / (row.latency_ms_p50 / 1000) / 100)
    assert [row.roofline_share for row in bench(export, data).rows] == [None, None]


def test_a_roof_that_cannot_be_measured_ends_nothing(export: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(threads: int | None) -> Roofline:
        if threads == 1:
            raise InputError("OpenVINO is not installed.")
        return Roofline({"fp32": 100.0}, threads)

    monkeypatch.setattr("benchmarks.bench.run.measure_roofline", broken)
    report = bench(export, data, threads=(1, 2), n_images=1, roofline=True)
    assert report.rooflines == (Roofline({"fp32": 100.0}, 2),)
    assert report.omitted == ("no roofline: OpenVINO is not installed.",)


def test_a_roof_that_nobody_asked_for_is_one_line(export: Path, data: Path) -> None:
    report = bench(export, data, n_images=1)
    assert report.omitted == ("no roofline: it is measured where an OpenVINO engine runs",)
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    assert bench(export, data, n_images=1, runners=("onnxruntime", "openvino")).omitted == ()


def test_other_weights_show_in_the_difference(export: Path, data: Path, hand_topology: HandTopology) -> None:
    save_onnx(export / "model.onnx", poison=0.02)
    write_manifest(make_manifest(export, {"model.onnx": "fp32"}), export)
    ort = bench(export, data).rows[1]
    # 0.02 of a crop that is some 0.35 m wide, and of a bone in depth.
    assert 5 < ort.vertex_distance_mm["mean"] < 12
    assert ort.vertex_distance_mm["max"] >= ort.vertex_distance_mm["p99"] >= ort.vertex_distance_mm["median"]


def test_the_report_fits_into_json_with_the_keys_that_programs_read(export: Path, data: Path) -> None:
    value = json.loads(json.dumps(dataclasses.asdict(bench(export, data)), allow_nan=False))
    assert set(value) >= TOP_KEYS
    assert tuple(value["rows"][0])[: len(KEYS)] == KEYS
    assert value["crop"] == dataclasses.asdict(CropConfig()) | {
        "rule": "centre",
        "side_px": 150,
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
        "input_size": SIDE,
    }
    assert value["training"] == {"backbone": "resnet18", "text_tower": "random"}
    assert value["data"]["images"] == 5
    assert value["data"]["regressor_pa_pjpe_mm"] == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("root", ["truth", "scale"])
def test_the_protocol_says_where_the_depth_comes_from(export: Path, data: Path, root: str) -> None:
    report = bench(export, data, root=root)
    assert report.root == root
    assert report.protocol.startswith(f"root {root} (")
    assert "0-50, 0-30, 20-50 mm" in report.protocol


def test_only_the_first_images_are_scored_where_fewer_are_asked_for(export: Path, data: Path) -> None:
    few, all_ = bench(export, data, n_images=2), bench(export, data, n_images=99)
    assert (few.data["images"], all_.data["images"]) == (2, 5)
    assert few.rows[0].pa_pjpe_mm != all_.rows[0].pa_pjpe_mm


def test_without_the_checkpoint_the_differences_are_none_and_the_reason_stands(export: Path, data: Path) -> None:
    (export / "checkpoint").rmdir()
    report = bench(export, data)
    assert [row.engine for row in report.rows] == ["onnxruntime"]
    assert (report.rows[0].delta_pa_pjpe_mm, report.rows[0].vertex_distance_mm) == (None, None)
    assert len(report.omitted) == 2
    assert report.omitted[0].startswith("PyTorch is left out")


def test_data_without_vertices_gives_joints_alone(export: Path, freihand_folder: Callable[..., Path]) -> None:
    report = bench(export, freihand_folder(n_labels=2, verts=False))
    row = report.rows[0]
    assert (row.pa_pvpe_mm, row.f_at_5, row.f_at_15, report.data["regressor_pa_pjpe_mm"]) == (None,) * 4
    assert row.pa_pjpe_mm > 0


def test_unlabelled_photographs_are_timed_under_the_scale_protocol(
    export: Path, freihand_folder: Callable[..., Path]
) -> None:
    data = freihand_folder(n_labels=2, evaluation_labels=False)
    with pytest.raises(InputError, match=r"evaluation_xyz\.json, which does not exist"):
        bench(export, data)
    row = bench(export, data, root="scale").rows[1]
    assert (row.pjpe_mm, row.pa_pjpe_mm, row.lixel_pa_pjpe_mm, row.delta_pa_pjpe_mm) == (None,) * 4
    assert row.vertex_distance_mm["max"] < 0.01


def test_written_predictions_score_as_the_exported_models_row(export: Path, data: Path, tmp_path: Path) -> None:
    path = tmp_path / "pred.json"
    report = bench(export, data, predictions=path)
    read = read_predictions(path)
    labels = {name: np.array(json.loads((data / f"evaluation_{name}.json").read_text())) for name in ("xyz", "verts")}
    assert score_joints(read.xyz, labels["xyz"]).pa_pjpe_mm == pytest.approx(report.rows[1].pa_pjpe_mm, abs=1e-9)
    assert score_mesh(read.verts, labels["verts"]).pa_pvpe_mm == pytest.approx(report.rows[1].pa_pvpe_mm, abs=1e-9)
    assert report.export["predictions"] == {"file": str(path), "sha256": sha256_of(path), "of": "model.onnx"}
    write_json(tmp_path / "bench.json", dataclasses.asdict(report), BENCH)
    kind = predictions_kind(tmp_path / "bench.json")
    assert kind.is_own(path)
    path.write_text(path.read_text() + " ")
    assert not kind.is_own(path)


def test_an_engine_that_overflows_is_reported_and_writes_no_predictions(
    export: Path, data: Path, tmp_path: Path
) -> None:
    save_onnx(export / "model.onnx", poison=float("inf"))
    write_manifest(make_manifest(export, {"model.onnx": "fp16"}), export)
    report = bench(export, data, predictions=tmp_path / "pred.json")
    assert (report.rows[1].nonfinite_images, report.rows[1].pa_pjpe_mm) == (5, None)
    assert "model.onnx: 5 images gave NaN or infinity" in report.warnings
    assert not (tmp_path / "pred.json").exists()
    assert "pred.json is not written" in report.omitted[-1]
    json.dumps(dataclasses.asdict(report), allow_nan=False)


def test_a_warning_of_several_engines_is_said_once(export: Path, data: Path) -> None:
    report = bench(export, data)
    assert len(report.warnings) == len({text.partition(": ")[2] for text in report.warnings})
    assert any(text.startswith("pytorch; model.onnx: ") for text in report.warnings)


def test_a_warning_says_that_a_mesh_is_not_trained(export: Path, data: Path) -> None:
    manifest = read_manifest(export)
    write_manifest(dataclasses.replace(manifest, training={"train": {"stage": "joints"}}), export)
    assert bench(export, data, n_images=1).warnings[0].startswith("The mesh of this model is not trained")


def test_progress_runs_to_the_end_of_both_parts(export: Path, data: Path) -> None:
    seen: dict[str, tuple[int, int]] = {}
    run_bench(
        BenchRequest(export=export, data=data, batches=(1, 2), speed=QUICK),
        progress=lambda what, done, total: seen.update({what: (done, total)}),
    )
    assert seen == {"accuracy": (5, 5), "speed": (4, 4)}


@pytest.mark.parametrize(
    ("options", "said"),
    [({"batches": (0,)}, "batches.* is 0"), ({"batches": ()}, "batches is"), ({"n_images": 0}, "n_images.* is 0")],
)
def test_a_request_for_nothing_is_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        BenchRequest(export=Path(), data=Path(), **options)


def test_the_newest_export_is_the_one_written_last(tmp_path: Path) -> None:
    paths = [tmp_path / name / "manifest.json" for name in ("a", "b", "c")]
    for path in paths:
        path.parent.mkdir()
        path.write_text("{}")
        os.utime(path, (0, 0))
    (tmp_path / "no-export").mkdir()
    for time_s, path in enumerate((paths[1], paths[0], paths[2]), start=1_000_000_000):
        os.utime(path, (time_s, time_s))
        assert newest_export(tmp_path) == path.parent


def test_no_export_at_all_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no export under .*; run `cliphand export`"):
        newest_export(tmp_path)


def test_the_matrix_has_a_row_for_each_engine_and_number_of_threads(export: Path, data: Path) -> None:
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    report = bench(export, data, threads=(1, 2), n_images=2, runners=("onnxruntime", "openvino"))
    assert [(row.key, row.threads) for row in report.rows] == [
        (key if threads == 1 else f"{key}, 2 threads", threads)
        for threads in (1, 2)
        for key in ("pytorch", "model.onnx", "model.onnx, openvino")
    ]
    by_key = {row.key: row for row in report.rows}
    one, two = by_key["model.onnx, openvino"], by_key["model.onnx, openvino, 2 threads"]
    assert one.pa_pjpe_mm == two.pa_pjpe_mm  # threads change the speed alone
    assert set(one.faster_than) == set(by_key) - {one.key}
    # The ratio to PyTorch is to the one with as many threads.
    assert one.speedup == one.faster_than["pytorch"]
    assert two.speedup == two.faster_than["pytorch, 2 threads"]
    assert one.overhead.low <= one.overhead.median <= one.overhead.high
    assert by_key["pytorch"].overhead is None
    assert (one.sha256, by_key["pytorch"].sha256) == (sha256_of(export / one.artefact), None)
    assert (one.within_gate, one.runner, by_key["pytorch"].kind) == (True, "openvino", "reference")
    assert report.speed["thread_counts"] == (1, 2)


def test_a_graph_that_moves_the_hand_is_outside_the_gate(export: Path, data: Path) -> None:
    save_onnx(export / "model.onnx", poison=0.02)
    write_manifest(make_manifest(export, {"model.onnx": "fp32"}), export)
    row = bench(export, data).rows[1]
    assert row.within_gate is False
    # Alignment takes a shift of all vertices out again, so the distances must tell.
    assert row.delta_pa_pvpe_mm == pytest.approx(row.pa_pvpe_mm - bench(export, data).rows[0].pa_pvpe_mm, abs=1e-9)


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(InputError, match="there is no engine tflite for ONNX graphs; valid are onnxruntime, "):
        BenchRequest(export=Path(), data=Path(), runners=("tflite",))


def test_what_is_measured_alone_stands_in_every_row_of_its_engine(export: Path, data: Path) -> None:
    settings = IsolatedSettings(throughput_s=0.5, processes=1, energy_s=0.05)
    report = bench(export, data, n_images=1, batches=(1, 2), isolated=settings)
    isolated = [row.isolated for row in report.rows if row.engine == "onnxruntime"]
    assert isolated[0] == isolated[1]
    assert isolated[0].throughput.images_per_s > 0
    assert isolated[0].processes.images_per_s > 0
    assert (isolated[0].energy.joules is None) == (isolated[0].energy.reason is not None)
    assert isolated[0].cold_start is None


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "images", "vertices"), [("freihand5", 5, True), ("ge97", 97, False), ("rhd3", 3, False)]
)
def test_real_photographs_are_measured(export: Path, real_dir: Path, name: str, images: int, vertices: bool) -> None:
    save_hand(load_hand(real_dir / "hand.npz"), export / "hand.npz")
    crop = CropConfig(rule="centre", side_px=150)
    write_manifest(make_manifest(export, {"model.onnx": "fp32"}, crop=crop), export)
    report = bench(export, real_dir / name)
    assert (report.data["images"], report.data["has_vertices"]) == (images, vertices)
    assert all(row.pa_pjpe_mm > 0 and (row.pa_pvpe_mm is not None) == vertices for row in report.rows)
