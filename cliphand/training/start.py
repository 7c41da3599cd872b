"""What a run takes of the checkpoint that it starts from."""

from cliphand.checked import to_json
from cliphand.checkpoint import Checkpoint, load_dense_branch
from cliphand.config import ModelConfig
from cliphand.errors import InputError
from cliphand.model.dense_branch import DenseBranch
from cliphand.model.hand_model import HandModel

# Sizes of encoder and joint regressor, which stage 1 trains; neither depends on the side of the image.
STAGE_1_FIELDS = ("backbone", "lixel_channels", "depth_bins", "bin_position", "depth_range", "depth_origin")


def partly_taken(config: ModelConfig, start: Checkpoint) -> str | None:
    """A line for the user where a run takes only a part of the weights that it starts from, else None.

    Raises:
        InputError: it cannot take any.
    """
    ours, theirs = to_json(config), to_json(start.model_config)
    odd = [key for key in ours if ours[key] != theirs[key]]
    for key in odd:
        if key in STAGE_1_FIELDS:
            raise InputError(
                f"{start.path} was trained with {key} {theirs[key]!r}, this run has {ours[key]!r}; encoder and joint "
                "regressor can only start from those of the same sizes."
            )
    if not odd:
        return None
    return (
        f"{start.path} was trained with {odd[0]} {theirs[odd[0]]!r}, this run has {ours[odd[0]]!r}: it takes encoder "
        "and joint regressor from there, and begins with a new mesh regressor."
    )


def start_from(hand: HandModel, config: ModelConfig, start: Checkpoint) -> None:
    """Take a checkpoint's weights: all, or what stage 1 trains of a model whose other parts have other sizes."""
    if partly_taken(config, start) is None:
        hand.load_state_dict(start.model.state_dict())
        return
    hand.encoder.load_state_dict(start.model.encoder.state_dict())
    hand.joint_regressor.load_state_dict(start.model.joint_regressor.state_dict())


def dense_branch(hand: HandModel, start: Checkpoint | None) -> DenseBranch:
    """The dense branch of the checkpoint that a run starts from, or a new one where there is none."""
    trained = None if start is None else load_dense_branch(start)
    return DenseBranch(hand.encoder.channels) if trained is None else trained
