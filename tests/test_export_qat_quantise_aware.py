"""Rounding in PyTorch stands where the exported graph has it, and training through it undoes what it costs."""

import copy
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file
from small_hand import CONFIG, small_hand

from cliphand.checkpoint import load_checkpoint, save_checkpoint
from cliphand.config import AugmentConfig, CropConfig, LossConfig, TrainConfig
from cliphand.errors import InputError
from cliphand.hand import HandTopology
from cliphand.model.clip_hand import ClipHand
from cliphand.model.hand_model import HandModel
from cliphand.training.loop import Run, train_hand
from cliphand.training.run_place import read_history
from export.graph.deploy_model import example_images
from export.graph.fold import live_fold
from export.graph.inventory import FLOP
from export.graph.trace import Trace
from export.precision.calibration import CalibrationRequest, read_calibration
from export.qat.fake_quantise import (
    QuantisedInput,
    RoundedProgram,
    quantised_places,
    quantiser,
    round_activation,
    round_weight,
)
from export.qat.quantise_aware import QuantiseAware, calibrated_trace, check_ranges, measure

MODEL = dataclasses.replace(CONFIG, backbone="test_resnet")
STILL = AugmentConfig(rotation_deg=0, scale=0, shift=0, colour=0, blur_px=0, noise=0)
TRAIN = TrainConfig(
    epochs=3,
    repeats=12,
    batch=4,
    learning_rate=4e-5,
    schedule="cosine",
    weight_decay=0,
    accelerator="cpu",
    workers=0,
    validation_fraction=0,
    backbone_weights="none",
    augment=STILL,
    # The labels say nothing of a network that was not trained on them: it learns from itself alone.
    loss=LossConfig(0, 0, 0, 0, 0, 0, 0),
)


@dataclass(frozen=True)
class Placed:
    """A model, its calibrated graph, and what was found of it in PyTorch."""

    model: HandModel
    images: torch.Tensor
    trace: Trace
    graph: onnx.ModelProto
    places: tuple[QuantisedInput, ...]

    @property
    def program(self) -> RoundedProgram:
        return RoundedProgram(self.trace.program, self.places)


@pytest.fixture(scope="module")
def placed() -> Placed:
    pytest.importorskip("modelopt", reason="needs the extra 'train'")
    model = small_hand(MODEL)
    images = example_images(4, MODEL.input_size)
    trace, graph = calibrated_trace(model, images, MODEL.input_size)
    return Placed(model, images, trace, graph, quantised_places(graph.graph, trace))


def summed_axes(node: onnx.NodeProto, position: int, rank: int) -> set[int]:
    """Axes of a weight over which a product or convolution sums; no scale can be taken out of such a sum."""
    if node.op_type == "MatMul":
        return {rank - 1} if position == 0 else {rank - 2}
    if node.op_type == "Gemm":
        transposed = onnx.helper.get_node_attr_value(node, "transB") if node.attribute else 0
        return {1 if transposed else 0}
    return {0, *range(2, rank)} if node.op_type == "ConvTranspose" else set(range(1, rank))


def test_every_weights_scales_belong_to_outputs(placed: Placed) -> None:
    graph = placed.graph.graph
    producers = {output: node for node in graph.node for output in node.output}
    constants = {constant.name: constant for constant in graph.initializer}
    seen = set()
    for node in graph.node:
        for position, name in enumerate(node.input):
            dequantise = producers.get(name)
            if node.op_type not in FLOP or dequantise is None or dequantise.op_type != "DequantizeLinear":
                continue
            weight = constants.get(producers[dequantise.input[0]].input[0])
            if weight is not None and constants[dequantise.input[1]].dims:  # one scale for all belongs everywhere
                axis = onnx.helper.get_node_attr_value(dequantise, "axis") % len(weight.dims)
                assert axis not in summed_axes(node, position, len(weight.dims)), node.name
                seen.add(node.op_type)
    assert {"Conv", "MatMul"} <= seen


def test_every_quantised_input_of_the_graph_is_found(placed: Placed) -> None:
    graph = placed.graph.graph
    dequantised = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    wanted = {(node.name, i) for node in graph.node for i, name in enumerate(node.input) if name in dequantised}
    assert {(place.node, place.position) for place in placed.places} == wanted
    assert {"Conv", "MatMul", "Add", "MaxPool"} <= {
        place.node.rpartition("/")[2].partition("_")[0] for place in placed.places
    }


def test_ranges_are_those_of_the_exporters_calibration(placed: Placed) -> None:
    ranges = measure(live_fold(placed.model), placed.program, placed.images)
    for place in placed.places:
        if place.axis is None:
            assert ranges[place] == pytest.approx(place.largest, rel=1e-5), place.node


def test_it_computes_what_the_int8_graph_computes(placed: Placed, tmp_path: Path) -> None:
    onnx.save(placed.graph, tmp_path / "int8.onnx")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(tmp_path / "int8.onnx"), options)
    int8 = session.run(None, {"image": placed.images.numpy()})
    folded = live_fold(placed.model)
    ranges = {place: place.largest for place in placed.places}
    with torch.no_grad():
        fp32 = folded(placed.images)
        ours = placed.program.compute(folded, placed.images, round_input=quantiser(ranges))
    # A sum that rounds to the other side moves a value by a whole level, and what follows with it.
    for mine, graphs, exact, share in zip(ours, int8, fp32, (0.1, 0.5), strict=True):
        assert np.abs(mine.numpy() - graphs).mean() < share * np.abs(exact.numpy() - graphs).mean()


