"""Bad values and bad targets are refused before anything heavy is imported: a typing error costs no seconds."""

import inspect
import json
import subprocess
import sys

import pytest

from cliphand.cli.app import COMMANDS
from cliphand.cli.idle import IDLE as RULES
from cliphand.cli.idle import TOLD

FOREIGN, VACANT = "foreign.txt", "made"  # a file that no command wrote, and a place where nothing stands
PLAIN, BARE = "plain", "bare"  # sets without layers, and without vertices
TRAIN = ("train", "--data", "data")
STUDENT, FINE_TUNED = ("--teacher", "teacher"), ("--quantise-aware", "start")
VALUES: dict[str, tuple[str, ...]] = {
    "train": (*TRAIN, "--out", VACANT, "--batch", "0"),
    "train, network": (*TRAIN, "--out", VACANT, "--heads", "8", "8", "8", "7"),
    "train, student": (*TRAIN, "--out", VACANT, *STUDENT, "--weight-teacher-joints", "-1"),
    "train, student's network": (*TRAIN, "--out", VACANT, *STUDENT, "--input-size", "33"),
    "train, fine-tune": (*TRAIN, "--out", VACANT, *FINE_TUNED, "--learning-rate", "nan"),
    "train, preset": (*TRAIN, "--out", VACANT, *STUDENT, "--preset", "tiny"),
    "train, both": (*TRAIN, "--out", VACANT, *FINE_TUNED, *STUDENT),
    "export": ("export", "run", "--out", VACANT, "--images", "0"),
    "export, rule": ("export", "run", "--out", VACANT, "--no-tensorrt", "--drop-rule", "none-such"),
    "export, flavours": ("export", "run", "--out", VACANT, "--no-tensorrt", "--tensorrt-rtx"),
    "import-released": ("import-released", "w.pth.tar", "--out", VACANT, "--crop-side", "0"),
}
TARGETS: dict[str, tuple[str, ...]] = {
    "train": (*TRAIN, "--out", FOREIGN),
    "train, student": (*TRAIN, "--out", FOREIGN, *STUDENT),
    "train, fine-tune": (*TRAIN, "--out", FOREIGN, *FINE_TUNED),
    "train, nothing to resume": (*TRAIN, "--out", VACANT, "--resume"),
    "train, a run that would be lost": (*TRAIN, "--out", "run"),
    "export": ("export", "run", "--out", FOREIGN),
    "import-released": ("import-released", "w.pth.tar", "--out", FOREIGN),
    "import-released, table": ("import-released", "w.pth.tar", "--out", VACANT, "--json", FOREIGN),
}
DATA: dict[str, tuple[str, tuple[str, ...]]] = {
    "no folder": ("nowhere does not exist", ("train", "--data", "nowhere", "--out", VACANT)),
    "no labels": (f"{BARE}/training_verts.json does not exist", ("train", "--data", BARE, "--out", VACANT)),
    "surface": (
        f"{PLAIN} holds no layers, so nothing tells what a cell shows of the hand; give --weight-surface 0,",
        ("train", "--data", PLAIN, "--out", VACANT, "--weight-surface", "1"),
    ),
    "surface, of a file": (
        f"{PLAIN} holds no layers, so nothing",
        ("train", "--data", PLAIN, "--out", VACANT, "--config", "surface.json"),
    ),
    "difficulty": (
        f"{PLAIN} holds no layers, so no view is composed; leave --difficulty out,",
        ("train", "--data", PLAIN, "--out", VACANT, "--difficulty", "1"),
    ),
}
EXPORT = ("export", "run", "--out", VACANT)
LOWER = "is about graphs of lower precision; give --fp16 or --int8 as well.\n"
# an option that does nothing, and what is said of it
IDLE: dict[str, tuple[str, tuple[str, ...]]] = {
    **{
        f"export, {word}": (f"--{word} {LOWER}", (*EXPORT, f"--{word}", *values))
        for word, *values in (
            ("calibration", "data"),
            ("calibration-images", "4"),
            ("calibration-method", "entropy"),
            ("seed", "1"),
            ("gate-data", "data"),
            ("gate-split", "training"),
            ("images", "8"),
            ("tolerance-mm", "1"),
            ("keep-fp32", "encoder"),
            ("drop-rule", "softmax"),
            ("search-s", "1"),
            ("auto",),
            ("threads", "1"),
        )
    },
    "export, entropy": (
        "--calibration-method is about INT8's ranges; give --int8 as well.\n",
        (*EXPORT, "--fp16", "--calibration-method", "entropy"),
    ),
    "export, no search": (
        "--auto keeps what a search finds; give --search-s more than 0.\n",
        (*EXPORT, "--int8", "--auto", "--search-s", "0"),
    ),
    "bench": ("--processes counts", ("bench", "exp", "--data", "data", "--processes", "4", "--side-by-side", "0")),
    "predict": ("--cache names", ("predict", "photo.jpg", "--cache", "kept", "--no-cache")),
    "train, side": (
        "--crop-side is the side of the crop `centre`; give --crop centre as well.\n",
        (*TRAIN, "--out", VACANT, "--crop-side", "90", "--crop", "joints"),
    ),
    "train, side of a file": (
        "--crop-side is the side of the crop `centre`",
        (*TRAIN, "--out", VACANT, "--crop-side", "90", "--config", "joints.json"),
    ),
    "train, margin": ("--crop-margin is the margin", (*TRAIN, "--out", VACANT, "--crop-margin", "2")),
    "train, steps": (
        "--step-epochs is of the schedule `step`; give --schedule step as well.\n",
        (*TRAIN, "--out", VACANT, "--step-epochs", "9", "--schedule", "cosine"),
    ),
}
ROWS = {f"value: {name}": words for name, words in VALUES.items()} | {
    f"target: {name}": words for name, words in TARGETS.items()
}
BEGUN = {"data": DATA, "idle": IDLE}  # tables of how the sentence begins, with the words of the command
# Both are wrong: the value is told.
FIRST = (*TRAIN, "--out", FOREIGN, "--epochs", "0")
# What is heavy can be found, as where it is installed, and imported only at the price of a traceback.
SCRIPT = """
import contextlib, io, json, sys, traceback
from importlib.machinery import ModuleSpec

class Heavy:
    names = ("torch", "lightning", "timm", "open_clip", "onnxruntime", "onnxscript", "onnxsim", "scipy")
    def find_spec(self, name, path=None, target=None):
        return ModuleSpec(name, self) if name in self.names else None
    def create_module(self, spec):
        return None
    def exec_module(self, module):
        raise RuntimeError(f"{module.__name__} is imported")

sys.meta_path.insert(0, Heavy())
from cliphand.cli.app import main
told = {}
for row, words in json.loads(sys.argv[1]).items():
    sys.argv, said = ["cliphand", *words], io.StringIO()
    with contextlib.redirect_stderr(said):
        try:
            main()
        except SystemExit as stopped:
            told[row] = [stopped.code, said.getvalue()]
        except BaseException:
            told[row] = [None, traceback.format_exc()]
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int | None, str]]:
    """Exit code and words of each refusal in a Python that cannot import what is heavy."""
    place = tmp_path_factory.mktemp("order")
    (place / FOREIGN).write_text("three years of work")
    (place / "run").mkdir()
    (place / "run" / "run.json").write_text(json.dumps({"model": {}, "crop": {}, "train": {}}))
    (place / "run" / "metrics.json").write_text('{"epochs": [{"epoch": 0}]}')
    (place / "run" / "resume.ckpt").write_bytes(b"state")
    for folder, fields in ((PLAIN, ("K", "xyz", "verts")), (BARE, ("K", "xyz"))):
        (place / folder).mkdir()
        for field in fields:
            (place / folder / f"training_{field}.json").write_text("[]")
    (place / "surface.json").write_text('{"train": {"loss": {"surface": 1.0}}}')
    (place / "joints.json").write_text('{"crop": {"rule": "joints"}}')
    before = sorted(path.name for path in place.iterdir())
    begun = {f"{kind}: {name}": words for kind, table in BEGUN.items() for name, (_, words) in table.items()}
    rows = json.dumps(ROWS | {"first": FIRST} | begun)
    done = subprocess.run([sys.executable, "-c", SCRIPT, rows], cwd=place, capture_output=True, text=True, check=True)
    assert sorted(path.name for path in place.iterdir()) == before
    return {row: (code, said) for row, (code, said) in json.loads(done.stdout.splitlines()[-1]).items()}


@pytest.mark.parametrize("row", ROWS)
def test_it_is_refused_before_anything_heavy_is_imported(row: str, told: dict[str, tuple[int | None, str]]) -> None:
    code, said = told[row]
    assert code == 2, said
    assert said.startswith("cliphand: "), said
    assert said.count("\n") == 1
    assert "not installed" not in said
    named = ROWS[row][ROWS[row].index("--out") + 1]
    assert row.startswith("value") or named in said or FOREIGN in said


@pytest.mark.parametrize(("kind", "row"), [(kind, row) for kind, table in BEGUN.items() for row in table])
def test_what_cannot_be_used_or_does_nothing_is_refused_before_anything_heavy_is_imported(
    kind: str, row: str, told: dict[str, tuple[int | None, str]]
) -> None:
    code, said = told[f"{kind}: {row}"]
    assert code == 2, said
    assert said.startswith(f"cliphand: {BEGUN[kind][row][0]}")
    assert said.count("\n") == 1


def test_the_rules_of_idle_options_are_of_options_that_there_are() -> None:
    commands = {command.__name__: command for command in COMMANDS}
    for command, rules in (*RULES.items(), ("train", TOLD)):
        known = set(inspect.signature(commands[command]).parameters)
        assert {option for rule in rules for option in rule.options} <= known


def test_a_value_is_told_before_a_target(told: dict[str, tuple[int | None, str]]) -> None:
    assert told["first"] == (2, "cliphand: --epochs is 0; it must be at least 1.\n")
