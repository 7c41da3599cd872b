"""Drawings lie where the camera sees the hand."""

import numpy as np
from scipy.spatial.transform import Rotation

from cliphand.data.overlay import draw_mesh, draw_skeleton, project
from cliphand.hand import HandTopology

K = np.array([[400.0, 0, 112], [0, 400.0, 112], [0, 0, 1]])
GREY = np.full((224, 224, 3), 128, np.uint8)


def placed(topology: HandTopology) -> np.ndarray:
    """The template, upright, 0.6 m before the camera."""
    verts = topology.template @ Rotation.from_euler("x", 180, degrees=True).as_matrix().T
    return verts - verts.mean(axis=0) + np.array([0, 0, 0.6])


def changed(drawn: np.ndarray) -> np.ndarray:
    return (drawn != GREY).any(axis=2)


def test_the_mesh_covers_its_projection_and_nothing_else(hand_topology: HandTopology) -> None:
    verts = placed(hand_topology)
    where = changed(draw_mesh(GREY, verts, K, hand_topology.faces))
    pixels = project(verts, K)
    rows, columns = np.nonzero(where)
    assert where[112, 112]
    assert columns.min() >= np.floor(pixels[:, 0].min()) - 1
    assert columns.max() <= np.ceil(pixels[:, 0].max()) + 1
    assert rows.min() >= np.floor(pixels[:, 1].min()) - 1
    assert rows.max() <= np.ceil(pixels[:, 1].max()) + 1
    assert where.sum() > 0.6 * np.prod(np.ptp(pixels, axis=0))


def test_faces_turned_away_are_not_drawn() -> None:
    triangle = np.array([[-0.1, -0.1, 1.0], [0.1, -0.1, 1.0], [0.0, 0.1, 1.0]])
    away, towards = np.array([[0, 1, 2]]), np.array([[0, 2, 1]])  # image rows grow downwards
    assert changed(draw_mesh(GREY, triangle, K, towards)).any()
    assert not changed(draw_mesh(GREY, triangle, K, away)).any()


def test_opacity_blends_mesh_and_photograph(hand_topology: HandTopology) -> None:
    verts = placed(hand_topology)
    none = draw_mesh(GREY, verts, K, hand_topology.faces, opacity=0.0)
    assert (none == GREY).all()


def test_the_skeleton_marks_every_joint(hand_topology: HandTopology) -> None:
    joints = hand_topology.joint_regressor @ placed(hand_topology)
    drawn = draw_skeleton(GREY, joints, K)
    for x, y in np.round(project(joints, K)).astype(int):
        assert drawn[y, x].min() > 200  # white dots
