"""The model that comes with cliphand. In this folder lie `checkpoint/`, `export/` and `card.md`, where one is shipped.

`python -m benchmarks.studies.ship_model` writes all three; both folders are as `cliphand train` and `cliphand export`
write them, so that loading checks their hashes.
"""

from pathlib import Path

from cliphand.errors import InputError

FOLDER = Path(__file__).parent
CHECKPOINT, EXPORT, CARD = "checkpoint", "export", "card.md"
NAME = "pretrained"  # of a copy of its export in the user's own folder of exports


def shipped_checkpoint(*, instead: str) -> Path:
    """Its checkpoint folder.

    Args:
        instead: what the user can give where none is shipped, as the end of a sentence.

    Raises:
        InputError: no model is shipped.
    """
    return _shipped(CHECKPOINT, instead)


def shipped_export(*, instead: str) -> Path:
    """Its export folder, which holds graphs that run without PyTorch; see `shipped_checkpoint`."""
    return _shipped(EXPORT, instead)


def told() -> str:
    """One line for commands that use it."""
    return f"The model that comes with cliphand is used; its card: {FOLDER / CARD}"


def _shipped(part: str, instead: str) -> Path:
    if not (FOLDER / part).is_dir():
        raise InputError(f"no model is shipped with this version of cliphand; {instead}.")
    return FOLDER / part
