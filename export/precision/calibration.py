"""The images that ranges are measured on: a seeded choice from a training split, never from an evaluation split."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np

from cliphand.arrays import FloatArray, IntArray
from cliphand.checked import Seed, Share, checked
from cliphand.config import CropConfig, require
from cliphand.data.crop import normalise
from cliphand.data.freihand import FreiHand, label_path, open_freihand, require_split, validation_split
from cliphand.data.views import evaluation_view
from cliphand.errors import InputError
from cliphand.files import sha256_of
from cliphand.limits import ALL

RangeMethod = Literal["best", "max", "mse-encoder", "mse", "entropy"]


@checked
class HeldOut:
    """The share of a training split that a run validated on.

    Attributes:
        data: the folder that the run was trained on.
        fraction: of its samples.
        seed: of the run.
    """

    data: Path
    fraction: Share
    seed: Seed


@checked
class CalibrationRequest:
    """Which images.

    Attributes:
        data: folder in FreiHAND's layout; its training split is used.
        images: how many; all where there are fewer.
        seed: the same seed chooses the same images of those that are not held out: another share is another choice.
        method: how ranges follow from what is seen; `best` is the best of `export.precision.activation_ranges` on
            images that are held back for that.
        held_out: what the model was validated on, which is left out where it lies in the same folder.
    """

    data: Path
    images: Annotated[int, ALL] = 500
    seed: Seed = 0
    method: RangeMethod = "best"
    held_out: HeldOut | None = None

    @property
    def leaves_out(self) -> HeldOut | None:
        """What is held out of these images; None where that is nothing, or lies in another folder."""
        out = self.held_out
        if out is None or out.fraction == 0 or out.data.resolve() != self.data.resolve():
            return None
        return out

    def held_out_facts(self) -> dict[str, object] | None:
        """The share as JSON values, and whether it was left out of this folder; None where none is known."""
        out = self.held_out
        if out is None:
            return None
        return {"fraction": out.fraction, "seed": out.seed, "applied": self.leaves_out is not None}


@dataclass(frozen=True, slots=True, eq=False)
class CalibrationSet:
    """The chosen images as a model sees them.

    Attributes:
        data: the split they are from.
        indices: of the images in it.
        files: in the order of `images`, relative to the data folder.
        sha256: over the files' contents, in that order.
        images: (N, 3, S, S) float32, normalised.
    """

    data: FreiHand
    indices: tuple[int, ...]
    files: tuple[str, ...]
    sha256: str
    images: FloatArray


def read_calibration(
    request: CalibrationRequest, crop: CropConfig, side_px: int, *, progress: Callable[[int, int], None] | None = None
) -> CalibrationSet:
    """Choose, read and crop calibration images.

    Args:
        request: which.
        crop: the model's crop rule and normalisation.
        side_px: of its crops.
        progress: called with the number of images read and that of all; a folder may hold fewer than are asked for.

    Raises:
        InputError: the folder is an evaluation split or has no training split, or an image cannot be read.
    """
    check_calibration(request)
    data = open_freihand(request.data, "training")
    free = _free(data, request)
    indices = free[choose(len(free), request.images, request.seed)].tolist()
    images = np.empty((len(indices), 3, side_px, side_px), np.float32)
    for place, index in enumerate(indices):
        images[place] = normalise(evaluation_view(data, index, crop, side_px).crop, crop)
        if progress is not None:
            progress(place + 1, len(indices))
    files = [data.image_path(index) for index in indices]
    names = tuple(str(file.relative_to(request.data)) for file in files)
    return CalibrationSet(data, tuple(indices), names, _digest(files), images)


def check_calibration(request: CalibrationRequest) -> None:
    """Refuse a folder that has no training split to choose from, at a look.

    Raises:
        InputError: it has none, or is an evaluation split.
    """
    refuse_evaluation(request.data)
    require_split(request.data, "training")


def held_out(facts: Mapping[str, object]) -> HeldOut | None:
    """What a run validated on, from the facts that travel with its checkpoint; None where it held nothing out."""
    data, train = facts.get("data"), facts.get("train")
    if not isinstance(data, str) or not isinstance(train, Mapping):
        return None
    fraction, seed = train.get("validation_fraction"), train.get("seed")
    if not isinstance(fraction, int | float) or not isinstance(seed, int) or fraction == 0:
        return None
    return HeldOut(Path(data), float(fraction), seed)


def _free(data: FreiHand, request: CalibrationRequest) -> IntArray:
    """The images that may be chosen, in order: ranges tuned to the images that choose the best epoch flatter both."""
    every, out = np.arange(len(data)), request.leaves_out
    if out is None:
        return every
    _, labels = validation_split(data.n_labels, out.fraction, out.seed)
    return np.setdiff1d(every, data.image_indices(labels))


def refuse_evaluation(folder: Path) -> None:
    """Refuse a folder that is, or only holds, an evaluation split.

    Raises:
        InputError: it is; the model would be tuned to what it is judged by.
    """
    resolved = folder.resolve()
    inside = next(
        (
            path
            for path in (resolved, *resolved.parents)
            if label_path(path.parent, "evaluation", "K").exists() and path.name == "evaluation"
        ),
        None,
    )
    only = label_path(folder, "evaluation", "K").exists() and not label_path(folder, "training", "K").exists()
    require(
        inside is None and not only,
        f"{folder} is an evaluation split; calibrate on training images: give a folder with a training split, as "
        "`cliphand train --data` takes it.",
    )


def choose(n_images: int, n_wanted: int, seed: int) -> list[int]:
    """Sorted indices of the chosen images, without repetition."""
    order = np.random.default_rng(seed).permutation(n_images)
    return sorted(order[:n_wanted].tolist())


def overlap(files: list[Path], data: FreiHand, indices: list[int]) -> list[str]:
    """Names of calibration files that are, to the byte, among the given images of another split."""
    judged = {sha256_of(data.image_path(index)) for index in indices}
    return [file.name for file in files if sha256_of(file) in judged]


def _digest(files: list[Path]) -> str:
    whole = hashlib.sha256()
    for file in files:
        try:
            whole.update(hashlib.sha256(file.read_bytes()).digest())
        except OSError as error:
            raise InputError(f"{file} cannot be read ({error}); repair the data.") from None
    return whole.hexdigest()
