"""Where results come from."""

import subprocess
from pathlib import Path

import pytest

from cliphand import provenance


def test_versions_name_what_is_installed() -> None:
    versions = provenance.library_versions()
    assert {"python", "cliphand", "torch", "onnxruntime"} <= set(versions)


def test_the_commit_is_the_checkouts() -> None:
    root = Path(provenance.__file__).resolve().parents[1]
    head = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    if head.returncode:
        pytest.skip("not a git checkout")
    commit = provenance.git_commit()
    assert head.stdout.startswith(commit.removesuffix("-dirty"))
    assert len(commit) >= 12


def test_an_installed_copy_has_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "site" / "cliphand" / "provenance.py"))
    assert provenance.git_commit() == "unknown"
