"""The pictures that a set in layers keeps to put behind and before its hands: drawn ones, and the user's.

A user's picture that is transparent around what it shows is a thing, which lies before hands as it is cut out.
"""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
from PIL import Image

from cliphand.arrays import ByteArray
from cliphand.data.layers.scenery import PICTURES, THINGS, read_thing
from cliphand.data.layers.store import lossless
from cliphand.data.photograph import read_image
from cliphand.data.synthetic.background import random_background, user_photo
from cliphand.data.synthetic.people import draw_person
from cliphand.errors import InputError
from cliphand.files import whole_file

DRAWN, DRAWN_BESIDE_PHOTOS = 500, 200
MOST_PHOTOS = 2000
PICTURE_PX = 256  # shorter side of a kept photograph
PERSON_SHARE = 0.35  # of the drawn ones
THING_PX, LEAST_CLEAR = 160, 0.05
QUALITY = 90
LONGEST = 1.5  # of a kept photograph, over its shorter side


def write_pictures(root: Path, *, seed: int, photos: tuple[Path, ...]) -> None:
    """Write those that are missing or damaged, atomically; each depends on seed, number and photograph alone."""
    cut_out = [path for path in photos if _is_cut_out(path)]
    for number, source in enumerate(cut_out):
        _write_thing(root / THINGS / f"{number:08d}.webp", source)
    photos = tuple(path for path in photos if path not in set(cut_out))
    kept = photos[:: -(-len(photos) // MOST_PHOTOS)] if photos else ()
    drawn = DRAWN_BESIDE_PHOTOS if photos else DRAWN
    # Drawn ones lie evenly among the photographs, so that those held out for evaluation are of both kinds.
    order = np.random.default_rng([seed, drawn]).permutation(len(kept) + drawn)
    for number, source in enumerate(order.tolist()):
        path = root / PICTURES / f"{number:08d}.jpg"
        if _is_whole(path, read_image):
            continue
        if source < len(kept):
            picture = _shrunk(user_photo(kept[source]))
        else:
            rng = np.random.default_rng([seed, len(photos), source])
            picture = (random_background(rng, ()) * 255 + 0.5).astype(np.uint8)
            if rng.random() < PERSON_SHARE:
                picture = draw_person(rng, picture)
        with whole_file(path, None) as temporary:
            data = simplejpeg.encode_jpeg(np.ascontiguousarray(picture), quality=QUALITY, colorsubsampling="420")
            temporary.write_bytes(data)


def _is_whole(path: Path, read: Callable[[Path], object]) -> bool:
    try:
        read(path)
    except InputError:
        return False
    return True


def _is_cut_out(path: Path) -> bool:
    """Whether a picture is transparent around what it shows."""
    if path.suffix.lower() not in (".png", ".webp"):
        return False
    with Image.open(path) as header:  # most have no transparency, which decoding each to see it would take long
        if not header.has_transparency_data:
            return False
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None or image.ndim != 3 or image.shape[2] != 4 or image.dtype != np.uint8:
        return False
    return bool(LEAST_CLEAR < (image[..., 3] < 128).mean() < 1 - LEAST_CLEAR)


def _write_thing(path: Path, source: Path) -> None:
    """A cut-out at most THING_PX long, without loss; nothing where it is there."""
    if _is_whole(path, read_thing):
        return
    image = cv2.imread(str(source), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise InputError(f"{source} cannot be read any more; give the same --backgrounds as before.")
    scale = min(THING_PX / max(image.shape[:2]), 1)
    size = (max(round(image.shape[1] * scale), 1), max(round(image.shape[0] * scale), 1))
    small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    with whole_file(path, None) as temporary:
        temporary.write_bytes(lossless(small))


def _shrunk(photo: ByteArray) -> ByteArray:
    """At most PICTURE_PX on the shorter side, and cut to LONGEST times as much on the other."""
    height, width = photo.shape[:2]
    scale = PICTURE_PX / min(height, width)
    if scale < 1:
        size = (max(round(width * scale), PICTURE_PX), max(round(height * scale), PICTURE_PX))
        photo = np.asarray(cv2.resize(photo, size, interpolation=cv2.INTER_AREA), np.uint8)
    height, width = photo.shape[:2]
    most = int(LONGEST * min(height, width))
    top, left = max(height - most, 0) // 2, max(width - most, 0) // 2
    return photo[top : top + most, left : left + most]
