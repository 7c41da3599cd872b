"""The run that the options of `cliphand train` ask for: their configs with topology and checkpoints."""

from pathlib import Path
from typing import TYPE_CHECKING

from cliphand.cli.train_options import Options, RunPlan, hand_of, plan_run
from cliphand.config import require

if TYPE_CHECKING:
    from cliphand.checkpoint import Checkpoint
    from cliphand.hand import HandTopology
    from cliphand.training.loop import Run
    from cliphand.training.recipe import Recipe


def make_run(options: Options, *, data: Path, out: Path) -> "Run":
    """Make it.

    Raises:
        InputError: as `plan_run`; or the topology or a checkpoint is refused.
    """
    plan = plan_run(options)
    needed = plan.teacher or plan.quantised
    hand = hand_of(plan, options, data)

    from cliphand.checkpoint import load_checkpoint
    from cliphand.training.loop import Run

    checkpoint = None if needed is None else load_checkpoint(needed.path)
    return Run(
        data=data,
        topology=_topology(hand, checkpoint),
        out=out,
        model=plan.model,
        crop=plan.crop,
        train=plan.train,
        start=plan.start,
        recipe=_recipe(plan, checkpoint, data),
    )


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
