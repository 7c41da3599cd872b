"""INT8 ranges by least squared error, and the choice among the ways to set them on images that set none."""

import dataclasses
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from linear_hand import linear_checkpoint
from planted_graphs import images, planted_workshop, request_on, save_planted, save_planted_export
from rich.console import Console

from cliphand.cli.parity_table import print_parity
from cliphand.hand import HandTopology
from export.gate.parity import Comparison
from export.precision.activation_ranges import BATCH, BINS, LEAST_ERROR_IN, least_error_share, magnitudes, set_ranges
from export.precision.calibration import CalibrationRequest
from export.precision.judge import Judge
from export.precision.quantise import LARGEST_INT8, activation_ranges, calibrate
from export.precision.range_choice import RangeChoice
from export.precision.typed_graphs import write_typed_graphs

COUNT = 2 * BATCH + 1  # the last batch is not full


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    folder = tmp_path_factory.mktemp("ranges")
    out = folder / "calibrated.onnx"
    calibrate(save_planted(folder / "model.onnx"), out, keep=(), images=images(COUNT), method="max")
    return onnx.load(out)


def squared_error(values: np.ndarray, largest: float) -> float:
    step = largest / LARGEST_INT8
    return float(np.square(values - np.clip(np.rint(values / step), 0, LARGEST_INT8) * step).mean())


@pytest.mark.parametrize("seed", [0, 1])
def test_the_range_of_least_squared_error_is_that_of_a_search_over_the_numbers_themselves(seed: int) -> None:
    values = np.abs(np.random.default_rng(seed).standard_t(5, 100_000))
    largest = float(values.max())
    counts = np.bincount(np.minimum(values / largest * BINS, BINS - 1).astype(int), minlength=BINS)
    ours = squared_error(values, least_error_share(counts) * largest)
    best = min(squared_error(values, share * largest) for share in np.linspace(0.1, 1, 400))
    assert best <= ours < 1.02 * best
    assert ours < 0.8 * squared_error(values, largest)


def test_numbers_that_fill_their_range_evenly_keep_it_and_so_does_a_tensor_of_zeros() -> None:
    assert least_error_share(np.full(BINS, 9)) > 0.97
    zeros = np.zeros(BINS, np.int64)
    zeros[0] = 9
    assert least_error_share(zeros) == 1


