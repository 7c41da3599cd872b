"""The run that the options of `cliphand train` ask for: their configs with topology and checkpoints."""

from pathlib import Path
from typing import TYPE_CHECKING

from cliphand.cli.train_options import Options, RunPlan, hand_of
from cliphand.config import require

if TYPE_CHECKING:
    from cliphand.checkpoint import Checkpoint
    from cliphand.checkpoint_config import CheckpointConfig
    from cliphand.hand import HandTopology
    from cliphand.training.loop import Run
    from cliphand.training.recipe import Recipe


def make_run(plan: RunPlan, options: Options, *, data: Path, out: Path) -> "Run":
    """The run of options and of the plan that they made.

    Raises:
        InputError: the topology or a checkpoint is refused.
    """
    hand = hand_of(plan, options, data)

    from cliphand.training.loop import Run

    checkpoint = _loaded(plan.teacher or plan.quantised)
    return Run(
        data=data,
        topology=_topology(hand, checkpoint),
        out=out,
        model=plan.model,
        crop=plan.crop,
        train=plan.train,
        start=_loaded(plan.start) if plan.quantised is None else checkpoint,
        recipe=_recipe(plan, checkpoint, data),
    )


def _loaded(config: "CheckpointConfig | None") -> "Checkpoint | None":
    from cliphand.checkpoint import load_described

    return None if config is None else load_described(config)


def _topology(hand: "HandTopology | None", checkpoint: "Checkpoint | None") -> "HandTopology":
    """The file's, or that of the checkpoint which the run learns from."""
    topology = checkpoint.topology if hand is None and checkpoint is not None else hand
    assert topology is not None  # noqa: S101  # without a checkpoint there is a file
    faces = checkpoint is None or len(topology.faces) > 0
    require(faces, "the checkpoint holds no faces of the mesh; name a topology with --hand HAND.npz.")
    return topology


def _recipe(plan: RunPlan, checkpoint: "Checkpoint | None", data: Path) -> "Recipe":
    if checkpoint is None:
        from cliphand.training.recipe import Recipe

        return Recipe()
    if plan.weights is not None:
        from cliphand.training.distil import Distil

        return Distil(checkpoint, plan.weights)

    from export.precision.calibration import CalibrationRequest, HeldOut
    from export.qat.quantise_aware import QuantiseAware

    # As the export of the result will choose them.
    held_out = HeldOut(data, plan.train.validation_fraction, plan.train.seed)
    return QuantiseAware(checkpoint, CalibrationRequest(data, held_out=held_out))
