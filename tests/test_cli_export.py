"""`cliphand export` as a user runs it: what it leaves, prints and refuses."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import typer
from checkpoint_files import edit_config, rebind, unbind, watch_loads
from refusal import refused, run
from small_hand import TINY, export_graph_once
from typed_graphs import save_typed_export

from cliphand.checkpoint import Checkpoint, save_checkpoint
from cliphand.cli.export import export
from cliphand.config import CropConfig
from cliphand.errors import InputError
from cliphand.hand import HandTopology
from cliphand.model.clip_hand import ClipHand
from cliphand.model.hand_model import HandModel, level_templates
from engines.artefact.manifest import Manifest, read_manifest, write_manifest
from export.folder.inductor_package import PackageCheck
from export.precision.calibration import HeldOut


@pytest.fixture(autouse=True)
def traced_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """All tests export one model."""
    monkeypatch.setattr("export.folder.write.export_graph", export_graph_once)


@pytest.fixture(scope="module")
def data(freihand_folder: Callable[..., Path]) -> Path:
    return freihand_folder(n_labels=4)


@pytest.fixture(scope="module")
def runs(data: Path, hand_topology: HandTopology, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs with one run that has a best checkpoint."""
    folder = tmp_path_factory.mktemp("runs")
    torch.manual_seed(0)
    hand = HandModel(TINY, level_templates(hand_topology, TINY.levels))
    save_checkpoint(
        folder / "first" / "best",
        model=ClipHand(hand, None),
        model_config=TINY,
        crop=CropConfig(),
        topology=hand_topology,
        train=None,
        facts={"data": str(data), "train": {"stage": "joints"}},
    )
    return folder


