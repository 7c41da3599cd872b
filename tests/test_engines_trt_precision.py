"""What TensorRT's network and inspector say of a graph, and what a precision's name promises about it; no TensorRT."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from typed_graphs import save_graph

from cliphand.errors import InputError
from engines.trt_build import check_engine_precision, check_precision, count_layers, layer_types, parse
from engines.trt_flavour import TENSORRT


def test_a_network_is_always_strongly_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorRT 11 and TensorRT for RTX know nothing else; TensorRT 10 would choose the types itself."""
    asked: list[tuple[str, dict[str, object]]] = []

    def network_from_onnx_path(path: str, **options: object) -> tuple[str, str, str]:
        asked.append((path, options))
        return "builder", "network", "parser"

    backend = SimpleNamespace(network_from_onnx_path=network_from_onnx_path)
    monkeypatch.setattr("engines.trt_build.load_tensorrt", lambda flavour: SimpleNamespace(__version__="10.16"))
    monkeypatch.setattr("engines.trt_build.load_polygraphy", lambda flavour: backend)
    graph = save_graph(tmp_path / "model.onnx")
    parts = parse(graph, TENSORRT)
    assert asked == [(str(graph), {"strongly_typed": True})]
    assert parts == ("builder", "network", "parser")


def test_layers_are_counted_by_their_first_output_and_int8_by_what_feeds_them() -> None:
    def layer(kind: str, given: str | None, result: str, dtype: str) -> SimpleNamespace:
        tensors = {
            name: SimpleNamespace(name=name, dtype=SimpleNamespace(name=dtype)) for name in (given, result) if name
        }
        return SimpleNamespace(
            type=SimpleNamespace(name=kind),
            get_input=lambda index: tensors.get(given),
            get_output=lambda index: tensors[result],
        )

    layers = [
        layer("CONSTANT", None, "w", "FLOAT"),
        layer("QUANTIZE", "image", "q", "INT8"),
        layer("DEQUANTIZE", "q", "d", "HALF"),
        layer("CONVOLUTION", "d", "c", "HALF"),
        layer("CONVOLUTION", "c", "e", "HALF"),
    ]
    network = SimpleNamespace(num_layers=5, get_layer=lambda index: layers[index])
    assert count_layers(network) == {
        "CONSTANT FLOAT": 1,
        "CONVOLUTION HALF": 1,
        "CONVOLUTION INT8": 1,
        "DEQUANTIZE HALF": 1,
        "QUANTIZE INT8": 1,
    }


@pytest.mark.parametrize(
    ("precision", "layers", "true"),
    [
        ("fp32", {"CONVOLUTION FLOAT": 9}, True),
        ("fp32", {"CONVOLUTION FLOAT": 9, "MATRIX_MULTIPLY HALF": 1}, False),
        ("fp16", {"CONVOLUTION HALF": 5, "MATRIX_MULTIPLY FLOAT": 5}, True),
        ("fp16", {"CONVOLUTION HALF": 4, "MATRIX_MULTIPLY FLOAT": 5}, False),
        ("fp16", {"CONVOLUTION FLOAT": 9, "ELEMENTWISE HALF": 99}, False),
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


@pytest.mark.parametrize(
    ("precision", "types", "true"),
    [
        ("int8", {"INT8": 1, "HALF": 9}, True),
        ("int8", {"HALF": 9, "other": 2}, False),
        ("fp16", {"FLOAT": 9}, False),
        ("fp32", {"HALF": 9}, False),
        ("int8", {"other": 9}, True),
        ("fp16", {}, True),
    ],
)
def test_an_engine_is_refused_only_where_its_layers_tell_types_without_the_promised_one(
    precision: str, types: dict[str, int], true: bool
) -> None:
    if true:
        check_engine_precision(precision, types, source="model.plan")
    else:
        with pytest.raises(InputError, match=rf"plan is called {precision}, but TensorRT built it from layers of"):
            check_engine_precision(precision, types, source="model.plan")


def test_the_inspectors_formats_are_read_as_types() -> None:
    formats = (
        "Row major linear FP16 format",
        "Half",
        "Thirty-two wide channel vectorized Int8 format",
        "N/A",
    )
    layers: list[object] = [{"Name": "a", "Outputs": [{"Name": "x", "Format/Datatype": text}]} for text in formats]
    layers += [{"Name": "b", "Outputs": []}, "only a name"]
    assert layer_types({"Layers": layers}) == {"HALF": 2, "INT8": 1, "other": 3}
    assert layer_types({}) == {}
