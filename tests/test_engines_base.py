import numpy as np
import pytest

from cliphand.errors import InputError
from engines.base import check_images

GOOD = np.zeros((2, 3, 32, 32), np.float32)


def test_a_float32_batch_of_the_right_size_passes() -> None:
    check_images(GOOD, 32)


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (GOOD.tolist(), "a list; give a numpy array"),
        (GOOD[0], "shape (3, 32, 32)"),
        (GOOD[:0], "shape (0, 3, 32, 32)"),
        (GOOD[:, :, :, :31], "shape (2, 3, 32, 31)"),
        (GOOD.transpose(0, 2, 3, 1), "shape (2, 32, 32, 3)"),
        (GOOD.astype(np.float64), "float64; engines take float32"),
        (GOOD.astype(np.uint8), "uint8; engines take float32"),
        (GOOD.swapaxes(2, 3), "not C-contiguous"),
        (np.zeros((2, 3, 32, 64), np.float32)[..., ::2], "not C-contiguous"),
    ],
)
def test_each_other_batch_is_refused_by_what_is_wrong_with_it(images: np.ndarray, said: str) -> None:
    with pytest.raises(InputError, match=said.replace("(", r"\(").replace(")", r"\)")):
        check_images(images, 32)
