"""Which run-times are installed here, without importing them."""

import importlib.util

# Engine, as reports print it, to the modules it needs.
RUN_TIMES: dict[str, tuple[str, ...]] = {
    "tensorrt": ("tensorrt", "pycuda", "cuda"),
    "tensorrt-rtx": ("tensorrt_rtx", "pycuda", "cuda"),
    "inductor": ("torch",),
    "openvino": ("openvino",),
    "onnxruntime": ("onnxruntime",),
    "pytorch": ("torch",),
}


def missing_modules(engine: str) -> list[str]:
    """Modules that an engine lacks here."""
    return [name for name in RUN_TIMES[engine] if importlib.util.find_spec(name) is None]


def available_engines() -> list[str]:
    """Engines whose modules are installed; whether a GPU is at hand is another question."""
    return [engine for engine in RUN_TIMES if not missing_modules(engine)]
