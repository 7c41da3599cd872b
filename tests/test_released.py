"""Import of the authors' released weights: the table, its refusals, and the numbers of their public code."""

import dataclasses
import json
import pickle
import runpy
from collections import Counter
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor

from cliphand.checkpoint import load_checkpoint
from cliphand.cli.import_released import import_released as command
from cliphand.config import CropConfig
from cliphand.errors import InputError
from cliphand.files import sha256_of
from cliphand.hand import FINGERS, JOINT_NAMES, HandTopology
from cliphand.mesh_levels import mesh_levels
from cliphand.model.hand_model import HandModel
from cliphand.released import CONFIG, import_released, read_released
from cliphand.released_table import LEVELS, freihand_rows, released_table
from export.graph.deploy_model import deploy_model
from export.graph.trace import export_graph
from export.precision.proof import prove

MANO_JOINTS = (
    "wrist",
    *(
        f"{finger} {part}"
        for finger in ("index", "middle", "little", "ring", "thumb")
        for part in ("MCP", "PIP", "DIP")
    ),
    *(f"{finger} fingertip" for finger in ("index", "middle", "little", "ring", "thumb")),
)


def made_up_state() -> dict[str, Tensor]:
    """Every tensor of the table: numbers for what the model uses, one shared zero for the rest, to keep files small."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    for key, entry in released_table().items():
        if key.endswith("num_batches_tracked"):
            state[key] = torch.zeros(entry.shape, dtype=torch.int64)
        elif entry.use == "training" or key.startswith(("Encoder.", "PoseNet.deconv")):
            state[key] = torch.full((1,), 0.5).expand(entry.shape) if entry.shape else torch.tensor(0.5)
        else:
            state[key] = torch.randn(entry.shape, generator=generator)
            if key.endswith("running_var"):
                state[key].abs_()
    regressor = torch.rand(released_table()["J_Reg"].shape, generator=generator)
    return state | {"J_Reg": regressor / regressor.sum(dim=1, keepdim=True)}


def write(path: Path, state: dict[str, Tensor] | object) -> Path:
    torch.save({"state_dict": state, "epoch": 44}, path)
    return path


@pytest.fixture(scope="module")
def released_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("released") / "made_up.pth.tar", made_up_state())


def test_the_table_accounts_for_613_tensors() -> None:
    uses = Counter(entry.use for entry in released_table().values())
    assert uses == {"model": 489, "topology": 5, "training": 119}
    assert sum(uses.values()) == 613


def test_each_tensor_of_the_model_has_exactly_one_source() -> None:
    targets = Counter(target for entry in released_table().values() for target in entry.targets)
    assert set(targets.values()) == {1}
    templates = tuple(torch.zeros(nodes, 3) for nodes in CONFIG.levels)
    state = HandModel(CONFIG, templates).state_dict()
    assert targets.keys() == state.keys()


def test_rows_of_the_joint_regressor_go_from_manos_order_to_freihands() -> None:
    assert tuple(MANO_JOINTS[row] for row in freihand_rows()) == JOINT_NAMES
    assert FINGERS[0] == "thumb"


def test_parts_of_tensors_arrive_where_they_belong(released_file: Path) -> None:
    state, released = made_up_state(), read_released(released_file)
    weights = released.weights
    joined = state["Pose2Feat_.conv0.0.weight"]
    assert torch.equal(weights["joint_feature.shallow_conv.weight"], joined[:, :64])
    # Channel 64 + 64 j + z of the published convolution is cell z of joint j's volume.
    assert torch.equal(weights["joint_feature.heatmap_conv.weight"][:, 3, 17], joined[:, 64 + 64 * 3 + 17])
    for level, (name, _, (_, size), _) in enumerate(LEVELS):
        here, there = f"mesh_regressor.levels.{level}.blocks.1.attention", f"{name}.Attn_Layer.resblocks.1.attn"
        assert torch.equal(weights[f"{here}.value.weight"], state[f"{there}.in_proj_weight"][2 * size :])
        assert torch.equal(weights[f"{here}.value.bias"], state[f"{there}.in_proj_bias"][2 * size :])
        assert torch.equal(released.templates[level], state[f"Vertx_{len(released.templates[level])}"])
    expanded = state["PoseNet.conv_z_1.0.weight"]
    assert torch.equal(weights["joint_regressor.depth_expand.weight"], expanded[:, :, 0])
    row = JOINT_NAMES.index("thumb fingertip")
    np.testing.assert_allclose(released.joint_regressor[row], state["J_Reg"][20].numpy())


def test_the_imported_checkpoint_is_one_that_everything_takes(released_file: Path, tmp_path: Path) -> None:
    import_released(released_file, tmp_path / "checkpoint")
    checkpoint = load_checkpoint(tmp_path / "checkpoint")
    assert checkpoint.model_config == CONFIG
    assert checkpoint.crop == CropConfig(rule="centre", side_px=130.0, margin=1.3)
    assert checkpoint.train is None
    assert checkpoint.facts["imported"] == f"made_up.pth.tar (sha256 {sha256_of(released_file)[:12]})"
    state, ours = made_up_state(), checkpoint.model.state_dict()
    assert torch.equal(ours["mesh_regressor.out.weight"], state["Out_Layer.weight"])
    assert torch.equal(ours["joint_feature.flatten.weight"], state["Feat_down_.0.weight"])
    np.testing.assert_allclose(checkpoint.topology.template, state["Vertx_778"].numpy())


def test_without_a_hand_there_are_no_faces_and_levels_say_so(released_file: Path, tmp_path: Path) -> None:
    import_released(released_file, tmp_path / "checkpoint")
    topology = load_checkpoint(tmp_path / "checkpoint").topology
    assert topology.faces.shape == (0, 3)
    with pytest.raises(InputError, match="no faces"):
        mesh_levels(topology)


def test_a_hand_gives_faces_and_template_but_not_its_joints(
    released_file: Path, tmp_path: Path, hand_file: Path, hand_topology: HandTopology
) -> None:
    import_released(released_file, tmp_path / "checkpoint", hand=hand_file)
    topology = load_checkpoint(tmp_path / "checkpoint").topology
    np.testing.assert_array_equal(topology.faces, hand_topology.faces)
    np.testing.assert_array_equal(topology.template, hand_topology.template)
    expected = made_up_state()["J_Reg"].numpy()[list(freihand_rows())]
    np.testing.assert_allclose(topology.joint_regressor, expected, rtol=1e-6)


def changed(key: str, value: Tensor | None) -> dict[str, Tensor]:
    state = made_up_state()
    if value is None:
        del state[key]
    else:
        state[key] = value
    return state


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("Out_Layer.bias", None, r"lacks tensor 'Out_Layer.bias' \(1 in all\)"),
        ("Out_Layer.scale", torch.ones(3), r"has the unexpected tensor 'Out_Layer.scale' \(1 in all\)"),
        ("Out_Layer.bias", torch.ones(4), r"'Out_Layer.bias' is \(4,\), must be \(3,\)"),
        ("latent_x_layer.bias", torch.ones(1), r"'latent_x_layer.bias' is \(1,\), must be \(512,\)"),
        ("Out_Layer.bias", torch.tensor([0.0, torch.nan, 0.0]), "'Out_Layer.bias' holds NaN"),
        ("Out_Layer.bias", torch.tensor([0.0, torch.inf, 0.0]), "'Out_Layer.bias' holds NaN or infinity"),
    ],
    ids=["missing", "unexpected", "mis-shaped", "mis-shaped but unused", "NaN", "infinity"],
)
def test_what_is_not_the_released_model_is_refused_by_name(
    tmp_path: Path, key: str, value: Tensor | None, sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        import_released(write(tmp_path / "x.pth.tar", changed(key, value)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


class Payload:
    """Would write a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return (open, (str(self.path), "w"))


