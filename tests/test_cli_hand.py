import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from cliphand.cli.hand import hand
from cliphand.errors import InputError
from cliphand.files import sha256_of
from cliphand.hand import HandTopology, load_hand

app = typer.Typer()
app.command()(hand)


@pytest.fixture
def mano_file(hand_topology: HandTopology, tmp_path: Path) -> Path:
    """A dense stand-in for MANO_RIGHT.pkl with the synthetic hand's numbers."""
    template = hand_topology.template.copy()
    template[744, 2] = 0.03  # the thumb's tip in front of the palm: a right hand
    order = [0, 5, 6, 7, 9, 10, 11, 17, 18, 19, 13, 14, 15, 1, 2, 3]
    model = {"f": hand_topology.faces, "v_template": template, "J_regressor": hand_topology.joint_regressor[order]}
    path = tmp_path / "MANO_RIGHT.pkl"
    path.write_bytes(pickle.dumps(model, 4))
    return path


def test_the_command_writes_a_hand_that_loads(mano_file: Path, hand_topology: HandTopology, tmp_path: Path) -> None:
    out = tmp_path / "new" / "hand.npz"
    result = CliRunner().invoke(app, [str(mano_file), "--out", str(out)], catch_exceptions=False)
    assert result.exit_code == 0
    np.testing.assert_array_equal(load_hand(out).faces, hand_topology.faces)
    facts = json.loads(result.stdout.splitlines()[-1])
    assert facts["hand"] == str(out)
    assert facts["sha256"] == sha256_of(out)
    assert (facts["vertices"], facts["faces"], facts["joints"]) == (778, 1538, 21)
    assert facts["fingertip_vertices"]["thumb"] == 744
    assert CliRunner().invoke(app, [str(mano_file), "--out", str(out)]).exit_code == 0  # its own may be replaced


def test_a_file_that_is_no_model_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "MANO_RIGHT.pkl").write_bytes(b"cos\nsystem\n.")
    with pytest.raises(InputError, match=r"asks for 'os\.system'"):
        hand(tmp_path / "MANO_RIGHT.pkl", out=tmp_path / "hand.npz")
    assert not (tmp_path / "hand.npz").exists()
