"""A model small enough to be worked out by hand: the crop's mean colour, a matrix and an offset for each output."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from benchmarks.measure.photographs import Photographs, read_batch
from cliphand.camera import camera_to_uvd, root_and_bone
from cliphand.checkpoint import Checkpoint
from cliphand.config import CropConfig, ModelConfig
from cliphand.hand import JOINT_NAMES, HandTopology, load_hand, save_hand, topology_sha256
from engines.artefact.manifest import CheckpointRecord, Manifest, describe, write_manifest
from engines.base import HandOutput

SIDE = 32
POINTS = {"joints_uvd": len(JOINT_NAMES), "verts_uvd": 778}
CHECKPOINT_SHA256 = "c0ffee" * 10 + "beef"


def weights(seed: int = 0) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Matrix (3, N * 3) and offset (N * 3) of each output: points in the middle of the crop, near the wrist's depth."""
    rng = np.random.default_rng(seed)
    middle = np.array([0.5, 0.5, 0.0])
    return {
        name: (
            (rng.normal(size=(3, count * 3)) * 0.05).astype(np.float32),
            (middle + rng.normal(size=(count, 3)) * 0.1).astype(np.float32).ravel(),
        )
        for name, count in POINTS.items()
    }


def expected(images: np.ndarray, name: str, seed: int = 0) -> np.ndarray:
    """The output `name` for (B, 3, S, S) images, in numpy."""
    matrix, offset = weights(seed)[name]
    return (images.mean(axis=(2, 3)) @ matrix + offset).reshape(len(images), POINTS[name], 3)


def save_onnx(
    path: Path,
    *,
    side: int | str = SIDE,
    batch: int | str = "B",
    image: str = "image",
    joints: str = "joints_uvd",
    element: int = TensorProto.FLOAT,
    poison: float = 0.0,
    seed: int = 0,
) -> Path:
    """Write the model as ONNX. Most options make graphs that an engine must refuse; `poison` is added to vertices."""
    kind = helper.tensor_dtype_to_np_dtype(element)
    nodes = [
        helper.make_node("GlobalAveragePool", [image], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["colour"]),
    ]
    constants, outputs = [], []
    for name, (matrix, offset) in weights(seed).items():
        shift = poison if name == "verts_uvd" else 0.0
        values = {"matrix": matrix.astype(kind), "offset": (offset + np.float32(shift)).astype(kind)}
        values["shape"] = np.array([-1, POINTS[name], 3], np.int64)
        constants += [numpy_helper.from_array(value, f"{name}.{key}") for key, value in values.items()]
        given = joints if name == "joints_uvd" else name
        nodes += [
            helper.make_node("MatMul", ["colour", f"{name}.matrix"], [f"{name}.product"]),
            helper.make_node("Add", [f"{name}.product", f"{name}.offset"], [f"{name}.flat"]),
            helper.make_node("Reshape", [f"{name}.flat", f"{name}.shape"], [given]),
        ]
        outputs.append(helper.make_tensor_value_info(given, element, [batch, POINTS[name], 3]))
    inputs = [helper.make_tensor_value_info(image, element, [batch, 3, side, side])]
    graph = helper.make_graph(nodes, "linear_hand", inputs, outputs, constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


def make_manifest(folder: Path, precisions: dict[str, str], **changes: object) -> Manifest:
    """A manifest for the model files of `folder`, by file name."""
    hand = folder / "hand.npz"
    values: dict[str, object] = {
        "input_size": SIDE,
        "crop": CropConfig(),
        "checkpoint": CheckpointRecord(path="checkpoint", sha256=CHECKPOINT_SHA256),
        "hand_sha256": topology_sha256(load_hand(hand)) if hand.exists() else "0" * 64,
        "artefacts": {name: describe(folder / name, precision=precision) for name, precision in precisions.items()},
        "cliphand_version": "0.1.0",
        "commit": "unknown",
        "exporter": {"opset": 18},
        "training": {"backbone": "resnet18", "text_tower": "random"},
    }
    return Manifest(**(values | changes))


def save_export(folder: Path, topology: HandTopology, **changes: object) -> Path:
    """An export folder: model.onnx, hand.npz and manifest.json."""
    folder.mkdir(parents=True, exist_ok=True)
    save_onnx(folder / "model.onnx")
    save_hand(topology, folder / "hand.npz")
    write_manifest(make_manifest(folder, {"model.onnx": "fp32"}, **changes), folder)
    return folder


def save_export_with_checkpoint(
    folder: Path, topology: HandTopology, monkeypatch: pytest.MonkeyPatch, **changes: object
) -> Path:
    """An export folder with its checkpoint, whose model is `LinearHand`."""
    monkeypatch.setattr("engines.runtimes.eager.load_checkpoint", lambda path: linear_checkpoint(topology))
    save_export(folder, topology, **changes)
    (folder / "checkpoint").mkdir()
    return folder


class LinearHand(nn.Module):
    """The same model in PyTorch."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        for name, arrays in weights(seed).items():
            for key, array in zip(("matrix", "offset"), arrays, strict=True):
                self.register_buffer(f"{name}_{key}", torch.from_numpy(array))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, S, S) to joints and vertices."""
        colour = images.mean(dim=(2, 3))
        joints, verts = (
            (colour @ getattr(self, f"{name}_matrix") + getattr(self, f"{name}_offset")).reshape(-1, count, 3)
            for name, count in POINTS.items()
        )
        return joints, verts


def linear_checkpoint(topology: HandTopology, seed: int = 0) -> Checkpoint:
    """A checkpoint whose model is `LinearHand`."""
    return Checkpoint(
        path=Path("checkpoint"),
        sha256=CHECKPOINT_SHA256,
        model=LinearHand(seed).eval(),
        model_config=ModelConfig(input_size=SIDE),
        crop=CropConfig(),
        topology=topology,
        train=None,
        facts={},
    )


class TrueHand:
    """An engine that knows the labels: it returns the truth in uvd for images that it is given in order."""

    name = "truth"
    precision = "fp32"
    input_size = SIDE

    def __init__(self, photographs: Photographs, *, shift: float = 0.0) -> None:
        self.photographs = photographs
        self.shift = shift
        self.seen = 0

    def __call__(self, images: np.ndarray) -> HandOutput:
        """The next images' labels; `shift` is added to every u."""
        data = self.photographs.data
        indices = range(self.seen, self.seen + len(images))
        self.seen += len(images)
        K = read_batch(self.photographs, indices).K
        labels = [data.label_index(index) for index in indices]
        depth, bone = root_and_bone(data.xyz[labels])
        offset = np.array([self.shift, 0, 0])
        joints, verts = (
            camera_to_uvd(points[labels], K, side_px=self.input_size, root_depth_m=depth, bone_m=bone) + offset
            for points in (data.xyz, data.verts)
        )
        return HandOutput(joints.astype(np.float32), verts.astype(np.float32))
