from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cliphand.errors import InputError
from engines.cuda_device import Gpu
from engines.trt_flavour import TENSORRT, TENSORRT_RTX
from engines.trt_plan import BatchRange, BuildSettings, PlanRecord, make_key
from engines.trt_rules import (
    check_engine_precision,
    check_precision,
    check_runs_here,
    check_settings,
    choose_profile,
    layer_types,
    split_batch,
)

ADA = Gpu("NVIDIA L4", "8.9", "13.2", "580.95.05")
HOPPER = Gpu("NVIDIA H200", "9.0", "13.2", "580.95.05")
PLAN = Path("exports/run/model.plan")


def record(settings: BuildSettings | None = None, *, gpu: Gpu | None = ADA, flavour: str = "tensorrt") -> PlanRecord:
    chosen = TENSORRT if flavour == "tensorrt" else TENSORRT_RTX
    hashes = {"precision": "fp16", "checkpoint_sha256": "0", "onnx_sha256": "1"}
    key = make_key(chosen, settings or BuildSettings(), version="11.4.0", gpu=gpu, **hashes)
    return PlanRecord(key=key, onnx="model.onnx", input_size=256, plan_sha256="2", build_s=1.0)


def test_the_machine_that_built_a_plan_runs_it() -> None:
    check_runs_here(record(), PLAN, version="11.4.0", gpu=ADA)


def test_another_version_is_refused_by_the_field_that_differs() -> None:
    with pytest.raises(InputError, match=r"differs in tensorrt_version: built with 11\.4\.0, here is 10\.16\.1"):
        check_runs_here(record(), PLAN, version="10.16.1", gpu=ADA)


def test_a_version_compatible_plan_runs_in_another_version() -> None:
    check_runs_here(record(BuildSettings(version_compatible=True)), PLAN, version="11.9.0", gpu=ADA)


def test_another_compute_capability_is_refused_by_the_field_that_differs() -> None:
    with pytest.raises(InputError, match=r"differs in compute_capability: built for 8\.9, NVIDIA H200 has 9\.0"):
        check_runs_here(record(), PLAN, version="11.4.0", gpu=HOPPER)


@pytest.mark.parametrize(("hardware", "refused"), [("ampere_plus", False), ("same_compute_capability", True)])
def test_only_ampere_plus_lets_another_compute_capability_run(hardware: str, refused: bool) -> None:
    plan = record(BuildSettings(hardware=hardware))
    if refused:
        with pytest.raises(InputError, match="compute_capability"):
            check_runs_here(plan, PLAN, version="11.4.0", gpu=HOPPER)
    else:
        check_runs_here(plan, PLAN, version="11.4.0", gpu=HOPPER)


def test_a_plan_for_rtx_runs_on_any_gpu_unless_its_targets_are_named() -> None:
    portable = record(gpu=None, flavour="tensorrt-rtx")
    check_runs_here(portable, PLAN, version="11.4.0", gpu=HOPPER)
    bound = record(BuildSettings(compute_capabilities=("8.6", "8.9")), gpu=None, flavour="tensorrt-rtx")
    check_runs_here(bound, PLAN, version="11.4.0", gpu=ADA)
    with pytest.raises(InputError, match=r"built for 8\.6, 8\.9, NVIDIA H200 has 9\.0"):
        check_runs_here(bound, PLAN, version="11.4.0", gpu=HOPPER)


def test_settings_of_the_other_flavour_are_refused() -> None:
    check_settings(BuildSettings(version_compatible=True, hardware="ampere_plus", stripped=True), TENSORRT, gpu=ADA)
    with pytest.raises(InputError, match="exists in TensorRT for RTX, not in TensorRT"):
        check_settings(BuildSettings(compute_capabilities=("8.9",)), TENSORRT, gpu=ADA)


def test_a_stripped_plan_needs_a_gpu() -> None:
    with pytest.raises(InputError, match="only be built with a GPU"):
        check_settings(BuildSettings(stripped=True), TENSORRT_RTX, gpu=None)


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
        ("unstated", {"CONVOLUTION HALF": 1}, True),
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


def test_an_engine_without_half_layers_is_not_fp16() -> None:
    check_engine_precision("fp16", {"FP32": 90, "FP16": 1}, source="model.plan")
    check_engine_precision("fp32", {"FP32": 90}, source="model.plan")
    for precision in ("fp16", "int8"):
        with pytest.raises(InputError, match=f"is called {precision}, but TensorRT built it from layers of"):
            check_engine_precision(precision, {"FP32": 90, "other": 3}, source="model.plan")


def test_the_inspectors_formats_are_read_as_types() -> None:
    formats = (
        "Row major linear FP16 format",
        "Half",
        "Thirty-two wide channel vectorized Int8 format",
        "N/A",
    )
    layers: list[object] = [{"Name": "a", "Outputs": [{"Name": "x", "Format/Datatype": text}]} for text in formats]
    layers += [{"Name": "b", "Outputs": []}, "only a name"]
    assert layer_types({"Layers": layers}) == {"FP16": 2, "INT8": 1, "other": 3}
    assert layer_types({}) == {}


def test_the_profile_tuned_nearest_to_the_batch_serves_it() -> None:
    profiles = (BatchRange(1, 1, 8), BatchRange(4, 32, 64))
    assert [choose_profile(profiles, batch) for batch in (1, 4, 6, 8, 9, 64, 65)] == [0, 0, 1, 1, 1, 1, None]


@given(st.integers(1, 500), st.integers(1, 64))
def test_parts_of_a_batch_make_it_whole_and_fit(batch: int, largest: int) -> None:
    sizes = split_batch((BatchRange(1, 1, largest),), batch)
    assert sum(sizes) == batch
    assert max(sizes) <= largest
    assert len(sizes) == -(-batch // largest)
    assert max(sizes) - min(sizes) <= 1


def test_a_batch_below_every_profile_is_refused_with_the_valid_sizes() -> None:
    with pytest.raises(InputError, match=r"a call of 3 images fits no profile .* 4 to 8, 16 to 32"):
        split_batch((BatchRange(4, 8, 8), BatchRange(16, 32, 32)), 3)
