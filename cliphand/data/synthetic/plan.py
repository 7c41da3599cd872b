"""What a synthetic data set is made from, and whether a folder may take it."""

from dataclasses import dataclass
from pathlib import Path

from cliphand.claims import FolderKind
from cliphand.data.synthetic.kinds import KINDS
from cliphand.data.synthetic.photos import NO_PHOTOS, Photos, look_at_photos
from cliphand.data.synthetic.record import RECORD, Record, read_record
from cliphand.data.synthetic.sample import SPLITS
from cliphand.errors import InputError
from cliphand.files import require_folder

WORK = ".cliphand_synth"  # what is not yet part of the set; gone once it is
GENERATOR = 7  # raised whenever the same seed gives other bytes
LARGEST = 10_000_000
SYNTHETIC = FolderKind("cliphand synth", lambda folder: (), replaced=False)  # `check_folder` judges what it holds


@dataclass(frozen=True, slots=True)
class Plan:
    """A data set: how many images, from which seed, before which backgrounds."""

    root: Path
    training: int
    evaluation: int
    seed: int
    backgrounds: Photos = NO_PHOTOS
    kind: str = "varied"

    def count(self, split: str) -> int:
        """Images of a split."""
        return self.training if split == "training" else self.evaluation


def make_plan(
    root: Path, *, training: int, evaluation: int, seed: int, backgrounds: Path | None, kind: str = "varied"
) -> Plan:
    """Check the numbers and list the backgrounds.

    Raises:
        InputError: a number is out of range, or the backgrounds' folder holds no picture.
    """
    for name, value, least in (("train", training, 1), ("evaluation", evaluation, 0), ("seed", seed, 0)):
        if not least <= value <= LARGEST:
            raise InputError(f"--{name} is {value}; valid are {least} to {LARGEST}.")
    if kind not in KINDS:
        raise InputError(f"--kind is {kind}; valid are {', '.join(KINDS)}.")
    photos = NO_PHOTOS
    if backgrounds is not None:
        require_folder(backgrounds, advice="name a folder of photographs with --backgrounds")
        if not KINDS[kind].cluttered:
            raise InputError(f"--kind {kind} has backgrounds of one colour; leave out --backgrounds or ask for varied.")
        photos = look_at_photos(backgrounds)
        if not photos.used:
            unread = f" that can be read, {photos.left_out[0].name} for one is none" if photos.left_out else ""
            raise InputError(f"--backgrounds {backgrounds} holds no .jpg or .png picture{unread}; name another folder.")
    return Plan(root, training, evaluation, seed, photos, kind)


def record_of(plan: Plan, *, complete: bool) -> Record:
    """The record that a plan leaves."""
    return Record(GENERATOR, plan.seed, plan.kind, plan.backgrounds.sha256, plan.training, plan.evaluation, complete)


def check_folder(plan: Plan) -> Record | None:
    """Whether the plan may be written to its folder.

    Returns:
        The record of the same set begun earlier, None for a new folder.

    Raises:
        InputError: the folder holds something else, or a set of another seed, backgrounds or more images.
    """
    root = plan.root
    if not root.exists():
        return None
    if not root.is_dir():
        raise InputError(f"--out {root} is a file; name a folder.")
    found = read_record(root)
    if found is None:
        if any(root.iterdir()):
            raise InputError(f"--out {root} is not empty and holds no {RECORD}; name a new or an empty folder.")
        return None
    asked = record_of(plan, complete=found.complete)
    for name in ("generator", "seed", "kind", "backgrounds"):
        have, want = getattr(found, name), getattr(asked, name)
        if have != want:
            shown = "of other backgrounds" if name == "backgrounds" else f"of {name} {have}, not {want}"
            raise InputError(f"--out {root} holds a synthetic set {shown}; name another folder, or delete this one.")
    in_place = found.complete or (root / SPLITS[0]).exists()
    for split in SPLITS:
        have, want = getattr(found, split), getattr(asked, split)
        if in_place and have > want:
            raise InputError(
                f"--out {root} holds a synthetic set of {have} {split} images, more than the {want} asked for; "
                "ask for as many or more, or name another folder."
            )
    return found
