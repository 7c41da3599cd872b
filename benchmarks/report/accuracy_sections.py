"""What the errors say: PCK, joints and fingers, viewpoint and scale, and the images themselves."""

import numpy as np

from benchmarks.measure.accuracy import AUC_RANGES_MM
from benchmarks.report.charts import POINTS_SHOWN, error_against, named_errors, pck_curves
from benchmarks.report.measured import Measured
from benchmarks.report.overlays import overlay_sheets
from benchmarks.report.page import Chart, Section, Table
from benchmarks.report.theme import Palette, part_of
from benchmarks.report.viewpoint import (
    MAX_ANGLE_DEG,
    RangeMean,
    even_edges,
    hand_scales_mm,
    palm_angles_deg,
    range_means,
)
from cliphand.arrays import FloatArray
from cliphand.hand import FINGERS, JOINT_NAMES
from cliphand.metrics import area_under_pck

FEW_IMAGES = 20  # below which means over ranges say nothing
ANGLE_EDGES_DEG = tuple(float(edge) for edge in np.linspace(0, MAX_ANGLE_DEG, 7))
SCALE_RANGES = 6
# The wrist, then each finger's four joints.
FINGER_OF_JOINT = ("wrist", *(finger for finger in FINGERS for _ in range(4)))
ALIGNED = "All errors are of joints regressed from the mesh, after each image's best similarity (PA), in millimetres."


def accuracy_sections(measured: Measured, palette: Palette) -> list[Section]:
    """Every section that needs true joints; without them one that says so."""
    palette = part_of(palette, measured.labels)
    if not measured.joint_errors_mm:
        data = measured.photographs.data
        reason = (
            f"{data.label_path('xyz').name} is not there, so no error can be told."
            if data.xyz is None
            else "Every engine gave NaN or infinity on some image, so no error can be told."
        )
        return [Section("accuracy", "Accuracy", [reason])]
    return [_pck_section(measured, palette), _joint_section(measured, palette), _condition_section(measured, palette)]


def image_section(measured: Measured) -> Section:
    """Photographs with hands drawn over them."""
    sheets = overlay_sheets(measured)
    if len(measured.topology.faces):
        what = "The predicted meshes over the photograph, cut around the hand, beside the true one."
    else:
        what = (
            "The predicted joints over the photograph, cut around the hand; the faces of the mesh are not known here."
        )
    return Section("images", "Images", [what], sheets)


def _pck_section(measured: Measured, palette: Palette) -> Section:
    errors = measured.joint_errors_mm
    head = ("engine", "PA-PJPE, mm", "median, mm", *(f"AUC {low:g}-{high:g} mm" for low, high in AUC_RANGES_MM))
    rows = [
        [
            label,
            f"{values.mean():.2f}",
            f"{np.median(values, axis=0).mean():.2f}",
            *(f"{area_under_pck(values, range_mm=span):.3f}" for span in AUC_RANGES_MM),
        ]
        for label, values in errors.items()
    ]
    alt = "Share of joints within a threshold from 0 to 50 mm: " + "; ".join(
        f"{label} {np.mean(values <= 10):.0%} within 10 mm" for label, values in errors.items()
    )
    lost = [label for label in measured.hands if label not in errors]
    sentences = [ALIGNED] + [f"{', '.join(lost)} gave NaN or infinity and is left out."] * bool(lost)
    return Section(
        "pck",
        "Accuracy",
        sentences,
        [
            Chart("pck", "Share of correct joints (PCK)", pck_curves(errors, palette), alt),
            Table(
                "Area under the PCK curve (AUC)",
                head,
                rows,
                caption="The range moves the number, so papers that quote another one cannot be compared with it.",
            ),
        ],
    )


