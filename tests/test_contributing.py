"""What CONTRIBUTING.md says of adding things, done: a toy engine, backbone and precision, no other file changed."""

import dataclasses
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import numpy as np
import onnx
import pytest
import torch
from linear_hand import linear_checkpoint, save_export_with_checkpoint
from planted_graphs import planted_workshop, request_on, save_planted_export
from small_hand import TINY, small_hand
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.resnet import BasicBlock, ResNet
from typer.testing import CliRunner

from cliphand.cli.app import app
from cliphand.errors import InputError
from cliphand.hand import HandTopology
from engines.artefact.manifest import read_manifest
from engines.base import HandOutput
from engines.host.available import BY_NAME, RunTime
from engines.open import RUNNERS, open_engine
from engines.runtimes.ort import OrtEngine
from export.gate.parity import TOLERANCES, Tolerance
from export.graph.trace import export_graph
from export.precision.maker import PRECISIONS, Maker, Precision
from export.precision.typed_graphs import write_typed_graphs
from export.precision.workshop import Workshop

default_cfgs = generate_default_cfgs({"toy_resnet.untrained": {"first_conv": "conv1", "classifier": "fc"}})


class ToyEngine:
    """ONNX Runtime under another name, an image at a time."""

    name = "toy"

    def __init__(self, path: Path, *, precision: str, threads: int | None) -> None:
        self.inner = OrtEngine(path, precision=precision, threads=threads)
        self.precision, self.input_size = precision, self.inner.input_size

    def __call__(self, images: np.ndarray) -> HandOutput:
        outputs = [self.inner(images[place : place + 1]) for place in range(len(images))]
        return HandOutput(
            np.concatenate([output.joints_uvd for output in outputs]),
            np.concatenate([output.verts_uvd for output in outputs]),
        )

    def close(self) -> None:
        self.inner.close()

    def __enter__(self) -> "ToyEngine":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def load(path: Path, *, precision: str, threads: int | None) -> ToyEngine:
    return ToyEngine(path, precision=precision, threads=threads)


def test_a_toy_engine_goes_through_bench(
    tmp_path: Path,
    hand_topology: HandTopology,
    freihand_folder: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(RUNNERS[".onnx"], "toy", (__name__, "load"))
    monkeypatch.setitem(BY_NAME, "toy", RunTime("toy", ".onnx", "numpy", "ndarray", "`pip install numpy`", "small"))
    folder = save_export_with_checkpoint(tmp_path / "export", hand_topology, monkeypatch)
    with open_engine(folder / "model.onnx", engine="toy") as engine:
        assert engine.name == "toy"
    words = ["bench", folder, "--data", freihand_folder(n_labels=3), "--engine", "toy", "--threads", 1, "--calls", 2]
    words += ["--seconds", 1, "--cold-starts", 0, "--side-by-side", 0, "--energy", 0]
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    rows = {row["engine"]: row for row in json.loads(result.stdout.splitlines()[-1])["rows"]}
    assert set(rows) == {"pytorch", "toy"}
    assert rows["toy"]["latency_ms_p50"] > 0
    assert abs(rows["toy"]["delta_pa_pjpe_mm"]) < 0.01
    assert rows["toy"]["within_gate"] is True


def test_a_toy_backbone_is_exported(tmp_path: Path) -> None:
    @register_model
    def toy_resnet(pretrained: bool = False, **options: object) -> torch.nn.Module:
        shape = {"block": BasicBlock, "layers": (1, 1, 1, 1), "stem_width": 8, "channels": (8, 16, 16, 24)}
        return build_model_with_cfg(ResNet, "toy_resnet", pretrained, **shape, **options)

    model = small_hand(dataclasses.replace(TINY, backbone="toy_resnet"))
    assert model.encoder.channels == (8, 16, 16, 24)
    agreement = export_graph(model, tmp_path / "model.onnx", input_size=TINY.input_size)
    assert agreement is not None
    with OrtEngine(tmp_path / "model.onnx", precision="fp32") as engine:
        output = engine(np.zeros((1, 3, TINY.input_size, TINY.input_size), np.float32))
    assert output.verts_uvd.shape == (1, 778, 3)


def write_toy(maker: Maker, path: Path, rest: str, extra: frozenset[str]) -> None:
    """Weights in steps of 2^-16, stored as they are."""
    graph = onnx.load(maker.exact)
    for tensor in graph.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and tensor.name not in maker.table("toy") | extra:
            steps = np.rint(onnx.numpy_helper.to_array(tensor) * 2**16) / 2**16
            tensor.CopyFrom(onnx.numpy_helper.from_array(steps.astype(np.float32), tensor.name))
    onnx.save(graph, path)


def test_a_toy_precision_is_made_and_judged(
    tmp_path: Path,
    hand_topology: HandTopology,
    freihand_folder: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    toy = Precision(write_toy, lambda graph: [node.name for node in graph.graph.node], weights="FLOAT")
    monkeypatch.setitem(PRECISIONS, "toy", toy)
    monkeypatch.setitem(TOLERANCES, "toy", Tolerance(0.2, 2.0))
    folder = save_planted_export(tmp_path / "export", hand_topology)
    data = freihand_folder(n_labels=4, size_px=96)
    request = request_on(data, precisions=("toy",), tolerances=TOLERANCES, search_s=0.0, tensorrt=False)

    @contextmanager
    def open_planted(folder: Path, *_: object) -> Iterator[Workshop]:
        with planted_workshop(folder, hand_topology, request) as workshop:
            yield workshop

    monkeypatch.setattr("export.precision.typed_graphs.open_workshop", open_planted)
    report = write_typed_graphs(folder, linear_checkpoint(hand_topology), request, lambda *_: None)
    assert report.passed, report.verdicts[1]
    assert read_manifest(folder).artefacts["model.toy.onnx"].precision == "toy"
    with open_engine(folder / "model.toy.onnx") as engine:
        assert engine.precision == "toy"
    rows = [row for row in report.verdicts[1].rows if row.engine == "onnxruntime"]
    assert [row.precision for row in rows] == ["toy"]
    assert 0 < rows[0].vertex_distance_mm.p99 < 2
    assert json.loads((folder / "parity.json").read_text())["artefacts"]["model.toy.onnx"]["rest"] == "fp32"


def test_a_precision_that_is_not_registered_is_refused(freihand_folder: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match=r"there is no precision \['toy'\]; valid are \['fp16', 'int8'\]"):
        request_on(freihand_folder(n_labels=4, size_px=96), precisions=("toy",))
