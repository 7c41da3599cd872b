"""The four packages are this project's, and their names mean what they say."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("cliphand", "export", "engines", "benchmarks")


@pytest.mark.parametrize("name", PACKAGES)
def test_each_import_name_is_this_projects_folder(name: str) -> None:
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    assert Path(spec.origin) == ROOT / name / "__init__.py"
    assert (ROOT / name / "py.typed").exists()


def test_no_module_is_named_after_a_library() -> None:
    libraries = {"onnx", "types", "tensorrt", "torch", "numpy", "typing", "openvino", "timm"}
    for package in PACKAGES:
        assert not {path.stem for path in (ROOT / package).rglob("*.py")} & libraries


def test_files_hold_one_idea() -> None:
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            assert len(path.read_text().splitlines()) <= 300, path
