"""Training batches: two augmented views of each photograph with their labels and prompts.

Everything random in a sample comes from (seed, pass over the data, image), so that a run that is resumed, or spread
over other workers or processes, sees the same views.
"""

from collections.abc import Callable, Iterator, Sized
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from cliphand.arrays import IntArray
from cliphand.camera import root_and_bone
from cliphand.config import AugmentConfig, CropConfig, TrainConfig
from cliphand.data.crop import normalise
from cliphand.data.freihand import FreiHand
from cliphand.data.prompts import axis_prompts, sample_joints
from cliphand.data.views import TrainingPair, TrainingView, evaluation_view, training_pair
from cliphand.errors import InputError

Tokenise = Callable[[tuple[str, str, str]], Tensor]
NO_TOKENS = torch.zeros(3, 0, dtype=torch.int64)
NO_SURFACE = torch.zeros(5, 0, 0)


class View(NamedTuple):
    """One view; batched with a leading B.

    Attributes:
        image: (3, S, S) normalised.
        joints_uvd: (21, 3). verts_uvd: (778, 3).
        surface: (5, S/4, S/4) coordinates, depth and share seen, as `DenseTargets`; (5, 0, 0) where nothing reads them.
    """

    image: Tensor
    joints_uvd: Tensor
    verts_uvd: Tensor
    surface: Tensor = NO_SURFACE


class Pair(NamedTuple):
    """Two views of one photograph.

    Attributes:
        affine: (2, 3) maps (u, v) of the first view onto the second.
        tokens: (3, 77) int64 prompts of the first view, one per axis; (3, 0) where nothing reads them.
    """

    first: View
    second: View
    affine: Tensor
    tokens: Tensor


def widened(augment: AugmentConfig, progress: float) -> AugmentConfig:
    """The bounds at a share of the run: within the curriculum, rotation and difficulty are on their way up."""
    if progress >= augment.curriculum:
        return augment
    share = progress / augment.curriculum
    return replace(augment, rotation_deg=share * augment.rotation_deg, difficulty=share * augment.difficulty)


class PairDataset(Dataset[Pair]):
    """Training pairs of the given images; indexed by (pass, position) as `EpochSampler` gives them."""

    def __init__(
        self,
        data: FreiHand,
        images: IntArray,
        *,
        crop: CropConfig,
        side_px: int,
        train: TrainConfig,
        tokenise: Tokenise | None,
    ) -> None:
        self.data = data
        self.images = images
        self.crop = crop
        self.side_px = side_px
        self.train = train
        self.tokenise = tokenise

    def __len__(self) -> int:
        """The number of images."""
        return len(self.images)

    def __getitem__(self, key: tuple[int, int]) -> Pair:
        """The pair of image `position` in the given pass over the data."""
        return self.draw(key)[0]

    def draw(self, key: tuple[int, int]) -> tuple[Pair, TrainingPair]:
        """The pair of image `position` in the given pass over the data, and what it was made from."""
        data_pass, position = key
        index = int(self.images[position])
        rng = np.random.default_rng([self.train.seed, data_pass, index])
        augment = widened(self.train.augment, data_pass / (self.train.epochs * self.train.repeats))
        views = training_pair(self.data, index, crop=self.crop, augment=augment, side_px=self.side_px, rng=rng)
        tokens = NO_TOKENS
        if self.tokenise is not None:
            chosen = sample_joints(self.train.text.joints, rng)
            tokens = self.tokenise(axis_prompts(views.first.joints_uvd, chosen))
        affine = torch.from_numpy(views.affine).float()
        return Pair(self._view(views.first), self._view(views.second), affine, tokens), views

    def _view(self, view: TrainingView) -> View:
        return View(
            torch.from_numpy(normalise(view.crop, self.crop)),
            torch.from_numpy(view.joints_uvd).float(),
            torch.from_numpy(view.verts_uvd).float(),
            self._surface(view),
        )

    def _surface(self, view: TrainingView) -> Tensor:
        if self.train.loss.surface == 0 or view.dense is None:
            return NO_SURFACE
        maps = (view.dense.coordinates, view.dense.depth[None], view.dense.seen[None])
        return torch.from_numpy(np.concatenate(maps)).float()


