"""cliphand.data.photograph: what is read, what it looks like afterwards, and what is refused."""

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from cliphand.data.photograph import MASK_THRESHOLD, image_size, read_image, read_mask
from cliphand.errors import InputError

NOISE = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
THUMBNAIL = b"\xff\xe1\x00\x0cExif\x00\x00\xff\xd9\x00\x00"  # a segment that holds an end marker


def jpeg(image: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", image)[1].tobytes()


def test_images_are_read_as_rgb(tmp_path: Path) -> None:
    image = np.zeros((4, 6, 3), np.uint8)
    image[..., 0] = 250
    cv2.imwrite(str(tmp_path / "red.png"), image[..., ::-1])
    np.testing.assert_array_equal(read_image(tmp_path / "red.png"), image)


def test_a_grey_image_has_three_channels(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((4, 6), 7, np.uint8))
    np.testing.assert_array_equal(read_image(tmp_path / "grey.png"), np.full((4, 6, 3), 7, np.uint8))


@pytest.mark.parametrize("level", [np.uint8(40), np.uint16(40 * 256 + 16)])
def test_an_image_of_16_bits_a_channel_has_three_bytes(level: np.generic, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "image.png"), np.full((4, 6, 3), level))
    np.testing.assert_array_equal(read_image(tmp_path / "image.png"), np.full((4, 6, 3), 40, np.uint8))


def test_an_opaque_alpha_channel_changes_nothing(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (4, 6, 4), dtype=np.uint8)
    image[..., 3] = 255
    Image.fromarray(image).save(tmp_path / "image.png")
    np.testing.assert_array_equal(read_image(tmp_path / "image.png"), image[..., :3])


def test_a_jpeg_gives_the_pixels_that_opencv_gives(tmp_path: Path) -> None:
    path = tmp_path / "hand.jpg"
    path.write_bytes(jpeg(NOISE))
    np.testing.assert_array_equal(read_image(path), cv2.imread(str(path))[..., ::-1])
    np.testing.assert_array_equal(read_mask(path), cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) >= MASK_THRESHOLD)


def test_the_header_alone_tells_the_size(tmp_path: Path) -> None:
    for suffix in (".jpg", ".png", ".webp"):
        cv2.imwrite(str(tmp_path / f"image{suffix}"), np.zeros((24, 40, 3), np.uint8))
        assert image_size(tmp_path / f"image{suffix}") == (24, 40)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_shown_upright_where_it_is_asked_for(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.kron(NOISE[:5, :3], np.ones((16, 16, 1), np.uint8)))
    for name in ("photo.jpg", "photo.png", "photo.webp"):
        stored.save(tmp_path / name, exif=exif)
        with Image.open(tmp_path / name) as image:
            expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
        upright = read_image(tmp_path / name, upright=True)
        assert upright.shape == expected.shape
        np.testing.assert_allclose(upright.astype(int), expected, atol=4)  # two decoders' chroma


def test_a_mask_is_true_where_its_file_is_bright(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "mask.png"), np.array([[0, 20, 127], [128, 240, 255]], np.uint8))
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), [[False] * 3, [True] * 3])


def png_of_size(side: int) -> bytes:
    """A PNG file that claims to be `side` pixels wide and high."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", b""), (b"IEND", b""))
    body = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


UNREADABLE = {
    "too large": (png_of_size(40000), "more than 200 million pixels"),
    "empty": (b"", "is an empty file"),
    "text": (b"this is no photograph", "not an image"),
    "cut in half": (jpeg(NOISE)[:2000], "truncated"),
    "without end marker": (jpeg(NOISE)[:-2], "truncated"),
    "cut, with a whole thumbnail": (b"\xff\xd8" + THUMBNAIL + jpeg(NOISE)[2:2000], "truncated"),
    "cut PNG": (cv2.imencode(".png", NOISE)[1].tobytes()[:3000], "truncated"),
    "broken header": (b"\xff\xd8\xff\xda\x00\x00\xff\xd9", "truncated or damaged"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_an_unreadable_image_is_an_error_that_names_it(case: str, tmp_path: Path) -> None:
    data, reason = UNREADABLE[case]
    path = tmp_path / "hand.jpg"
    path.write_bytes(data)
    with pytest.raises(InputError, match=reason) as raised:
        read_image(path)
    assert str(path) in str(raised.value)


def test_a_missing_image_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.jpg does not exist; give the path"):
        read_image(tmp_path / "none.jpg")


@pytest.mark.parametrize("trailer", [b"", b"\x00\x00", b"a maker's note after the picture"])
@pytest.mark.parametrize("header", [b"", THUMBNAIL, b"\xff" + THUMBNAIL])
def test_a_complete_jpeg_is_read_whatever_stands_around_it(header: bytes, trailer: bytes, tmp_path: Path) -> None:
    path = tmp_path / "hand.jpg"
    path.write_bytes(b"\xff\xd8" + header + jpeg(NOISE)[2:] + trailer)
    assert read_image(path).shape == (64, 64, 3)
