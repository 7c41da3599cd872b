"""The user's pictures for backgrounds: which can be used, and what tells them from others."""

import hashlib
import io
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import simplejpeg
from PIL import Image

from cliphand.data.synthetic.background import list_photos

LEAST_PX = 8
FINE_FACTOR = 8  # a JPEG is looked at this much smaller: as sure, and several times as fast
_JPEG_START = b"\xff\xd8"


class Photos(NamedTuple):
    """What a folder offers.

    Attributes:
        used: pictures, by name.
        left_out: files with a picture's name that cannot be read as one, or are of less than LEAST_PX.
        sha256: of the content of both; empty without any.
    """

    used: tuple[Path, ...] = ()
    left_out: tuple[Path, ...] = ()
    sha256: str = ""


NO_PHOTOS = Photos()


def look_at_photos(folder: Path) -> Photos:
    """Read every picture of a folder and its subfolders once."""
    paths = list_photos(folder)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads:
        seen = list(threads.map(_look_at, paths))
    digest = hashlib.sha256(b"".join(one for one, _ in seen))
    sound = {path: good for path, (_, good) in zip(paths, seen, strict=True)}
    return Photos(
        tuple(path for path in paths if sound[path]),
        tuple(path for path in paths if not sound[path]),
        digest.hexdigest() if paths else "",
    )


def _look_at(path: Path) -> tuple[bytes, bool]:
    """SHA-256 of a file, and whether it is a picture."""
    data = path.read_bytes()
    return hashlib.sha256(data).digest(), _is_picture(data)


def _is_picture(data: bytes) -> bool:
    try:
        if data.startswith(_JPEG_START):
            height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
            space = "CMYK" if colours in ("CMYK", "YCCK") else "GRAY"
            simplejpeg.decode_jpeg(data, colorspace=space, min_factor=FINE_FACTOR)
        else:
            with Image.open(io.BytesIO(data)) as image:
                width, height = image.size
                image.verify()
    except Exception:  # whatever a library makes of bytes that are no picture
        return False
    return bool(min(height, width) >= LEAST_PX)