def _joint_section(measured: Measured, palette: Palette) -> Section:
    errors, labels = measured.joint_errors_mm, measured.labels
    by_joint = {label: values.mean(axis=0) for label, values in errors.items()}
    joint_rows = [
        {"name": name, "label": label, "error_mm": round(float(by_joint[label][joint]), 4)}
        for label in labels
        for joint, name in enumerate(JOINT_NAMES)
    ]
    names = tuple(dict.fromkeys(FINGER_OF_JOINT))
    finger_rows = [
        {"name": name, "label": label, "error_mm": round(_finger_mean(by_joint[label], name), 4)}
        for label in labels
        for name in names
    ]
    worst = int(by_joint[labels[0]].argmax())
    alt = f"The largest mean error of {labels[0]} is {by_joint[labels[0]][worst]:.2f} mm, of the {JOINT_NAMES[worst]}."
    finger_alt = "; ".join(f"{name} {_finger_mean(by_joint[labels[0]], name):.2f} mm" for name in names)
    return Section(
        "joints",
        "Joints and fingers",
        [alt],
        [
            Chart("joints", "Error of each joint", named_errors(joint_rows, JOINT_NAMES, palette), alt),
            Chart(
                "fingers",
                "Error of each finger",
                named_errors(finger_rows, names, palette),
                f"Mean error of {labels[0]}: {finger_alt}.",
                caption="Means over a finger's four joints.",
            ),
        ],
    )


def _finger_mean(by_joint: FloatArray, finger: str) -> float:
    return float(np.mean([error for error, name in zip(by_joint, FINGER_OF_JOINT, strict=True) if name == finger]))


def _condition_section(measured: Measured, palette: Palette) -> Section:
    """Error over the palm's angle and over the hand's scale."""
    joints = measured.true_joints()
    assert joints is not None  # noqa: S101  # there are errors
    angles, scales = palm_angles_deg(joints), hand_scales_mm(joints)
    return Section(
        "conditions",
        "Viewpoint and hand scale",
        [
            "The viewpoint is the angle between the palm's normal and the direction to the camera, from the true "
            "joints: 0 degrees shows the palm, 90 its edge, 180 the back of the hand. The scale is the length of "
            "bone 9-10, as FreiHAND defines it."
        ],
        [
            _condition_chart(
                measured, palette, "viewpoint", "Error against viewpoint", angles, ANGLE_EDGES_DEG, "angle", "°"
            ),
            _condition_chart(
                measured,
                palette,
                "scale",
                "Error against hand scale",
                scales,
                tuple(even_edges(scales, SCALE_RANGES)),
                "length of bone 9-10",
                " mm",
            ),
        ],
    )


def _condition_chart(
    measured: Measured,
    palette: Palette,
    name: str,
    title: str,
    positions: FloatArray,
    edges: tuple[float, ...],
    quantity: str,
    unit: str,
) -> Chart:
    labels, n_images = measured.labels, measured.n_images
    per_image = {label: errors.mean(axis=1) for label, errors in measured.joint_errors_mm.items()}
    shown = np.unique(np.linspace(0, n_images - 1, min(n_images, POINTS_SHOWN)).astype(int)).tolist()
    points = [
        {
            "label": label,
            "position": round(float(positions[index]), 2),
            "error_mm": round(float(per_image[label][index]), 4),
            "image": measured.image_name(index),
        }
        for label in labels
        for index in shown
    ]
    ranges = {label: range_means(positions, per_image[label], edges) for label in labels}
    enough = n_images >= FEW_IMAGES
    means = [_mean_record(label, found, unit) for label in labels for found in ranges[label]] if enough else []
    caption = (
        f"Points are images ({len(shown)} of {n_images} drawn), lines means over ranges of all images."
        if enough
        else f"{n_images} images are too few for means over ranges: each point is one image."
    )
    alt = f"{quantity} against PA-PJPE of {labels[0]}: " + "; ".join(
        f"{found.low:.0f} to {found.high:.0f}{unit} {found.mean:.2f} mm ({found.images} images)"
        for found in ranges[labels[0]]
    )
    axis = f"{quantity}, {unit.strip()}"
    return Chart(name, title, error_against(points, means, palette, axis), alt, caption)


def _mean_record(label: str, found: RangeMean, unit: str) -> dict[str, object]:
    return {
        "label": label,
        "position": (found.low + found.high) / 2,
        "error_mm": round(found.mean, 4),
        "range": f"{found.low:.0f} to {found.high:.0f}{unit}",
        "images": found.images,
    }
