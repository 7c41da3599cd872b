"""Photographs to hands with an export folder alone: no PyTorch, no labels.

Positions in the photograph need nothing but the network. Metres need the camera matrix and one known length, bone 9-10
(FreiHAND's `scale`); without them the hand is given in units of its bone 0-9, as a lens of long focal length would see
it: right in shape up to perspective, without a size or a distance.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cliphand.arrays import ByteArray, FloatArray
from cliphand.camera import root_from_scale, uvd_to_camera
from cliphand.config import CropConfig, require
from cliphand.data.crop import FROM_LABELS, Box, crop_box, crop_matrix, cut, normalise, second_look_rad
from cliphand.data.photograph import read_image
from cliphand.errors import InputError
from cliphand.hand import WRIST
from engines.base import Engine, HandOutput
from engines.hands.photograph_camera import Camera
from engines.hands.prepare import prepared_ahead
from engines.hands.steadiness import confidence, moved_boxes, movement

MAX_BOX = 4.0  # sides of a box over the longer side of its photograph
MIN_BOX_PX = 8.0
LONG_LENS = 10.0  # focal length in widths of the crop where the camera is not known
# A photograph's shorter side over the box in its centre, at most: FreiHAND's is 1.7 times the default box, RHD's 2.5.
LARGEST_OVER_BOX = 2.5


@dataclass(frozen=True, slots=True, eq=False)
class Hand:
    """The hand of one photograph.

    Attributes:
        image: its file.
        image_size: width and height of the photograph as it is shown, which is the frame of every pixel here.
        joints_uvd: (21, 3); u and v in widths of the crop, d in bones 0-9 behind the wrist.
        verts_uvd: (778, 3).
        joints_px: (21, 2) pixels of the photograph.
        verts_px: (778, 2).
        joints: (21, 3) metres in the camera frame, or, where `metric` is false, bones 0-9 from the wrist.
        verts: (778, 3) likewise.
        metric: whether `joints` and `verts` are metres.
        K: (3, 3) camera frame to the photograph's pixels: the given one, or the assumed long lens's.
        drawn: (778, 3) vertices in the frame of `K`, for pictures.
        drawn_joints: (21, 3) likewise.
        confidence: from 0 to 1, as `engines.hands.steadiness` measures it.
    """

    image: Path
    image_size: tuple[int, int]
    joints_uvd: FloatArray
    verts_uvd: FloatArray
    joints_px: FloatArray
    verts_px: FloatArray
    joints: FloatArray
    verts: FloatArray
    metric: bool
    K: FloatArray
    drawn: FloatArray
    drawn_joints: FloatArray
    confidence: float


_Prepared = tuple[ByteArray, Box]  # photograph; where the hand is


def _give_up(path: Path, error: InputError) -> None:
    """End the reading at the first photograph that gives no hand."""
    raise error


def read_hands(
    engine: Engine,
    images: Sequence[Path],
    crop: CropConfig,
    *,
    model: Path,
    box: Box | None = None,
    camera: Camera | None = None,
    failed: Callable[[Path, InputError], None] = _give_up,
) -> Iterator[Hand]:
    """The hand of each photograph, the next photograph being read meanwhile.

    Args:
        engine: of the export.
        images: files.
        crop: how the network wants them cut.
        model: the engine's file, for sentences.
        box: where the hand is; None cuts as `crop` says.
        camera: of all photographs; None gives hands without size.
        failed: called with each photograph that gives no hand, and why; the next follows unless it raises, as it does
            where none is given.

    Raises:
        InputError: to `failed`: a photograph cannot be read, the box or the camera does not fit it; or there is no box
            and the crop's rule needs labels, or its centred box is of pictures much smaller than the photograph; or the
            network gives NaN or infinity.
    """

    def prepare(path: Path) -> _Prepared:
        photograph = read_image(path, upright=True)
        shape = (photograph.shape[0], photograph.shape[1])
        return photograph, _own_box(path, crop, shape) if box is None else _within(box, shape, path)

    def attempt(path: Path) -> _Prepared | InputError:
        try:
            return prepare(path)
        except InputError as error:
            return error

    for path, prepared in zip(images, prepared_ahead(attempt, images), strict=True):
        try:
            if isinstance(prepared, InputError):
                raise prepared
            hand = _read(engine, path, prepared, crop, model=model, camera=camera)
        except InputError as error:
            failed(path, error)
        else:
            yield hand


def _read(
    engine: Engine, path: Path, prepared: _Prepared, crop: CropConfig, *, model: Path, camera: Camera | None
) -> Hand:
    """The hand of one prepared photograph; errors as `read_hands`."""
    side = engine.input_size
    photograph, place = prepared
    shape = (photograph.shape[0], photograph.shape[1])
    known = None if camera is None else (camera.matrix(shape), camera.scale_m)

    def look(at: Box) -> tuple[HandOutput, FloatArray]:
        matrix = crop_matrix(at, side)
        output = engine(normalise(cut(photograph, matrix, side_px=side), crop)[None])
        _check_finite(output.joints_uvd, output.verts_uvd, model=model, image=path)
        return output, matrix

    if crop.second_look:
        joints_uvd = look(place)[0].joints_uvd[0].astype(np.float64)
        place = replace(place, angle_rad=place.angle_rad + float(second_look_rad(joints_uvd)))
    looks = [look(each) for each in (place, *moved_boxes(place))]
    first, matrix = looks[0]
    first_px, *moved_px = (
        _to_pixels(output.joints_uvd[0].astype(np.float64), np.linalg.inv(matrix), side) for output, matrix in looks
    )
    made = make_hand(
        path,
        first.joints_uvd[0],
        first.verts_uvd[0],
        shape=shape,
        matrix=matrix,
        side_px=side,
        camera=known,
        confidence=confidence(movement(first_px, np.stack(moved_px))),
    )
    _check_finite(made.joints, made.verts, made.drawn, made.joints_px, made.verts_px, model=model, image=path)
    return made


def _check_finite(*arrays: FloatArray, model: Path, image: Path) -> None:
    """Refuse a hand that no file can hold: outputs that are not numbers, or so flat or large that no hand follows."""
    require(
        all(bool(np.isfinite(array).all()) for array in arrays),
        f"{model} gives no hand for {image}: some of its numbers are NaN or infinite; check the model with "
        "`cliphand inspect`, choose another --engine, or export it again.",
    )


def _within(box: Box, shape: tuple[int, int], path: Path) -> Box:
    """The box, refused where it shows little or nothing of its photograph."""
    height, width = shape
    require(
        0 <= box.centre_x <= width and 0 <= box.centre_y <= height,
        f"the box's centre ({box.centre_x:g}, {box.centre_y:g}) lies outside of {path}, which has {width} x {height} "
        "pixels; give --box X Y SIDE in its pixels.",
    )
    require(
        MIN_BOX_PX <= box.side_px <= MAX_BOX * max(shape),
        f"the box's side is {box.side_px:g} pixels, where {path} of {width} x {height} pixels allows {MIN_BOX_PX:g} to "
        f"{MAX_BOX * max(shape):g}; give --box X Y SIDE about the hand.",
    )
    return box


def require_place(crop: CropConfig) -> None:
    """Refuse a crop that a photograph alone does not tell.

    Raises:
        InputError: its rule needs labels.
    """
    require(
        crop.rule not in FROM_LABELS,
        f"this model looks at a square around the hand's {crop.rule} (crop rule '{crop.rule}'), which a photograph "
        "without labels does not tell; say where the hand is with --box X Y SIDE.",
    )


def _own_box(path: Path, crop: CropConfig, shape: tuple[int, int]) -> Box:
    """The box of the export's crop, where that can be what holds the hand."""
    require_place(crop)
    found = crop_box(crop, shape)
    require(
        found.side_px * LARGEST_OVER_BOX >= min(shape),
        f"{path} is {shape[1]} x {shape[0]} px; this model looks at the central {found.side_px:g} px of smaller "
        "pictures. Say where the hand is with --box X Y SIDE.",
    )
    return found


