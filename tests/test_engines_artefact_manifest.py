import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from linear_hand import SIDE, make_manifest, save_onnx

from cliphand.config import CropConfig
from cliphand.errors import InputError
from engines.artefact.manifest import (
    Artefact,
    CheckpointRecord,
    Manifest,
    check_artefact,
    checkpoint_path,
    read_manifest,
    write_manifest,
)

names = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=12)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)
tables = st.dictionaries(names, plain, max_size=4)
manifests = st.builds(
    Manifest,
    input_size=st.integers(1, 1024),
    crop=st.builds(
        CropConfig,
        rule=st.sampled_from(["whole", "centre", "mask", "joints"]),
        side_px=st.floats(1, 500),
        margin=st.floats(1, 3),
    ),
    checkpoint=st.builds(CheckpointRecord, path=st.text(), sha256=st.text()),
    hand_sha256=st.text(),
    artefacts=st.dictionaries(names, st.builds(Artefact, names, st.text(), st.integers(0)), max_size=3),
    cliphand_version=st.text(),
    commit=st.text(),
    exporter=tables,
    training=tables,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An export folder of one model, without its hand.npz."""
    save_onnx(tmp_path / "model.onnx")
    write_manifest(make_manifest(tmp_path, {"model.onnx": "fp32"}), tmp_path)
    return tmp_path


def edit(folder: Path, change: Callable[[dict[str, object]], object]) -> None:
    path = folder / "manifest.json"
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


@given(manifest=manifests)
def test_a_manifest_survives_its_file(manifest: Manifest, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("export")
    write_manifest(manifest, folder)
    assert read_manifest(folder) == manifest


def test_the_file_names_every_tensor_and_joint(folder: Path) -> None:
    value = json.loads((folder / "manifest.json").read_text())
    assert value["inputs"] == [{"name": "image", "shape": [-1, 3, SIDE, SIDE], "dtype": "float32"}]
    assert [spec["name"] for spec in value["outputs"]] == ["joints_uvd", "verts_uvd"]
    assert [spec["shape"] for spec in value["outputs"]] == [[-1, 21, 3], [-1, 778, 3]]
    assert value["joint_order"][0] == "wrist"
    assert len(value["joint_order"]) == 21
    assert value["artefacts"]["model.onnx"]["bytes"] == (folder / "model.onnx").stat().st_size


def test_a_newer_format_is_refused_before_its_unknown_keys(folder: Path) -> None:
    edit(folder, lambda value: value.update(format_version=3, novelty=1))
    with pytest.raises(InputError, match="has format 3; this cliphand reads up to 2"):
        read_manifest(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda value: value.update(novelty=1), "novelty is unknown"),
        (lambda value: value.pop("commit"), "commit is missing"),
        (lambda value: value.pop("artefacts"), "artefacts is missing"),
        (lambda value: value.update(training=[1]), r"training is \[1\]"),
        (lambda value: value.update(input_size="32"), "input_size is '32'"),
        (lambda value: value.update(input_size=0), "input_size is 0"),
        (lambda value: value["crop"].update(rule="square"), "rule is 'square'"),
        (lambda value: value["inputs"][0].update(name="input"), "inputs are input"),
        (lambda value: value["inputs"][0].update(shape=[-1, 32, 32, 3]), r"inputs are image float32 \(-1, 32, 32, 3\)"),
        (lambda value: value["outputs"].pop(), "outputs are joints_uvd .*; engines run .*verts_uvd"),
        (lambda value: value["outputs"][1].update(dtype="float16"), "verts_uvd float16"),
        (lambda value: value["joint_order"].reverse(), "joint_order is"),
        (lambda value: value["artefacts"]["model.onnx"].pop("bytes"), r"artefacts\.model\.onnx\.bytes is missing"),
        (lambda value: value["artefacts"].update({"../x.onnx": value["artefacts"]["model.onnx"]}), "plain file name"),
    ],
)
def test_a_manifest_that_would_be_misread_is_refused(
    folder: Path, change: Callable[[dict[str, object]], object], said: str
) -> None:
    edit(folder, change)
    with pytest.raises(InputError, match=said):
        read_manifest(folder)


def test_a_folder_without_a_manifest_is_no_export(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no manifest\.json; give a folder that `cliphand export` wrote"):
        read_manifest(tmp_path)


def test_an_exported_file_is_recognised(folder: Path) -> None:
    assert check_artefact(read_manifest(folder), folder / "model.onnx").precision == "fp32"


def test_one_changed_byte_is_noticed(folder: Path) -> None:
    path = folder / "model.onnx"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"is not the file that manifest\.json describes"):
        check_artefact(read_manifest(folder), path)


def test_a_file_that_is_not_listed_is_refused(folder: Path) -> None:
    other = save_onnx(folder / "other.onnx")
    with pytest.raises(InputError, match=r"other\.onnx is not in the manifest\.json.*which lists model\.onnx"):
        check_artefact(read_manifest(folder), other)


def test_a_relative_checkpoint_lies_beside_the_export_and_an_absolute_one_where_it_says(tmp_path: Path) -> None:
    manifest = make_manifest(tmp_path, {})
    assert checkpoint_path(manifest, tmp_path) == tmp_path / "checkpoint"
    absolute = dataclasses.replace(manifest, checkpoint=CheckpointRecord(path="/runs/best", sha256=""))
    assert checkpoint_path(absolute, tmp_path) == Path("/runs/best")


def test_a_link_out_of_the_folder_is_followed_to_the_bytes_that_were_exported_and_to_no_others(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The hash binds what is read, wherever it lies."""
    manifest, elsewhere = make_manifest(folder, {"model.onnx": "fp32"}), tmp_path_factory.mktemp("elsewhere") / "kept"
    (folder / "model.onnx").replace(elsewhere)
    (folder / "model.onnx").symlink_to(elsewhere)
    assert check_artefact(manifest, folder / "model.onnx") == manifest.artefacts["model.onnx"]
    save_onnx(elsewhere, seed=1)
    with pytest.raises(InputError, match="is not the file that"):
        check_artefact(manifest, folder / "model.onnx")
