"""`cliphand predict`: hands of photographs, with an export folder and without PyTorch."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cliphand.cli.options import Threads, Trust, takes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cliphand.arrays import IntArray
    from cliphand.config import CropConfig
    from cliphand.errors import InputError
    from engines.choice.choose import EngineChoice
    from engines.hands.photograph_camera import Camera
    from engines.hands.reader import Hand

JSON_SUFFIX, PICTURE_SUFFIX = ".hand.json", ".hand.png"


@dataclass(frozen=True, slots=True)
class PredictOptions:
    """Which photographs, how they are read, and where the hands go."""

    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Photographs, one hand in each.")]
    export: Annotated[
        Path | None,
        typer.Option("--export", help="Folder that `cliphand export` wrote.", show_default="the shipped model's"),
    ] = None
    engine: Annotated[
        str,
        typer.Option(
            help="What runs the network: tensorrt, tensorrt-rtx, onnxruntime-cuda, openvino, onnxruntime (ort), "
            "openvino-reduced, inductor, or auto: the fastest here of those whose graph passed its gate."
        ),
    ] = "auto"
    trust: Trust = False
    out: Annotated[Path | None, typer.Option("--out", help="Folder to write to.", show_default="beside each image")] = (
        None
    )
    box: Annotated[
        tuple[float, float, float] | None,
        typer.Option(
            metavar="X Y SIDE",
            help="Square around the hand: its centre and its side, in pixels of the photograph.",
            show_default="the model's own crop; larger photographs need a box",
        ),
    ] = None
    focal: Annotated[
        float | None,
        typer.Option(help="For metres: focal length in pixels; the picture's centre is the principal point."),
    ] = None
    intrinsics: Annotated[
        Path | None, typer.Option(help='For metres: JSON file with the camera matrix, {"K": [[...], [...], [...]]}.')
    ] = None
    bone_mm: Annotated[
        float | None,
        typer.Option(help="For metres: length of the middle finger's first phalanx (joints 9-10) in millimetres."),
    ] = None
    picture: Annotated[bool, typer.Option("--picture/--no-picture", help="Draw the hand over the photograph.")] = True
    threads: Threads = None
    cache: Annotated[
        Path | None,
        typer.Option(help="Folder in which OpenVINO keeps compiled models.", show_default="~/.cache/cliphand/openvino"),
    ] = None
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Keep no compiled model.")] = False


@takes(PredictOptions)
def predict(options: PredictOptions) -> None:
    """Predict the hand in each photograph: a JSON file and a picture.

    With a camera (--focal or --intrinsics) and --bone-mm the hand is in metres in the camera's frame. Without, its unit
    is bone 0-9, from the wrist to the middle finger's knuckle. Pixels are those of the photograph as it is shown,
    turned as its EXIF orientation says. The confidence (0 to 1) falls with how far the hand moves when the crop is
    moved a little: below 0.5 there may be no hand. It tells of a hand being there and is no promise of accuracy. A
    photograph that cannot be done is named, the others are done, and the exit code is 2.
    """
    from cliphand.pretrained import shipped_export, told
    from engines.artefact.manifest import mesh_warnings, open_hand, read_manifest
    from engines.choice.choose import choose_engine
    from engines.hands.reader import require_place

    camera = _camera(focal=options.focal, intrinsics=options.intrinsics, bone_mm=options.bone_mm)
    failures = Failures(alone=len(options.images) == 1)
    targets = _targets(options.images, options.out)
    readable = _readable(options.images, failures)
    source = options.export or shipped_export(instead="give --export DIR, a folder that `cliphand export` wrote")
    manifest = read_manifest(source)
    if options.box is None:
        require_place(manifest.crop)
    faces = open_hand(manifest, source).faces
    choice = choose_engine(source, manifest, options.engine, trust=options.trust)
    if options.export is None:
        typer.echo(f"{told()}.")
    typer.echo(f"{choice.why}.")
    for sentence in mesh_warnings(manifest.training):
        typer.echo(f"WARNING: {sentence}.", err=True)
    for hand, precision in _hands(options, choice, readable, manifest.crop, camera=camera, failures=failures):
        target, drawing = targets[hand.image]
        _write(hand, target, choice, precision)
        typer.echo(f"{hand.image} -> {target} ({_sure(hand)})")
        if options.picture:
            _draw(hand, drawing, faces)
    failures.conclude(len(options.images))


def _hands(
    options: PredictOptions,
    choice: "EngineChoice",
    photographs: list[Path],
    crop: "CropConfig",
    *,
    camera: "Camera | None",
    failures: "Failures",
) -> "Iterator[tuple[Hand, str]]":
    """Each hand, with the precision of the engine that found it."""
    from cliphand.data.crop import Box
    from engines.hands.reader import read_hands
    from engines.open import open_engine

    box = None if options.box is None else Box(*options.box)
    cache = None if options.no_cache else options.cache or cache_folder()
    with open_engine(
        choice.path, threads=options.threads, engine=choice.runner, cache=cache, trust=options.trust
    ) as opened:
        for hand in read_hands(
            opened, photographs, crop, model=choice.path, box=box, camera=camera, failed=failures.tell
        ):
            yield hand, opened.precision


class Failures:
    """Photographs that could not be read, each told as it fails; one that is `alone` ends the command."""

    def __init__(self, *, alone: bool) -> None:
        self.alone = alone
        self.images: list[Path] = []

    def tell(self, image: Path, error: "InputError") -> None:
        """Tell of one, or end the command with its error."""
        if self.alone:
            raise error
        self.images.append(image)
        typer.echo(f"{error}", err=True)

    def conclude(self, asked: int) -> None:
        """Say how many of those that were asked for are done.

        Raises:
            InputError: not all.
        """
        from cliphand.errors import InputError

        done = f"{asked - len(self.images)} of {asked} photographs were done"
        if self.images:
            raise InputError(f"{done}; what hinders the others is told above, beginning with {self.images[0]}.")
        if not self.alone:
            typer.echo(f"{done}.")


def _sure(hand: "Hand") -> str:
    from engines.hands.steadiness import DOUBT_BELOW

    doubt = "; in doubt: there may be no hand here, or none that this model can read"
    return f"confidence {hand.confidence:.2f}{doubt if hand.confidence < DOUBT_BELOW else ''}"


def _readable(images: list[Path], failures: Failures) -> list[Path]:
    """The photographs whose headers can be read, which is known before anything that takes long; the others are told.

    Raises:
        InputError: there is none.
    """
    from cliphand.data.photograph import image_size
    from cliphand.errors import InputError

    readable = []
    for image in images:
        try:
            image_size(image)
        except InputError as error:
            failures.tell(image, error)
        else:
            readable.append(image)
    if not readable:
        failures.conclude(len(images))
    return readable


def _targets(images: list[Path], out: Path | None) -> dict[Path, tuple[Path, Path]]:
    """Where each photograph's JSON file and picture go.

    Raises:
        InputError: two photographs would share a file, a file would replace a photograph, or something else is there.
    """
    from cliphand.claims import check_file
    from cliphand.config import require
    from cliphand.kinds import PREDICTED_HAND, PREDICTED_PICTURE

    # realpath, since Path.resolve raises where links lead in a circle; what is there is checked below
    targets: dict[Path, tuple[Path, Path]] = {}
    owners: dict[str, Path] = {}
    photographs = {os.path.realpath(image) for image in images}
    for image in images:
        place = out or image.parent
        targets[image] = (place / (image.stem + JSON_SUFFIX), place / (image.stem + PICTURE_SUFFIX))
        other = owners.setdefault(os.path.realpath(targets[image][0]), image)
        require(
            os.path.realpath(other) == os.path.realpath(image),
            f"{other} and {image} would both be written to {targets[image][0]}; give them in separate calls with "
            "separate --out folders.",
        )
        for target, kind in zip(targets[image], (PREDICTED_HAND, PREDICTED_PICTURE), strict=True):
            require(
                os.path.realpath(target) not in photographs, f"{target} is one of the photographs; name another --out."
            )
            check_file(target, kind)
    return targets


def cache_folder() -> Path:
    """Where programs of this user keep what can be made again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cliphand" / "openvino"


