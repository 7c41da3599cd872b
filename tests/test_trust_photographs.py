"""Photographs that cannot be read rightly are refused by every command that reads them; odd ones are read rightly.

Each row of the tables is one bad file: exit code 2, one sentence that names it and the remedy, and nothing written.
"""

import io
import json
import re
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from linear_hand import save_export
from PIL import Image
from refusal import refused, run

from cliphand.config import CropConfig
from cliphand.data.photograph import read_image
from cliphand.hand import HandTopology

SIZE = (48, 64)  # height, width
PICTURE = np.random.default_rng(3).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
JPEG_END = b"\xff\xd9"


def encoded(kind: str, picture: Image.Image | None = None, **options: object) -> bytes:
    stream = io.BytesIO()
    (picture or Image.fromarray(PICTURE)).save(stream, kind, **options)
    return stream.getvalue()


def oriented(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def flipped(data: bytes, share: float, count: int = 24) -> bytes:
    """Bytes in the middle of a file turned over."""
    start = int(share * len(data))
    return data[:start] + bytes(byte ^ 0xFF for byte in data[start : start + count]) + data[start + count :]


def declared(data: bytes, height: int, width: int) -> bytes:
    """A JPEG whose header declares another size."""
    frame = data.index(b"\xff\xc0") + 5
    return data[:frame] + struct.pack(">HH", height, width) + data[frame + 4 :]


def png_chunks(*chunks: tuple[bytes, bytes]) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


def png_header(side: int) -> tuple[bytes, bytes]:
    return b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)


def frames(kind: str) -> bytes:
    first = Image.fromarray(PICTURE)
    return encoded(kind, first, save_all=True, append_images=[Image.fromarray(255 - PICTURE)])