def make_hand(
    image: Path,
    joints_uvd: FloatArray,
    verts_uvd: FloatArray,
    *,
    shape: tuple[int, int],
    matrix: FloatArray,
    side_px: int,
    camera: tuple[FloatArray, float] | None,
    confidence: float,
) -> Hand:
    """Everything that follows from one image's uvd.

    Args:
        image: its file.
        joints_uvd: (21, 3).
        verts_uvd: (778, 3).
        shape: height and width of the photograph.
        matrix: (3, 3) source pixels to crop pixels.
        side_px: of the crop.
        camera: K of the photograph and the length of bone 9-10 in metres; None assumes a long lens.
        confidence: of the hand.
    """
    joints, verts = joints_uvd.astype(np.float64), verts_uvd.astype(np.float64)
    to_photograph = np.linalg.inv(matrix)
    middle = (side_px - 1) / 2
    lens = np.array([[LONG_LENS * side_px, 0, middle], [0, LONG_LENS * side_px, middle], [0, 0, 1]])
    K, scale_m = (to_photograph @ lens, 1.0) if camera is None else camera
    crop_K = matrix @ K
    depth, bone = root_from_scale(joints, crop_K, side_px=side_px, scale_m=np.array(scale_m))
    joints_m, verts_m = (
        uvd_to_camera(points, crop_K, side_px=side_px, root_depth_m=depth, bone_m=bone) for points in (joints, verts)
    )
    wrist = joints_m[WRIST]
    return Hand(
        image=image,
        image_size=(shape[1], shape[0]),
        joints_uvd=joints,
        verts_uvd=verts,
        joints_px=_to_pixels(joints, to_photograph, side_px),
        verts_px=_to_pixels(verts, to_photograph, side_px),
        joints=(joints_m - wrist) / bone if camera is None else joints_m,
        verts=(verts_m - wrist) / bone if camera is None else verts_m,
        metric=camera is not None,
        K=K,
        drawn=verts_m,
        drawn_joints=joints_m,
        confidence=confidence,
    )


def _to_pixels(uvd: FloatArray, to_photograph: FloatArray, side_px: int) -> FloatArray:
    """(N, 3) uvd to (N, 2) pixels of the photograph."""
    homogeneous = np.column_stack([uvd[:, :2] * side_px, np.ones(len(uvd))]) @ to_photograph.T
    return np.asarray(homogeneous[:, :2] / homogeneous[:, 2:])
