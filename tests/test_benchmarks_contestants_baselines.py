"""Peers run the reference's weights, and what does not run here is left out with a word."""

from pathlib import Path

import numpy as np
import pytest
import torch
from small_hand import CONFIG, SIDE, small_hand

from benchmarks.contestants import baselines
from benchmarks.contestants.baselines import FORMS, open_baselines
from benchmarks.contestants.exported import Contestant
from cliphand.checkpoint import Checkpoint
from cliphand.config import CropConfig
from cliphand.hand import HandTopology
from cliphand.model.hand_model import HandModel
from engines.runtimes.eager import EagerEngine, ModuleEngine


@pytest.fixture
def reference(hand_topology: HandTopology) -> Contestant:
    checkpoint = Checkpoint(
        path=Path("checkpoint"),
        sha256="",
        model=small_hand(),
        model_config=CONFIG,
        crop=CropConfig(),
        topology=hand_topology,
        train=None,
        facts={},
    )
    return Contestant(
        EagerEngine(checkpoint, threads=1), artefact="checkpoint", size_mb=1.5, kind="reference", threads=1
    )


def test_peers_compute_what_the_reference_does(reference: Contestant, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(model: HandModel) -> torch.nn.Module:
        class Broken(torch.nn.Module):
            def forward(self, images: torch.Tensor) -> None:
                raise RuntimeError("no compiler\nanywhere")

        return Broken()

    # Compiling takes minutes; its place is taken by one that fails.
    monkeypatch.setattr(baselines, "FORMS", FORMS | {"torch.compile": broken})
    found, omitted = open_baselines(reference)
    assert list(found) == ["pytorch, as published", "pytorch, as exported"]
    assert omitted == ("torch.compile is left out: no compiler anywhere",)
    images = np.random.default_rng(0).uniform(-1, 1, (2, 3, SIDE, SIDE)).astype(np.float32)
    expected = reference.engine(images)
    for key, baseline in found.items():
        assert (baseline.engine.name, baseline.kind, baseline.threads, baseline.size_mb) == (key, "baseline", 1, 1.5)
        output = baseline.engine(images)
        scale = np.abs(expected.verts_uvd).max()
        np.testing.assert_allclose(output.verts_uvd, expected.verts_uvd, atol=1e-5 * scale)


def test_a_closed_peer_says_so() -> None:
    with ModuleEngine(torch.nn.Identity(), name="x", input_size=SIDE, threads=1) as engine:
        pass
    with pytest.raises(RuntimeError, match="closed"):
        engine(np.zeros((1, 3, SIDE, SIDE), np.float32))
