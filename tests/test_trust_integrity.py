"""What belongs together is checked on open: weights and config, graphs and hand, hand and labels.

Each row of the tables is one bad file: exit code 2, one sentence that names it and the remedy, and nothing written.
"""

import dataclasses
import io
import json
import pickle
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoint_files import edit_config, edit_weights, rebind, unbind
from linear_hand import save_export
from refusal import refused, run
from small_hand import CONFIG, small_hand
from test_released import made_up_state
from torch import Tensor

from cliphand.checkpoint import load_checkpoint, save_checkpoint
from cliphand.config import CropConfig
from cliphand.hand import HandTopology, load_hand, save_hand
from cliphand.model.clip_hand import ClipHand

Weights = dict[str, Tensor]
OUT = "hand.mesh_regressor.out.weight"


@pytest.fixture(scope="module")
def saved(hand_topology: HandTopology, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints") / "best"
    save_checkpoint(
        folder,
        model=ClipHand(small_hand(), None),
        model_config=CONFIG,
        crop=CropConfig(),
        topology=hand_topology,
        train=None,
        facts={"epoch": 1},
    )
    return folder


@pytest.fixture
def checkpoint(saved: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return shutil.copytree(saved, tmp_path / "checkpoint")


def in_model(**values: object) -> Callable[[dict[str, dict[str, object]]], None]:
    return lambda config: config["model"].update(values)


# edits of config.json after the weights were trained
CONFIG_EDITS: dict[str, Callable[[dict[str, dict[str, object]]], object]] = {
    "the depth range": in_model(depth_range=9.0),
    "the depth's origin": in_model(depth_origin=0.25),
    "the heatmap's width": in_model(heatmap_sigma=4.0),
    "where a bin lies": in_model(bin_position="edge"),
    "the heads": in_model(heads=[2, 2, 2, 2]),
    "the activation": in_model(activation="quick_gelu"),
    "the pyramid": in_model(pyramid="after"),
    "the crop rule": lambda config: config["crop"].update(rule="whole"),
    "the normalisation": lambda config: config["crop"].update(mean=[0.4, 0.4, 0.4]),
    "the facts": lambda config: config["facts"].update(epoch=200),
    "without a hash": lambda config: config.pop("sha256"),
    "without the weights' hash": lambda config: config.pop("weights_sha256"),
}


@pytest.mark.parametrize("case", CONFIG_EDITS)
def test_an_edited_config_is_refused(case: str, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit_config(checkpoint, CONFIG_EDITS[case])
    sentence = refused(
        capsys, "export", checkpoint, "--out", checkpoint.parent / "out", "--no-tensorrt", watched=checkpoint.parent
    )
    assert f"{checkpoint / 'config.json'} was edited since it was written" in sentence
    assert "copy the checkpoint again" in sentence


def test_spaces_and_the_order_of_keys_do_not_count(checkpoint: Path) -> None:
    path = checkpoint / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(dict(reversed(config.items())), indent=4))
    assert load_checkpoint(checkpoint).model_config == CONFIG


def zeroed(weights: Weights) -> None:
    for key, values in weights.items():
        if key.startswith("hand."):
            values.zero_()


def as_type(dtype: torch.dtype) -> Callable[[Weights], object]:
    return lambda weights: weights.update({OUT: weights[OUT].to(dtype)})


def filled(key: str, value: float) -> Callable[[Weights], object]:
    return lambda weights: weights[key].view(-1)[:1].fill_(value)


def permuted_faces(weights: Weights) -> None:
    weights["topology.faces"] = weights["topology.faces"].flip(0)


# weights that no training gives: how they become so, and what is said once the hashes fit them
WEIGHT_EDITS: dict[str, tuple[Callable[[Weights], object], str]] = {
    "all zero": (zeroed, "holds zeros only|variance"),
    "whole numbers": (as_type(torch.int32), r"is int32 \(3, 8\), must be float32 \(3, 8\)"),
    "half precision": (as_type(torch.float16), "is float16"),
    "complex numbers": (as_type(torch.complex64), "is complex64"),
    "NaN": (filled(OUT, float("nan")), "'mesh_regressor.out.weight' holds NaN or infinity"),
    "infinity": (filled(OUT, float("inf")), "holds NaN or infinity"),
    "a negative variance": (filled("hand.joint_feature.norm.running_var", -1.0), "variance with negative values"),
    "a tensor too many": (lambda weights: weights.update({"hand.more": torch.ones(2)}), "'more' is .*, must be absent"),
    "a tensor too few": (lambda weights: weights.pop(OUT), "is missing, must be"),
    "no topology": (lambda weights: weights.pop("topology.faces"), "has no array 'faces'"),
    "faces outside the mesh": (
        lambda weights: weights["topology.faces"].add_(5000),
        "'faces' points outside the 778 vertices",
    ),
}


@pytest.mark.parametrize("case", [*WEIGHT_EDITS, "another topology"])
def test_weights_that_were_exchanged_are_refused(
    case: str, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit_weights(checkpoint, WEIGHT_EDITS.get(case, (permuted_faces, ""))[0])
    sentence = refused(
        capsys, "export", checkpoint, "--out", checkpoint.parent / "out", "--no-tensorrt", watched=checkpoint.parent
    )
    assert "model.safetensors is not the file that config.json beside it describes" in sentence


@pytest.mark.parametrize("case", WEIGHT_EDITS)
def test_weights_that_no_training_gives_are_refused_even_where_the_hashes_fit(
    case: str, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, says = WEIGHT_EDITS[case]
    edit_weights(checkpoint, change)
    rebind(checkpoint)
    sentence = refused(
        capsys, "export", checkpoint, "--out", checkpoint.parent / "out", "--no-tensorrt", watched=checkpoint.parent
    )
    assert "model.safetensors" in sentence
    assert re.search(says, sentence), sentence


def test_a_checkpoint_from_before_the_hashes_opens_with_a_warning(
    checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    unbind(checkpoint)
    assert load_checkpoint(checkpoint).model_config == CONFIG
    assert "whether its config or weights were edited cannot be told" in caplog.text


def permuted(hand: HandTopology) -> HandTopology:
    order = np.random.default_rng(0).permutation(778)
    return dataclasses.replace(hand, joint_regressor=hand.joint_regressor[:, order])


def renamed_joints(hand: HandTopology) -> HandTopology:
    return dataclasses.replace(hand, joint_regressor=hand.joint_regressor[::-1])


def turned_faces(hand: HandTopology) -> HandTopology:
    return dataclasses.replace(hand, faces=hand.faces[:, ::-1])


def larger(hand: HandTopology) -> HandTopology:
    return dataclasses.replace(hand, template=hand.template * 1.2)


SWAPS: dict[str, Callable[[HandTopology], HandTopology]] = {
    "a permuted joint regressor": permuted,
    "joints in another order": renamed_joints,
    "faces turned inside out": turned_faces,
    "another template": larger,
}


@pytest.fixture(scope="module")
def data(freihand_folder: Callable[..., Path]) -> Path:
    return freihand_folder(n_labels=2, size_px=64)


@pytest.mark.parametrize("command", ["bench", "predict"])
@pytest.mark.parametrize("case", SWAPS)
def test_another_hand_in_an_export_folder_is_refused(
    case: str,
    command: str,
    data: Path,
    hand_topology: HandTopology,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    export = save_export(tmp_path / "export", hand_topology)
    save_hand(SWAPS[case](hand_topology), export / "hand.npz")
    photograph = data / "evaluation" / "rgb" / "00000000.jpg"
    arguments = {
        "bench": ("bench", export, "--data", data),
        "predict": ("predict", photograph, "--export", export, "--out", tmp_path),
    }[command]
    sentence = refused(capsys, *arguments, watched=tmp_path)
    assert f"{export / 'hand.npz'} is not the hand that manifest.json beside it describes" in sentence


@pytest.mark.parametrize("case", ["a permuted joint regressor", "joints in another order"])
def test_a_hand_that_is_not_the_labels_is_refused(
    case: str, data: Path, hand_topology: HandTopology, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export = save_export(tmp_path / "export", SWAPS[case](hand_topology))
    sentence = refused(capsys, "bench", export, "--data", data, watched=tmp_path)
    assert f"{export / 'hand.npz'} is not the hand of these labels" in sentence
    assert f"cliphand data allow {data} hand" in sentence


@pytest.mark.parametrize("case", ["a permuted joint regressor", "joints in another order"])
def test_training_refuses_a_hand_that_is_not_the_labels(
    case: str, data: Path, hand_topology: HandTopology, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_hand(SWAPS[case](hand_topology), tmp_path / "hand.npz")
    options = ("--hand", tmp_path / "hand.npz", "--out", tmp_path / "run", "--backbone-weights", "none")
    sentence = refused(capsys, "train", "--data", data, *options, watched=tmp_path)
    assert "the topology of this run (--hand, or the data's hand.npz) is not the hand of these labels" in sentence


def test_an_export_from_before_the_hands_hash_is_refused(
    data: Path, hand_topology: HandTopology, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export = save_export(tmp_path / "export", hand_topology)
    path = export / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["hand_sha256"]
    path.write_text(json.dumps({**manifest, "format_version": 1}))
    assert "does not say which hand belongs to the graphs; export again" in refused(
        capsys, "bench", export, "--data", data, watched=tmp_path
    )


def archive(**entries: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in entries.items():
            file.writestr(f"{name}.npy", content)
    return stream.getvalue()


def npy(array: np.ndarray, **options: bool) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def declaring(shape: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": shape})
    return stream.getvalue() + bytes(64)


class Runs:
    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return eval, ("1 / 0",)


HANDS: dict[str, tuple[bytes, str]] = {
    "an empty file": (b"", "not a readable npz archive"),
    "text": (b"hand", "not a readable npz archive"),
    "an archive of nothing": (archive(), "has no array 'faces'"),
    "one array alone": (npy(np.zeros(3)), "not a readable npz archive"),
    "a bomb of zeros": (archive(faces=bytes(8 * 2**20)), r"declares 8388608 bytes, where a hand has less than"),
    "an array that declares a terabyte": (archive(faces=declaring((2**37,))), "not a readable npz archive"),
    "an array of 10^30 rows": (archive(faces=declaring((10**30, 3))), "not a readable npz archive"),
    "pickled objects": (
        archive(faces=npy(np.array([Runs()], dtype=object), allow_pickle=True)),
        "not a readable npz archive",
    ),
    "no array in it": (archive(faces=b"no array"), "not a readable npz archive|is no array"),
    "complex numbers": (archive(faces=npy(np.zeros((1538, 3), np.complex128))), "'faces' is complex128"),
    "text in an array": (archive(faces=npy(np.full((1538, 3), "x"))), "'faces' is <U1"),
    "another mesh": (archive(faces=npy(np.zeros((1554, 3), np.int64))), r"'faces' is int64 \(1554, 3\)"),
}


@pytest.mark.parametrize("case", HANDS)
def test_a_broken_hand_is_refused(case: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content, says = HANDS[case]
    path = tmp_path / "hand.npz"
    path.write_bytes(content)
    sentence = refused(capsys, "train", "--data", data, "--hand", path, "--out", tmp_path / "run", watched=tmp_path)
    assert str(path) in sentence
    assert re.search(says, sentence), sentence


FIRST_WEIGHT = "Out_Layer.weight"


def with_first(make: Callable[[Tensor], object]) -> Callable[[dict[str, Tensor]], object]:
    return lambda state: {"state_dict": {**state, FIRST_WEIGHT: make(state[FIRST_WEIGHT])}}


def zeros_of(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: torch.zeros((), dtype=value.dtype).expand(value.shape) for key, value in state.items()}


RELEASED: dict[str, tuple[Callable[[dict[str, Tensor]], object], str]] = {
    "a sparse tensor": (with_first(Tensor.to_sparse), f"'{FIRST_WEIGHT}' is sparse"),
    "a compressed tensor": (with_first(Tensor.to_sparse_csr), f"'{FIRST_WEIGHT}' is sparse"),
    "a quantised tensor": (
        with_first(lambda value: torch.quantize_per_tensor(value, 0.1, 0, torch.qint8)),
        f"'{FIRST_WEIGHT}' is quantised|refused",
    ),
    "a tensor without values": (with_first(lambda value: value.to("meta")), "is on the meta device|refused"),
    "complex numbers": (with_first(lambda value: value.to(torch.complex64)), f"'{FIRST_WEIGHT}' is complex"),
    "whole numbers": (with_first(lambda value: value.to(torch.int32)), f"'{FIRST_WEIGHT}' is of type torch.int32"),
    "truth values": (with_first(lambda value: value > 0), f"'{FIRST_WEIGHT}' is of type torch.bool"),
    "a list": (with_first(Tensor.tolist), f"'{FIRST_WEIGHT}' is list"),
    "nothing": (with_first(lambda value: None), f"'{FIRST_WEIGHT}' is NoneType"),
    "NaN": (with_first(lambda value: value * torch.nan), f"'{FIRST_WEIGHT}' holds NaN or infinity"),
    "zeros": (lambda state: {"state_dict": zeros_of(state)}, "holds zeros only"),
    "no state": (lambda state: {"epoch": 3}, "has no 'state_dict'"),
    "a list of states": (lambda state: [state], "has no 'state_dict'"),
    "a state that is a number": (lambda state: {"state_dict": 3}, "has no 'state_dict'"),
}


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return made_up_state()


@pytest.mark.parametrize("case", RELEASED)
def test_odd_tensors_are_not_the_released_weights(
    case: str, state: dict[str, Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, says = RELEASED[case]
    path = tmp_path / "released.pth.tar"
    torch.save(change(state), path)
    size = path.stat().st_size
    code, _, err = run(capsys, "import-released", path, "--out", tmp_path / "checkpoint")
    assert code == 2, err
    assert "Traceback" not in err
    assert str(path) in err
    assert re.search(says, err), err
    assert [item.name for item in tmp_path.iterdir()] == [path.name]
    assert path.stat().st_size == size


def bomb() -> bytes:
    """An archive whose only entry declares four gigabytes."""
    data = archive(zeros=bytes(1000))
    size = data.index(b"PK\x01\x02") + 24
    return data[:size] + b"\xf0\xff\xff\xff" + data[size + 4 :]


FILES: dict[str, tuple[Callable[[], bytes], str]] = {
    "an empty file": (lambda: b"", "is not a PyTorch file"),
    "text": (lambda: b"weights", "is not a PyTorch file|is refused"),
    "an archive of nothing": (archive, "is not a PyTorch file|is refused"),
    "an archive that is cut": (lambda: archive(a=bytes(1000))[:-10], "is not a PyTorch file|is refused"),
    "a pickle that runs": (lambda: pickle.dumps(Runs()), "is refused|is not a PyTorch file"),
    "a bomb of zeros": (bomb, "unpacks to 4294967280 bytes, where the released weights have 0.2 GB"),
}


@pytest.mark.parametrize("case", FILES)
def test_files_that_hold_no_weights_are_refused(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make, says = FILES[case]
    path = tmp_path / "released.pth.tar"
    path.write_bytes(make())
    sentence = refused(capsys, "import-released", path, "--out", tmp_path / "checkpoint", watched=tmp_path)
    assert str(path) in sentence
    assert re.search(says, sentence), sentence


def test_a_hand_comes_back_through_its_archive(hand_topology: HandTopology, tmp_path: Path) -> None:
    save_hand(hand_topology, tmp_path / "hand.npz")
    np.testing.assert_array_equal(load_hand(tmp_path / "hand.npz").faces, hand_topology.faces)
