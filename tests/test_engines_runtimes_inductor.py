"""Packages compiled ahead of time, on the CPU; what needs a GPU is in `benchmarks.gpu.check`."""

import json
import platform
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from linear_hand import SIDE, LinearHand, expected, linear_checkpoint, save_export
from torch import nn

from cliphand.config import ModelConfig
from cliphand.errors import InputError
from cliphand.hand import HandTopology
from cliphand.model.hand_model import HandModel, level_templates
from engines.artefact.manifest import read_manifest
from engines.open import open_engine
from engines.runtimes.inductor import PRECISION_KEY, SIZE_KEY, InductorEngine, check_machine, load, read_facts
from export.folder.inductor_package import MAX_SHARE, PackageCheck, add_packages, build_package
from export.graph.deploy_model import deploy_model, example_images

FACTS = {PRECISION_KEY: "fp32", SIZE_KEY: "32", "AOTI_DEVICE_KEY": "cpu", "AOTI_MACHINE": platform.machine()}


@dataclass(frozen=True)
class Compiled:
    path: Path
    check: PackageCheck
    model: nn.Module
    side: int


@pytest.fixture(scope="module")
def linear(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    path, model = tmp_path_factory.mktemp("linear") / "model.pt2", LinearHand().eval()
    return Compiled(path, build_package(model, path, input_size=SIDE), model, SIDE)


@pytest.fixture(scope="module")
def hand(tmp_path_factory: pytest.TempPathFactory, hand_topology: HandTopology) -> Compiled:
    """The whole network, untrained, with resnet18."""
    torch.manual_seed(0)
    config = ModelConfig(backbone="resnet18", input_size=64, depths=(1, 1, 1, 1), depth_bins=16)
    model = deploy_model(HandModel(config, level_templates(hand_topology, config.levels)))
    path = tmp_path_factory.mktemp("hand") / "model.pt2"
    return Compiled(path, build_package(model, path, input_size=64), model, 64)


def test_the_network_compiled_agrees_with_eager_at_any_batch(hand: Compiled) -> None:
    assert hand.check.max_share <= MAX_SHARE
    assert hand.check.batches == (1, 2, 7)
    with InductorEngine(hand.path) as engine:
        for batch in (1, 3):
            images = example_images(batch, hand.side, seed=10 + batch)
            with torch.inference_mode():
                joints, verts = (output.numpy() for output in hand.model(images))
            found = engine(images.numpy())
            for ours, theirs in ((found.joints_uvd, joints), (found.verts_uvd, verts)):
                assert np.abs(ours - theirs).max() <= MAX_SHARE * np.ptp(theirs)


def test_it_runs_in_a_process_that_never_imports_cliphand(hand: Compiled, tmp_path: Path) -> None:
    images = example_images(2, hand.side, seed=5)
    np.save(tmp_path / "images.npy", images.numpy())
    program = (
        "import sys, numpy, torch\n"
        "run = torch._inductor.aoti_load_package(sys.argv[1])\n"
        "joints, verts = run(torch.from_numpy(numpy.load(sys.argv[2])))\n"
        "numpy.save(sys.argv[3], verts.numpy())\n"
        "print(sorted(n for n in sys.modules if n.split('.')[0] in ('cliphand', 'engines', 'export', 'timm')))\n"
    )
    arguments = [str(hand.path), str(tmp_path / "images.npy"), str(tmp_path / "verts.npy")]
    result = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert result.stdout.splitlines() == ["[]"], result.stderr
    with torch.inference_mode():
        theirs = hand.model(images)[1].numpy()
    assert np.abs(np.load(tmp_path / "verts.npy") - theirs).max() <= MAX_SHARE * np.ptp(theirs)


def test_a_reduced_package_says_its_precision_and_stays_near(tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    check = build_package(LinearHand().eval(), path, input_size=SIDE, precision="bf16")
    assert 1e-6 < check.max_share < 1e-2
    with InductorEngine(path) as engine:
        assert engine.precision == "bf16"
        assert engine(example_images(1, SIDE).numpy()).verts_uvd.dtype == np.float32


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_outputs_are_the_models_at_any_batch(linear: Compiled, batch: int) -> None:
    images = np.random.default_rng(batch).normal(size=(batch, 3, SIDE, SIDE)).astype(np.float32)
    with load(linear.path, precision="unstated", threads=1, trust=True) as engine:
        output = engine(images)
        assert (engine.name, engine.precision, engine.input_size) == ("inductor", "fp32", SIDE)
        assert torch.get_num_threads() == 1
    np.testing.assert_allclose(output.joints_uvd, expected(images, "joints_uvd"), atol=1e-5)
    np.testing.assert_allclose(output.verts_uvd, expected(images, "verts_uvd"), atol=1e-5)


def test_an_output_stays_the_callers_after_the_next_call(linear: Compiled) -> None:
    images = example_images(2, SIDE).numpy()
    with InductorEngine(linear.path) as engine:
        first = engine(images)
        kept = first.verts_uvd.copy()
        engine(-images)
    np.testing.assert_array_equal(first.verts_uvd, kept)


def test_a_closed_engine_says_so(linear: Compiled) -> None:
    engine = InductorEngine(linear.path)
    engine.close()
    engine.close()
    with pytest.raises(RuntimeError, match="closed"):
        engine(example_images(1, SIDE).numpy())


def test_images_of_another_size_are_refused(linear: Compiled) -> None:
    with InductorEngine(linear.path) as engine, pytest.raises(InputError, match=r"takes \(B, 3, 32, 32\)"):
        engine(example_images(1, 64).numpy())


def test_threads_are_not_compiled_in(linear: Compiled) -> None:
    with zipfile.ZipFile(linear.path) as archive:
        source = "".join(archive.read(name).decode() for name in archive.namelist() if name.endswith(".cpp"))
    assert "num_threads(" not in source


def test_a_package_that_computes_something_else_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("export.folder.inductor_package._compile", lambda model, path, **options: path.touch())
    monkeypatch.setattr("export.folder.inductor_package.check_package", lambda model, path, **options: 0.01)
    with pytest.raises(InputError, match=r"differs from PyTorch by 0\.01 of an output's range"):
        build_package(LinearHand(), tmp_path / "model.pt2", input_size=SIDE)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_compiled_here_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.pt2"
    with pytest.raises(InputError, match="an FP16 package is for GPUs"):
        build_package(LinearHand(), path, input_size=SIDE, precision="fp16")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(InputError, match="only for a GPU that PyTorch sees"):
        build_package(LinearHand(), path, input_size=SIDE, device="cuda")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"finds none of c\+\+"):
        build_package(LinearHand(), path, input_size=SIDE)


def test_an_export_folder_gets_a_package_that_opens_by_its_manifest(
    linear: Compiled, hand_topology: HandTopology, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(model: nn.Module, path: Path, **options: object) -> PackageCheck:
        shutil.copy(linear.path, path)
        assert options == {"input_size": SIDE, "precision": "fp32", "device": "cpu"}
        return linear.check

    folder = save_export(tmp_path / "export", hand_topology)
    monkeypatch.setattr("export.folder.inductor_package.deploy_model", lambda model: model)
    monkeypatch.setattr("export.folder.inductor_package.build_package", build)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert add_packages(folder, linear_checkpoint(hand_topology)) == {folder / "model.pt2": linear.check}
    assert {name: item.precision for name, item in read_manifest(folder).artefacts.items()} == {
        "model.onnx": "fp32",
        "model.pt2": "fp32",
    }
    with pytest.raises(InputError, match=r"model\.pt2 is a package of AOTInductor: it brings native code.* --trust"):
        open_engine(folder / "model.pt2")
    with open_engine(folder / "model.pt2", trust=True) as engine:
        assert engine.name == "inductor"


def save_package(path: Path, facts: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data/aotinductor/model/x.wrapper_metadata.json", json.dumps(facts))
    return path


def test_files_that_are_no_package_are_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"model\.pt2 does not exist"):
        read_facts(tmp_path / "model.pt2")
    (tmp_path / "model.pt2").write_bytes(b"no archive")
    with pytest.raises(InputError, match="is not an AOTInductor package"):
        InductorEngine(tmp_path / "model.pt2")
    foreign = save_package(tmp_path / "foreign.pt2", {"AOTI_DEVICE_KEY": "cpu"})
    with pytest.raises(InputError, match="does not state cliphand_input_size, cliphand_precision;"):
        InductorEngine(foreign)


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"AOTI_MACHINE": "riscv64"}, "was compiled for riscv64, this machine is"),
        ({"AOTI_CPU_ISA": "AVX512 AVX512_VNNI"}, "was compiled for AVX512, this processor has AVX2"),
        ({"AOTI_DEVICE_KEY": "cuda"}, "was compiled for a GPU, and PyTorch sees none"),
    ],
)
def test_a_package_for_another_machine_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, facts: dict[str, str], said: str
) -> None:
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "AVX2")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(InputError, match=said):
        InductorEngine(save_package(tmp_path / "model.pt2", FACTS | facts))


def test_a_package_for_another_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda: (9, 0))
    facts = FACTS | {"AOTI_DEVICE_KEY": "cuda", "AOTI_COMPUTE_CAPABILITY": "90"}
    check_machine(Path("model.pt2"), facts)
    with pytest.raises(InputError, match="compiled for compute capability 80, this GPU has 90"):
        check_machine(Path("model.pt2"), facts | {"AOTI_COMPUTE_CAPABILITY": "80"})


def test_a_lesser_instruction_set_runs_on_a_greater_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "AVX512")
    check_machine(Path("model.pt2"), FACTS | {"AOTI_CPU_ISA": "AVX2"})