JPEG, PROGRESSIVE = encoded("JPEG", quality=90), encoded("JPEG", quality=90, progressive=True)
PNG, WEBP = encoded("PNG"), encoded("WEBP", lossless=True)
RGBA, OPAQUE = (np.dstack([PICTURE, np.full(SIZE, alpha, np.uint8)]) for alpha in (128, 255))
# what is wrong: the file's bytes, and what the sentence says
DAMAGED: dict[str, tuple[bytes, str]] = {
    "an empty file": (b"", "is an empty file"),
    "text": (b"no photograph at all", "is not an image that can be read here"),
    "a JPEG's first two bytes": (JPEG[:2], "truncated or damaged"),
    "a JPEG's header alone": (JPEG[:200], "truncated or damaged"),
    "half a JPEG": (JPEG[: len(JPEG) // 2], "truncated or damaged"),
    "half a JPEG with an end marker": (JPEG[: len(JPEG) // 2] + JPEG_END, "truncated or damaged"),
    "most of a JPEG with an end marker": (JPEG[: int(0.95 * len(JPEG))] + JPEG_END, "truncated or damaged"),
    "half a progressive JPEG with an end marker": (
        PROGRESSIVE[: len(PROGRESSIVE) // 2] + JPEG_END,
        "truncated or damaged",
    ),
    "a JPEG without an end marker": (JPEG[:-2], "truncated or damaged"),
    "a JPEG with altered bytes": (flipped(JPEG, 0.6), "truncated or damaged"),
    "a JPEG with a hole": (JPEG[:1500] + b"\0" * 400 + JPEG[1900:], "truncated or damaged"),
    "a JPEG of 65500 x 65500 pixels": (declared(JPEG, 65500, 65500), "more than 200 million pixels"),
    "a JPEG that declares more rows than it has": (declared(JPEG, 4000, 64), "truncated or damaged"),
    "a JPEG of no pixels": (declared(JPEG, 0, 0), "truncated or damaged"),
    "a CMYK JPEG": (encoded("JPEG", Image.fromarray(PICTURE).convert("CMYK")), "made for print; save it as RGB"),
    "a PNG's header alone": (PNG[:33], "truncated or damaged|not an image"),
    "half a PNG": (PNG[: len(PNG) // 2], "truncated or damaged"),
    "a PNG with altered bytes": (flipped(PNG, 0.5), "truncated or damaged"),
    "a PNG without pixels": (png_chunks(png_header(64), (b"IEND", b"")), "truncated or damaged"),
    "a PNG of 60000 x 60000 pixels": (
        png_chunks(png_header(60000), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")),
        "more than 200 million pixels",
    ),
    "a PNG of 16 bits in one channel": (
        cv2.imencode(".png", np.full(SIZE, 4000, np.uint16))[1].tobytes(),
        "save it with 8 bits a channel",
    ),
    "a transparent PNG": (encoded("PNG", Image.fromarray(RGBA)), "transparent pixels"),
    "an animated PNG": (frames("PNG"), "holds 2 pictures"),
    "an animated WebP": (frames("WEBP"), "holds 2 pictures"),
    "half a WebP": (WEBP[: len(WEBP) // 2], "truncated or damaged|not an image"),
    "a GIF": (encoded("GIF"), "not an image that can be read here; give a JPEG, PNG, WebP or BMP file"),
    "a TIFF": (encoded("TIFF"), "not an image that can be read here"),
    "a HEIC": (b"\0\0\0\x18ftypheic" + b"\0" * 100, "HEIF or AVIF picture; save it as JPEG"),
    "an AVIF": (b"\0\0\0\x18ftypavif" + b"\0" * 100, "HEIF or AVIF picture; save it as JPEG"),
}


@pytest.fixture(scope="module")
def export(hand_topology: HandTopology, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_export(tmp_path_factory.mktemp("predict") / "export", hand_topology)


@pytest.fixture(scope="module")
def intact(freihand_folder: Callable[..., Path]) -> Path:
    return freihand_folder(n_labels=1, size_px=64)


@pytest.mark.parametrize("case", DAMAGED)
def test_predict_refuses_what_it_cannot_read_rightly(
    case: str, export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, says = DAMAGED[case]
    path = tmp_path / "photo.jpg"
    path.write_bytes(data)
    sentence = refused(capsys, "predict", path, "--export", export, "--no-cache", watched=tmp_path)
    assert str(path) in sentence
    assert re.search(says, sentence), sentence


TO_BE_TURNED = (encoded("JPEG", exif=oriented(6)), "EXIF orientation .6. .* write it again upright")
IN_A_DATA_SET = ("half a JPEG with an end marker", "a JPEG with altered bytes", "a CMYK JPEG", "a GIF", "text")


@pytest.mark.parametrize("case", [*IN_A_DATA_SET, "a JPEG to be turned"])
@pytest.mark.parametrize("kind", ["rgb", "mask"])
def test_data_check_refuses_them_as_images_and_as_masks(
    case: str, kind: str, intact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if (case, kind) == ("a JPEG to be turned", "mask"):
        pytest.skip("masks carry no orientation")
    data, says = DAMAGED.get(
        case, (encoded("JPEG", exif=oriented(6)), "EXIF orientation .6. .* write it again upright")
    )
    folder = shutil.copytree(intact, tmp_path / "data")
    path = folder / "training" / kind / "00000000.jpg"
    path.write_bytes(data)
    sentence = refused(capsys, "data", "check", folder, watched=folder)
    assert str(path) in sentence
    assert re.search(says, sentence), sentence


def test_bench_refuses_a_damaged_photograph(
    intact: Path, export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(intact, tmp_path / "data")
    path = folder / "evaluation" / "rgb" / "00000000.jpg"
    path.write_bytes(path.read_bytes()[:1500] + JPEG_END)
    sentence = refused(capsys, "bench", export, "--data", folder, watched=tmp_path)
    assert f"{path} is a truncated or damaged image" in sentence


WHOLE: dict[str, tuple[bytes, int]] = {  # the file's bytes, and by how much its pixels may differ from the picture's
    "a JPEG": (JPEG, 255),
    "a grey JPEG": (encoded("JPEG", Image.fromarray(PICTURE).convert("L")), 255),
    "a progressive JPEG": (PROGRESSIVE, 255),
    "a PNG": (PNG, 0),
    "a PNG of 16 bits a channel": (cv2.imencode(".png", PICTURE[..., ::-1].astype(np.uint16) * 257)[1].tobytes(), 0),
    "a PNG with an opaque alpha channel": (
        encoded("PNG", Image.fromarray(OPAQUE)),
        0,
    ),
    "a WebP": (WEBP, 0),
    "a BMP": (encoded("BMP"), 0),
}


@pytest.mark.parametrize("case", WHOLE)
def test_predict_reads_whole_photographs_of_every_kind(
    case: str, export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, tolerance = WHOLE[case]
    path = tmp_path / "photo.jpg"
    path.write_bytes(data)
    code, _, err = run(capsys, "predict", path, "--export", export, "--no-cache")
    assert code == 0, err
    assert np.abs(read_image(path).astype(int) - PICTURE).max() <= tolerance
    assert json.loads((tmp_path / "photo.hand.json").read_text())["image"] == str(path)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_predict_counts_pixels_in_the_picture_that_it_writes(
    orientation: int, export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A phone stores its sensor's rows and an orientation: coordinates are those of the picture as it is shown."""
    path = tmp_path / "photo.png"
    path.write_bytes(encoded("PNG", exif=oriented(orientation)))
    upright = read_image(path, upright=True)
    Image.fromarray(upright).save(tmp_path / "upright.png")
    for name in ("photo.png", "upright.png"):
        assert run(capsys, "predict", tmp_path / name, "--export", export, "--no-cache")[0] == 0
    written = [json.loads((tmp_path / f"{name}.hand.json").read_text()) for name in ("photo", "upright")]
    assert written[0]["joints_px"] == written[1]["joints_px"]
    assert written[0]["image_size"] == [upright.shape[1], upright.shape[0]]
    drawn = [cv2.imread(str(tmp_path / f"{name}.hand.png")) for name in ("photo", "upright")]
    np.testing.assert_array_equal(*drawn)


K = [[60.0, 0.0, 32.0], [0.0, 60.0, 24.0], [0.0, 0.0, 1.0]]
METRES = ("--bone-mm", "30")
# what is asked of a photograph of 64 x 48 pixels: options, the camera's file, and what is said
IMPOSSIBLE: dict[str, tuple[tuple[str, ...], object, str]] = {
    "a box to the left": (("--box", "-50", "20", "40"), None, "centre .* lies outside of .* 64 x 48 pixels"),
    "a box below": (("--box", "30", "400", "40"), None, "lies outside of"),
    "a box of another photograph": (("--box", "2000", "1500", "800"), None, "lies outside of"),
    "a box far too large": (("--box", "30", "20", "5000"), None, "the box's side is 5000 pixels"),
    "a box of a pixel": (("--box", "30", "20", "1"), None, "the box's side is 1 pixels"),
    "a bone in metres": (
        ("--focal", "60", "--bone-mm", "0.03"),
        None,
        "is 0.03 mm long.* give .* in millimetres",
    ),
    "a bone of a giant": (("--focal", "60", "--bone-mm", "300"), None, "hands have 10 to 80 mm"),
    "a focal length in millimetres": (("--focal", "4", *METRES), None, "--focal is 4 pixels.* give it in pixels"),
    "a focal length of another camera": (("--focal", "90000", *METRES), None, "--focal is 90000 pixels"),
    "K upside down": (METRES, K[::-1], r"it must be \[\[fx, s, cx\]"),
    "K transposed": (METRES, np.transpose(K).tolist(), r"it must be \[\[fx, s, cx\]"),
    "K mirrored": (METRES, [[-60, 0, 32], *K[1:]], "positive focal lengths"),
    "K without a focal length": (METRES, [[0, 0, 32], *K[1:]], "positive focal lengths"),
    "K in shares of the image": (METRES, [[0.9, 0, 0.5], [0, 0.9, 0.5], K[2]], "give K in the photograph's own pixels"),
    "K of a larger photograph": (METRES, [[3000, 0, 2000], [0, 3000, 1500], K[2]], "own pixels"),
    "K as a list": (METRES, [60, 32, 24], "a matrix of 3 rows and 3 columns"),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_predict_refuses_boxes_cameras_and_bones_that_cannot_be(
    case: str, export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options, camera, says = IMPOSSIBLE[case]
    path = tmp_path / "photo.jpg"
    path.write_bytes(JPEG)
    if camera is not None:
        (tmp_path / "camera.json").write_text(json.dumps({"K": camera}))
        options = (*options, "--intrinsics", str(tmp_path / "camera.json"))
    sentence = refused(capsys, "predict", path, "--export", export, "--no-cache", *options, watched=tmp_path)
    assert re.search(says, sentence), sentence


@pytest.mark.parametrize("rule", ["joints", "mask"])
def test_a_model_whose_crop_needs_labels_asks_for_a_box(
    rule: str,
    hand_topology: HandTopology,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    export = save_export(tmp_path / "export", hand_topology, crop=CropConfig(rule=rule))
    path = tmp_path / "photo.jpg"
    path.write_bytes(JPEG)
    common = ("predict", path, "--export", export, "--no-cache")
    with monkeypatch.context() as patch:
        patch.setattr("engines.choice.choose.choose_engine", lambda *_, **__: pytest.fail("an engine was looked for"))
        sentence = refused(capsys, *common, watched=tmp_path)
    assert f"crop rule '{rule}'" in sentence
    assert "--box X Y SIDE" in sentence
    assert run(capsys, *common, "--box", 30, 20, 40)[0] == 0


def test_predict_says_how_sure_it_is(export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The export's model answers to the mean colour alone: what it gives moves with the crop."""
    path = tmp_path / "photo.jpg"
    path.write_bytes(JPEG)
    code, out, _ = run(capsys, "predict", path, "--export", export, "--no-cache")
    assert code == 0
    assert "in doubt: there may be no hand here" in out
    assert json.loads((tmp_path / "photo.hand.json").read_text())["confidence"] < 0.5
    assert "no promise of accuracy" in json.loads((tmp_path / "photo.hand.json").read_text())["confidence_of"]


def test_links_in_a_circle_are_refused_as_photograph_and_as_place(
    export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (loop := tmp_path / "loop.jpg").symlink_to("loop.jpg")
    assert f"{loop}" in refused(capsys, "predict", loop, "--export", export, "--no-cache", watched=export)
    (photo := tmp_path / "photo.jpg").write_bytes(JPEG)
    common = ("--export", export, "--no-cache", "--out", loop)
    assert f"{loop}" in refused(capsys, "predict", photo, *common, watched=export)


def test_no_engine_is_opened_where_no_photograph_can_be_read(
    export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engines.choice.choose.choose_engine", lambda *_, **__: pytest.fail("an engine was looked for"))
    (tmp_path / "b.jpg").write_bytes(b"no photograph")
    names = [tmp_path / name for name in ("b.jpg", "absent.jpg")]
    said = refused(capsys, "predict", *names, "--export", export, "--no-cache", watched=tmp_path)
    assert said.startswith("0 of 2 photographs were done")


@pytest.mark.parametrize("case", ["text", "absent", "a folder"])
def test_what_is_no_photograph_costs_no_other_its_hand(
    case: str, export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [tmp_path / name for name in ("a.jpg", "bad.png", "c.jpg")]
    for path in names[::2]:
        path.write_bytes(JPEG)
    make = {"text": lambda: names[1].write_text("mine"), "absent": lambda: None, "a folder": names[1].mkdir}
    make[case]()
    common = ("--export", export, "--no-cache", "--no-picture", "--out", tmp_path / "out")
    code, _, err = run(capsys, "predict", *names, *common)
    assert code == 2
    told, last = err.splitlines()
    assert told.startswith(f"{names[1]} ")
    assert last.startswith("cliphand: 2 of 3 photographs were done")
    assert str(names[1]) in last
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.hand.json", "c.hand.json"]


def test_a_photograph_that_fails_is_told_and_the_others_are_done(
    export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [tmp_path / name for name in ("a.jpg", "half.jpg", "c.jpg")]
    for path in names:
        path.write_bytes(JPEG)
    common = ("predict", *names, "--export", export, "--no-cache", "--no-picture")
    code, out, _ = run(capsys, *common, "--out", tmp_path / "whole")
    assert (code, out.splitlines()[-1]) == (0, "3 of 3 photographs were done.")
    names[1].write_bytes(JPEG[: len(JPEG) // 2] + JPEG_END)
    code, _, err = run(capsys, *common, "--out", tmp_path / "out")
    assert code == 2
    assert f"{names[1]} is a truncated or damaged image" in err
    assert "cliphand: 2 of 3 photographs were done" in err.splitlines()[-1]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.hand.json", "c.hand.json"]
