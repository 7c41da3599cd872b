"""The README's commands, as a reader would type them: each is one that exists, with options that it takes."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup

from cliphand.cli.app import app

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = "\n".join(re.findall(r"^```(?:bash|console)\n(.*?)^```", README, re.DOTALL | re.MULTILINE))
INLINE = "\n".join(re.findall(r"`((?:cliphand|python -m) [^`]+)`", README))
LINES = [line.removeprefix("$ ").split("#")[0] for line in f"{BLOCKS}\n{INLINE}".replace("\\\n", " ").splitlines()]
COMMANDS = sorted({part.strip() for line in LINES for part in line.split("&&")})
NOT_COMMANDS = ("cliphand COMMAND --help",)


@pytest.mark.parametrize(
    "line", [line for line in COMMANDS if line.startswith("cliphand ") and line not in NOT_COMMANDS]
)
def test_a_command_exists_and_takes_its_options(line: str) -> None:
    words = shlex.split(line)[1:]
    command = typer.main.get_command(app)
    path = "cliphand"
    while isinstance(command, TyperGroup):
        assert words, f"{path} needs a command"
        assert words[0] in command.commands, f"{path} has no command {words[0]}"
        path, command, words = f"{path} {words[0]}", command.commands[words[0]], words[1:]
    if words:  # a bare name speaks of the command
        command.make_context(path, words)


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.startswith("python -m ")])
def test_a_program_exists_and_names_its_options(line: str) -> None:
    module = shlex.split(line)[2]
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    source = Path(spec.origin).read_text()
    for option in re.findall(r"--([a-z-]+)", line):
        assert option in source or option.replace("-", "_") in source, f"{module} has no option --{option}"


def test_the_readme_has_commands_to_check() -> None:
    assert len(COMMANDS) > 15
    assert "cliphand quickstart" in COMMANDS


def test_every_picture_and_folder_of_the_readme_exists() -> None:
    for picture in re.findall(r"!\[[^]]*\]\(([^)]+)\)", README):
        assert (ROOT / picture).is_file()
    for folder in re.findall(r"^([a-z]+)/  ", README, re.MULTILINE):
        assert (ROOT / folder).is_dir()
