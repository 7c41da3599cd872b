"""PNG files that say who wrote them, and captions under what they show."""

from pathlib import Path

import cv2
import numpy as np

from cliphand.arrays import ByteArray
from cliphand.claims import FileKind, marked_png
from cliphand.files import whole_file

CAPTION_PX = 22
PAPER = 245  # grey of what is not photograph


def write_png(path: Path, picture: ByteArray, kind: FileKind) -> None:
    """Write an (H, W, 3) RGB picture, atomically and with the mark of its kind, which is all that may be overwritten.

    Raises:
        InputError: something else stands at `path`.
        OSError: it cannot be written.
    """
    encoded, content = cv2.imencode(".png", picture[..., ::-1])
    if not encoded:
        raise OSError(f"OpenCV could not encode the picture for {path}")
    with whole_file(path, kind) as temporary:
        temporary.write_bytes(marked_png(content.tobytes(), kind.writer))


def caption(text: str, width: int) -> ByteArray:
    """(CAPTION_PX, width, 3) a line of text on paper."""
    strip = np.full((CAPTION_PX, width, 3), PAPER, np.uint8)
    plain = text.encode("ascii", "replace").decode()  # OpenCV draws no other letters
    cv2.putText(strip, plain, (6, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (40, 40, 40), 1, cv2.LINE_AA)
    return strip
