from pathlib import Path

import onnxruntime
import pytest
from linear_hand import save_onnx

from cliphand.errors import InputError
from engines.runtimes.ort import OrtEngine


def test_the_gpu_is_used_only_by_name(tmp_path: Path) -> None:
    with OrtEngine(save_onnx(tmp_path / "model.onnx")) as engine:
        assert engine.name == "onnxruntime"
        assert engine._session is not None
        assert engine._session.get_providers() == ["CPUExecutionProvider"]


@pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="this ONNX Runtime has the GPU's provider"
)
def test_a_missing_provider_is_an_error_not_the_cpu(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no CUDAExecutionProvider \(it has .*\); install onnxruntime-gpu"):
        OrtEngine(save_onnx(tmp_path / "model.onnx"), device="cuda")


def test_a_provider_that_does_not_start_is_an_error_not_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = onnxruntime.InferenceSession
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CUDAExecutionProvider"])
    # ONNX Runtime itself goes on with the CPU when a provider's libraries do not load.
    monkeypatch.setattr(
        "onnxruntime.InferenceSession", lambda path, options, providers: real(path, providers=["CPUExecutionProvider"])
    )
    with pytest.raises(InputError, match="would run on CPUExecutionProvider: CUDAExecutionProvider does not start"):
        OrtEngine(save_onnx(tmp_path / "model.onnx"), device="cuda")
