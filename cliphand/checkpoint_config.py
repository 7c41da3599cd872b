"""What a checkpoint says of itself: `config.json`, bound to the weights beside it. Read without PyTorch, in a moment.

Weights and config belong to each other: the config holds the weights' hash and its own, so that an edit of either, or
a file from another checkpoint, is noticed on open.
"""

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cliphand.checked import from_json
from cliphand.checkpoint_place import CONFIG, OF_A_RUN, RUN_FILE, WEIGHTS, checkpoint_folder
from cliphand.config import CropConfig, ModelConfig, TrainConfig
from cliphand.errors import InputError
from cliphand.files import read_json_object, require_file, require_folder, sha256_of

FORMAT = 2
UNBOUND_FORMAT = 1  # before weights and config held hashes
HALF = "float16"  # how a config says that FP32 weights are stored in half the bytes
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CheckpointConfig:
    """All but the weights.

    Attributes:
        path: the folder.
        sha256: of its weights file.
        model: sizes of the network.
        crop: how photographs become its input.
        train: how it was trained; None for weights from elsewhere.
        facts: what is worth telling with every result (epoch, data, text tower, validation error, commit).
        in_half: whether FP32 weights are stored in half the bytes.
    """

    path: Path
    sha256: str
    model: ModelConfig
    crop: CropConfig
    train: TrainConfig | None
    facts: Mapping[str, object]
    in_half: bool


def read_checkpoint_config(path: Path) -> CheckpointConfig:
    """Read what a checkpoint says of itself.

    Args:
        path: its folder, the weights file in it, or a run folder, which stands for its best checkpoint.

    Raises:
        InputError: something is missing, unreadable, edited or of a newer format, or the weights are another file.
    """
    folder = checkpoint_folder(path)
    config = read_config_file(folder)
    source = folder / CONFIG
    model = from_json(ModelConfig, config.get("model"), source=f"{source}, model")
    sha256 = _bound_sha256(folder, config)
    train, facts = config.get("train"), config.get("facts")
    if not isinstance(facts, dict):
        raise InputError(
            f"{source}: facts are {str(facts)[:80]!r}; they must be a JSON object: copy the checkpoint again."
        )
    return CheckpointConfig(
        path=folder,
        sha256=sha256,
        model=model,
        crop=from_json(CropConfig, config.get("crop"), source=f"{source}, crop"),
        train=None if train is None else from_json(TrainConfig, train, source=f"{source}, train"),
        facts=facts,
        in_half=config.get("stored_as") == HALF,
    )


def read_config_file(folder: Path) -> Mapping[str, object]:
    """The content of a checkpoint folder's config.

    Raises:
        InputError: there is none, or it is of a newer format.
    """
    if not (folder / CONFIG).is_file():
        raise _no_checkpoint(folder)
    config = read_json_object(folder / CONFIG)
    if config.get("format") not in (FORMAT, UNBOUND_FORMAT):
        raise InputError(
            f"{folder / CONFIG} has format {config.get('format')!r}; this version of cliphand reads {FORMAT}."
        )
    return config


def config_sha256(config: Mapping[str, object]) -> str:
    """Hash of what a checkpoint's config says, its own `sha256` left out; spaces and the order of keys do not count."""
    said = {key: value for key, value in config.items() if key != "sha256"}
    plain = json.loads(json.dumps(said, allow_nan=False))  # tuples are lists in the file
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _no_checkpoint(folder: Path) -> InputError:
    """The sentence about a folder without a config: a run that has no checkpoint yet is told apart.

    Raises:
        InputError: there is no such folder.
    """
    run = folder.parent if folder.name in OF_A_RUN else folder
    if not (run / RUN_FILE).is_file() or checkpoint_folder(run) != run:
        require_folder(folder, advice="give a checkpoint or a run folder, as `cliphand train` writes them")
        return InputError(f"{folder} is not a checkpoint: it holds no {CONFIG}; give one that `cliphand train` wrote.")
    return InputError(
        f"{run} is a run of which no epoch has finished, so it has no checkpoint yet; resume it: `cliphand train "
        f"--resume --data DATA --out {run} --config {run / RUN_FILE}`."
    )


def _bound_sha256(folder: Path, config: Mapping[str, object]) -> str:
    """Hash of the weights file, which must be the one in the config, as the config must be what it was."""
    require_file(folder / WEIGHTS, advice="copy or train it again")
    sha256 = sha256_of(folder / WEIGHTS)
    if config.get("format") == UNBOUND_FORMAT and "weights_sha256" not in config:
        _log.warning(
            "%s was written before checkpoints held hashes: whether its config or weights were edited cannot be told; "
            "a checkpoint that is trained or imported anew can tell.",
            folder,
        )
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
