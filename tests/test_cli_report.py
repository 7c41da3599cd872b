"""`cliphand report` from an export folder to a page that a browser shows."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import pytest
import typer
from linear_hand import CHECKPOINT_SHA256, linear_checkpoint, make_manifest, save_export
from typer.testing import CliRunner, Result

from benchmarks.report.build import ReportRequest, find_bench, write_report
from benchmarks.report.page import Section, check_targets
from cliphand.checkpoint import Checkpoint
from cliphand.cli.report import report
from cliphand.errors import InputError
from cliphand.files import sha256_of, write_json
from cliphand.hand import HandTopology
from engines.artefact.manifest import read_manifest, write_manifest

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
app = typer.Typer()
app.command()(report)
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SECTIONS = ["speed", "pck", "joints", "conditions", "images", "matching", "stages", "parity", "origin"]
FIGURES = {"speed_accuracy", "latency_batch_1", "latency_end_to_end", "pck", "joints", "fingers", "viewpoint", "scale"}
FIGURES |= {"images_worst", "images_median"}


def bench_row(engine: str, p50: float, artefact: str) -> dict[str, object]:
    times = {f"{kind}_{name}": p50 for kind in ("latency_ms", "end_to_end_ms") for name in ("p50", "p90", "p99")}
    kept = {f"{kind}_samples_ms": [p50 * share for share in (0.9, 1.0, 1.05)] for kind in ("latency", "end_to_end")}
    return {"engine": engine, "precision": "fp32", "batch": 1, "artefact": artefact, "pa_pjpe_mm": 30.0} | times | kept


def write_bench(folder: Path, data: Path, sha256: str = CHECKPOINT_SHA256) -> Path:
    value = {
        "rows": [
            bench_row("pytorch", 8.0, "checkpoint"),
            bench_row("onnxruntime", 2.0, "model.onnx") | {"sha256": sha256_of(folder / "model.onnx")},
        ],
        "export": {"checkpoint_sha256": sha256},
        "data": {"path": str(data), "split": "evaluation", "images": 4},
        "root": "truth",
        "skipped": [{"key": "model.plan", "engine": "tensorrt", "precision": "fp32", "reason": "there is no GPU"}],
        "machine": {"cpu": "Abacus 3000", "cores": 2, "load": 0.1},
    }
    (folder / "bench.json").write_text(json.dumps(value))
    return folder / "bench.json"


@pytest.fixture(scope="module")
def data(freihand_folder: Callable[..., Path]) -> Path:
    return freihand_folder(n_labels=4)


@pytest.fixture(scope="module")
def patched(hand_topology: HandTopology) -> Iterator[None]:
    """Checkpoints are all `LinearHand`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("engines.runtimes.eager.load_checkpoint", lambda path: linear_checkpoint(hand_topology))
        yield


@pytest.fixture
def export(tmp_path: Path, hand_topology: HandTopology, patched: None) -> Path:
    folder = save_export(tmp_path / "first", hand_topology)
    (folder / "checkpoint").mkdir()
    return folder


@pytest.fixture(scope="module")
def written(
    tmp_path_factory: pytest.TempPathFactory, data: Path, hand_topology: HandTopology, patched: None
) -> tuple[Path, Result]:
    """A report on everything that an export folder may hold, and what the command printed."""
    folder = save_export(tmp_path_factory.mktemp("exports") / "first", hand_topology)
    (folder / "checkpoint").mkdir()
    write_bench(folder, data)
    (folder / "model.rtx.plan").write_bytes(b"a plan without its sidecar")
    arguments = [str(folder), "--engine", "onnxruntime", "--threads", "1"]
    return folder / "report.html", CliRunner().invoke(app, arguments)


def test_the_command_prints_the_verdict_and_where_the_report_is(written: tuple[Path, Result]) -> None:
    path, result = written
    assert result.exit_code == 0, result.output
    few = "Compared on 4 images; under 50 images a gate says little."
    assert f"Gate passed. Within tolerance of PyTorch: model.onnx in onnxruntime fp32. {few}" in result.stdout
    assert f"{path} (figures as PNG in {path.with_name('report_figures')})" in result.stdout
    check_targets(path)  # the next report may replace this one


