"""Remedies for what is not installed: commands that work in the checkout, for extras that exist."""

import re
import tomllib
from pathlib import Path

import pytest

from cliphand.extras import install_extra

ROOT = Path(__file__).parent.parent
SOURCES = sorted(
    path for folder in ("cliphand", "engines", "export", "benchmarks") for path in (ROOT / folder).rglob("*.py")
)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_remedy_installs_a_name_that_is_not_on_the_index(path: Path) -> None:
    assert not re.search(r"install '?cliphand\b", path.read_text())


def test_every_remedy_names_an_extra_of_this_project() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {name for path in SOURCES for name in re.findall(r"install_extra\(['\"]([\w-]+)", path.read_text())}
    assert named == {"all", "openvino", "synthetic", "tensorrt", "tensorrt-rtx", "train"}
    assert named <= set(extras)


def test_the_remedy_is_a_command_and_says_where_to_run_it() -> None:
    assert install_extra("openvino") == "`pip install -e '.[openvino]'` in the checkout of cliphand"
    assert "'.[tensorrt]' --extra-index-url https://x.test`" in install_extra("tensorrt", index="https://x.test")
