"""The commands of README, RESULTS and CONTRIBUTING, as a reader would type them: each exists, and takes its options."""

import argparse
import importlib
import re
import shlex
from pathlib import Path
from typing import NoReturn

import pytest
import typer
from typer.core import TyperGroup

from cliphand.cli.app import app

ROOT = Path(__file__).resolve().parents[1]
README, RESULTS, CONTRIBUTING, DEPARTURES = (
    (ROOT / name).read_text() for name in ("README.md", "benchmarks/RESULTS.md", "CONTRIBUTING.md", "DEPARTURES.md")
)
TEXT = "\n".join((README, RESULTS, CONTRIBUTING, DEPARTURES))
BLOCKS = "\n".join(re.findall(r"^```(?:bash|console)\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE))
INLINE = "\n".join(re.findall(r"`((?:cliphand|python -m) [^`]+)`", TEXT))
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


class ParsedError(Exception):
    """The words were taken."""


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.startswith("python -m benchmarks")])
def test_a_program_exists_and_takes_its_options(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, name, *words = shlex.split(line)
    module = importlib.import_module(name)
    if not hasattr(module, "typer"):
        parse = argparse.ArgumentParser.parse_args

        def parsed(parser: argparse.ArgumentParser) -> NoReturn:
            parse(parser, words)
            raise ParsedError

        monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parsed)
        with pytest.raises(ParsedError):
            module.main()
        return
    program = getattr(module, "app", None)
    if program is None:
        program = typer.Typer()
        program.command()(module.main)
    typer.main.get_command(program).make_context(name, words)


def test_there_are_commands_to_check() -> None:
    assert len(COMMANDS) > 25
    assert "cliphand quickstart" in COMMANDS
    assert sum(line.startswith("python -m benchmarks") for line in COMMANDS) >= 5


def test_every_picture_file_and_folder_that_is_named_exists() -> None:
    for folder, text in ((ROOT, README + CONTRIBUTING + DEPARTURES), (ROOT / "benchmarks", RESULTS)):
        for picture in re.findall(r"\]\((?!http)([^)]+)\)", text):
            assert (folder / picture).is_file(), picture
    for name in re.findall(r"^([a-z]+)/  ", README, re.MULTILINE):
        assert (ROOT / name).is_dir(), name
    for path in re.findall(r"`((?:cliphand|export|engines|benchmarks|tests)/[a-z0-9_/]+\.py)`", TEXT):
        assert (ROOT / path).is_file(), path
    package = ""
    for line in README[README.index("## Files") :].splitlines():
        package = match.group(1) if (match := re.match(r"([a-z]+/) ", line)) else package
        for name in re.findall(r"([a-z_/]+\.py|[a-z]+/)(?=  ?)", line[2:39]) if line.startswith("  ") else ():
            assert (ROOT / package / name).exists(), f"{package}{name}"


def test_the_readme_is_short_enough_to_be_read() -> None:
    assert len(README.splitlines()) <= 150


def test_every_table_of_the_results_has_its_command_and_its_date() -> None:
    sections = re.split(r"^## ", RESULTS, flags=re.MULTILINE)[1:]
    measured = [section for section in sections if "\n|" in section or "Measured" in section]
    assert len(measured) >= 8
    for section in measured:
        title = section.partition("\n")[0]
        assert re.search(r"^Measured \d{4}-\d\d-\d\d\b", section, re.MULTILINE), title
        assert "```bash\n" in section, title
        assert section.index("```bash") < section.find("\n|") or "\n|" not in section, title


def test_every_table_that_contributing_names_exists() -> None:
    for name, path in re.findall(r"`([A-Z_]{3,})`[^|]*? in `([a-z_/]+\.py)`", CONTRIBUTING):
        assert re.search(rf"^{name}\b", (ROOT / path).read_text(), re.MULTILINE), f"{name} in {path}"
