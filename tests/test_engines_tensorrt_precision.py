"""What TensorRT's network and inspector say of a graph, and what a precision's name promises about it; no TensorRT."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from typed_graphs import save_graph

from cliphand.errors import InputError
from engines.tensorrt.build import parse
from engines.tensorrt.flavour import TENSORRT
from engines.tensorrt.layers import check_precision, count_layers, engine_layers, proof_of


def test_a_network_is_always_strongly_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorRT 11 and TensorRT for RTX know nothing else; TensorRT 10 would choose the types itself."""
    asked: list[tuple[str, dict[str, object]]] = []

    def network_from_onnx_path(path: str, **options: object) -> tuple[str, str, str]:
        asked.append((path, options))
        return "builder", "network", "parser"

    backend = SimpleNamespace(network_from_onnx_path=network_from_onnx_path)
    monkeypatch.setattr("engines.tensorrt.build.load_tensorrt", lambda flavour: SimpleNamespace(__version__="10.16"))
    monkeypatch.setattr("engines.tensorrt.build.load_polygraphy", lambda flavour: backend)
    graph = save_graph(tmp_path / "model.onnx")
    parts = parse(graph, TENSORRT)
    assert asked == [(str(graph), {"strongly_typed": True})]
    assert parts == ("builder", "network", "parser")


def layer(kind: str, result: str, dtype: str, *given: tuple[str, str]) -> SimpleNamespace:
    def tensor(name: str, kind: str) -> SimpleNamespace:
        return SimpleNamespace(name=name, dtype=SimpleNamespace(name=kind))

    inputs = [tensor(*one) for one in given]
    return SimpleNamespace(
        type=SimpleNamespace(name=kind),
        num_inputs=len(inputs),
        get_input=lambda index: inputs[index],
        get_output=lambda index: tensor(result, dtype),
    )


def test_a_layer_is_int8_where_both_its_factors_were_and_else_what_it_multiplies() -> None:
    layers = [
        layer("CONSTANT", "w", "FLOAT"),
        layer("QUANTIZE", "q", "INT8", ("image", "FLOAT")),
        layer("DEQUANTIZE", "d", "HALF", ("q", "INT8")),
        layer("DEQUANTIZE", "dw", "HALF", ("w", "INT8")),
        layer("CONVOLUTION", "c", "HALF", ("d", "HALF"), ("dw", "HALF")),
        layer("CONVOLUTION", "e", "HALF", ("d", "HALF"), ("w", "HALF")),  # only its data were
        layer("MATRIX_MULTIPLY", "m", "FLOAT", ("c", "HALF"), ("w", "HALF")),  # it puts out FLOAT
        layer("MATRIX_MULTIPLY", "n", "BF16", ("c", "BF16"), ("w", "BF16")),
    ]
    network = SimpleNamespace(num_layers=len(layers), get_layer=lambda index: layers[index])
    assert count_layers(network) == {
        "CONSTANT FLOAT": 1,
        "CONVOLUTION HALF": 1,
        "CONVOLUTION INT8": 1,
        "DEQUANTIZE HALF": 2,
        "MATRIX_MULTIPLY BF16": 1,
        "MATRIX_MULTIPLY HALF": 1,
        "QUANTIZE INT8": 1,
    }


