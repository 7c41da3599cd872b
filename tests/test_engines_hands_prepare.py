"""Photographs reach the engine's input as the crop module makes them, whoever reads them and when."""

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cliphand.config import CropConfig
from cliphand.data.crop import crop_box, crop_matrix, cut, normalise
from cliphand.data.photograph import read_image
from cliphand.errors import InputError
from engines.hands.prepare import Preparer, prepared_ahead

SIDE = 64
UNEVEN = CropConfig(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


@pytest.fixture(scope="module")
def paths(freihand_folder: Callable[..., Path]) -> list[Path]:
    return sorted((freihand_folder(n_labels=4) / "training" / "rgb").glob("*.jpg"))


def matrix_of(place: int, shape: tuple[int, int]) -> np.ndarray:
    return crop_matrix(crop_box(UNEVEN, shape), SIDE, angle_rad=0.1 * place)


@pytest.mark.parametrize("workers", [1, 3])
def test_a_batch_is_what_the_crop_module_makes_to_the_bit(paths: list[Path], workers: int) -> None:
    with Preparer(UNEVEN, SIDE, workers=workers) as preparer:
        read = preparer.read(paths, matrix_of)
        images, matrices = read.images, read.matrices
    assert (images.dtype, images.shape, images.flags.c_contiguous) == (np.float32, (4, 3, SIDE, SIDE), True)
    for place, path in enumerate(paths):
        matrix = matrix_of(place, (224, 224))
        np.testing.assert_array_equal(matrices[place], matrix)
        np.testing.assert_array_equal(images[place], normalise(cut(read_image(path), matrix, side_px=SIDE), UNEVEN))


@pytest.mark.parametrize("workers", [1, 3])
def test_photographs_that_were_read_are_cut_again_without_their_files(
    paths: list[Path], tmp_path: Path, workers: int
) -> None:
    copies = [tmp_path / path.name for path in paths]
    for copy, path in zip(copies, paths, strict=True):
        copy.write_bytes(path.read_bytes())
    matrices = np.stack([matrix_of(place + 5, (224, 224)) for place in range(4)])
    with Preparer(UNEVEN, SIDE, workers=workers) as preparer:
        first = preparer.read(copies, matrix_of)
        for copy in copies:
            copy.unlink()
        again = preparer.again(first, matrices)
    np.testing.assert_array_equal(again.matrices, matrices)
    for place, path in enumerate(paths):
        expected = normalise(cut(read_image(path), matrices[place], side_px=SIDE), UNEVEN)
        np.testing.assert_array_equal(again.images[place], expected)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_broken_photograph_is_named_from_any_thread(paths: list[Path], tmp_path: Path, workers: int) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(paths[0].read_bytes()[:500])
    with (
        Preparer(UNEVEN, SIDE, workers=workers) as preparer,
        pytest.raises(InputError, match=r"broken\.jpg is a trunc"),
    ):
        preparer.read([paths[0], broken], matrix_of)


def test_the_next_item_is_prepared_while_this_one_is_used() -> None:
    begun = [threading.Event() for _ in range(3)]

    def prepare(item: int) -> int:
        begun[item].set()
        return item * 10

    used = []
    for place, made in enumerate(prepared_ahead(prepare, range(3))):
        if place < 2:
            assert begun[place + 1].wait(5)  # without anybody asking for it
        used.append(made)
    assert used == [0, 10, 20]


def test_at_most_one_item_waits() -> None:
    asked = []

    def items() -> object:
        for item in range(5):
            asked.append(item)
            yield item

    ahead = prepared_ahead(lambda item: item, items())
    assert next(ahead) == 0
    assert asked == [0, 1]
    ahead.close()


def test_nothing_gives_nothing_and_an_error_arrives() -> None:
    assert list(prepared_ahead(str, [])) == []
    with pytest.raises(ZeroDivisionError):
        list(prepared_ahead(lambda item: 1 / item, [1, 0]))