def test_prompts_are_matched_with_the_checkpoint_that_pytorch_ran(
    export: Path, data: Path, hand_topology: HandTopology, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded, matched = [], []

    def load(path: Path) -> Checkpoint:
        loaded.append(linear_checkpoint(hand_topology))
        return loaded[-1]

    def match(checkpoint: Checkpoint, *_: object, **__: object) -> Section:
        matched.append(checkpoint)
        return Section("matching", "Matching", [])

    monkeypatch.setattr("engines.runtimes.eager.load_checkpoint", load)
    monkeypatch.setattr("benchmarks.report.build.matching_section", match)
    arguments = [str(export), "--data", str(data), "--engine", "onnxruntime", "--threads", "1"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert list(map(id, matched)) == list(map(id, loaded))


def test_the_page_has_every_section_and_its_figures_as_png(written: tuple[Path, Result]) -> None:
    path, _ = written
    text = path.read_text()
    assert re.findall(r'<section id="(\w+)"', text) == SECTIONS
    found = {figure.stem: cv2.imread(str(figure)) for figure in path.with_name("report_figures").iterdir()}
    assert set(found) == FIGURES
    assert min(picture.shape[1] for picture in found.values()) >= 700
    # What the folder cannot tell is told in a sentence.
    assert "Left out: " in text
    assert "no parity.json" in text
    assert re.search(r"tensorrt-rtx, model\.rtx\.plan: skipped: .*model\.rtx\.plan\.json does not exist", text)


def test_figures_come_from_the_benchmark_and_from_the_report_itself(written: tuple[Path, Result]) -> None:
    text = written[0].read_text()
    assert "On 4 images of" in text
    assert "the fastest within the gate is onnxruntime fp32 with 2.0 ms a call, 4.0 times as fast as PyTorch." in text
    assert "Abacus 3000, 2 cores" in text
    assert "tensorrt, model.plan: skipped: there is no GPU." in text
    assert '"ms":[1.8,2.0,2.1]' in text.replace(" ", "")  # the marks of single calls
    assert CHECKPOINT_SHA256[:12] in text


def test_a_graph_that_its_engine_refuses_costs_no_other_its_place_and_the_exit_code_says_so(
    export: Path, data: Path
) -> None:
    content = (export / "model.onnx").read_bytes()
    (export / "model.fp16.onnx").write_bytes(content[: len(content) // 2])
    artefacts = {"model.fp16.onnx": "fp16", "model.onnx": "fp32"}  # the bad one first
    manifest = make_manifest(export, artefacts, training={"train": {"stage": "joints"}})
    write_manifest(manifest, export)
    passed = {"engine": "onnxruntime", "precision": "fp16", "passed": True, "failures": []}
    passed |= {"artefact": "model.fp16.onnx", "sha256": manifest.artefacts["model.fp16.onnx"].sha256}
    write_json(export / "parity.json", {"rows": [passed]}, None)
    result = CliRunner().invoke(
        app, [str(export), "--data", str(data), "--engine", "onnxruntime", "--threads", "1"], catch_exceptions=False
    )
    assert result.exit_code == 1
    assert result.stdout.startswith(
        "Gate passed, 1 graph skipped. Within tolerance of PyTorch: model.onnx in onnxruntime fp32. "
        "Compared on 4 images; under 50 images a gate says little. model.fp16.onnx was skipped and is not judged: "
    )
    assert ". The mesh of this model is not trained" in result.stdout.splitlines()[0]
    assert "onnxruntime, model.fp16.onnx: skipped: " in result.stdout
    assert "Within tolerance of PyTorch: model.onnx in onnxruntime fp32." in result.stdout
    text = (export / "report.html").read_text()
    assert re.findall(r'<section id="(\w+)"', text) == SECTIONS
    assert re.search(r"onnxruntime, model\.fp16\.onnx: skipped: .*only the beginning of one", text)


def test_without_a_benchmark_the_sentence_says_which_command_writes_it(export: Path, data: Path) -> None:
    told = find_bench(ReportRequest(export, data=data), read_manifest(export))
    assert told == (
        f"There is no bench.json in {export}: run `cliphand bench {export} --data DATA`, then this report again."
    )


def test_a_benchmark_of_another_checkpoint_is_not_shown_and_refused_where_it_was_named(
    export: Path, data: Path
) -> None:
    path = write_bench(export, data, sha256="0" * 64)
    told = find_bench(ReportRequest(export), read_manifest(export))
    assert isinstance(told, str)
    assert "another checkpoint" in told
    with pytest.raises(InputError, match="another checkpoint"):
        find_bench(ReportRequest(export, bench=path), read_manifest(export))


def test_a_benchmark_of_another_graph_is_not_shown_and_refused_where_it_was_named(export: Path, data: Path) -> None:
    path = write_bench(export, data)
    value = json.loads(path.read_text())
    value["rows"][1]["sha256"] = "0" * 64
    path.write_text(json.dumps(value))
    told = find_bench(ReportRequest(export), read_manifest(export))
    assert isinstance(told, str)
    assert "model.onnx is not the one that bench.json measured (its sha256 differs)" in told
    with pytest.raises(InputError, match="is not the one that bench"):
        find_bench(ReportRequest(export, bench=path), read_manifest(export))


def test_no_data_and_no_benchmark_is_one_sentence(export: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no data is named; give --data DATA"):
        write_report(ReportRequest(export))
    write_bench(export, tmp_path / "gone")
    with pytest.raises(InputError, match="gone, is not here; give --data DATA"):
        write_report(ReportRequest(export))


def test_what_cannot_run_is_refused_with_what_can(export: Path) -> None:
    with pytest.raises(InputError, match="is abacus; engines for ONNX graphs are onnxruntime, "):
        ReportRequest(export, runners=("abacus",))
    with pytest.raises(InputError, match="n_images is 0"):
        ReportRequest(export, n_images=0)


@pytest.fixture(scope="module")
def browser() -> Iterator["sync_api.Browser"]:
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is on the path")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"], timeout=600_000)
        yield browser
        browser.close()


@pytest.mark.parametrize(("width_px", "scheme"), [(1280, "light"), (390, "dark")])
def test_a_browser_without_network_shows_every_chart(
    browser: "sync_api.Browser", written: tuple[Path, Result], width_px: int, scheme: str, tmp_path: Path
) -> None:
    size = {"width": width_px, "height": 844}
    with browser.new_context(viewport=size, color_scheme=scheme, offline=True) as context:
        page, said = context.new_page(), []
        page.set_default_timeout(600_000)  # milliseconds; nothing here comes near it
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: request.url.startswith(("file:", "data:")) or said.append(request.url))
        page.goto(written[0].as_uri())
        page.wait_for_selector("html[data-drawn]")
        assert said == []
        charts = page.evaluate(
            "[...document.querySelectorAll('.chart')].map((chart) => [chart.dataset.chart, chart.clientWidth, "
            "chart.scrollWidth, chart.querySelectorAll('svg path, svg text').length])"
        )
        assert {name for name, *_ in charts} == {name for name in FIGURES if not name.startswith("images")}
        for name, width, needed, marks in charts:
            assert width_px / 2 < width < width_px, name
            assert needed <= width, name
            assert marks > 10, name
        assert page.evaluate("document.documentElement.scrollWidth") <= width_px
        assert page.evaluate("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
        page.screenshot(path=tmp_path / "page.png", full_page=True)
    picture = cv2.imread(str(tmp_path / "page.png"))
    assert picture.shape[1] == width_px
    assert (picture[0, 0].mean() > 128) == (scheme == "light")
