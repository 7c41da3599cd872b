"""cliphand.data.identity: a run can tell its own data from other data."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cliphand.data.freihand import open_freihand
from cliphand.data.identity import data_identity, refuse_other_data
from cliphand.errors import InputError
from cliphand.hand import HandTopology

MakeFolder = Callable[..., Path]


@pytest.fixture(scope="module")
def intact(freihand_folder: MakeFolder) -> Path:
    return freihand_folder(n_labels=2)


def identity(root: Path, topology: HandTopology) -> dict[str, str]:
    return data_identity(open_freihand(root, "training"), topology)


def test_a_copy_of_the_data_elsewhere_is_the_same_data(
    intact: Path, tmp_path: Path, hand_topology: HandTopology
) -> None:
    copy = shutil.copytree(intact, tmp_path / "copy")
    now = identity(copy, hand_topology)
    refuse_other_data(json.loads(json.dumps(identity(intact, hand_topology))), now, run=tmp_path)
    assert sorted(now) == sorted(["K", "xyz", "verts", "scale", "images", "masks", "hand"])


def move_a_joint(root: Path) -> None:
    path = root / "training_xyz.json"
    xyz = np.array(json.loads(path.read_text()))
    xyz[0, 4, 0] += 1e-4
    path.write_text(json.dumps(xyz.tolist()))


def drop_the_scale(root: Path) -> None:
    (root / "training_scale.json").unlink()


def change_a_picture(root: Path) -> None:
    path = root / "training" / "rgb" / "00000001.jpg"
    path.write_bytes(path.read_bytes() + b"\0")


@pytest.mark.parametrize(
    ("change", "named"), [(move_a_joint, "xyz"), (drop_the_scale, "scale"), (change_a_picture, "images")]
)
def test_other_data_is_refused_and_says_what_differs(
    intact: Path, tmp_path: Path, hand_topology: HandTopology, change: Callable[[Path], None], named: str
) -> None:
    copy = shutil.copytree(intact, tmp_path / "copy")
    change(copy)
    with pytest.raises(InputError, match=rf"was started with other data \({named} differ\); resume with what"):
        refuse_other_data(identity(intact, hand_topology), identity(copy, hand_topology), run=tmp_path)


def test_another_hand_is_refused(intact: Path, tmp_path: Path, hand_topology: HandTopology) -> None:
    other = dataclasses.replace(hand_topology, template=hand_topology.template[::-1])
    with pytest.raises(InputError, match=r"was started with another hand\.npz; resume"):
        refuse_other_data(identity(intact, hand_topology), identity(intact, other), run=tmp_path)


def test_a_run_without_a_record_of_its_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"does not say which data it began with.* start again in a new folder\."):
        refuse_other_data(None, {"xyz": "0"}, run=tmp_path)
