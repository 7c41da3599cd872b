"""The vendor's Python bindings that tests look names up in, brought once into the user's cache. Run as a program.

Tests themselves use no network. The bindings wheels of TensorRT hold every class, enum and signature and need ten C
symbols to load, which a stand-in library gives: nothing can be built or run with them, and any builder is NULL.
"""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

TENSORRT_VERSIONS = ("11.4.0.106", "10.16.1.11")
OLD_CUDA = "cuda-bindings-12.9"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cliphand" / "tests"
READY = "ready"
STAND_IN = """
#include <stddef.h>
#define NONE(name) void *name(void) { return NULL; }
NONE(createInferBuilder_INTERNAL) NONE(createInferRefitter_INTERNAL) NONE(createInferRuntime_INTERNAL)
NONE(createNvOnnxParser_INTERNAL) NONE(createNvOnnxParserRefitter_INTERNAL)
NONE(getBuilderPluginRegistry) NONE(getPluginRegistry)
int getNvOnnxParserVersion(void) { return 0; }
int getInferLibVersion(void) { return 0; }
int initLibNvInferPlugins(void *logger, const char *space) { return 1; }
"""


def cached(name: str) -> Path:
    """The folder of one of them; the test is skipped where it was not brought, which fails in CI."""
    folder = CACHE / name
    if not (folder / READY).exists():
        message = f"`python tests/vendor_wheels.py` brings {name}"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    return folder


def tensorrt_name(version: str) -> str:
    return f"tensorrt-{version}"


def bring_tensorrt(version: str) -> None:
    """The bindings of one version, importable with the stand-in library."""
    folder = CACHE / tensorrt_name(version)
    if (folder / READY).exists():
        return
    (folder / "lib").mkdir(parents=True, exist_ok=True)
    _pip("download", "--only-binary=:all:", "-d", str(folder), f"tensorrt-cu13-bindings=={version}")
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as archive:
        archive.extractall(folder)
    (folder / "tensorrt_bindings").rename(folder / "tensorrt")
    (folder / "lib" / "stand_in.c").write_text(STAND_IN)
    for name in ("libnvinfer", "libnvinfer_plugin", "libnvonnxparser"):
        library = f"{name}.so.{version.split('.')[0]}"
        target, source = folder / "lib" / library, folder / "lib" / "stand_in.c"
        subprocess.run(["cc", "-shared", "-fPIC", f"-Wl,-soname,{library}", "-o", target, source], check=True)
    (folder / READY).touch()


def bring_old_cuda() -> None:
    """The bindings for drivers of CUDA 12."""
    folder = CACHE / OLD_CUDA
    if (folder / READY).exists():
        return
    _pip("install", "--upgrade", "--target", str(folder), "cuda-bindings==12.9.*", "cuda-pathfinder")
    (folder / READY).touch()


def _pip(verb: str, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", verb, "-q", "--no-deps", *arguments], check=True)


if __name__ == "__main__":
    for wanted in TENSORRT_VERSIONS:
        bring_tensorrt(wanted)
    bring_old_cuda()
