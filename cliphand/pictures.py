"""PNG files that say who wrote them."""

from pathlib import Path

import cv2

from cliphand.arrays import ByteArray
from cliphand.claims import FileKind, marked_png
from cliphand.files import whole_file


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
