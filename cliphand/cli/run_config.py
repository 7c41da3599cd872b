"""The configuration of a run from a file: a run's own `run.json`, or one written by hand with the same sections."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cliphand.checked import Kind, from_json, shown
from cliphand.config import CropConfig, ModelConfig, TrainConfig, require
from cliphand.errors import InputError
from cliphand.files import read_json_object
from cliphand.training.distil_config import DistilConfig
from cliphand.training.option_names import flag

# What a run records beside its configuration.
RECORDED = ("data", "start_sha256", "identity", "text_tower", "accelerator", "commit", "versions")
RECIPES = ("teacher", "quantise_aware")  # options, each a fact that its runs record
RECORDED_RECIPE = ("calibration_images", "calibration_seed", "held_out", "weight")  # of --quantise-aware
SECTIONS = ("model", "crop", "train", "recipe", "start")
WEIGHTS = "weights"  # of a recipe


@dataclass(frozen=True, slots=True)
class RunConfig:
    """What a file says; None where it says nothing.

    Attributes:
        weights: of what a teacher says.
        start: the checkpoint that the run started from.
    """

    model: ModelConfig | None = None
    crop: CropConfig | None = None
    train: TrainConfig | None = None
    weights: DistilConfig | None = None
    start: Path | None = None


def read_run_config(path: Path | None, *, given: Mapping[str, object]) -> RunConfig:
    """Read it.

    Args:
        path: of the file; None for nothing.
        given: options on the command line, by their parameters' names.

    Raises:
        InputError: the file is missing or broken, a key or a value is refused, or it is of a run that learned from a
            checkpoint which the command line does not name.
    """
    if path is None:
        return RunConfig()
    content = read_json_object(path, what=f"a JSON object with any of the sections {', '.join(SECTIONS)}")
    unknown = next((key for key in content if key not in (*SECTIONS, *RECORDED)), None)
    valid = f"valid are {', '.join(SECTIONS)} and what a run records"
    require(unknown is None, f"{path} has a section '{unknown}'; {valid}.")
    recipe = _recipe(path, content.get("recipe", {}), given)
    weights = _section(f"{path}: recipe", recipe, WEIGHTS, DistilConfig)
    idle = weights is not None and "teacher" not in given
    require(not idle, f"{path}: recipe: {WEIGHTS} are of what a teacher says; give --teacher as well.")
    start = content.get("start")
    a_path = isinstance(start, str) and start != ""
    require(start is None or a_path, f"{path}: start is {shown(start)}; it must be a path, or null.")
    # A quantise-aware run starts from the checkpoint that it quantises.
    return RunConfig(
        _section(f"{path}", content, "model", ModelConfig),
        _section(f"{path}", content, "crop", CropConfig),
        _section(f"{path}", content, "train", TrainConfig),
        weights,
        None if start is None or "quantise_aware" in recipe else Path(str(start)),
    )


def _recipe(path: Path, recipe: object, given: Mapping[str, object]) -> Mapping[str, object]:
    """The section `recipe`: what a run does beyond the paper's, of which a file sets the weights alone."""
    if not isinstance(recipe, Mapping):
        raise InputError(f"{path}: recipe is {shown(recipe)}; it must be a JSON object.")
    missing = next((option for option in RECIPES if option in recipe and option not in given), None)
    require(missing is None, f"{path} is of a run with {flag(missing)}; name that checkpoint with {flag(missing)} too.")
    recorded = RECORDED_RECIPE if "quantise_aware" in recipe else ()
    unknown = next((key for key in recipe if key not in (*RECIPES, WEIGHTS, *recorded)), None)
    require(unknown is None, f"{path}: recipe: {unknown} is unknown; valid is {WEIGHTS}, and what a run records.")
    return recipe


def _section(source: str, content: Mapping[str, object], name: str, kind: type[Kind]) -> Kind | None:
    return from_json(kind, content[name], source=f"{source}: {name}") if name in content else None
