"""The door that users take: the command line in this process, its exit code, and what it says."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cliphand.cli.app import main


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `cliphand ARGUMENTS`."""
    capsys.readouterr()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["cliphand", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
    output = capsys.readouterr()
    return int(stopped.value.code or 0), output.out, output.err


def contents(folder: Path) -> dict[str, bytes]:
    """Every file under a folder, to tell whether a command wrote anything."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in _files(folder)}


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def refused(capsys: pytest.CaptureFixture[str], *arguments: object, watched: Path) -> str:
    """The sentence with which a command refuses its input: exit code 2, no traceback, nothing written in `watched`."""
    before = contents(watched)
    code, _, err = run(capsys, *arguments)
    assert code == 2, err
    assert "Traceback" not in err
    found = re.search(r"^cliphand: (.*)$", err, re.MULTILINE | re.DOTALL)
    assert found, f"no sentence in {err!r}"
    assert contents(watched) == before
    return found[1].strip()
