"""A checkpoint's two files, edited with or without the hashes that bind them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from torch import Tensor

from cliphand.checkpoint_config import UNBOUND_FORMAT, config_sha256
from cliphand.files import sha256_of


def edit_config(folder: Path, change: Callable[[dict[str, object]], object]) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


def edit_weights(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")


def rebind(folder: Path) -> None:
    """Write the hashes of the files as they are now, as if they had been saved so."""

    def bind(config: dict[str, object]) -> None:
        config["weights_sha256"] = sha256_of(folder / "model.safetensors")
        config["sha256"] = config_sha256(config)

    edit_config(folder, bind)


def unbind(folder: Path) -> None:
    """Write the config as it was before checkpoints held hashes."""

    def cut(config: dict[str, object]) -> None:
        config["format"] = UNBOUND_FORMAT
        del config["sha256"], config["weights_sha256"]

    edit_config(folder, cut)


def watch_loads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The weights files that are read from now on."""
    loads: list[Path] = []

    def load(path: Path) -> dict[str, Tensor]:
        loads.append(path)
        return load_file(path)

    monkeypatch.setattr("cliphand.checkpoint.load_file", load)
    return loads
