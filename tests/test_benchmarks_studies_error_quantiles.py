"""Pictures of predictions that nobody picked."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from small_hand import tiny_checkpoint

from benchmarks.studies.error_quantiles import at_quantiles, draw_quantiles
from cliphand.checkpoint import Checkpoint, load_checkpoint
from cliphand.errors import InputError
from cliphand.hand import HandTopology


@pytest.fixture(scope="module")
def checkpoint(hand_topology: HandTopology, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return load_checkpoint(tiny_checkpoint(tmp_path_factory.mktemp("run") / "best", hand_topology))


def test_the_best_the_worst_and_evenly_between_are_taken() -> None:
    errors = np.array([5.0, 1.0, 4.0, 2.0, 3.0])
    assert at_quantiles(errors, 3) == [1, 4, 0]
    assert at_quantiles(errors, 5) == [1, 3, 4, 2, 0]


@pytest.mark.parametrize("count", [1, 6])
def test_more_predictions_than_images_are_refused(count: int) -> None:
    with pytest.raises(InputError, match="valid are 2 to 5"):
        at_quantiles(np.arange(5.0), count)


def test_no_photograph_is_drawn_unless_asked_for(
    checkpoint: Checkpoint, freihand_folder: Callable[..., Path], tmp_path: Path
) -> None:
    data = freihand_folder(n_labels=2)
    plain = cv2.imread(str(draw_quantiles(checkpoint, [data, data], tmp_path / "plain.png", count=4)))
    shown = cv2.imread(str(draw_quantiles(checkpoint, [data], tmp_path / "shown.png", count=2, photographs=True)))
    assert plain.shape == (2 * 172, 3 * 3 * 150, 3)
    assert shown.shape == (172, 3 * 4 * 150, 3)
    assert (plain[:150, 300:450] != 245).any()  # the true skeleton
    assert (shown[:150, :150] != 245).mean() > 0.3  # the photograph
    assert (plain[:150, 300:450] == 245).mean() > 0.5  # paper about it