def test_a_product_is_int8_where_its_dequantised_factors_were_only_moved() -> None:
    """As TensorRT parses the real network: a MatMul's constant gets a dimension after its DequantizeLinear."""
    layers = [
        layer("DEQUANTIZE", "d", "FLOAT", ("q", "INT8")),
        layer("DEQUANTIZE", "dw", "FLOAT", ("w", "INT8")),
        layer("SHUFFLE", "moved", "FLOAT", ("dw", "FLOAT")),
        layer("UNSQUEEZE", "again", "FLOAT", ("moved", "FLOAT")),
        layer("MATRIX_MULTIPLY", "a", "FLOAT", ("d", "FLOAT"), ("moved", "FLOAT")),
        layer("MATRIX_MULTIPLY", "b", "FLOAT", ("d", "FLOAT"), ("again", "FLOAT")),
        layer("REDUCE", "mean", "FLOAT", ("d", "FLOAT")),  # no mover: its sum is no INT8
        layer("MATRIX_MULTIPLY", "c", "FLOAT", ("mean", "FLOAT"), ("moved", "FLOAT")),
        layer("SHUFFLE", "plain", "FLOAT", ("c", "FLOAT")),
        layer("MATRIX_MULTIPLY", "e", "FLOAT", ("plain", "FLOAT"), ("moved", "FLOAT")),
    ]
    network = SimpleNamespace(num_layers=len(layers), get_layer=lambda index: layers[index])
    found = count_layers(network)
    assert (found["MATRIX_MULTIPLY INT8"], found["MATRIX_MULTIPLY FLOAT"]) == (2, 2)


@pytest.mark.parametrize(
    ("precision", "layers", "true"),
    [
        ("fp32", {"CONVOLUTION FLOAT": 9}, True),
        ("fp32", {"CONVOLUTION FLOAT": 9, "MATRIX_MULTIPLY HALF": 1}, False),
        ("fp16", {"CONVOLUTION HALF": 5, "MATRIX_MULTIPLY FLOAT": 5}, True),
        ("fp16", {"CONVOLUTION HALF": 4, "MATRIX_MULTIPLY FLOAT": 5}, False),
        ("fp16", {"CONVOLUTION FLOAT": 9, "ELEMENTWISE HALF": 99}, False),
        ("fp16", {"CONVOLUTION BF16": 9}, False),
        ("fp32", {"CONVOLUTION TF32": 9}, True),
        ("int8", {"CONVOLUTION INT8": 5, "CONVOLUTION HALF": 5, "MATRIX_MULTIPLY HALF": 50}, True),
        ("int8", {"CONVOLUTION INT8": 4, "CONVOLUTION HALF": 5}, False),
        ("int8", {"MATRIX_MULTIPLY INT8": 5}, False),
    ],
)
def test_a_precisions_name_is_a_promise_about_the_compute_layers(
    precision: str, layers: dict[str, int], true: bool
) -> None:
    if true:
        check_precision(precision, layers, source="model.onnx")
    else:
        with pytest.raises(InputError, match=rf"model\.onnx is called {precision}, but TensorRT sees"):
            check_precision(precision, layers, source="model.onnx")


def entry(kind: str, *inputs: str, tactic: str = "", field: str = "LayerType", output: str = "Float") -> object:
    """A layer as TensorRT's inspector writes it."""
    return {
        "Name": "a",
        field: kind,
        "TacticName": tactic,
        "Inputs": [{"Name": "x", "Format/Datatype": text} for text in inputs],
        "Outputs": [{"Name": "y", "Format/Datatype": output}],
    }


def test_58_convolutions_in_fp32_beside_one_quantised_layer_are_no_int8_plan() -> None:
    layers = [entry("CaskConvolution", "Float", tactic="sm80_xmma_fprop_implicit_gemm_f32f32_f32f32_f32_nhwc")] * 58
    layers.append(entry("Reformat", "Float", output="Int8"))
    found = engine_layers({"Layers": layers})
    assert found == {"CONVOLUTION FLOAT": 58, "other": 1}
    told = (
        r"plan is called int8, but TensorRT sees 0 of 58 convolutions in INT8, .*at least 50% is the rule \(attention's"
    )
    with pytest.raises(InputError, match=told):
        check_precision("int8", found, source="model.plan")


