"""A plan's outputs beside those of its own graph in ONNX Runtime, on noise images."""

from pathlib import Path

import numpy as np

from engines.ort import OrtEngine
from engines.trt_run import TrtEngine

SEED = 0


def measure_parity(plan: Path, onnx: Path) -> dict[str, object]:
    """Largest differences in uvd over the least and the largest batch of every profile.

    Raises:
        InputError: the plan cannot be run here.
    """
    worst = {"joints_uvd": 0.0, "verts_uvd": 0.0}
    finite = True
    with TrtEngine(plan) as engine, OrtEngine(onnx) as reference:
        batches = sorted({size for span in engine.profiles for size in (span.min, span.max)})
        for batch in batches:
            noise = np.random.default_rng(SEED + batch).uniform(-1, 1, (batch, 3, engine.input_size, engine.input_size))
            images = noise.astype(np.float32)
            ours, theirs = engine(images), reference(images)
            for name in worst:
                first, second = getattr(ours, name), getattr(theirs, name)
                finite = finite and bool(np.isfinite(first).all())
                worst[name] = max(worst[name], float(np.nan_to_num(np.abs(first - second)).max()))
    return {
        "reference": f"{onnx.name} in ONNX Runtime",
        "images": "noise",
        "batches": batches,
        "max_difference_uvd": worst,
        "finite": finite,
    }
