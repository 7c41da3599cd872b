"""Photographs with the hands that PyTorch and an engine see in them: the worst ones and the middling ones."""

import numpy as np

from benchmarks.report.measured import Measured, farthest_engine
from benchmarks.report.page import Picture, PictureRow, Sheet
from cliphand.arrays import ByteArray, FloatArray
from cliphand.config import CropConfig
from cliphand.data.overlay import draw_mesh, draw_skeleton
from cliphand.data.views import evaluation_view

PICTURE_PX = 256
SHOWN = 3  # of each kind
AROUND_THE_HAND = CropConfig(rule="joints", margin=1.6)


def overlay_sheets(measured: Measured) -> list[Sheet]:
    """The worst and the middling photographs by the first engine's error; without labels the first photographs."""
    engine = farthest_engine(measured)
    shown = [label for label in (measured.reference or next(iter(measured.hands)), engine) if label]
    if not measured.joint_errors_mm:
        return [_sheet(measured, "images", "The first images", list(range(min(SHOWN, measured.n_images))), shown)]
    judge = measured.labels[0]
    per_image = measured.joint_errors_mm[judge].mean(axis=1)
    worst = np.argsort(-per_image, kind="stable")[:SHOWN].tolist()
    rest = np.argsort(np.abs(per_image - np.median(per_image)), kind="stable").tolist()
    middling = [index for index in rest if index not in worst][:SHOWN]
    sheets = [_sheet(measured, "images_worst", f"Largest error of {judge}", worst, shown)]
    if middling:
        sheets.append(_sheet(measured, "images_median", f"Error of {judge} nearest the median", middling, shown))
    return sheets


def _sheet(measured: Measured, name: str, title: str, indices: list[int], shown: list[str]) -> Sheet:
    return Sheet(name, title, [_row(measured, index, shown) for index in indices])


def _row(measured: Measured, index: int, shown: list[str]) -> PictureRow:
    """Photograph, truth where it is known, and every shown engine's hand."""
    photographs = measured.photographs
    crop = photographs.crop if photographs.data.xyz is None else AROUND_THE_HAND
    view = evaluation_view(photographs.data, index, crop=crop, side_px=PICTURE_PX)
    name = measured.image_name(index)
    pictures = [Picture(view.crop, "photograph", name)]
    true_verts, true_joints = measured.true_verts(), measured.true_joints()
    if true_joints is not None:
        verts = None if true_verts is None else true_verts[index]
        drawn = _draw(view.crop, verts, true_joints[index], view.K_crop, measured)
        pictures.append(Picture(drawn, "truth", f"{name} with the true hand"))
    for label in shown:
        hands = measured.hands[label]
        drawn = _draw(view.crop, hands.verts[index], hands.xyz[index], view.K_crop, measured)
        pictures.append(Picture(drawn, _told(measured, label, index), f"{name} with the hand that {label} sees"))
    errors = [measured.joint_errors_mm[label][index].mean() for label in measured.labels]
    return PictureRow(f"{name}, PA-PJPE {errors[0]:.2f} mm" if errors else name, pictures)


def _told(measured: Measured, label: str, index: int) -> str:
    errors = measured.joint_errors_mm.get(label)
    return label if errors is None else f"{label}, {errors[index].mean():.2f} mm"


def _draw(
    crop: ByteArray, verts: FloatArray | None, joints: FloatArray, K: FloatArray, measured: Measured
) -> ByteArray:
    """The mesh where its faces are known, else the skeleton."""
    faces = measured.topology.faces
    if verts is None or not len(faces):
        return draw_skeleton(crop, joints, K)
    return draw_mesh(crop, verts, K, faces)
