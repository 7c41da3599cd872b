"""The summary names what matters, and no engine that gives other hands as the fastest."""

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
from linear_hand import make_manifest, save_onnx

from benchmarks.report.bench_file import BenchFile, Percentiles, SpeedRow
from benchmarks.report.measured import Measured
from benchmarks.report.origin_section import fastest, key_figures, summary, title


def measured(errors_mm: dict[str, float], failed: tuple[tuple[str, str], ...] = ()) -> Measured:
    """What the summary reads: each engine's error, and which engine and precision failed the gate."""
    gate = [
        SimpleNamespace(engine=name, precision=kind, artefact="a.onnx", within_tolerance=False) for name, kind in failed
    ]
    gate.append(SimpleNamespace(engine="other", precision="fp32", artefact="a.onnx", within_tolerance=True))
    data = SimpleNamespace(root=Path("hands"), split="evaluation")
    joint_errors = {label: np.full((3, 21), error) for label, error in errors_mm.items()}
    found = SimpleNamespace(n_images=3, gate=gate, joint_errors_mm=joint_errors, photographs=SimpleNamespace(data=data))
    return cast("Measured", found)


def bench(**medians_ms: float) -> BenchFile:
    rows = tuple(
        SpeedRow(label.replace("_", " "), label.startswith("pytorch"), 1, None, Percentiles(ms, ms, ms), None, {})
        for label, ms in medians_ms.items()
    )
    return BenchFile(Path("bench.json"), rows, {})


def test_the_fastest_engine_is_one_within_the_gate() -> None:
    times = bench(pytorch_fp32=12.0, openvino_bf16=2.0, openvino_fp32=4.0)
    assert fastest(times, measured({})).label == "openvino bf16"
    assert fastest(times, measured({}, failed=(("openvino", "bf16"),))).label == "openvino fp32"


def test_the_summary_tells_errors_and_speed() -> None:
    found = measured({"pytorch fp32": 2.5, "openvino fp32": 2.4999, "openvino int8": 2.75})
    assert summary(found, bench(pytorch_fp32=12.0, openvino_fp32=4.0)) == (
        "On 3 images of hands (evaluation split) pytorch fp32 is 2.50 mm off on average (PA-PJPE), openvino fp32 "
        "+0.000 mm, openvino int8 +0.250 mm. At batch 1 the fastest within the gate is openvino fp32 with 4.0 ms a "
        "call, 3.0 times as fast as PyTorch."
    )


def test_of_many_engines_the_summary_names_the_one_that_differs_most() -> None:
    errors = {"pytorch fp32": 3.0, "a": 3.0, "b": 2.5, "c": 3.1}
    assert "; of 3 other engines b differs most, by -0.500 mm." in summary(measured(errors), "no benchmark")


def test_where_pytorch_is_the_fastest_it_is_not_compared_with_itself() -> None:
    times = bench(pytorch_fp32=2.0, openvino_fp32=4.0)
    assert summary(measured({}), times).endswith("the fastest within the gate is pytorch fp32 with 2.0 ms a call.")


def test_key_figures_have_units_and_leave_rejected_graphs_out(tmp_path: Path) -> None:
    save_onnx(tmp_path / "model.onnx")
    (tmp_path / "model.int8.onnx.rejected").write_bytes(b"small")
    manifest = make_manifest(tmp_path, {"model.onnx": "fp32", "model.int8.onnx.rejected": "int8"})
    found = dict(key_figures(manifest, measured({"pytorch fp32": 2.5}), bench(pytorch_fp32=12.0, openvino_fp32=4.0)))
    assert list(found) == [
        "PA-PJPE, pytorch fp32",
        "Latency, openvino fp32",
        "Times as fast as PyTorch",
        "Size of model.onnx",
    ]
    assert found["PA-PJPE, pytorch fp32"] == "2.50 mm"
    assert found["Latency, openvino fp32"] == "4.0 ms"
    assert title(tmp_path / "here", manifest) == "here, resnet18, 32 px"
