from pathlib import Path

import numpy as np
import pytest
import torch
from linear_hand import SIDE, expected, linear_checkpoint

from cliphand.checkpoint import save_checkpoint
from cliphand.config import CropConfig, ModelConfig
from cliphand.errors import InputError
from cliphand.hand import HandTopology
from cliphand.model.clip_hand import ClipHand
from cliphand.model.hand_model import HandModel, level_templates
from engines.open import open_engine
from engines.runtimes.eager import EagerEngine


def pictures(count: int) -> np.ndarray:
    return np.random.default_rng(count).normal(size=(count, 3, SIDE, SIDE)).astype(np.float32)


@pytest.mark.parametrize("batch", [1, 3])
def test_outputs_are_the_models(hand_topology: HandTopology, batch: int) -> None:
    images = pictures(batch)
    with EagerEngine(linear_checkpoint(hand_topology)) as engine:
        output = engine(images)
    np.testing.assert_allclose(output.joints_uvd, expected(images, "joints_uvd"), atol=1e-6)
    np.testing.assert_allclose(output.verts_uvd, expected(images, "verts_uvd"), atol=1e-6)
    assert output.verts_uvd.dtype == np.float32


def test_a_model_left_in_training_mode_is_put_into_evaluation(hand_topology: HandTopology) -> None:
    checkpoint = linear_checkpoint(hand_topology)
    checkpoint.model.train()
    with EagerEngine(checkpoint):
        assert not checkpoint.model.training


def test_the_asked_for_threads_hold_after_another_engine_changed_them(hand_topology: HandTopology) -> None:
    before = torch.get_num_threads()
    seen: list[int] = []
    checkpoint = linear_checkpoint(hand_topology)
    checkpoint.model.register_forward_hook(lambda *_: seen.append(torch.get_num_threads()))
    try:
        with EagerEngine(checkpoint, threads=2) as engine:
            torch.set_num_threads(1)
            engine(pictures(1))
    finally:
        torch.set_num_threads(before)
    assert seen == [2]


def test_a_batch_of_another_type_is_refused(hand_topology: HandTopology) -> None:
    with EagerEngine(linear_checkpoint(hand_topology)) as engine, pytest.raises(InputError, match="float64"):
        engine(pictures(1).astype(np.float64))


def test_a_closed_engine_says_so(hand_topology: HandTopology) -> None:
    engine = EagerEngine(linear_checkpoint(hand_topology))
    engine.close()
    with pytest.raises(RuntimeError, match="closed"):
        engine(pictures(1))


def test_a_checkpoint_folder_runs_as_the_model_that_was_saved(tmp_path: Path, hand_topology: HandTopology) -> None:
    config = ModelConfig(
        backbone="resnet18", input_size=64, lixel_channels=16, joint_feature=16, feature_sizes=(16, 16, 8, 8)
    )
    torch.manual_seed(0)
    model = HandModel(config, level_templates(hand_topology, config.levels)).eval()
    save_checkpoint(
        tmp_path / "best",
        model=ClipHand(model, None),
        model_config=config,
        crop=CropConfig(),
        topology=hand_topology,
        train=None,
        facts={},
    )
    images = np.random.default_rng(0).normal(size=(2, 3, 64, 64)).astype(np.float32)
    with torch.inference_mode():
        joints, verts = model(torch.from_numpy(images))
    for path in (tmp_path / "best", tmp_path / "best" / "model.safetensors"):
        with open_engine(path) as engine:
            assert (engine.name, engine.precision, engine.input_size) == ("pytorch", "fp32", 64)
            output = engine(images)
        np.testing.assert_array_equal(output.joints_uvd, joints.numpy())
        np.testing.assert_array_equal(output.verts_uvd, verts.numpy())