def test_a_histogram_reaches_to_the_largest_magnitude_that_modelopt_found(calibrated: onnx.ModelProto) -> None:
    counts = magnitudes(calibrated, images(COUNT))
    assert set(counts) == set(activation_ranges(calibrated.graph))
    for name, count in counts.items():
        assert count[-1] > 0, name
    n_batches = -(-COUNT // BATCH)
    assert counts["image"].sum() == images(COUNT).size + n_batches  # each batch's largest stands there twice


def test_only_what_the_stage_reads_gets_another_range(calibrated: onnx.ModelProto) -> None:
    counts = magnitudes(calibrated, images(COUNT))
    before = activation_ranges(calibrated.graph)
    after = {method: activation_ranges(set_ranges(calibrated, counts, method).graph) for method in LEAST_ERROR_IN}
    assert after["max"] == pytest.approx(before, rel=1e-6)
    changed = {
        method: {name for name in before if ranges[name] < 0.99 * before[name]} for method, ranges in after.items()
    }
    assert "encoder/first/Relu" in changed["mse-encoder"]
    assert changed["mse-encoder"] < changed["mse"]
    assert "encoder/second/Relu" in changed["mse"] - changed["mse-encoder"]  # the heatmap reads it


def test_q_and_dq_keep_one_scale(calibrated: onnx.ModelProto) -> None:
    graph = set_ranges(calibrated, magnitudes(calibrated, images(COUNT)), "mse").graph
    scales = {node.output[0]: node.input[1] for node in graph.node if node.op_type == "QuantizeLinear"}
    pairs = [node for node in graph.node if node.op_type == "DequantizeLinear" and node.input[0] in scales]
    assert len(pairs) >= len(activation_ranges(graph)) > 0
    assert all(node.input[1] == scales[node.input[0]] for node in pairs)


@pytest.fixture(scope="module")
def data(freihand_folder: Callable[..., Path]) -> Path:
    return freihand_folder(n_labels=11, size_px=64)


@pytest.mark.parametrize("method", [*LEAST_ERROR_IN, "entropy"])
def test_a_way_that_is_asked_for_is_taken_without_a_comparison(
    tmp_path: Path, data: Path, hand_topology: HandTopology, method: str
) -> None:
    folder = save_planted_export(tmp_path / "export", hand_topology)
    request = request_on(data, calibration=CalibrationRequest(data, images=4, method=method))
    with planted_workshop(folder, hand_topology, request) as workshop:
        assert workshop.best_candidate("int8").ranges == RangeChoice(method)


@pytest.mark.parametrize("count", [1, 2])
def test_a_single_image_sets_the_ranges_and_compares_them(
    tmp_path: Path, data: Path, hand_topology: HandTopology, count: int
) -> None:
    folder = save_planted_export(tmp_path / "export", hand_topology)
    request = request_on(data, calibration=CalibrationRequest(data, images=count))
    with planted_workshop(folder, hand_topology, request) as workshop:
        choice = workshop.best_candidate("int8").ranges
    assert choice is not None
    assert choice.images == 1
    assert len({rehearsal.p99_mm for rehearsal in choice.rehearsals.values()}) > 1


def test_the_best_way_is_chosen_on_calibration_images_alone_and_told_in_parity_json(
    tmp_path: Path, data: Path, hand_topology: HandTopology, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, ...]] = []
    exact_rows = Judge.rows
    p99_mm = dict(zip(LEAST_ERROR_IN, (0.3, 0.1, 0.2), strict=True))

    def rows(judge: Judge, path: Path, precision: str) -> tuple[Comparison, ...]:
        found = exact_rows(judge, path, precision)
        if judge.gate.data.split == "evaluation":
            return found
        planted = list(p99_mm.values())[len(seen)]
        seen.append(judge.gate.names)
        return tuple(
            dataclasses.replace(
                row,
                delta_pa_pjpe_mm=0.0,
                delta_pa_pvpe_mm=0.0,
                vertex_distance_mm=dataclasses.replace(row.vertex_distance_mm, p99=planted),
            )
            for row in found
        )

    monkeypatch.setattr(Judge, "rows", rows)
    monkeypatch.setattr(
        "export.precision.typed_graphs.open_workshop",
        lambda folder, manifest, checkpoint, request, progress: planted_workshop(folder, hand_topology, request),
    )
    folder = save_planted_export(tmp_path / "export", hand_topology)
    calibration = CalibrationRequest(data, images=11)
    request = request_on(data, precisions=("int8",), calibration=calibration, search_s=0.0)
    report = write_typed_graphs(folder, linear_checkpoint(hand_topology), request, lambda *_: None)
    console = Console(file=io.StringIO(), width=500)
    print_parity(report, console)
    assert (
        "model.int8.onnx: ranges by mse-encoder, which on 3 calibration images that set none moves hands least, in "
        "shares of the tolerance: max 0.02, mse-encoder 0.01, mse 0.01.\n"
    ) in console.file.getvalue()
    content = json.loads((folder / "parity.json").read_text())
    choice = content["artefacts"]["model.int8.onnx"]["range_choice"]
    assert choice["method"] == "mse-encoder"
    assert choice["images"] == 3
    assert {method: entry["p99_mm"] for method, entry in choice["rehearsals"].items()} == p99_mm
    files = [Path(name).name for name in content["calibration"]["files"]]
    assert [set(names) for names in seen] == [{files[0], files[5], files[10]}] * len(LEAST_ERROR_IN)
