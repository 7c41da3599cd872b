import multiprocessing
import os
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from typed_graphs import save_typed_export

import engines.tensorrt.process
from cliphand.errors import InputError
from engines.tensorrt.plan import BuildSettings
from engines.tensorrt.process import build_plans, buildable_flavours

REASONS = {"tensorrt": "it has no GPU", "tensorrt-rtx": None}


@pytest.fixture
def reasons(monkeypatch: pytest.MonkeyPatch) -> dict[str, str | None]:
    chosen = dict(REASONS)
    monkeypatch.setattr("engines.tensorrt.process.why_not_built", lambda flavour: chosen[flavour.name])
    return chosen


def test_what_can_be_built_is_named_and_one_sentence_tells_the_rest(reasons: dict[str, str | None]) -> None:
    assert buildable_flavours() == (("tensorrt-rtx",), "Not built: plans of TensorRT (it has no GPU).")
    reasons["tensorrt-rtx"] = "it is missing"
    names, sentence = buildable_flavours()
    assert names == ()
    assert sentence == "Not built: plans of TensorRT (it has no GPU) and of TensorRT for RTX (it is missing)."
    reasons.update({"tensorrt": None, "tensorrt-rtx": None})
    assert buildable_flavours() == (("tensorrt", "tensorrt-rtx"), None)


def test_who_insists_gets_an_error(reasons: dict[str, str | None]) -> None:
    assert buildable_flavours(("tensorrt-rtx",))[0] == ("tensorrt-rtx",)
    with pytest.raises(InputError, match="plans of TensorRT cannot be built here: it has no GPU; engines that"):
        buildable_flavours(("tensorrt",))


def dying(pipe: Connection, folder: Path, flavour: str, settings: BuildSettings, names: Sequence[str]) -> None:
    """Ends at the graph in FP16, which takes no other with it."""
    for name in names:
        pipe.send(("Timing", 1, 2))
        if "fp16" in name:
            os._exit(7)
        pipe.send((name, "it is only a test"))


def test_a_builder_that_dies_takes_only_its_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reasons: dict[str, str | None]
) -> None:
    monkeypatch.setattr(engines.tensorrt.process, "_build", dying)
    steps: list[tuple[str, int, int]] = []
    folder = save_typed_export(tmp_path, fp32={}, fp16={"half": True}, int8={"half": True, "quantised": True})
    built = build_plans(folder, flavour="tensorrt-rtx", progress=lambda *step: steps.append(step))
    died = f"TensorRT for RTX ended its process while it built {folder / 'model.fp16.onnx'} (exit code 7); its"
    assert built.failures.pop("model.fp16.onnx").startswith(died)
    assert built.failures == dict.fromkeys(("model.onnx", "model.int8.onnx"), "it is only a test")
    assert steps == [("Timing", 1, 2)] * 3


def endless(pipe: Connection, folder: Path, flavour: str, settings: BuildSettings, names: Sequence[str]) -> None:
    pipe.send(("Timing", 1, 2))
    time.sleep(600)


def test_an_interruption_ends_the_builder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reasons: dict[str, str | None]
) -> None:
    def interrupt(phase: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(engines.tensorrt.process, "_build", endless)
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        build_plans(save_typed_export(tmp_path, fp32={}), flavour="tensorrt-rtx", progress=interrupt)
    assert multiprocessing.active_children() == []
    assert time.monotonic() - start < 300


def test_an_error_of_the_process_is_the_callers(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no manifest\.json"):
        build_plans(tmp_path, flavour="tensorrt-rtx")


def test_an_export_without_a_graph_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="lists no ONNX graph"):
        build_plans(save_typed_export(tmp_path), flavour="tensorrt-rtx")
