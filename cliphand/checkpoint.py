"""A trained model as a folder: `model.safetensors` and `config.json`. Loading never unpickles.

The weights hold the hand model (`hand.`), the trained part of the text branch (`text.`; the frozen tower is named in
the config and had again from there) and the topology (`topology.`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from cliphand.checked import to_json
from cliphand.checkpoint_config import (
    FORMAT,
    HALF,
    CheckpointConfig,
    config_sha256,
    read_checkpoint_config,
    read_config_file,
)
from cliphand.checkpoint_place import CONFIG, WEIGHTS
from cliphand.claims import FolderKind
from cliphand.config import CropConfig, ModelConfig, TrainConfig
from cliphand.errors import InputError
from cliphand.files import require_file, sha256_of, whole_folder, write_json
from cliphand.hand import HandTopology, check_topology
from cliphand.kinds import IMPORTED, TRAINED
from cliphand.model.clip_hand import ClipHand, TextBranch
from cliphand.model.dense_branch import DenseBranch
from cliphand.model.hand_model import HandModel
from cliphand.model.text_encoder import TextTower

TOWER = "text.tower."
MADE_IN = ("data", "start")  # facts that are paths of the machine that trained


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model ready for use, in evaluation mode on the CPU.

    Attributes:
        path: the folder it came from.
        sha256: of its weights file.
        model: the image branch.
        model_config: its sizes.
        crop: how photographs become its input.
        topology: of its mesh.
        train: how it was trained; None for weights from elsewhere.
        facts: what is worth telling with every result (epoch, data, text tower, validation error, commit).
    """

    path: Path
    sha256: str
    model: HandModel
    model_config: ModelConfig
    crop: CropConfig
    topology: HandTopology
    train: TrainConfig | None
    facts: Mapping[str, object]


def save_checkpoint(
    folder: Path,
    *,
    model: ClipHand,
    model_config: ModelConfig,
    crop: CropConfig,
    topology: HandTopology,
    train: TrainConfig | None,
    facts: Mapping[str, object],
) -> None:
    """Write a checkpoint folder, replacing an older one, trained or imported like it, only when the new one is whole.

    Raises:
        InputError: the folder holds something else.
    """
    weights = {key: value for key, value in model.state_dict().items() if not key.startswith(TOWER)}
    weights |= {
        "topology.faces": torch.from_numpy(topology.faces),
        "topology.template": torch.from_numpy(topology.template),
        "topology.joint_regressor": torch.from_numpy(topology.joint_regressor),
    }
    config = {
        "format": FORMAT,
        "model": to_json(model_config),
        "crop": to_json(crop),
        "train": None if train is None else to_json(train),
        "facts": dict(facts),
    }
    _write(folder, IMPORTED if train is None else TRAINED, weights, config)


def save_small_checkpoint(source: Path, folder: Path) -> None:
    """Write a checkpoint anew for use alone, on any machine.

    It goes without text and dense branch and without the folders that it was made in; FP32 weights are rounded to FP16.

    Raises:
        InputError: `source` cannot be read, a weight is beyond FP16's range, or the folder holds something else.
    """
    checkpoint = load_checkpoint(source)
    config = {key: value for key, value in read_config_file(checkpoint.path).items() if not key.endswith("sha256")}
    facts = {key: value for key, value in checkpoint.facts.items() if key not in MADE_IN}
    kept = {
        key: value.half() if value.dtype == torch.float32 else value
        for key, value in _read_weights(checkpoint.path / WEIGHTS).items()
        if key.startswith(("hand.", "topology."))
    }
    for key, value in kept.items():
        if not torch.isfinite(value).all():
            raise InputError(f"{checkpoint.path / WEIGHTS}: '{key}' is beyond FP16's range; it cannot be stored in it.")
    kind = IMPORTED if checkpoint.train is None else TRAINED
    _write(folder, kind, kept, {**config, "facts": facts, "format": FORMAT, "stored_as": HALF})


