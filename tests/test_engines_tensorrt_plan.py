import dataclasses
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cliphand.errors import InputError
from cliphand.files import sha256_of
from engines.host.cuda_device import Gpu
from engines.tensorrt.flavour import TENSORRT, TENSORRT_RTX
from engines.tensorrt.plan import (
    BatchRange,
    BuildSettings,
    PlanKey,
    PlanRecord,
    check_runs_here,
    check_settings,
    choose_profile,
    parse_range,
    plan_path,
    read_record,
    record_path,
    reusable,
    split_batch,
    write_record,
)

ADA = Gpu("NVIDIA L4", "8.9", "13.2", "580.95.05")
HOPPER = Gpu("NVIDIA H200", "9.0", "13.2", "580.95.05")
PLAN = Path("exports/run/model.plan")
KEY = PlanKey("tensorrt", "fp16", "c" * 64, "0" * 64, "11.4.0", ADA, BuildSettings())
CHANGED: dict[str, object] = {
    "flavour": "tensorrt-rtx",
    "precision": "int8",
    "checkpoint_sha256": "d" * 64,
    "onnx_sha256": "1" * 64,
    "tensorrt_version": "11.4.1",
    "gpu": None,
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
        findings={"layers": {"CONVOLUTION HALF": 58}, "engine_layers": None, "parity": {"finite": True}},
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


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Gpu)])
def test_another_gpu_or_software_beneath_it_is_another_key(tmp_path: Path, field: str) -> None:
    plan, _ = save_plan(tmp_path)
    assert reusable(plan, dataclasses.replace(KEY, gpu=dataclasses.replace(ADA, **{field: "other"}))) is None


def test_plans_of_both_flavours_have_names_of_their_own() -> None:
    onnx = Path("out/model.fp16.onnx")
    assert plan_path(onnx, TENSORRT) == Path("out/model.fp16.plan")
    assert plan_path(onnx, TENSORRT_RTX) == Path("out/model.fp16.rtx.plan")


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
        ({"format_version": 2}, "format_version is 2; it must be 1"),
        ({"findings": None}, "findings are None; they must be a JSON object"),
        ({"input_size": "256"}, "input_size is '256'"),
        ({"surprise": 1}, "surprise is unknown"),
    ],
)
def test_a_sidecar_of_another_form_is_refused(tmp_path: Path, changes: dict[str, object], said: str) -> None:
    plan, _ = save_plan(tmp_path)
    value = json.loads(record_path(plan).read_text())
    record_path(plan).write_text(json.dumps(value | changes))
    with pytest.raises(InputError, match=said):
        read_record(plan)


def test_a_sidecar_of_an_unknown_flavour_is_refused(tmp_path: Path) -> None:
    plan, _ = save_plan(tmp_path)
    path = plan.with_name(plan.name + ".json")
    path.write_text(path.read_text().replace('"flavour": "tensorrt"', '"flavour": "tensorrt-lite"'))
    with pytest.raises(InputError, match=r"key\.flavour is 'tensorrt-lite'; it must be 'tensorrt' or 'tensorrt-rtx'"):
        read_record(plan)


def record(settings: BuildSettings | None = None, *, gpu: Gpu | None = ADA, flavour: str = "tensorrt") -> PlanRecord:
    key = dataclasses.replace(KEY, flavour=flavour, gpu=gpu, settings=settings or BuildSettings())
    return PlanRecord(key=key, onnx="model.onnx", input_size=256, plan_sha256="2", build_s=1.0)


def test_the_machine_that_built_a_plan_runs_it() -> None:
    check_runs_here(record(), PLAN, version="11.4.0", gpu=ADA)


def test_another_version_is_refused_by_the_field_that_differs() -> None:
    with pytest.raises(InputError, match=r"differs in tensorrt_version: built for 11\.4\.0, here is 10\.16\.1"):
        check_runs_here(record(), PLAN, version="10.16.1", gpu=ADA)


def test_a_version_compatible_plan_runs_in_another_version() -> None:
    check_runs_here(record(BuildSettings(version_compatible=True)), PLAN, version="11.9.0", gpu=ADA)


def test_another_compute_capability_is_refused_by_the_field_that_differs() -> None:
    with pytest.raises(InputError, match=r"differs in compute_capability: built for 8\.9, here is 9\.0"):
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
    with pytest.raises(InputError, match=r"built for 8\.6, 8\.9, here is 9\.0"):
        check_runs_here(bound, PLAN, version="11.4.0", gpu=HOPPER)


def test_settings_of_the_other_flavour_are_refused() -> None:
    check_settings(BuildSettings(version_compatible=True, hardware="ampere_plus", stripped=True), TENSORRT, gpu=ADA)
    with pytest.raises(InputError, match="exists in TensorRT for RTX, not in TensorRT"):
        check_settings(BuildSettings(compute_capabilities=("8.9",)), TENSORRT, gpu=ADA)


def test_a_stripped_plan_needs_a_gpu() -> None:
    with pytest.raises(InputError, match="only be built with a GPU"):
        check_settings(BuildSettings(stripped=True), TENSORRT_RTX, gpu=None)


def test_the_profile_tuned_nearest_to_the_batch_serves_it() -> None:
    profiles = (BatchRange(1, 1, 8), BatchRange(4, 32, 64))
    assert [choose_profile(profiles, batch) for batch in (1, 4, 6, 8, 9, 64)] == [0, 0, 1, 1, 1, 1]


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
