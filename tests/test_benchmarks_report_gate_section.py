"""The verdict says what passed, what failed, and what was rejected, each with its reason."""

import json
from pathlib import Path

import pytest
from linear_hand import make_manifest, save_onnx

from benchmarks.contestants.exported import Skipped
from benchmarks.report.gate_section import parity_section, verdict
from benchmarks.report.page import Table
from engines.choice.verdicts import Bound, exported_parity

Row = dict[str, object]


def row(name: str, *failures: str) -> Row:
    return {
        "artefact": name,
        "engine": "onnxruntime",
        "precision": "fp32",
        "images": 50,
        "pa_pjpe_mm": 2.776,
        "delta_pa_pjpe_mm": -1e-9,
        "delta_pa_pjpe_ci_mm": [-0.1, 0.2],
        "delta_pa_pvpe_mm": None,
        "vertex_distance_mm": {"p99": 0.07},
        "failures": list(failures),
        "passed": not failures,
    }


def test_nothing_compared_is_no_verdict() -> None:
    assert verdict([], []).state == "open"


def test_graphs_within_tolerance_pass() -> None:
    found = verdict([row("model.onnx")], [row("model.fp16.onnx")])
    assert (found.state, found.headline) == ("passed", "Gate passed")
    assert (
        found.sentence
        == "Within tolerance of PyTorch: model.onnx in onnxruntime fp32; model.fp16.onnx in onnxruntime fp32."
    )


def test_a_graph_that_fails_in_one_engine_fails_with_its_reason() -> None:
    found = verdict([row("model.onnx"), row("model.onnx", "PA-PJPE changes by +1.000 mm")], [])
    assert (found.state, found.headline) == ("failed", "Gate failed")
    assert found.sentence == "model.onnx in onnxruntime fp32 is not: PA-PJPE changes by +1.000 mm."


def test_the_engines_that_pass_are_told_beside_the_one_that_fails() -> None:
    found = verdict([row("model.onnx")], [row("model.onnx", "too far") | {"engine": "openvino", "precision": "bf16"}])
    assert (found.state, found.headline) == ("failed", "Gate failed for 1 of 2")
    assert "model.onnx in onnxruntime fp32." in found.sentence
    assert "model.onnx in openvino bf16 is not: too far." in found.sentence


def test_emulated_arithmetic_is_called_so_and_explained() -> None:
    rounded = row("model.int8.onnx") | {"engine": "onnxruntime, FP16 rounded", "precision": "int8"}
    rows = [row("model.int8.onnx") | {"precision": "int8"}, rounded]
    found = verdict(rows, [])
    assert found.sentence.endswith("model.int8.onnx in onnxruntime int8 and onnxruntime int8, FP16 emulated.")
    section = parity_section(rows, [], where="", why_not="")
    assert "rounded to FP16 after its node, as on a GPU." in " ".join(section.sentences)
    assert "rounded" not in " ".join(parity_section(rows[:1], [], where="", why_not="").sentences)


@pytest.mark.parametrize("failures", [(), ("too far",)])
def test_a_verdict_on_few_images_says_so(failures: tuple[str, ...]) -> None:
    found = verdict([row("model.onnx")], [row("model.onnx", *failures) | {"images": 8}])
    assert found.sentence.endswith(" Compared on 8 images; under 50 images a gate says little.")


def test_a_rejected_graph_is_told_beside_those_that_ship() -> None:
    found = verdict([row("model.onnx"), row("model.int8.onnx.rejected", "too far")], [])
    assert (found.state, found.headline) == ("passed", "Gate passed, 1 graph rejected")
    assert "Within tolerance of PyTorch: model.onnx in onnxruntime fp32." in found.sentence
    assert "model.int8.onnx was rejected at export: too far." in found.sentence


def test_why_a_graph_was_rejected_is_what_the_export_found() -> None:
    name = "model.int8.onnx.rejected"
    at_export = [row(name, "too far"), row(name) | {"engine": "openvino"}]
    found = verdict([row("model.onnx"), *at_export], [row(name)])  # the last engine, and this report, find no fault
    assert "model.int8.onnx was rejected at export: too far." in found.sentence


