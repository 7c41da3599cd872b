"""Where a result comes from: the project's commit and the versions of what ran."""

import importlib.metadata
import platform
import subprocess
from pathlib import Path

LIBRARIES = (
    "cliphand",
    "torch",
    "timm",
    "open-clip-torch",
    "lightning",
    "numpy",
    "opencv-python-headless",
    "onnx",
    "onnxruntime",
)


def git_commit() -> str:
    """Commit of the checkout this code runs from, with `-dirty` where tracked files differ, or `unknown`."""
    root = Path(__file__).resolve().parents[1]
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    if not (root / ".git").exists():  # installed, or inside somebody else's repository
        return "unknown"
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return result.stdout.strip() if result.returncode == 0 else "unknown"


def library_versions() -> dict[str, str]:
    """Versions of Python and of each installed library that shapes a result."""
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