def renamed(graph: onnx.ModelProto, names: dict[str, str]) -> onnx.GraphProto:
    copied = onnx.GraphProto.FromString(graph.graph.SerializeToString())
    for node in copied.node:
        node.name = names.get(node.name, node.name)
    return copied


def test_a_node_that_stands_for_no_operation_is_refused(placed: Placed) -> None:
    graph = renamed(placed.graph, {"encoder/backbone/maxpool/MaxPool": "encoder/elsewhere/MaxPool"})
    with pytest.raises(InputError, match=r"'encoder/elsewhere/MaxPool'.*cannot be trained quantisation-aware"):
        quantised_places(graph, placed.trace)


def test_an_exporter_that_does_not_tell_the_operations_is_refused(placed: Placed) -> None:
    silent = dataclasses.replace(placed.trace, operations={})
    with pytest.raises(InputError, match="does not tell which operation"):
        quantised_places(placed.graph.graph, silent)


def test_two_nodes_of_one_operation_are_refused(placed: Placed) -> None:
    first, second = [place.node for place in placed.places if "/Add" in place.node][:2]
    operations = dict(placed.trace.operations)
    twice = dataclasses.replace(placed.trace, operations=operations | {second: operations[first]})
    with pytest.raises(InputError, match=rf"'{second}'.*is also that of {first}"):
        quantised_places(placed.graph.graph, twice)


def test_nodes_in_each_others_places_are_refused(placed: Placed) -> None:
    adds = sorted((place.largest, place.node) for place in placed.places if "/Add" in place.node)
    first, second = adds[0][1], adds[-1][1]
    swapped = renamed(placed.graph, {first: second, second: first})
    program = RoundedProgram(placed.trace.program, quantised_places(swapped, placed.trace))
    check_ranges(measure(live_fold(placed.model), placed.program, placed.images))
    with pytest.raises(InputError, match=r"/Add.*it reads up to"):
        check_ranges(measure(live_fold(placed.model), program, placed.images))


def test_an_operation_without_such_an_input_is_refused(placed: Placed) -> None:
    place = next(place for place in placed.places if place.node.endswith("/MaxPool"))
    with pytest.raises(InputError, match="its input 1 is none of max_pool2d"):
        RoundedProgram(placed.trace.program, [dataclasses.replace(place, position=1)])


def test_rounding_passes_gradients_inside_the_range_only() -> None:
    value = torch.tensor([0.3, -0.9, 2.0], requires_grad=True)
    rounded = round_activation(value, 1.27)
    torch.testing.assert_close(rounded, torch.tensor([0.30, -0.90, 1.27]))
    rounded.sum().backward()
    assert value.grad is not None
    assert value.grad.tolist() == [1, 1, 0]


@pytest.mark.parametrize(("axis", "levels"), [(0, [[127, 64], [127, 64]]), (1, [[1, 1], [127, 127]])])
def test_weights_have_a_scale_for_each_entry_along_their_axis(axis: int, levels: list[list[int]]) -> None:
    weight = torch.tensor([[1.0, 0.5], [100.0, 50.0]])
    largest = weight.amax(dim=1 - axis, keepdim=True)
    torch.testing.assert_close(round_weight(weight, axis), torch.tensor(levels) * largest / 127)


def harm(model: HandModel) -> None:
    """Leave the function as it is, but give two channels of an activation 300 times the range of the others."""
    block = model.get_submodule("encoder.backbone.layer1.0")
    with torch.no_grad():
        block.bn1.weight[:2] *= 300
        block.bn1.bias[:2] *= 300
        block.conv2.weight[:, :2] /= 300


def int8_vertices(model: HandModel, placed: Placed, images: torch.Tensor) -> torch.Tensor:
    folded = live_fold(model)
    ranges = measure(folded, placed.program, images)
    with torch.no_grad():
        return placed.program.compute(folded, images, round_input=quantiser(ranges))[1]


def test_training_recovers_more_than_half_of_what_int8_costs(
    placed: Placed,
    freihand_folder: Callable[..., Path],
    hand_topology: HandTopology,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = copy.deepcopy(placed.model)
    harm(model)
    save_checkpoint(
        tmp_path / "start",
        model=ClipHand(model, None),
        model_config=MODEL,
        crop=CropConfig(rule="whole"),
        topology=hand_topology,
        train=TRAIN,
        facts={},
    )
    start = load_checkpoint(tmp_path / "start")
    data = freihand_folder(n_labels=4, size_px=64)
    # The places are those of the same network: calibrating once more would take most of this test's time.
    monkeypatch.setattr("export.qat.quantise_aware.rounded_program", lambda *_: placed.program)
    run = Run(
        data=data,
        topology=hand_topology,
        out=tmp_path / "run",
        model=MODEL,
        crop=CropConfig(rule="whole"),
        train=TRAIN,
        start=start,
        recipe=QuantiseAware(start, CalibrationRequest(data)),
    )
    train_hand(run, progress=False)
    images = torch.from_numpy(
        read_calibration(CalibrationRequest(data), CropConfig(rule="whole"), MODEL.input_size).images
    )
    with torch.no_grad():
        exact = start.model(images)[1]
    end = load_checkpoint(run.out / "last")
    before, after = ((int8_vertices(each.model, placed, images) - exact).abs().mean() for each in (start, end))
    assert after < before / 2
    history = read_history(run.out)
    assert {"val_pa_pjpe_mm", "val_fp32_pa_pjpe_mm", "loss_drift"} <= set(history[0])
    assert history[0]["loss"] == history[0]["loss_drift"]  # no other term has a weight
    assert end.facts["recipe"]["quantise_aware"] == start.sha256
    assert all(key.startswith(("hand.", "topology.")) for key in load_file(run.out / "last" / "model.safetensors"))
