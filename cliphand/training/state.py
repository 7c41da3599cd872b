"""The state that a run resumes from: a checkpoint of Lightning's that ends in its own hash.

A state is read only where the hash is right, so that a damaged one is told before anything in it is looked at, and then
as tensors and plain values alone: nothing in it is executed.
"""

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from torch import Tensor

from cliphand.errors import InputError
from cliphand.files import whole_file

SEAL = b"\nsha256 "  # then 64 hexadecimal digits; what reads zip archives looks past them
SEAL_BYTES = len(SEAL) + 64
BLOCK_BYTES = 2**20


State = Mapping[str, object]


class SealedState(TorchCheckpointIO):
    """How the trainer writes a state, and has the one that it goes on from.

    Args:
        state: from `read_state`, of which the trainer then needs no file; None for a run from its beginning.
    """

    def __init__(self, state: State | None) -> None:
        self.state = state

    def load_checkpoint(
        self, path: str | Path, map_location: object | None = None, weights_only: bool | None = None
    ) -> dict[str, object]:
        """The state that was read, once: it is let go of then."""
        state, self.state = self.state, None
        return dict(read_state(Path(path)) if state is None else state)

    def save_checkpoint(
        self, checkpoint: dict[str, object], path: str | Path, storage_options: object | None = None
    ) -> None:
        """Write a state, whole or not at all."""
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        content = buffer.getbuffer()
        with whole_file(Path(path), None) as temporary, temporary.open("wb") as stream:
            stream.write(content)
            stream.write(SEAL + hashlib.sha256(content).hexdigest().encode())


def read_state(path: Path) -> State:
    """A state as tensors and plain values.

    Raises:
        InputError: the file is not one that `SealedState` wrote, or was changed since.
    """
    if not _is_whole(path):
        raise InputError(
            f"{path} is damaged, or another version wrote it; put a copy of it back, or start a run in another --out "
            "(the checkpoints beside it can still be used)."
        )
    state: dict[str, object] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def _is_whole(path: Path) -> bool:
    """Whether the file ends in the hash of what stands before it."""
    left = path.stat().st_size - SEAL_BYTES
    if left < 0:
        return False
    found = hashlib.sha256()
    with path.open("rb") as stream:
        while left > 0 and (block := stream.read(min(left, BLOCK_BYTES))):
            found.update(block)
            left -= len(block)
        return stream.read() == SEAL + found.hexdigest().encode()


def check_fit(state: State, expected: Mapping[str, Tensor], *, source: str) -> None:
    """Refuse a state whose weights are not those of the model.

    Args:
        state: from `read_state`.
        expected: the weights that it must hold, by name.
        source: named in the error.

    Raises:
        InputError: a weight is missing, unknown or of another shape.
    """
    weights = cast("Mapping[str, Tensor]", state["state_dict"])
    for name in sorted({*weights, *expected}):
        if name not in weights or name not in expected or weights[name].shape != expected[name].shape:
            have = tuple(weights[name].shape) if name in weights else "missing"
            want = tuple(expected[name].shape) if name in expected else "absent"
            raise InputError(f"{source} does not fit the model: '{name}' is {have}, must be {want}.")