def _camera(*, focal: float | None, intrinsics: Path | None, bone_mm: float | None) -> "Camera | None":
    """The camera, where it and a length are known."""
    import numpy as np

    from cliphand.camera import MM_PER_M
    from cliphand.config import require
    from cliphand.files import read_json_object
    from engines.hands.photograph_camera import Camera

    known = focal is not None or intrinsics is not None
    require(known == (bone_mm is not None), "metres need both a camera (--focal or --intrinsics) and --bone-mm.")
    require(focal is None or intrinsics is None, "--focal and --intrinsics both describe the camera; give one.")
    require(bone_mm is None or bone_mm > 0, f"--bone-mm is {bone_mm}; it must be positive.")
    require(focal is None or focal > 0, f"--focal is {focal}; it must be positive.")
    if bone_mm is None:
        return None
    if intrinsics is None:
        return Camera(bone_mm / MM_PER_M, focal_px=focal)
    try:
        K = np.array(read_json_object(intrinsics).get("K"), dtype=np.float64)
    except (TypeError, ValueError):
        K = np.empty(0)
    require(K.shape == (3, 3), f'{intrinsics} must hold {{"K": ...}}, a matrix of 3 rows and 3 columns of numbers.')
    return Camera(bone_mm / MM_PER_M, K=K)


def _write(hand: "Hand", target: Path, choice: "EngineChoice", precision: str) -> None:
    from cliphand.files import write_json
    from cliphand.hand import JOINT_NAMES
    from cliphand.kinds import PREDICTED_HAND

    unit = "metres, camera frame" if hand.metric else "bones 0-9 from the wrist, seen by an assumed long lens"
    write_json(
        target,
        {
            "image": str(hand.image),
            "image_size": hand.image_size,
            "model": str(choice.path),
            "engine": choice.runner,
            "precision": precision,
            "why": choice.why,
            "confidence": hand.confidence,
            "confidence_of": "a hand being there; no promise of accuracy",
            "joint_order": JOINT_NAMES,
            "joints_uvd": hand.joints_uvd.tolist(),
            "verts_uvd": hand.verts_uvd.tolist(),
            "joints_px": hand.joints_px.tolist(),
            "verts_px": hand.verts_px.tolist(),
            "metric": hand.metric,
            "unit": unit,
            "joints": hand.joints.tolist(),
            "verts": hand.verts.tolist(),
        },
        PREDICTED_HAND,
    )


def _draw(hand: "Hand", target: Path, faces: "IntArray") -> None:
    """The hand over its photograph: mesh and skeleton, or the skeleton alone where the faces are not known."""
    from cliphand.data.overlay import draw_mesh, draw_skeleton
    from cliphand.data.photograph import read_image
    from cliphand.kinds import PREDICTED_PICTURE
    from cliphand.pictures import write_png

    drawn = draw_mesh(read_image(hand.image, upright=True), hand.drawn, hand.K, faces)
    drawn = draw_skeleton(drawn, hand.drawn_joints, hand.K)
    write_png(target, drawn, PREDICTED_PICTURE)
