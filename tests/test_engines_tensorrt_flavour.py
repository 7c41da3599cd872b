import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest

from cliphand.errors import InputError
from engines.host.cuda_device import Gpu
from engines.tensorrt.flavour import (
    TENSORRT,
    TENSORRT_RTX,
    cache_folder,
    load_polygraphy,
    load_tensorrt,
    why_not_built,
)

L4 = Gpu("NVIDIA L4", "8.9", "13.2", "580.95.05")


def install(patch: pytest.MonkeyPatch, name: str, version: str = "11.4.0") -> ModuleType:
    module = ModuleType(name)
    module.__version__, module.__spec__ = version, ModuleSpec(name, None)
    patch.setitem(sys.modules, name, module)
    return module


def remove(patch: pytest.MonkeyPatch, name: str) -> None:
    patch.setitem(sys.modules, name, None)


def test_what_is_not_installed_is_said_with_the_command_and_the_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    remove(monkeypatch, "tensorrt")
    with pytest.raises(InputError) as caught:
        load_tensorrt(TENSORRT)
    said = str(caught.value)
    assert said.startswith("TensorRT cannot be used here (")
    assert "pip install -e '.[tensorrt]' --extra-index-url https://pypi.nvidia.com" in said
    assert said.endswith("pytorch.")
    assert "onnxruntime" in said.split("engines that run here: ")[1]


def test_import_tensorrt_inside_the_room_of_that_name_is_the_library(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "tensorrt.py").write_text("__version__ = '10.16.1'\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    place = {"__name__": "engines.tensorrt.run", "__package__": "engines.tensorrt"}
    exec("import tensorrt", place)  # noqa: S102
    assert place["tensorrt"].__file__ == str(tmp_path / "tensorrt.py")
    assert load_tensorrt(TENSORRT) is place["tensorrt"]
    monkeypatch.delitem(sys.modules, "tensorrt")


@pytest.mark.parametrize("version", ["10.11.0", "12.0.0", "8.6.1"])
def test_versions_outside_the_bounds_are_refused(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    install(monkeypatch, "tensorrt", version)
    with pytest.raises(InputError, match=rf"TensorRT {version} is installed; this project runs 10\.12 up to, not incl"):
        load_tensorrt(TENSORRT)


@pytest.mark.parametrize("version", ["10.12.0.36", "10.16.1.11", "11.4.0.106", "11.5.0rc1"])
def test_versions_inside_the_bounds_are_taken(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    module = install(monkeypatch, "tensorrt", version)
    assert load_tensorrt(TENSORRT) is module


def test_the_lean_runtime_serves_where_the_whole_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    lean = install(monkeypatch, "tensorrt_lean")
    monkeypatch.setattr("engines.tensorrt.flavour.is_installed", lambda name: False)
    assert load_tensorrt(TENSORRT, lean=True) is lean
    monkeypatch.setattr("engines.tensorrt.flavour.is_installed", lambda name: True)
    whole = install(monkeypatch, "tensorrt")
    assert load_tensorrt(TENSORRT, lean=True) is whole


def test_polygraphy_of_the_other_flavour_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "polygraphy")
    config = install(monkeypatch, "polygraphy.config")
    backend = install(monkeypatch, "polygraphy.backend.trt")
    config.USE_TENSORRT_RTX = True
    assert load_polygraphy(TENSORRT_RTX) is backend
    with pytest.raises(InputError, match="serves one TensorRT flavour per process"):
        load_polygraphy(TENSORRT)


@pytest.mark.parametrize(("flavour", "value"), [(TENSORRT, "0"), (TENSORRT_RTX, "1")])
def test_polygraphys_switch_is_set_before_its_import(
    monkeypatch: pytest.MonkeyPatch, flavour: object, value: str
) -> None:
    import os

    monkeypatch.setenv("POLYGRAPHY_USE_TENSORRT_RTX", "5")
    monkeypatch.delitem(sys.modules, "polygraphy", raising=False)
    seen: list[str] = []

    def import_module(name: str) -> ModuleType:
        seen.append(os.environ["POLYGRAPHY_USE_TENSORRT_RTX"])
        module = ModuleType(name)
        module.USE_TENSORRT_RTX = seen[-1] == "1"
        return module

    monkeypatch.setattr("importlib.import_module", import_module)
    load_polygraphy(flavour)
    assert seen == [value, value]


def test_polygraphy_that_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    remove(monkeypatch, "polygraphy.config")
    with pytest.raises(InputError, match="Polygraphy cannot be used here"):
        load_polygraphy(TENSORRT_RTX)


def test_why_a_flavour_does_not_build_is_half_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engines.tensorrt.flavour.is_installed", lambda name: name != "tensorrt")
    assert why_not_built(TENSORRT) == (
        "tensorrt is not installed: `pip install -e '.[tensorrt]' --extra-index-url https://pypi.nvidia.com` in the "
        "checkout of cliphand"
    )
    monkeypatch.setattr("engines.tensorrt.flavour.is_installed", lambda name: True)
    install(monkeypatch, "tensorrt")
    install(monkeypatch, "tensorrt_rtx", "1.7.1")
    assert why_not_built(TENSORRT, gpu=lambda: L4) is None
    assert "only on the GPU that will run the plans, and there is none" in str(
        why_not_built(TENSORRT, gpu=lambda: "there is none")
    )
    assert why_not_built(TENSORRT_RTX, gpu=lambda: "there is none") is None
    install(monkeypatch, "tensorrt", "9.0.0")
    assert "TensorRT 9.0.0 is installed" in str(why_not_built(TENSORRT, gpu=lambda: L4))


def test_caches_go_where_the_user_keeps_caches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "cliphand" / "tensorrt"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == Path.home() / ".cache" / "cliphand" / "tensorrt"
