"""What a synthetic set says of itself: what it was made from, and whether it is whole."""

import dataclasses
import shlex
from dataclasses import dataclass
from pathlib import Path

from cliphand.data.synthetic.kinds import KINDS
from cliphand.errors import InputError
from cliphand.files import read_json_object, write_json

RECORD = "synthetic.json"


@dataclass(frozen=True, slots=True)
class Record:
    """The content of `synthetic.json`.

    Attributes:
        generator: GENERATOR of the program that wrote it.
        seed: of the set.
        kind: of its scenes, one of KINDS.
        backgrounds: digest of the backgrounds' content, empty without.
        training, evaluation: images of the set; asked for, where it is not complete.
        complete: whether images and labels stand in their places.
    """

    generator: int
    seed: int
    kind: str
    backgrounds: str
    training: int
    evaluation: int
    complete: bool = False

    @property
    def layered(self) -> bool:
        """Whether its training hands were rendered in layers."""
        return self.kind in KINDS and KINDS[self.kind].layered

    def command(self, root: Path) -> str:
        """What makes, completes and mends the set at `root`."""
        words = ["cliphand", "synth", "--out", str(root), "--train", str(self.training)]
        words += ["--evaluation", str(self.evaluation), "--seed", str(self.seed), "--kind", self.kind]
        return f"`{shlex.join(words)}`{' with the same --backgrounds' if self.backgrounds else ''}"


def read_record(root: Path) -> Record | None:
    """The record in a folder, None where there is none.

    Raises:
        InputError: the record is damaged.
    """
    path = root / RECORD
    if not path.exists():
        return None
    value = dict(read_json_object(path))
    names = {field.name: field.type for field in dataclasses.fields(Record)}
    kinds = {"complete": bool, "backgrounds": str, "kind": str}
    if set(value) != set(names) or any(not isinstance(value[name], kinds.get(name, int)) for name in names):
        raise InputError(f"{path} is not the record of a synthetic data set; move it away, or name another folder.")
    return Record(**value)  # type: ignore[arg-type]


def write_record(root: Path, record: Record) -> None:
    """Write `synthetic.json`."""
    write_json(root / RECORD, dataclasses.asdict(record), None)


def refuse_unfinished(root: Path) -> None:
    """Refuse a synthetic set that is still in the making; any other folder passes.

    Raises:
        InputError: it is, or its record is damaged.
    """
    record = read_record(root)
    if record is not None and not record.complete:
        raise InputError(f"{root} holds an unfinished synthetic set; {record.command(root)} completes it.")


def refuse_lost_layers(root: Path, layers: Path) -> None:
    """Refuse a synthetic set in layers that has lost them: it would pass for an ordinary one.

    Raises:
        InputError: there is no folder at `layers`, the place of the training split's.
    """
    record = read_record(root)
    if record is not None and record.layered and not layers.is_dir():
        raise InputError(
            f"{layers} does not exist, though {RECORD} says that the set is in layers; {record.command(root)} makes "
            "them again."
        )
