"""The base package runs an export, measures and scores it; what needs an extra says which."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from linear_hand import save_export

from cliphand.extras import EXTRAS, NEEDS
from cliphand.hand import HandTopology
from cliphand.told import told_in_one_sentence

# Bars whatever the extras bring, as if it were not installed, then runs every command in turn.
PROGRAM = """
import json, sys
BARRED = json.loads(sys.argv[1])

class Barred:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BARRED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Barred())
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
import cliphand.cli.app as cli
found = []
for command in json.loads(sys.argv[2]):
    sys.argv[1:] = command
    said, code = StringIO(), 0
    with redirect_stdout(said), redirect_stderr(said):
        try:
            cli.main()
        except SystemExit as end:
            code = end.code
    found.append((code, said.getvalue()))
print(json.dumps(found))
"""
BARRED = sorted({module for modules in EXTRAS.values() for module in modules})
Outcome = tuple[int, str]


def run(*commands: list[object]) -> list[Outcome]:
    """Exit code and output of each command, where no extra is installed."""
    given = [[str(argument) for argument in command] for command in commands]
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(BARRED), json.dumps(given)],
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert result.returncode == 0, result.stderr
    return [(code, said) for code, said in json.loads(result.stdout.splitlines()[-1])]


def test_the_base_package_does_all_but_training_export_and_pages(
    hand_topology: HandTopology, freihand_folder: Callable[..., Path], tmp_path: Path
) -> None:
    data, export = freihand_folder(n_labels=2), save_export(tmp_path / "export", hand_topology)
    photograph, predictions = data / "evaluation" / "rgb" / "00000000.jpg", tmp_path / "predictions.json"
    quick = ("--calls", 3, "--seconds", 0.1, "--cold-starts", 0, "--side-by-side", 0, "--energy", 0)
    commands: dict[str, list[object]] = {
        "predict": ["predict", photograph, "--export", export, "--out", tmp_path / "out"],
        "bench": ["bench", export, "--data", data, *quick, "--predictions", predictions],
        "score": ["score", predictions, "--data", data],
        "inspect": ["inspect", export],
        "data check": ["data", "check", data, "--picture", tmp_path / "labels.png"],
        "doctor": ["doctor"],
        "licences": ["licences"],
        "version": ["--version"],
    }
    outcomes = dict(zip(commands, run(*commands.values()), strict=True))
    assert {name: code for name, (code, _) in outcomes.items()} == dict.fromkeys(commands, 0), outcomes
    assert (tmp_path / "out" / "00000000.hand.png").exists()
    rows = json.loads(outcomes["bench"][1].splitlines()[-1])["rows"]
    assert {row["engine"] for row in rows} == {"onnxruntime"}
    assert "PyTorch is left out: torch not installed: `pip install -e '.[train]'`" in outcomes["bench"][1]
    assert "Training and export are not installed: `pip install -e '.[train]'`" in outcomes["doctor"][1]


COMMANDS: dict[str, list[object]] = {
    "export": ["export"],
    "hand": ["hand", "MANO_RIGHT.pkl", "--out", "hand.npz"],
    "import_released": ["import-released", "FILE.pth.tar", "--out", "released"],
    "quickstart": ["quickstart"],
    "report": ["report"],
    "synth": ["synth", "--out", "data"],
    "train": ["train", "--data", "data", "--out", "runs/first"],
}


def test_a_command_without_its_extra_says_which_before_it_does_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert set(COMMANDS) == set(NEEDS)
    extras = {"quickstart": "all", "report": "report", "synth": "all"}
    for (name, command), (code, said) in zip(COMMANDS.items(), run(*COMMANDS.values()), strict=True):
        assert code == 2, name
        assert said.startswith(f"cliphand: `cliphand {command[0]}` needs ")
        assert said.endswith(("brings it.\n", "brings them.\n"))
        assert f"`pip install -e '.[{extras.get(name, 'train')}]'` in the checkout" in said
        assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_what_no_command_foresaw_is_told_by_the_import_that_failed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended, told_in_one_sentence("cliphand"):
        raise ModuleNotFoundError("No module named 'scipy.fft'", name="scipy.fft")
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        "cliphand: this needs scipy.fft, which is not installed: `pip install -e '.[train]'` in the checkout of "
        "cliphand brings it.\n"
    )
    with pytest.raises(ModuleNotFoundError), told_in_one_sentence("cliphand"):
        raise ModuleNotFoundError("No module named 'ours'", name="ours")  # a fault of this project stays one


def test_every_extra_that_a_command_names_brings_its_modules() -> None:
    assert {module for modules in NEEDS.values() for module in modules} <= set(BARRED)
