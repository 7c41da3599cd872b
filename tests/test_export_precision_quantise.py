"""INT8 graphs: explicit, symmetric, INT8 weights in the file, the same bytes for the same inputs."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper
from planted_graphs import CHANNELS, images, save_planted

from cliphand.errors import InputError
from export.precision.quantise import activation_ranges, bypass, calibrate, quantised_nodes, write_quantised
from export.precision.ranges import measure_ranges

CONVOLUTIONS = ("encoder/first/Conv", "encoder/second/Conv", "heatmap/third/Conv")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_planted(tmp_path_factory.mktemp("quantise") / "model.onnx")


@pytest.fixture(scope="module")
def calibrated(source: Path) -> Path:
    out = source.with_name("calibrated.onnx")
    calibrate(source, out, keep=(), images=images(4), method="max")
    return out


@pytest.fixture(scope="module")
def quantised(calibrated: Path) -> Path:
    return quantise(calibrated, calibrated.with_name("int8.onnx"))


def quantise(calibrated: Path, out: Path, rest: str = "fp32", unquantise: tuple[str, ...] = ()) -> Path:
    write_quantised(calibrated, out, unquantise=unquantise, rest=rest, keep_fp32=(), image=images(1))
    return out


def run(path: Path, batch: np.ndarray) -> list[np.ndarray]:
    return onnxruntime.InferenceSession(str(path)).run(None, {"image": batch})


def dequantised(graph: onnx.GraphProto, node_name: str, place: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The INT8 constant, scale and zero point before an input of a node."""
    producers = {output: node for node in graph.node for output in node.output}
    constants = {constant.name: numpy_helper.to_array(constant) for constant in graph.initializer}
    node = next(node for node in graph.node if node.name == node_name)
    return tuple(constants[name] for name in producers[node.input[place]].input)


# Half a level of rounding; with an FP16 rest also FP16's own, at most 127 levels / 2048.
@pytest.mark.parametrize(("rest", "levels"), [("fp32", 0.501), ("fp16", 0.57)])
def test_weights_are_int8_with_a_scale_for_each_output_channel(
    calibrated: Path, tmp_path: Path, source: Path, rest: str, levels: float
) -> None:
    graph = onnx.load(quantise(calibrated, tmp_path / "int8.onnx", rest)).graph
    exact = {c.name: numpy_helper.to_array(c) for c in onnx.load(source).graph.initializer}
    for name in CONVOLUTIONS[1:]:
        weight, scale, zero = dequantised(graph, name, 1)
        assert weight.dtype == np.int8
        assert scale.shape == (CHANNELS,)
        assert not zero.any()
        level = scale.astype(np.float32)[:, None, None, None]
        assert (np.abs(weight * level - exact[f"{name}.1"]) <= levels * level).all()


def test_only_activations_are_quantised_at_run_time(quantised: Path) -> None:
    graph = onnx.load(quantised).graph
    constants = {constant.name for constant in graph.initializer}
    inputs = [node.input[0] for node in graph.node if node.op_type == "QuantizeLinear"]
    assert inputs
    assert not constants.intersection(inputs)


def test_zero_points_are_zero(quantised: Path) -> None:
    graph = onnx.load(quantised).graph
    constants = {constant.name: numpy_helper.to_array(constant) for constant in graph.initializer}
    points = [constants[node.input[2]] for node in graph.node if node.op_type.endswith("eLinear")]
    assert points
    assert not any(point.any() for point in points)


def test_ranges_are_the_largest_magnitudes_of_the_calibration_images(source: Path, quantised: Path) -> None:
    seen = {entry.tensor: entry.largest for entry in measure_ranges(source, images(4))}
    ranges = activation_ranges(onnx.load(quantised).graph)
    assert ranges["image"] == pytest.approx(np.abs(images(4)).max(), rel=1e-5)
    assert ranges["encoder/first/Relu"] == pytest.approx(seen["encoder/first/Relu"], rel=1e-5)


def test_a_node_taken_out_computes_in_float_with_the_exact_weight(
    calibrated: Path, source: Path, tmp_path: Path
) -> None:
    path = quantise(calibrated, tmp_path / "int8.onnx", unquantise=(CONVOLUTIONS[1],))
    graph = onnx.load(path).graph
    assert CONVOLUTIONS[1] not in quantised_nodes(graph)
    assert CONVOLUTIONS[2] in quantised_nodes(graph)
    constants = {c.name: numpy_helper.to_array(c) for c in graph.initializer}
    exact = {c.name: numpy_helper.to_array(c) for c in onnx.load(source).graph.initializer}
    node = next(node for node in graph.node if node.name == CONVOLUTIONS[1])
    np.testing.assert_array_equal(constants[node.input[1]], exact[f"{CONVOLUTIONS[1]}.1"])