def _write(folder: Path, kind: FolderKind, weights: Mapping[str, Tensor], config: Mapping[str, object]) -> None:
    with whole_folder(folder, kind) as fresh:
        save_file({key: value.detach().cpu().clone().contiguous() for key, value in weights.items()}, fresh / WEIGHTS)
        bound = {**config, "weights_sha256": sha256_of(fresh / WEIGHTS)}
        write_json(fresh / CONFIG, {**bound, "sha256": config_sha256(bound)}, None)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint folder, the weights file in it, or a run folder's best checkpoint.

    Raises:
        InputError: something is missing, unreadable, edited or of a newer format, or as `load_described`.
    """
    return load_described(read_checkpoint_config(path))


def load_described(config: CheckpointConfig) -> Checkpoint:
    """Read the weights of a checkpoint whose config was read.

    Raises:
        InputError: they cannot be read, do not fit the config, or are no trained weights (not finite, of another type,
            all zero).
    """
    folder, weights = config.path, _read_weights(config.path / WEIGHTS)
    if config.in_half:
        weights = {key: value.float() if value.dtype == torch.float16 else value for key, value in weights.items()}
    hand = _part(weights, "hand.")
    templates = tuple(
        _tensor(hand, f"mesh_regressor.levels.{level}.template", folder) for level in range(len(config.model.levels))
    )
    model = HandModel(config.model, templates)
    _fill(model, hand, folder)
    topology = {name: value.numpy() for name, value in _part(weights, "topology.").items()}
    return Checkpoint(
        path=folder,
        sha256=config.sha256,
        model=model.eval(),
        model_config=config.model,
        crop=config.crop,
        topology=check_topology(topology, source=str(folder / WEIGHTS)),
        train=config.train,
        facts=config.facts,
    )


def load_dense_branch(checkpoint: Checkpoint) -> DenseBranch | None:
    """The dense branch that a checkpoint was trained with, None where it was trained without."""
    weights = _part(_read_weights(checkpoint.path / WEIGHTS), "dense.")
    if not weights:
        return None
    branch = DenseBranch(checkpoint.model.encoder.channels)
    _fill(branch, weights, checkpoint.path)
    return branch


def load_text_branch(checkpoint: Checkpoint) -> TextBranch:
    """The text branch that a checkpoint was trained with, its tower had again from the config.

    Raises:
        InputError: the checkpoint was not trained with one, or the tower's weights cannot be had.
    """
    weights = _part(_read_weights(checkpoint.path / WEIGHTS), "text.")
    if checkpoint.train is None or not weights:
        raise InputError(f"{checkpoint.path} holds no text branch; it was trained or imported without one.")
    text = checkpoint.train.text
    tower = TextTower(text.tower, seed=checkpoint.train.seed)
    branch = TextBranch(checkpoint.model_config, text, tower)
    _fill(branch, weights | {f"tower.{key}": value for key, value in tower.state_dict().items()}, checkpoint.path)
    return branch.eval()


def _read_weights(path: Path) -> dict[str, Tensor]:
    require_file(path, advice="copy or train it again")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is not a readable safetensors file ({error}); copy or train it again.") from None


def _part(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}


def _tensor(weights: Mapping[str, Tensor], key: str, folder: Path) -> Tensor:
    if key not in weights:
        raise InputError(f"{folder / WEIGHTS} lacks the tensor '{key}'; it does not fit its config.json.")
    return weights[key]


def _fill(module: torch.nn.Module, weights: Mapping[str, Tensor], folder: Path) -> None:
    """Copy weights into a module, exactly: nothing missing, unexpected, of another shape or type, or broken."""
    expected = module.state_dict()
    for key in [*expected, *weights]:
        have, want = _spell(weights.get(key), "missing"), _spell(expected.get(key), "absent")
        if have != want:
            raise InputError(f"{folder / WEIGHTS} does not fit its config.json: '{key}' is {have}, must be {want}.")
        values = weights[key]
        if not torch.isfinite(values).all():
            raise InputError(f"{folder / WEIGHTS}: '{key}' holds NaN or infinity; take another checkpoint of the run.")
        if key.endswith("running_var") and (values < 0).any():
            raise InputError(f"{folder / WEIGHTS}: '{key}' is a variance with negative values; copy or train it again.")
    matrices = [values for values in weights.values() if values.dim() > 1]
    if matrices and not any(values.any() for values in matrices):
        raise InputError(f"{folder / WEIGHTS} holds zeros only, which no training gives; copy or train it again.")
    module.load_state_dict(dict(weights))


def _spell(tensor: Tensor | None, without: str) -> str:
    return without if tensor is None else f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
