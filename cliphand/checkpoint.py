"""A trained model as a folder: `model.safetensors` and `config.json`. Loading never unpickles.

Weights and config belong to each other: the config holds the weights' hash and its own, so that an edit of either, or
a file from another checkpoint, is noticed on open.

The weights hold the hand model (`hand.`), the trained part of the text branch (`text.`; the frozen tower is named in
the config and had again from there) and the topology (`topology.`).
"""

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from cliphand.checked import from_json, to_json
from cliphand.checkpoint_place import CONFIG, WEIGHTS, checkpoint_folder
from cliphand.claims import FolderKind
from cliphand.config import CropConfig, ModelConfig, TrainConfig
from cliphand.errors import InputError
from cliphand.files import read_json_object, require_file, sha256_of, whole_folder, write_json
from cliphand.hand import HandTopology, check_topology
from cliphand.kinds import IMPORTED, TRAINED
from cliphand.model.clip_hand import ClipHand, TextBranch
from cliphand.model.dense_branch import DenseBranch
from cliphand.model.hand_model import HandModel
from cliphand.model.text_encoder import TextTower

FORMAT = 2
UNBOUND_FORMAT = 1  # before weights and config held hashes
TOWER = "text.tower."
HALF = "float16"  # how a config says that FP32 weights are stored in half the bytes
_log = logging.getLogger(__name__)


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
    """Write a checkpoint anew for use alone: without text and dense branch, its FP32 weights rounded to FP16.

    Raises:
        InputError: `source` cannot be read, a weight is beyond FP16's range, or the folder holds something else.
    """
    checkpoint = load_checkpoint(source)
    config = {key: value for key, value in _read_config(checkpoint.path).items() if not key.endswith("sha256")}
    kept = {
        key: value.half() if value.dtype == torch.float32 else value
        for key, value in _read_weights(checkpoint.path / WEIGHTS).items()
        if key.startswith(("hand.", "topology."))
    }
    for key, value in kept.items():
        if not torch.isfinite(value).all():
            raise InputError(f"{checkpoint.path / WEIGHTS}: '{key}' is beyond FP16's range; it cannot be stored in it.")
    kind = IMPORTED if checkpoint.train is None else TRAINED
    _write(folder, kind, kept, {**config, "format": FORMAT, "stored_as": HALF})


def _write(folder: Path, kind: FolderKind, weights: Mapping[str, Tensor], config: Mapping[str, object]) -> None:
    with whole_folder(folder, kind) as fresh:
        save_file({key: value.detach().cpu().clone().contiguous() for key, value in weights.items()}, fresh / WEIGHTS)
        bound = {**config, "weights_sha256": sha256_of(fresh / WEIGHTS)}
        write_json(fresh / CONFIG, {**bound, "sha256": config_sha256(bound)}, None)


def config_sha256(config: Mapping[str, object]) -> str:
    """Hash of what a checkpoint's config says, its own `sha256` left out; spaces and the order of keys do not count."""
    said = {key: value for key, value in config.items() if key != "sha256"}
    plain = json.loads(json.dumps(said, allow_nan=False))  # tuples are lists in the file
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint folder, the weights file in it, or a run folder's best checkpoint.

    Raises:
        InputError: something is missing, unreadable, edited, of a newer format, the tensors do not fit the config, or
            are no trained weights (not finite, of another type, all zero).
    """
    folder = checkpoint_folder(path)
    config = _read_config(folder)
    model_config = from_json(ModelConfig, config.get("model"), source=f"{folder / CONFIG}, model")
    weights = _read_weights(folder / WEIGHTS)
    if config.get("stored_as") == HALF:
        weights = {key: value.float() if value.dtype == torch.float16 else value for key, value in weights.items()}
    sha256 = _bound_sha256(folder, config)
    hand = _part(weights, "hand.")
    templates = tuple(
        _tensor(hand, f"mesh_regressor.levels.{level}.template", folder) for level in range(len(model_config.levels))
    )
    model = HandModel(model_config, templates)
    _fill(model, hand, folder)
    topology = {name: value.numpy() for name, value in _part(weights, "topology.").items()}
    train, facts = config.get("train"), config.get("facts")
    if not isinstance(facts, dict):
        raise InputError(
            f"{folder / CONFIG}: facts are {str(facts)[:80]!r}; they must be a JSON object: copy the checkpoint again."
        )
    return Checkpoint(
        path=folder,
        sha256=sha256,
        model=model.eval(),
        model_config=model_config,
        crop=from_json(CropConfig, config.get("crop"), source=f"{folder / CONFIG}, crop"),
        topology=check_topology(topology, source=str(folder / WEIGHTS)),
        train=None if train is None else from_json(TrainConfig, train, source=f"{folder / CONFIG}, train"),
        facts=facts,
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


def _read_config(folder: Path) -> Mapping[str, object]:
    if not (folder / CONFIG).is_file():
        raise InputError(f"{folder} is not a checkpoint: it holds no {CONFIG}; give one that `cliphand train` wrote.")
    config = read_json_object(folder / CONFIG)
    if config.get("format") not in (FORMAT, UNBOUND_FORMAT):
        raise InputError(
            f"{folder / CONFIG} has format {config.get('format')!r}; this version of cliphand reads {FORMAT}."
        )
    return config


def _bound_sha256(folder: Path, config: Mapping[str, object]) -> str:
    """Hash of the weights file, which must be the one in the config, as the config must be what it was."""
    sha256 = sha256_of(folder / WEIGHTS)
    if config.get("format") == UNBOUND_FORMAT and "weights_sha256" not in config:
        _tell_unbound(folder.resolve())
        return sha256
    if config.get("sha256") != config_sha256(config):
        raise InputError(
            f"{folder / CONFIG} was edited since it was written (its sha256 differs): the weights were trained with "
            "what it said; copy the checkpoint again, or train with other options."
        )
    if config.get("weights_sha256") != sha256:
        raise InputError(
            f"{folder / WEIGHTS} is not the file that {CONFIG} beside it describes (sha256 {sha256[:12]}, not "
            f"{str(config.get('weights_sha256'))[:12]}); copy both files of one checkpoint again."
        )
    return sha256


@cache
def _tell_unbound(folder: Path) -> None:
    """Once for each checkpoint, however often a command loads it and by whatever path."""
    _log.warning(
        "%s was written before checkpoints held hashes: whether its config or weights were edited cannot be told; "
        "a checkpoint that is trained or imported anew can tell.",
        folder,
    )


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