def test_the_newest_runs_best_becomes_an_export_of_its_name(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("cliphand.cli.export.RUNS", runs)
    monkeypatch.setattr("engines.artefact.manifest.EXPORTS", tmp_path)
    export(tensorrt=False)
    manifest = read_manifest(tmp_path / "first")
    assert set(manifest.artefacts) == {"model.onnx"}
    assert manifest.checkpoint.path == str(runs / "first" / "best")
    printed = capsys.readouterr().out
    assert "differs from PyTorch by at most" in printed
    assert "plan" not in printed
    assert "WARNING: The mesh of this model is not trained" in printed
    assert list((tmp_path / "first").glob("*plan*")) == []


def test_an_export_says_why_tensorrt_was_not_asked(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    why = "tensorrt_rtx is not installed: take it"
    monkeypatch.setattr("export.precision.proof.why_not_built", lambda _: why)
    monkeypatch.setattr("cliphand.cli.export._flavours", lambda _: ((), None))
    export(runs / "first" / "best", out=tmp_path / "e")
    assert f"not shown to TensorRT's parser, which TensorRT for RTX has ({why})" in capsys.readouterr().out


@pytest.fixture
def ready(monkeypatch: pytest.MonkeyPatch) -> dict[str, str | None]:
    """An export that takes no time, with one graph that was rejected; and why each flavour cannot build."""

    def write(checkpoint: Checkpoint, out: Path, *, tensorrt: bool) -> Manifest:
        save_typed_export(out, fp32={}, fp16={"half": True}, int8={"half": True, "quantised": True})
        (out / "model.int8.onnx").rename(out / "model.int8.onnx.rejected")
        manifest = read_manifest(out)
        artefacts = dict(manifest.artefacts)
        artefacts["model.int8.onnx.rejected"] = artefacts.pop("model.int8.onnx")
        write_manifest(dataclasses.replace(manifest, artefacts=artefacts), out)
        return manifest

    reasons: dict[str, str | None] = {"tensorrt": "it builds only on the GPU", "tensorrt-rtx": None}
    monkeypatch.setattr("export.folder.write.write_export", write)
    monkeypatch.setattr("cliphand.cli.export._describe", lambda manifest, target, console, tensorrt: None)
    monkeypatch.setattr("cliphand.cli.export._write_typed", lambda *_: SimpleNamespace(passed=False))
    monkeypatch.setattr("cliphand.cli.parity_table.print_parity", lambda report, console: None)
    monkeypatch.setattr("engines.tensorrt.process.why_not_built", lambda flavour: reasons[flavour.name])
    return reasons


@pytest.mark.usefixtures("ready")
@pytest.mark.parametrize("given", ["first", "first/best", "first/best/model.safetensors"])
def test_a_run_folder_is_exported_under_its_name(
    given: str, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engines.artefact.manifest.EXPORTS", tmp_path)
    export(runs / given, tensorrt=False)
    assert (tmp_path / "first" / "manifest.json").is_file()


@pytest.mark.usefixtures("ready")
@pytest.mark.parametrize("given", [".", "best"])
def test_a_run_named_from_within_has_its_name_too(
    given: str, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(runs / "first")
    monkeypatch.setattr("engines.artefact.manifest.EXPORTS", tmp_path)
    export(Path(given), tensorrt=False)
    assert (tmp_path / "first" / "manifest.json").is_file()


@pytest.mark.usefixtures("ready")
def test_graphs_that_passed_become_plans_and_the_exit_code_tells_of_the_rejected(
    runs: Path, tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as stop:
        export(runs / "first", out=tmp_path / "e", int8=True, calibration=data)
    assert stop.value.exit_code == 1
    plans = ["model.fp16.rtx.plan", "model.rtx.plan"]
    assert sorted(path.name for path in (tmp_path / "e").glob("*.plan")) == plans
    assert all((tmp_path / "e" / f"{plan}.json").exists() for plan in plans)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": built in")[0] for line in lines[:2]] == [str(tmp_path / "e" / name) for name in plans[::-1]]
    assert lines[2:] == ["Not built: plans of TensorRT (it builds only on the GPU)."]


@pytest.mark.usefixtures("ready")
def test_ranges_are_measured_without_the_images_that_the_run_validated_on(
    runs: Path, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr("export.precision.calibration.held_out", lambda facts: HeldOut(Path(facts["data"]), 0.1, 7))
    monkeypatch.setattr(
        "cliphand.cli.export._write_typed",
        lambda folder, checkpoint, request: asked.append(request.calibration) or SimpleNamespace(passed=True),
    )
    export(runs / "first", out=tmp_path / "e", int8=True, calibration=data, tensorrt=False)
    assert [request.held_out for request in asked] == [HeldOut(data, 0.1, 7)]


def test_where_no_plan_can_be_built_one_sentence_says_so(
    runs: Path, tmp_path: Path, ready: dict[str, str | None], capsys: pytest.CaptureFixture[str]
) -> None:
    ready["tensorrt-rtx"] = "tensorrt_rtx is not installed: pip install -e '.[tensorrt-rtx]'"
    export(runs / "first", out=tmp_path / "e")
    assert capsys.readouterr().out.splitlines() == [
        "Not built: plans of TensorRT (it builds only on the GPU) and of TensorRT for RTX (tensorrt_rtx is not "
        "installed: pip install -e '.[tensorrt-rtx]')."
    ]
    assert list((tmp_path / "e").glob("*plan*")) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tensorrt": True}, "plans of TensorRT cannot be built here: it builds only on the GPU; engines that run"),
        ({"tensorrt_rtx": True}, "plans of TensorRT for RTX cannot be built here: it is missing; engines that run"),
        ({"tensorrt": False, "tensorrt_rtx": True}, "--no-tensorrt leaves all plans out and --tensorrt-rtx insists"),
    ],
)
def test_plans_that_are_insisted_on_are_refused_before_anything_is_done(
    runs: Path, tmp_path: Path, ready: dict[str, str | None], options: dict[str, bool], said: str
) -> None:
    ready["tensorrt-rtx"] = "it is missing"
    with pytest.raises(InputError, match=said):
        export(runs / "first", out=tmp_path / "e", **options)
    assert not (tmp_path / "e").exists()


@pytest.mark.usefixtures("ready")
def test_a_package_is_compiled_when_asked_for(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    check = PackageCheck(compile_s=31.0, batches=(1, 2), max_share=1e-6)
    monkeypatch.setattr(
        "export.folder.inductor_package.add_packages", lambda folder, checkpoint: {folder / "model.pt2": check}
    )
    export(runs / "first", out=tmp_path / "e", tensorrt=False, aot=True)
    assert f"{tmp_path / 'e' / 'model.pt2'}: compiled in 31 s, differs from PyTorch by" in capsys.readouterr().out


def test_a_half_precision_graph_is_judged_and_listed(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("modelopt", reason="needs the extra 'train'")
    common = {
        "out": tmp_path / "e",
        "fp16": True,
        "calibration_images": 50,
        "images": 4,
        "threads": 1,
        "search_s": 0.0,
        "tensorrt": False,
    }
    export(runs / "first" / "best", tolerance_mm=5.0, **common)
    assert set(read_manifest(tmp_path / "e").artefacts) == {"model.onnx", "model.fp16.onnx"}
    assert (tmp_path / "e" / "parity.json").exists()
    printed = capsys.readouterr()
    assert "passed" in printed.out
    assert printed.out.count("(--no-tensorrt left it out)") == 2  # of the FP32 graph and of this one
    bar = next(line for line in printed.err.splitlines() if line.startswith("reading calibration images"))
    assert "4/4" in bar  # the folder has no more
    with pytest.raises(typer.Exit) as stop:
        export(runs / "first" / "best", tolerance_mm=1e-9, **common)
    assert stop.value.exit_code == 1
    assert (tmp_path / "e" / "model.fp16.onnx.rejected").exists()
    assert not (tmp_path / "e" / "model.fp16.onnx").exists()
    assert "FAILED" in capsys.readouterr().out


def test_the_checkpoint_is_loaded_once_for_all_graphs_and_one_of_old_is_told_of_once(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("modelopt", reason="needs the extra 'train'")

    def build(model: HandModel, path: Path, **_: object) -> PackageCheck:
        path.touch()
        return PackageCheck(compile_s=1.0, batches=(1,), max_share=0.0)

    old = shutil.copytree(runs / "first" / "best", tmp_path / "old")
    unbind(old)
    monkeypatch.setattr("export.folder.inductor_package.build_package", build)
    loads = watch_loads(monkeypatch)
    given = {"fp16": True, "aot": True, "tensorrt": False, "tolerance_mm": 5.0, "search_s": 0.0, "images": 4}
    export(old, out=tmp_path / "e", threads=1, **given)
    assert {"model.onnx", "model.fp16.onnx", "model.pt2"} <= set(read_manifest(tmp_path / "e").artefacts)
    assert loads == [old / "model.safetensors"]
    assert caplog.text.count("was written before checkpoints held hashes") == 1


@pytest.fixture
def unwritten(monkeypatch: pytest.MonkeyPatch) -> None:
    """What imports PyTorch and writes is not reached."""
    monkeypatch.setattr("export.folder.write.write_export", lambda *_, **__: pytest.fail("an export was begun"))


def test_what_is_no_checkpoint_is_refused_before_pytorch_is_imported(
    unwritten: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "is not a checkpoint" in refused(capsys, "export", tmp_path, watched=tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")
    sentence = refused(capsys, "export", tmp_path / "run", watched=tmp_path)
    assert f"{tmp_path / 'run'} is a run of which no epoch has finished" in sentence


# what is given with --fp16, where EMPTY is an empty folder, and what is said
UNFIT: dict[str, tuple[tuple[str, ...], str]] = {
    "no calibration images": (("--calibration", "EMPTY"), "training_K.json does not exist; the training split needs"),
    "no such folder": (("--calibration", "EMPTY/absent"), "does not exist; give a folder in FreiHAND's layout"),
    "nothing to judge by": (("--gate-data", "EMPTY"), "evaluation_K.json does not exist; the evaluation split needs"),
    "a name of no graph": (("--keep-fp32", "nothing-matches"), "'nothing-matches' is to be kept in FP32"),
    "a rule of no table": (
        ("--drop-rule", "softmaxes"),
        "no rule softmaxes in the precision table; it has bins, gaussians, ",
    ),
}


@pytest.mark.usefixtures("unwritten")
@pytest.mark.parametrize("case", UNFIT)
def test_what_no_graph_can_be_made_with_is_refused_before_pytorch_is_imported(
    case: str, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options, says = UNFIT[case]
    (empty := tmp_path / "empty").mkdir()
    given = [word.replace("EMPTY", str(empty)) for word in options]
    sentence = refused(capsys, "export", runs / "first", "--out", tmp_path / "e", "--fp16", *given, watched=tmp_path)
    assert says in sentence


@pytest.mark.usefixtures("unwritten")
def test_training_data_that_is_not_known_or_not_here_is_asked_for(
    data: Path, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for facts, says in (({}, "does not say what it was trained on"), ({"data": "/gone"}, "/gone, which the model was")):
        checkpoint = shutil.copytree(runs / "first" / "best", tmp_path / f"c{len(facts)}")
        edit_config(checkpoint, lambda config, facts=facts: config.update(facts=facts))
        rebind(checkpoint)
        sentence = refused(capsys, "export", checkpoint, "--out", tmp_path / "e", "--int8", watched=tmp_path)
        assert says in sentence
        assert sentence.endswith("name a folder with --calibration DIR.")


def test_a_refusal_after_the_export_was_begun_leaves_the_older_export_as_it_was(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("modelopt", reason="needs the extra 'train'")
    common = ("export", runs / "first", "--out", tmp_path / "e", "--no-tensorrt")
    with_name = (*common, "--fp16", "--keep-fp32", "encoder/backbone/layer9")
    assert "no module of that name; nearest are encoder/backbone/" in refused(capsys, *with_name, watched=tmp_path)
    assert run(capsys, *common)[0] == 0
    refused(capsys, *with_name, watched=tmp_path)
