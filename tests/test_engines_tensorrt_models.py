"""Real builds, with TensorRT for RTX, of whole networks in every precision, for batches of 1 to 64."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as graphsurgeon
import pytest
import torch
from linear_hand import make_manifest
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.transformers.float16 import convert_float_to_float16

from cliphand.config import ModelConfig
from cliphand.hand import HandTopology
from cliphand.model.hand_model import HandModel, level_templates
from engines.artefact.manifest import write_manifest
from engines.tensorrt.plan import read_record
from engines.tensorrt.process import build_plans
from export.graph.deploy_model import deploy_model, example_images
from export.graph.trace import export_graph

RTX = "tensorrt-rtx"
SIZES = {"resnet18": 64, "resnet50": 256}


class Noise(CalibrationDataReader):
    def __init__(self, side: int) -> None:
        self.left = [example_images(1, side, seed=seed).numpy() for seed in range(2)]

    def get_next(self) -> dict[str, np.ndarray] | None:
        return {"image": self.left.pop()} if self.left else None


def quantise(source: Path, out: Path, side: int, *, bias: bool) -> None:
    """Explicit Q/DQ on convolutions, symmetric, a scale per channel of the weights; `bias` as INT32 or left alone."""
    quantize_static(
        source,
        out,
        Noise(side),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["Conv"],
        per_channel=True,
        weight_type=QuantType.QInt8,
        activation_type=QuantType.QInt8,
        extra_options={"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": bias},
    )


def quantise_apart(source: Path, out: Path, side: int, *, bias: bool) -> None:
    """`quantise` in a process of its own: ModelOpt, once imported, replaces parts of ONNX Runtime's quantiser."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        pool.submit(quantise, source, out, side, bias=bias).result()


@pytest.fixture(scope="module", params=SIZES)
def folder(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, hand_topology: HandTopology
) -> Path:
    """An export folder of an untrained network in three precisions."""
    folder, side = tmp_path_factory.mktemp(request.param), SIZES[request.param]
    torch.manual_seed(0)
    config = ModelConfig(backbone=request.param, input_size=side)
    model = deploy_model(HandModel(config, level_templates(hand_topology, config.levels)))
    export_graph(model, folder / "model.onnx", input_size=side)
    half = convert_float_to_float16(onnx.load(folder / "model.onnx"), keep_io_types=True, op_block_list=["Range"])
    # The converter puts its casts last; ONNX wants every node after those that feed it.
    onnx.save(graphsurgeon.export_onnx(graphsurgeon.import_onnx(half).toposort()), folder / "model.fp16.onnx")
    quantise_apart(folder / "model.onnx", folder / "model.int8.onnx", side, bias=False)
    names = {"model.onnx": "fp32", "model.fp16.onnx": "fp16", "model.int8.onnx": "int8"}
    write_manifest(make_manifest(folder, names, input_size=side), folder)
    return folder


def test_every_precision_becomes_a_plan_of_that_precision(folder: Path) -> None:
    built = build_plans(folder, flavour=RTX).plans
    assert [plan.path.name for plan in built] == ["model.rtx.plan", "model.fp16.rtx.plan", "model.int8.rtx.plan"]
    for plan in built:
        assert plan.record == read_record(plan.path)
        assert (plan.record.key.settings.profiles[0].min, plan.record.key.settings.profiles[0].max) == (1, 64)
    whole, half, integer = (plan.record.findings["layers"] for plan in built)
    assert whole["CONVOLUTION FLOAT"] == half["CONVOLUTION HALF"]
    assert integer["CONVOLUTION INT8"] == whole["CONVOLUTION FLOAT"]
    sizes = [plan.path.stat().st_size for plan in built]
    assert sizes[1] < 0.6 * sizes[0]


@pytest.mark.parametrize("folder", ["resnet18"], indirect=True)  # the bias that is refused is the first one's
def test_int32_biases_are_refused_in_tensorrts_words(folder: Path, tmp_path: Path) -> None:
    side = SIZES["resnet18"]
    quantise_apart(folder / "model.onnx", tmp_path / "model.int8.onnx", side, bias=True)
    write_manifest(make_manifest(tmp_path, {"model.int8.onnx": "int8"}, input_size=side), tmp_path)
    (words,) = build_plans(tmp_path, flavour=RTX).failures.values()
    assert "Int32 but must have type FP8, FP4, Int4, Int8, or UInt8" in words
