"""The pictures that a set in layers keeps to put behind and before its hands: drawn ones, and the user's."""

from pathlib import Path

import cv2
import numpy as np
import simplejpeg

from cliphand.arrays import ByteArray
from cliphand.data.layers.scenery import PICTURES
from cliphand.data.synthetic.background import random_background, user_photo
from cliphand.data.synthetic.people import draw_person
from cliphand.files import whole_file

DRAWN, DRAWN_BESIDE_PHOTOS = 500, 200
MOST_PHOTOS = 2000
PICTURE_PX = 256  # shorter side of a kept photograph
PERSON_SHARE = 0.35  # of the drawn ones
QUALITY = 90
LONGEST = 1.5  # of a kept photograph, over its shorter side


def write_pictures(root: Path, *, seed: int, photos: tuple[Path, ...]) -> None:
    """Write those that are missing, atomically; each depends on the seed, its number and its photograph alone."""
    kept = photos[:: -(-len(photos) // MOST_PHOTOS)] if photos else ()
    drawn = DRAWN_BESIDE_PHOTOS if photos else DRAWN
    # Drawn ones lie evenly among the photographs, so that those held out for evaluation are of both kinds.
    order = np.random.default_rng([seed, drawn]).permutation(len(kept) + drawn)
    for number, source in enumerate(order.tolist()):
        path = root / PICTURES / f"{number:08d}.jpg"
        if path.exists():
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