class EpochSampler(Sampler[tuple[int, int]]):
    """The order of an epoch: `repeats` passes, each shuffled anew, dealt out over the processes.

    Each process gets the same number of samples; the last few of an epoch that do not fill all processes' batches are
    left out (with fewer samples than one global batch, samples repeat until it is full).

    The trainer tells of every epoch but the first after a resumption, whose order workers ask for before that: it is
    given here.
    """

    def __init__(
        self, data: Sized, *, train: TrainConfig, rank: int = 0, processes: int = 1, first_epoch: int = 0
    ) -> None:
        self.length = len(data)
        self.train = train
        self.rank = rank
        self.processes = processes
        self.epoch = first_epoch
        global_batch = train.batch * processes
        self.global_length = max(self.length * train.repeats // global_batch, 1) * global_batch

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next epoch; the trainer calls this."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Samples of this process in one epoch."""
        return self.global_length // self.processes

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """(pass, position) of this process's samples."""
        n_passes = -(-self.global_length // self.length)
        passes = range(self.epoch * n_passes, (self.epoch + 1) * n_passes)
        order = [
            (data_pass, int(position))
            for data_pass in passes
            for position in np.random.default_rng([self.train.seed, data_pass]).permutation(self.length)
        ]
        yield from order[: self.global_length][self.rank :: self.processes]


def large_batch_line(n_images: int, train: TrainConfig) -> str | None:
    """A line for the user where one step takes more than all images of an epoch, else None.

    Args:
        n_images: that are trained on.
        train: batch, processes and passes.
    """
    together = train.batch * train.devices
    if together <= n_images * train.repeats:
        return None
    batch = f"--batch {train.batch}" + (f" in {train.devices} processes" if train.devices > 1 else "")
    return (
        f"{batch} is more than the {n_images} training images of an epoch: an epoch is one step, in which each image "
        f"comes {together / n_images:.2g} times, in other views."
    )


class Labelled(NamedTuple):
    """One image for validation, with what turns its uvd into metres under the authors' protocol.

    Attributes:
        image: (3, S, S) normalised.
        K: (3, 3) camera frame to crop pixels, float64.
        xyz_m: (21, 3) true joints, float64.
        root_depth_m: depth of the wrist.
        bone_m: length of bone 0-9.
    """

    image: Tensor
    K: Tensor
    xyz_m: Tensor
    root_depth_m: Tensor
    bone_m: Tensor


class LabelledDataset(Dataset[Labelled]):
    """Un-augmented images with their true joints.

    Raises:
        InputError: the folder has no joints to compare with.
    """

    def __init__(self, data: FreiHand, images: IntArray, *, crop: CropConfig, side_px: int) -> None:
        if data.xyz is None:
            raise InputError(f"{data.label_path('xyz')} does not exist; validation needs true joints.")
        self.xyz = data.xyz
        self.data = data
        self.images = images
        self.crop = crop
        self.side_px = side_px

    def __len__(self) -> int:
        """The number of images."""
        return len(self.images)

    def __getitem__(self, position: int) -> Labelled:
        """Image `position` of the given ones."""
        index = int(self.images[position])
        view = evaluation_view(self.data, index, crop=self.crop, side_px=self.side_px)
        xyz = self.xyz[self.data.label_index(index)]
        root_depth, bone = root_and_bone(xyz)
        return Labelled(
            torch.from_numpy(normalise(view.crop, self.crop)),
            torch.tensor(view.K_crop),
            torch.tensor(xyz),
            torch.tensor(root_depth),
            torch.tensor(bone),
        )
