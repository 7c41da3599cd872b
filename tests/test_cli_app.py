"""The command line as a user meets it, in processes of its own."""

import subprocess
import sys
from pathlib import Path

import pytest
import typer
from refusal import refused

from cliphand import __version__
from cliphand.cli.app import app, main

COMMAND = Path(sys.executable).parent / "cliphand"


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([COMMAND, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=120)


def loaded_by_help(program: str) -> set[str]:
    """The modules that a program has loaded when it has shown its help."""
    code = f"import atexit, sys; atexit.register(lambda: print(*sys.modules, file=sys.stderr))\n{program}"
    result = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=True)
    assert "Usage" in result.stdout
    return set(result.stderr.split())


def test_help_loads_little_more_than_that_of_an_empty_command() -> None:
    """Forty modules, most of them this project's small ones, and a fifth of a second in all; numpy alone has 140."""
    empty = loaded_by_help("import typer; typer.run(lambda: None)")
    ours = loaded_by_help("from cliphand.cli.app import main; main()")
    assert "cliphand.cli.app" in ours
    assert len(ours - empty) < 60


def test_help_imports_nothing_but_what_prints_it() -> None:
    code = (
        "import sys; before = {*sys.modules}; import cliphand.cli.app\n"
        "print(*{name.partition('.')[0] for name in {*sys.modules} - before} - {*sys.stdlib_module_names})"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    printers = {"typer", "click", "rich", "shellingham", "annotated_doc", "annotated_types", "typing_extensions"}
    assert set(result.stdout.split()) - {"cliphand"} <= printers
    assert "export" in run("--help").stdout


def test_options_of_several_values_show_how_these_are_given() -> None:
    """Values of one option are apart by spaces; an option that takes one value at a time says that it is repeated."""
    group = typer.main.get_command(app)
    options = [option for command in group.commands.values() for option in command.params if option.opts[0][:2] == "--"]
    together = {option.opts[0]: option.metavar for option in options if option.nargs > 1}
    assert together == {"--box": "X Y SIDE", "--heads": "N N N N", "--depths": "N N N N"}
    assert all(len(together[option.opts[0]].split()) == option.nargs for option in options if option.nargs > 1)
    for option in (option for option in options if option.multiple):
        assert option.metavar, option.opts
        assert str(option.help).endswith("; repeat for more."), option.opts


def test_version_is_the_packages() -> None:
    assert run("--version").stdout == f"cliphand {__version__}\n"


def test_bad_input_is_one_sentence_on_stderr_and_exit_code_2(tmp_path: Path) -> None:
    result = run("export", tmp_path)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith(f"cliphand: {tmp_path} is not a checkpoint")
    assert result.stderr.count("\n") == 1


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    result = run("--debug", "export", tmp_path)
    assert result.returncode != 0
    assert "Traceback" in result.stderr
    assert "InputError" in result.stderr


@pytest.mark.parametrize(
    ("line", "named", "command"),
    [
        ("nosuch", "'nosuch'", "cliphand"),
        ("trian", "'train'", "cliphand"),
        ("train --epochs many", "'--epochs'", "cliphand train"),
        ("synth --train 3.5", "'--train'", "cliphand synth"),
        ("synth --out x --tarin 3", "--tarin", "cliphand synth"),
        ("synth --train 3", "'--out'", "cliphand synth"),
        ("synth --out", "'--out'", "cliphand"),
        ("data check a b", "(b)", "cliphand data check"),
        ("bench --root guess", "'scale'", "cliphand bench"),
    ],
)
def test_a_misspelt_command_is_one_sentence_on_stderr_and_exit_code_2(
    line: str, named: str, command: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/cliphand", *line.split()])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capfd.readouterr()
    assert ended.value.code == 2
    assert said.out == ""
    assert said.err.startswith("cliphand: ")
    assert named in said.err
    assert f"; `{command}" in said.err
    assert said.err.endswith(" --help` tells what is valid.\n")
    assert said.err.count("\n") == 1


@pytest.mark.parametrize("line", ["", "data"])
def test_a_command_without_options_that_needs_some_shows_its_help(
    line: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["cliphand", *line.split()])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "Usage: cliphand" in "".join(capfd.readouterr())


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("--input-size", "100", "--input-size is 100; it must be a multiple of 32."),
        ("--prompt-joints", "22", "--prompt-joints is 22; it must be at most 21."),
        ("--precision", "fp8", "--precision is 'fp8'; it must be '32-true', 'bf16-mixed' or '16-mixed'."),
        ("--crop", "tight", "--crop is 'tight'; it must be 'whole', 'centre', 'mask' or 'joints'."),
        ("--epochs", "0", "--epochs is 0; it must be at least 1."),
    ],
)
def test_train_refuses_values_out_of_range(
    tmp_path: Path, option: str, value: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("train", "--data", tmp_path, "--out", tmp_path / "run", option, value)
    assert refused(capsys, *words, watched=tmp_path) == sentence
