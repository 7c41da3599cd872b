from pathlib import Path

import numpy as np
import pytest
from linear_hand import SIDE, save_onnx

from engines.base import HandOutput
from engines.ort import OrtEngine
from engines.trt_parity import measure_parity
from engines.trt_plan import BatchRange


class Plan(OrtEngine):
    """Stands for a plan: the graph itself, with something added to the vertices of batches of 2."""

    profiles = (BatchRange(1, 1, 2), BatchRange(3, 4, 4))
    error = np.float32(0)

    def __call__(self, images: np.ndarray) -> HandOutput:
        output = super().__call__(images)
        assert images.shape[1:] == (3, SIDE, SIDE)
        if len(images) == 2:
            output.verts_uvd[1, 777, 2] += self.error
        return output


@pytest.mark.parametrize(("error", "finite"), [(0.25, True), (np.nan, False)])
def test_the_worst_difference_over_all_profiles_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: float, finite: bool
) -> None:
    graph = save_onnx(tmp_path / "model.onnx")
    monkeypatch.setattr("engines.trt_parity.TrtEngine", lambda plan: Plan(graph))
    monkeypatch.setattr(Plan, "error", np.float32(error))
    found = measure_parity(tmp_path / "model.plan", graph)
    assert found["batches"] == [1, 2, 3, 4]
    assert found["finite"] is finite
    assert found["max_difference_uvd"]["joints_uvd"] == 0
    if finite:
        assert found["max_difference_uvd"]["verts_uvd"] == pytest.approx(0.25, rel=1e-5)
