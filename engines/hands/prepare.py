"""Photographs to an engine's input without a copy: each is decoded, cut and normalised straight into its place.

The figures are those of `cliphand.data.crop.normalise`, to the bit: 256 values a channel, so a table holds them all.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np

from cliphand.arrays import ByteArray, FloatArray
from cliphand.config import CropConfig
from cliphand.data.crop import cut, normalise
from cliphand.data.photograph import read_image
from engines.base import Closing

Item = TypeVar("Item")
Made = TypeVar("Made")
N_LEVELS = 256
MatrixOf = Callable[[int, tuple[int, int]], FloatArray]  # place in the batch, (H, W) -> (3, 3) source to crop pixels


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A batch of B photographs.

    Attributes:
        images: (B, 3, S, S) float32, normalised, for an engine.
        matrices: (B, 3, 3) source to crop pixels.
        photographs: B of (H, W, 3) uint8 RGB, which they were cut from.
    """

    images: FloatArray
    matrices: FloatArray
    photographs: tuple[ByteArray, ...]


class Preparer(Closing):
    """Fills batches, one photograph on each core. Use it as a context manager so that its threads end.

    Args:
        crop: mean and std.
        input_size: side S of the crops.
        workers: photographs at a time; the decoder and OpenCV give Python's lock back while they work.
    """

    def __init__(self, crop: CropConfig, input_size: int, *, workers: int = 1) -> None:
        self.input_size = input_size
        self._tables = _tables(crop)
        self._pool = ThreadPoolExecutor(workers) if workers > 1 else None

    def read(self, paths: Sequence[Path], matrix_of: MatrixOf) -> Prepared:
        """A batch of photographs.

        Args:
            paths: B image files.
            matrix_of: where each is cut.

        Raises:
            InputError: an image is missing or broken, or `matrix_of` raises it.
        """

        def read(place: int) -> tuple[ByteArray, FloatArray]:
            photograph = read_image(paths[place])
            return photograph, matrix_of(place, (photograph.shape[0], photograph.shape[1]))

        return self._filled(read, len(paths))

    def again(self, prepared: Prepared, matrices: FloatArray) -> Prepared:
        """The photographs of a batch, cut by other matrices (B, 3, 3)."""
        return self._filled(lambda place: (prepared.photographs[place], matrices[place]), len(matrices))

    def _filled(self, source: Callable[[int], tuple[ByteArray, FloatArray]], count: int) -> Prepared:
        """A batch of what `source` gives for each place: a photograph and how to cut it."""
        images = np.empty((count, 3, self.input_size, self.input_size), np.float32)

        def fill(place: int) -> tuple[ByteArray, FloatArray]:
            photograph, matrix = source(place)
            self.normalise_into(images[place], cut(photograph, matrix, side_px=self.input_size))
            return photograph, matrix

        run = map if self._pool is None else self._pool.map
        photographs, matrices = zip(*run(fill, range(count)), strict=True)
        return Prepared(images, np.stack(matrices), photographs)

    def normalise_into(self, out: FloatArray, crop: ByteArray) -> None:
        """Normalise a crop (S, S, 3) uint8 into `out` (3, S, S) float32."""
        for channel, table in enumerate(self._tables):
            cv2.LUT(cv2.extractChannel(crop, channel), table, dst=out[channel])

    def close(self) -> None:
        """End the threads; a second call does nothing."""
        if self._pool is not None:
            self._pool.shutdown()


@functools.cache
def _tables(crop: CropConfig) -> FloatArray:
    """(3, 256) float32: what each level of each channel becomes."""
    levels = np.repeat(np.arange(N_LEVELS, dtype=np.uint8)[:, None, None], 3, axis=2)  # (256, 1, 3)
    return np.ascontiguousarray(normalise(levels, crop)[..., 0])


def prepared_ahead(prepare: Callable[[Item], Made], items: Iterable[Item]) -> Iterator[Made]:
    """What `prepare` makes of each item, in order; a thread makes the next while the caller works on this one."""
    with ThreadPoolExecutor(1) as thread:
        waiting = None
        for item in items:
            following = thread.submit(prepare, item)
            if waiting is not None:
                yield waiting.result()
            waiting = following
        if waiting is not None:
            yield waiting.result()