def test_with_every_node_taken_out_the_fp32_graph_is_back(calibrated: Path, source: Path, tmp_path: Path) -> None:
    graph = onnx.load(calibrated)
    bypass(graph.graph, quantised_nodes(graph.graph))
    assert not any(node.op_type.endswith("eLinear") for node in graph.graph.node)
    onnx.save(graph, tmp_path / "back.onnx")
    for ours, theirs in zip(run(tmp_path / "back.onnx", images(2)), run(source, images(2)), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_a_kept_node_reads_no_dequantised_tensor_that_others_share(source: Path, tmp_path: Path) -> None:
    graph = onnx.load(source)
    graph.graph.node.append(onnx.helper.make_node("Neg", ["encoder/second/Relu"], ["beside"], name="beside/Neg"))
    graph.graph.output.append(onnx.helper.make_tensor_value_info("beside", onnx.TensorProto.FLOAT, None))
    onnx.save(graph, tmp_path / "model.onnx")
    found = []
    for keep in ([], ["beside/Neg"]):
        calibrate(tmp_path / "model.onnx", tmp_path / "calibrated.onnx", keep=keep, images=images(4), method="max")
        found.append(quantised_nodes(onnx.load(tmp_path / "calibrated.onnx").graph))
    assert all(CONVOLUTIONS[2] in nodes for nodes in found)
    assert ["beside/Neg" in nodes for nodes in found] == [True, False]


@pytest.mark.parametrize("alike", ["encoder/second/Con", "encoder.second.Conv"])
def test_a_kept_name_means_that_node_and_none_that_begins_or_matches_alike(
    source: Path, tmp_path: Path, alike: str
) -> None:
    calibrate(source, tmp_path / "calibrated.onnx", keep=[alike], images=images(2), method="max")
    assert CONVOLUTIONS[1] in quantised_nodes(onnx.load(tmp_path / "calibrated.onnx").graph)


def test_the_file_is_a_fraction_of_the_fp32_graphs(source: Path, quantised: Path) -> None:
    convolutions = 2 * CHANNELS * CHANNELS * 9
    assert quantised.stat().st_size < source.stat().st_size - 2.5 * convolutions


@pytest.mark.parametrize("rest", ["fp32", "fp16"])
def test_results_stay_near_those_of_fp32(calibrated: Path, source: Path, tmp_path: Path, rest: str) -> None:
    path = quantise(calibrated, tmp_path / "int8.onnx", rest)
    for ours, theirs in zip(run(path, images(3)), run(source, images(3)), strict=True):
        assert 0 < np.abs(ours - theirs).max() < 0.02


@pytest.mark.parametrize("method", ["max", "entropy"])
def test_the_same_images_give_the_same_bytes(source: Path, tmp_path: Path, method: str) -> None:
    files = []
    for attempt in ("first", "second"):
        folder = tmp_path / attempt
        folder.mkdir()
        calibrate(source, folder / "calibrated.onnx", keep=(), images=images(4), method=method)
        files.append(quantise(folder / "calibrated.onnx", folder / "int8.onnx", "fp16").read_bytes())
    assert files[0] == files[1]


def test_other_images_give_other_ranges(source: Path, quantised: Path, tmp_path: Path) -> None:
    calibrate(source, tmp_path / "calibrated.onnx", keep=(), images=images(4, seed=1) / 2, method="max")
    ours = activation_ranges(onnx.load(tmp_path / "calibrated.onnx").graph)
    assert ours["image"] == pytest.approx(activation_ranges(onnx.load(quantised).graph)["image"] / 2, rel=0.01)


def test_a_graph_with_nothing_to_quantise_is_refused(source: Path, tmp_path: Path) -> None:
    everything = [node.name for node in onnx.load(source).graph.node]
    with pytest.raises(InputError, match=r"nothing in .* can be quantised"):
        calibrate(source, tmp_path / "calibrated.onnx", keep=everything, images=images(2), method="max")
    assert not (tmp_path / "calibrated.onnx").exists()
