"""Bodies drawn from anny: the only place that needs anny and torch.

Source: anny (Naver Labs), Apache-2.0 code around MakeHuman's CC0 shapes.
"""

import contextlib
import importlib
import io
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cliphand.arrays import FloatArray, IntArray
from cliphand.data.synthetic.mesh import unit
from cliphand.errors import InputError
from cliphand.extras import install_extra

NO_DRIVER = b"Warp CUDA warning: Could not find or load the NVIDIA CUDA driver"  # nothing here asks for a GPU
SEED = 20231029  # fixed: the bodies, and so the topology, are the same on every machine
N_BODIES = 160
WRIST_BONE = 1
MIDDLE_BONE, INDEX_BONE, LITTLE_BONE = 10, 6, 18
LOCAL_SPREAD = {  # standard deviation of the local changes that reach the hand, in anny's units
    "r-hand-fingers-length-incr": 0.35,
    "r-hand-fingers-diameter-incr": 0.45,
    "r-hand-fingers-distance-incr": 0.3,
    "r-hand-scale-incr": 0.3,
    "r-lowerarm-scale-depth-incr": 0.3,
    "r-lowerarm-scale-horiz-incr": 0.3,
    "r-lowerarm-fat-incr": 0.3,
    "measure-wrist-circ-incr": 0.35,
}


@dataclass(frozen=True, slots=True)
class Bodies:
    """Right hands at rest, each in its own hand frame.

    The hand frame: origin at the wrist, x towards the little finger, y towards the middle finger's MCP, z out of
    the back of the hand. Metres.

    Attributes:
        vertices: (N, 1609, 3), the first is the average adult.
        heads: (N, 21, 3) where each bone starts.
        faces: (3196, 3).
        weights: (1609, 21) skinning weights, rows sum to 1.
        parents: (21,) parent of each bone, -1 for the root.
    """

    vertices: FloatArray
    heads: FloatArray
    faces: IntArray
    weights: FloatArray
    parents: IntArray


def draw_bodies() -> Bodies:
    """Draw N_BODIES hands from anny's phenotypes and local changes, always the same ones.

    The first call on a machine lets anny build its own cache (about a minute, `~/.cache/anny` or
    `ANNY_CACHE_DIR`); later calls take seconds.

    Raises:
        InputError: the extra `synthetic` is not installed.
    """
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            start_warp()
            import anny
            import torch
    except ImportError as error:
        raise InputError(
            f"the synthetic hand needs the package '{error.name}': {install_extra('synthetic')}."
        ) from None
    with contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
        model = anny.Anny(rig="anny-hand.R", topology="hand.R", local_changes="all")
        phenotypes, local = _draw_parameters(list(model.phenotype_labels), list(model.local_change_labels))
        rest = model(
            phenotype_kwargs=torch.from_numpy(phenotypes).to(model.dtype),
            local_changes_kwargs=torch.from_numpy(local).to(model.dtype),
        )
        vertices = rest["rest_vertices"].double().numpy()
        heads = rest["rest_bone_heads"].double().numpy()
        sparse_weights = model.vertex_bone_weights.double().numpy()
        bones = model.vertex_bone_indices.numpy()
        faces = model.faces.numpy().astype(np.int64)
        parents = np.array(model.bone_parents)
    weights = np.zeros((len(sparse_weights), len(parents)))
    np.add.at(weights, (np.arange(len(bones))[:, None], bones), sparse_weights)
    vertices, heads = _in_hand_frame(vertices, heads)
    return Bodies(vertices, heads, faces, weights / weights.sum(axis=1, keepdims=True), parents)


def start_warp() -> None:
    """Start the library of anny's kernels, as importing anny would, but without a word about drivers."""
    with _without_line(NO_DRIVER), contextlib.suppress(ImportError):
        importlib.import_module("warp").init()


@contextlib.contextmanager
def _without_line(start: bytes) -> Iterator[None]:
    """Keep lines that begin so off stderr, where native code writes them whatever Python's own streams are."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            said.seek(0)
            for line in said:
                if not line.startswith(start):
                    os.write(2, line)


def _draw_parameters(phenotypes: list[str], changes: list[str]) -> tuple[FloatArray, FloatArray]:
    """(N, phenotypes) in [0, 1] and (N, local changes); the first row is the average adult."""
    rng = np.random.default_rng(SEED)
    body = rng.uniform(0.05, 0.95, (N_BODIES, len(phenotypes)))
    if "age" in phenotypes:  # 1/3 is a child of 12, 2/3 a grown-up
        body[:, phenotypes.index("age")] = rng.uniform(0.5, 0.95, N_BODIES)
    local = np.zeros((N_BODIES, len(changes)))
    for name, spread in LOCAL_SPREAD.items():
        local[:, changes.index(name)] = np.clip(rng.normal(0, spread, N_BODIES), -0.9, 0.9)
    body[0] = [2 / 3 if name == "age" else 0.5 for name in phenotypes]
    local[0] = 0
    return body, local


def _in_hand_frame(vertices: FloatArray, heads: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Move every body's hand into its hand frame."""
    origin = heads[:, None, WRIST_BONE]
    y = unit(heads[:, MIDDLE_BONE] - heads[:, WRIST_BONE])
    across = heads[:, LITTLE_BONE] - heads[:, INDEX_BONE]
    x = unit(across - (across * y).sum(-1, keepdims=True) * y)
    to_hand = np.stack([x, y, np.cross(x, y)], axis=-1)  # (N, 3, 3)
    return (vertices - origin) @ to_hand, (heads - origin) @ to_hand