def test_a_graph_that_tensorrt_refused_is_rejected_for_that_reason(tmp_path: Path) -> None:
    name = "model.int8.onnx.rejected"
    save_onnx(tmp_path / name)
    manifest = make_manifest(tmp_path, {name: "int8"})
    sha256 = manifest.artefacts[name].sha256
    for judged, reason in ((sha256, "its parser knows no such node"), ("0" * 64, "no reason is recorded")):
        refused = {name: {"sha256": judged, "refusal": "its parser knows no such node."}}
        content = {"rows": [row(name) | {"sha256": sha256}], "artefacts": refused}
        (tmp_path / "parity.json").write_text(json.dumps(content))
        at_export = exported_parity(tmp_path, manifest)
        found = verdict(at_export.rows, [], refusals=at_export.refusals)
        assert f"model.int8.onnx was rejected at export: {reason}." in found.sentence


def test_a_graph_that_is_skipped_here_is_not_said_to_pass() -> None:
    skipped = Skipped("model.fp16.onnx", "onnxruntime", "fp16", "only half of it is there", broken=True)
    found = verdict([row("model.fp16.onnx")], [row("model.onnx")], skipped=[skipped])
    assert (found.state, found.headline) == ("open", "Gate passed, 1 graph skipped")
    assert found.sentence == (
        "Within tolerance of PyTorch: model.onnx in onnxruntime fp32. "
        "model.fp16.onnx was skipped and is not judged: only half of it is there."
    )
    assert verdict([row("model.fp16.onnx")], [], skipped=[skipped]).headline == "Gate not judged"


def test_nothing_but_rejected_graphs_is_no_pass() -> None:
    assert verdict([row("model.int8.onnx.rejected", "too far")], []).state == "failed"


def test_the_tables_show_figures_with_signs_and_say_what_is_missing() -> None:
    section = parity_section([row("model.int8.onnx.rejected", "x")], [row("model.onnx")], where="here", why_not="no")
    here, at_export = section.parts
    assert isinstance(here, Table)
    assert isinstance(at_export, Table)
    expected = [
        "model.onnx",
        "onnxruntime fp32",
        "50",
        "2.78",
        "+0.0000",
        "-0.1000 to +0.2000",
        "-",
        "0.0700",
        "passed",
    ]
    assert list(here.rows[0]) == expected
    assert at_export.rows[0][-1] == "rejected"
    empty = parity_section([], [], where="here", why_not="PyTorch is left out")
    assert not empty.parts
    assert "PyTorch is left out" in empty.sentences
    assert "no parity.json" in empty.sentences[-1]


@pytest.mark.parametrize("content", [None, "{}", '{"rows": 3}', '{"rows": [4]}', '{"rows": [{"artefact": "b.onnx"}]}'])
def test_a_parity_file_without_rows_about_the_graphs_gives_none(tmp_path: Path, content: str | None) -> None:
    save_onnx(tmp_path / "a.onnx")
    manifest = make_manifest(tmp_path, {"a.onnx": "fp32"})
    if content is not None:
        (tmp_path / "parity.json").write_text(content)
    assert exported_parity(tmp_path, manifest) == Bound()


def test_rows_of_another_graph_than_the_folders_are_a_sentence_and_no_verdict(tmp_path: Path) -> None:
    save_onnx(tmp_path / "a.onnx")
    manifest = make_manifest(tmp_path, {"a.onnx": "fp32"})
    (tmp_path / "parity.json").write_text(json.dumps({"rows": [row("a.onnx") | {"sha256": "0" * 64}]}))
    found = exported_parity(tmp_path, manifest)
    told = verdict(found.rows, [], notes=found.stale)
    assert told.state == "open"
    assert "a.onnx is not the one that parity.json judged (its sha256 differs)" in told.sentence
    section = parity_section(found.rows, [], where="here", why_not="PyTorch is left out", stale=found.stale)
    assert not section.parts
    assert "a.onnx is not the one" in section.sentences[-1]
