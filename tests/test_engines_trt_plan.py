import dataclasses
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cliphand.errors import InputError
from cliphand.files import sha256_of
from engines.cuda_device import Gpu
from engines.trt_flavour import TENSORRT, TENSORRT_RTX
from engines.trt_plan import (
    BatchRange,
    BuildSettings,
    PlanKey,
    PlanRecord,
    differing_fields,
    find_plans,
    make_key,
    parse_range,
    plan_path,
    read_record,
    record_path,
    reusable,
    write_record,
)

GPU = Gpu("NVIDIA L4", "8.9", "13.2", "580.95.05")
KEY = make_key(
    TENSORRT,
    BuildSettings(),
    version="11.4.0",
    gpu=GPU,
    precision="fp16",
    checkpoint_sha256="c" * 64,
    onnx_sha256="0" * 64,
)
CHANGED: dict[str, object] = {
    "flavour": "tensorrt-rtx",
    "precision": "int8",
    "checkpoint_sha256": "d" * 64,
    "onnx_sha256": "1" * 64,
    "tensorrt_version": "11.4.1",
    "gpu": "NVIDIA L40",
    "compute_capability": "9.0",
    "cuda_version": "13.1",
    "driver_version": "581",
    "settings": BuildSettings(level=4),
}


def save_plan(folder: Path, key: PlanKey = KEY) -> tuple[Path, PlanRecord]:
    plan = folder / "model.plan"
    plan.write_bytes(b"plan")
    record = PlanRecord(
        key=key,
        onnx="model.onnx",
        input_size=256,
        plan_sha256=sha256_of(plan),
        build_s=12.5,
        layers={"CONVOLUTION HALF": 58},
        engine_layers={"FP16": 60, "FP32": 3},
        parity={"max_difference_uvd": {"joints_uvd": 0.001}, "finite": True},
    )
    write_record(record, plan)
    return plan, record


def test_a_sidecar_comes_back_as_it_was_written(tmp_path: Path) -> None:
    plan, record = save_plan(tmp_path)
    assert record_path(plan).name == "model.plan.json"
    assert read_record(plan) == record


batches = st.lists(st.integers(1, 512), min_size=3, max_size=3).map(sorted)


@given(
    st.lists(batches, min_size=1, max_size=3),
    st.integers(0, 5),
    st.none() | st.integers(1, 4096),
    st.lists(st.sampled_from(["8.6", "12.0"]), max_size=2),
    st.booleans(),
)
def test_any_settings_survive_the_sidecar(
    spans: list[list[int]], level: int, workspace_mib: int | None, targets: list[str], flag: bool
) -> None:
    settings = BuildSettings(
        profiles=tuple(BatchRange(*span) for span in spans),
        level=level,
        workspace_mib=workspace_mib,
        compute_capabilities=tuple(targets),
        stripped=flag,
        tf32=not flag,
    )
    with tempfile.TemporaryDirectory() as folder:
        plan, record = save_plan(Path(folder), dataclasses.replace(KEY, settings=settings))
        assert read_record(plan) == record


def test_every_field_of_the_key_has_a_changed_value_here() -> None:
    assert set(CHANGED) == {field.name for field in dataclasses.fields(PlanKey)}


@pytest.mark.parametrize("field", CHANGED)
def test_a_plan_is_reused_only_if_every_field_is_the_same(tmp_path: Path, field: str) -> None:
    plan, record = save_plan(tmp_path)
    other = dataclasses.replace(KEY, **{field: CHANGED[field]})
    assert differing_fields(KEY, other) == [field]
    assert reusable(plan, KEY) == record
    assert reusable(plan, other) is None


def test_a_changed_plan_or_a_missing_one_is_not_reused(tmp_path: Path) -> None:
    plan, _ = save_plan(tmp_path)
    plan.write_bytes(b"other")
    assert reusable(plan, KEY) is None
    plan.unlink()
    assert reusable(plan, KEY) is None
    record_path(plan).unlink()
    assert reusable(plan, KEY) is None


def test_the_key_holds_the_gpu_and_its_software() -> None:
    facts = (KEY.gpu, KEY.compute_capability, KEY.cuda_version, KEY.driver_version)
    assert facts == ("NVIDIA L4", "8.9", "13.2", "580.95.05")


def test_without_a_gpu_the_key_says_so() -> None:
    key = make_key(
        TENSORRT_RTX, BuildSettings(), version="1.7", gpu=None, precision="fp32", checkpoint_sha256="", onnx_sha256=""
    )
    assert (key.gpu, key.compute_capability, key.cuda_version) == ("built without a GPU", None, None)


def test_plans_of_both_flavours_have_names_of_their_own() -> None:
    onnx = Path("out/model.fp16.onnx")
    assert plan_path(onnx, TENSORRT) == Path("out/model.fp16.plan")
    assert plan_path(onnx, TENSORRT_RTX) == Path("out/model.fp16.rtx.plan")


def test_only_plans_with_their_sidecar_are_found(tmp_path: Path) -> None:
    plan, _ = save_plan(tmp_path)
    (tmp_path / "model.int8.plan").write_bytes(b"lonely")
    assert find_plans(tmp_path) == [plan]


@pytest.mark.parametrize(
    ("text", "span"), [("1:8:64", BatchRange(1, 8, 64)), ("8:64", BatchRange(1, 8, 64)), ("4", BatchRange(4, 4, 4))]
)
def test_a_profile_is_written_as_its_batches(text: str, span: BatchRange) -> None:
    assert parse_range(text) == span


@pytest.mark.parametrize("text", ["", "a:b:c", "1:2:3:4", "0:1:2", "4:2:8", "1:8:4"])
def test_a_profile_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="MIN:OPT:MAX"):
        parse_range(text)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"level": 6}, "level is 6; valid are 0 to 5"),
        ({"level": -1}, "level is -1"),
        ({"workspace_mib": 0}, "workspace is 0 MiB"),
        ({"profiles": ()}, "there is no profile"),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        BuildSettings(**changes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format_version": 2}, "has format 2; this version reads 1"),
        ({"layers": {"CONVOLUTION HALF": "many"}}, "must be a table of counts"),
        ({"layers": None}, "must be a table of counts"),
        ({"engine_layers": 3}, "must be a table of counts"),
        ({"input_size": "256"}, "input_size is '256'"),
        ({"surprise": 1}, r"has no key \['surprise'\]"),
    ],
)
def test_a_sidecar_of_another_form_is_refused(tmp_path: Path, changes: dict[str, object], said: str) -> None:
    plan, _ = save_plan(tmp_path)
    value = json.loads(record_path(plan).read_text())
    record_path(plan).write_text(json.dumps(value | changes))
    with pytest.raises(InputError, match=said):
        read_record(plan)


def test_a_sidecar_of_an_unknown_flavour_is_refused(tmp_path: Path) -> None:
    plan, _ = save_plan(tmp_path, dataclasses.replace(KEY, flavour="tensorrt-lite"))
    with pytest.raises(InputError, match=r"flavour is 'tensorrt-lite'; valid are \['tensorrt', 'tensorrt-rtx'\]"):
        read_record(plan)