@pytest.mark.parametrize(
    ("layer", "told"),
    [
        (entry("CaskConvolution", "Int8", "Half", tactic="sm80_xmma_fprop_implicit_gemm_i8i8_i8i32_f32_nchw"), "INT8"),
        (entry("CaskConvolution", "Half", tactic="ampere_h16816cudnn_256x128_ldg8"), "HALF"),
        (entry("CaskConvolution", "Half", tactic="turing_s1688gemm_fp16_64x64"), "HALF"),
        (entry("CaskConvolution", "Float", tactic="sm80_xmma_fprop_implicit_gemm_tf32tf32_tf32f32_f32"), "TF32"),
        (entry("CaskConvolution", "Float", tactic="ampere_scudnn_128x64_relu_interior_nn_v1"), "FLOAT"),
        (entry("conv", "BFloat16", tactic="__myl_Conv_myl0_3"), "BF16"),
        (entry("Convolution", "Thirty-two wide channel vectorized Int8 format", field="ParameterType"), "INT8"),
        (
            entry("Convolution", "Row major linear FP16 format", tactic="0x0000000000020041", field="ParameterType"),
            "HALF",
        ),
        (entry("Convolution", "N/A", field="ParameterType"), "UNTOLD"),
        (entry("CaskConvolution", tactic=""), "UNTOLD"),
    ],
)
def test_a_convolution_of_an_engine_is_what_its_kernel_multiplies(layer: object, told: str) -> None:
    assert engine_layers({"Layers": [layer]}) == {f"CONVOLUTION {told}": 1}


@pytest.mark.parametrize(
    ("layer", "told"),
    [
        (entry("gemm", "Half", "Half", tactic="sm80_xmma_gemm_f16f16_f16f32_f32_tn_n"), "MATRIX_MULTIPLY HALF"),
        (entry("gemm", "BFloat16", tactic="sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn"), "MATRIX_MULTIPLY BF16"),
        (entry("MatrixMultiply", "FP8", "FP8", field="ParameterType"), "MATRIX_MULTIPLY FP8"),
        (entry("kgen", "Half", tactic="__myl_Fc_myl0_5"), "MATRIX_MULTIPLY HALF"),
        (entry("kgen", "Half", tactic="__myl_CastConvertMul_myl0_1"), "other"),
        (entry("CaskDeconvolutionV2", "Half", tactic="sm80_xmma_dgrad_implicit_gemm_f16"), "other"),
        (entry("Reformat", "Int8", output="Int8"), "other"),
        ("only a name", "other"),
    ],
)
def test_matrix_products_are_told_from_what_does_no_arithmetic(layer: object, told: str) -> None:
    assert engine_layers({"Layers": [layer]}) == {told: 1}


def test_an_engine_that_tells_nothing_is_only_excused_where_that_is_known() -> None:
    for layers in ({}, {"CONVOLUTION UNTOLD": 9, "other": 3}):
        check_precision("int8", layers, source="model.rtx.plan", silence=True)
        with pytest.raises(InputError, match="TensorRT sees 0 of 0 convolutions in INT8"):
            check_precision("int8", layers, source="model.plan")
    with pytest.raises(InputError, match="is called int8"):
        check_precision("int8", {"CONVOLUTION HALF": 9}, source="model.rtx.plan", silence=True)


def test_the_proof_is_the_engines_where_it_tells_and_else_the_networks() -> None:
    network = {"CONVOLUTION INT8": 53, "CONVOLUTION HALF": 5, "MATRIX_MULTIPLY HALF": 40}
    engine = {"CONVOLUTION INT8": 50, "CONVOLUTION HALF": 8, "other": 90}
    found = proof_of("int8", network=network, engine=engine)
    assert found == "50 of 58 convolutions and matrix products in INT8 (of the finished engine)"
    silences = (
        (None, "without a GPU, TensorRT tells nothing of the finished engine"),
        ("it does not load", "this GPU does not load the finished engine"),
        ({"other": 9}, "this TensorRT does not tell the types in its finished engine"),
    )
    for silent, why in silences:
        told = proof_of("int8", network=network, engine=silent)
        assert told == f"53 of 98 convolutions and matrix products in INT8 (of the parsed network: {why})"
    assert proof_of("fp16", network=network, engine=None).startswith(
        "45 of 98 convolutions and matrix products in HALF"
    )