def test_code_in_the_file_is_refused_and_never_run(tmp_path: Path) -> None:
    torch.save({"state_dict": made_up_state(), "payload": Payload(tmp_path / "ran")}, tmp_path / "x.pth.tar")
    with pytest.raises(InputError, match="is refused: it holds something else than tensors"):
        read_released(tmp_path / "x.pth.tar")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "does not exist"),
        (b"not a checkpoint", "is refused|is not a PyTorch file"),
        (b"", "is not a PyTorch file"),
        (pickle.dumps([1, 2]), "is refused|is not a PyTorch file|has no 'state_dict'"),
    ],
    ids=["missing", "text", "empty", "bare pickle"],
)
def test_other_files_are_refused_in_one_sentence(tmp_path: Path, content: bytes | None, sentence: str) -> None:
    path = tmp_path / "x.pth.tar"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=sentence) as error:
        read_released(path)
    assert "\n" not in str(error.value)


def test_a_file_without_state_dict_is_refused(tmp_path: Path) -> None:
    torch.save(made_up_state(), tmp_path / "bare.pth.tar")
    with pytest.raises(InputError, match="has no 'state_dict'"):
        read_released(tmp_path / "bare.pth.tar")


def test_the_command_reports_every_tensors_use(
    released_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command(released_file, out=tmp_path / "out", json_file=tmp_path / "uses.json", crop="whole")
    printed = capsys.readouterr().out
    assert "Seg_Decoder" in printed
    assert json.loads(printed.splitlines()[-1])["tensors"] == {"used": 494, "training only": 119}
    uses = json.loads((tmp_path / "uses.json").read_text())
    assert len(uses) == 613
    assert uses["Out_Layer.bias"] == "used"
    assert uses["logit_scale_nf"] == uses["text_tb_encoder.resblocks.1.ln_2.bias"] == "training only"
    assert load_checkpoint(tmp_path / "out").crop.rule == "whole"
    command(released_file, out=tmp_path / "out", json_file=tmp_path / "uses.json", crop="centre")  # its own, replaced
    assert load_checkpoint(tmp_path / "out").crop.rule == "centre"


# The public code's numbers, on the stand-in that ../shared makes.

EXPECTED = {"released": CONFIG, "normalised": dataclasses.replace(CONFIG, bin_position="edge")}


@pytest.fixture(scope="module")
def stand_in(real_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The stand-in's folder in ../shared, and the file that its script writes."""
    source = real_dir.parent / "released_model"
    script = runpy.run_path(str(source / "weights.py"))
    state = {key: torch.from_numpy(value) for key, value in script["state_dict"]().items()}
    return source, write(tmp_path_factory.mktemp("stand_in") / "stand_in.pth.tar", state)


def image(seed: int) -> np.ndarray:
    """As the stand-in's script defines it."""
    return np.random.default_rng(seed).uniform(-1, 1, (1, 3, 256, 256)).astype(np.float32)


def imported_model(path: Path, kind: str) -> HandModel:
    released = read_released(path)
    model = HandModel(EXPECTED[kind], released.templates)
    model.load_state_dict(dict(released.weights))
    return deploy_model(model)


def assert_close(ours: np.ndarray, expected: np.ndarray) -> None:
    assert np.abs(ours - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.real
@pytest.mark.parametrize("kind", EXPECTED)
def test_pytorch_gives_the_public_codes_numbers_alone_and_in_batches(stand_in: tuple[Path, Path], kind: str) -> None:
    source, path = stand_in
    expected, model = np.load(source / f"expected_{kind}.npz"), imported_model(path, kind)
    mano_rows = np.argsort(freihand_rows())
    regressor = read_released(path).joint_regressor[mano_rows]
    for seeds in ((0,), (1,), (1, 0, 1, 5)):
        with torch.inference_mode():
            prediction = model.predict(torch.from_numpy(np.concatenate([image(seed) for seed in seeds])))
        verts = prediction.verts_uvd.numpy()
        found = {
            "joint_uvd": prediction.joints.uvd.numpy(),
            "verts_uvd": verts,
            "joints_from_mesh": regressor @ verts.astype(np.float64),
            **dict(zip(("logits_x", "logits_y", "logits_z"), map(Tensor.numpy, prediction.joints.logits), strict=True)),
        }
        for place, seed in enumerate(seeds):
            for name, array in found.items():
                if seed in (0, 1):
                    assert_close(array[place : place + 1], expected[f"{name}_{seed}"])


@pytest.mark.real
@pytest.mark.parametrize("kind", EXPECTED)
def test_onnxruntime_gives_the_public_codes_numbers_alone_and_in_batches(
    stand_in: tuple[Path, Path], tmp_path: Path, kind: str
) -> None:
    source, path = stand_in
    expected, model = np.load(source / f"expected_{kind}.npz"), imported_model(path, kind)
    graph = tmp_path / "model.onnx"
    agreement = export_graph(model, graph, input_size=256)
    assert agreement.max_difference_relative < 1e-5
    proof = prove(graph, "fp32")
    assert proof.tensorrt is None or proof.layers["CONVOLUTION FLOAT"] > 50  # TensorRT for RTX built it
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    for seeds in ((0,), (1,), (1, 0, 1, 5)):
        joints, verts = session.run(None, {"image": np.concatenate([image(seed) for seed in seeds])})
        for place, seed in enumerate(seeds):
            if seed in (0, 1):
                assert_close(joints[place : place + 1], expected[f"joint_uvd_{seed}"])
                assert_close(verts[place : place + 1], expected[f"verts_uvd_{seed}"])
