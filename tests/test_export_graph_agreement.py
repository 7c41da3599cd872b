"""Checks of a written graph beside PyTorch: each must notice a graph that lies."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from linear_hand import SIDE, LinearHand, save_onnx
from onnx import helper, numpy_helper
from torch import Tensor

from cliphand.errors import InputError
from export.graph.agreement import check_agreement


def mixing_graph(path: Path) -> Path:
    """The linear hand on each image drawn a tenth of the way to its batch's mean; for one image nothing changes."""
    save_onnx(path)
    model = onnx.load(path)
    nodes = [
        helper.make_node("ReduceMean", ["image", "axes"], ["mean"], keepdims=1),
        helper.make_node("Sub", ["image", "mean"], ["centred"]),
        helper.make_node("Mul", ["centred", "weight"], ["shrunk"]),
        helper.make_node("Add", ["shrunk", "mean"], ["mixed"]),
    ]
    model.graph.node[0].input[0] = "mixed"
    rest = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *rest])
    constants = {"axes": np.array([0], np.int64), "weight": np.array(0.9, np.float32)}
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    onnx.save(model, path)
    return path


def test_an_equal_graph_agrees(tmp_path: Path) -> None:
    agreement = check_agreement(LinearHand(), save_onnx(tmp_path / "model.onnx"), input_size=SIDE)
    assert agreement.batches == (1, 2, 7)
    assert agreement.max_difference_relative < 1e-6
    assert agreement.max_difference_uvd < 1e-6
    assert agreement.max_difference_mm < 1e-3
    assert agreement.max_neighbour_effect < 1e-6


def test_other_weights_are_noticed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'joints_uvd' differs from PyTorch's at batch 1, by .* of its largest"):
        check_agreement(LinearHand(), save_onnx(tmp_path / "model.onnx", seed=1), input_size=SIDE)


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), 1e-2])
def test_a_wrong_second_output_is_noticed(tmp_path: Path, poison: float) -> None:
    with pytest.raises(InputError, match="'verts_uvd' differs"):
        check_agreement(LinearHand(), save_onnx(tmp_path / "model.onnx", poison=poison), input_size=SIDE)


def test_a_difference_is_measured_in_uvd_and_in_millimetres(tmp_path: Path) -> None:
    agreement = check_agreement(LinearHand(), save_onnx(tmp_path / "model.onnx", poison=2e-5), input_size=SIDE)
    assert agreement.max_difference_uvd == pytest.approx(2e-5, rel=0.05)
    # u and v of the reference camera: 0.7 m / 1.75 = 400 mm a crop; d: 95 mm a bone.
    assert agreement.max_difference_mm == pytest.approx(2e-5 * (400**2 + 400**2 + 95**2) ** 0.5, rel=0.3)


def test_images_that_see_the_rest_of_their_batch_are_noticed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'joints_uvd' differs from PyTorch's at batch 2"):
        check_agreement(LinearHand(), mixing_graph(tmp_path / "model.onnx"), input_size=SIDE)


class Mixing(LinearHand):
    """A model that itself mixes its batch, so that graph and model agree and only the neighbours tell."""

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        mean = images.mean(dim=0, keepdim=True)
        return super().forward((images - mean) * 0.9 + mean)


def test_a_model_that_mixes_its_batch_is_refused_although_the_graph_follows_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="of an image alone differs from that in a batch of 2"):
        check_agreement(Mixing(), mixing_graph(tmp_path / "model.onnx"), input_size=SIDE)
