"""cliphand.camera: between uvd and metres, through turned, scaled, shifted and anisotropic cameras."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cliphand.camera import camera_to_uvd, pixel_rays, root_and_bone, root_from_scale, uvd_to_camera
from cliphand.data.crop import Box, crop_matrix

SEEDS = st.integers(0, 2**32)


def draw_hand(rng: np.random.Generator, count: int = 21) -> np.ndarray:
    """Points within 12 cm of a place in front of the camera; joint 9 some 9 cm from joint 0."""
    place = rng.uniform((-0.1, -0.1, 0.4), (0.1, 0.1, 1.2))
    points = place + rng.uniform(-0.12, 0.12, (count, 3))
    direction = rng.normal(size=3)
    points[9] = points[0] + rng.uniform(0.07, 0.11) * direction / np.linalg.norm(direction)
    points[10] = points[9] + rng.uniform(-0.03, 0.03, 3)
    return points


def draw_camera(rng: np.random.Generator, side_px: int) -> np.ndarray:
    """Unequal focal lengths, then a crop that turns, scales and shifts."""
    K = np.array([[rng.uniform(300, 900), 0, rng.uniform(80, 200)], [0, rng.uniform(300, 900), 120], [0, 0, 1]])
    box = Box(*rng.uniform(50, 200, 2), rng.uniform(60, 400))
    return crop_matrix(box, side_px, angle_rad=rng.uniform(-np.pi, np.pi)) @ K


@given(seed=SEEDS, side_px=st.sampled_from([128, 224, 256]))
def test_uvd_and_back_is_the_same_point(seed: int, side_px: int) -> None:
    rng = np.random.default_rng(seed)
    points, K = draw_hand(rng), draw_camera(rng, side_px)
    root, bone = root_and_bone(points)
    uvd = camera_to_uvd(points, K, side_px=side_px, root_depth_m=root, bone_m=bone)
    back = uvd_to_camera(uvd, K, side_px=side_px, root_depth_m=root, bone_m=bone)
    np.testing.assert_allclose(back, points, atol=1e-6, rtol=0)


@given(seed=SEEDS)
def test_metres_and_back_is_the_same_uvd(seed: int) -> None:
    rng = np.random.default_rng(seed)
    K = draw_camera(rng, 256)
    uvd = rng.uniform((0, 0, -2), (1, 1, 2), (30, 3))
    points = uvd_to_camera(uvd, K, side_px=256, root_depth_m=0.7, bone_m=0.09)
    back = camera_to_uvd(points, K, side_px=256, root_depth_m=0.7, bone_m=0.09)
    np.testing.assert_allclose(back, uvd, atol=1e-9, rtol=0)


@given(seed=SEEDS)
def test_two_crops_of_one_photograph_give_the_same_points(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = draw_hand(rng)
    root, bone = root_and_bone(points)
    K = np.array([[500, 0, 112], [0, 480, 112], [0, 0, 1]])
    seen = []
    for angle, side in ((0.4, 130.0), (-2.9, 260.0)):
        K_crop = crop_matrix(Box(100, 130, side), 256, angle_rad=angle) @ K
        uvd = camera_to_uvd(points, K_crop, side_px=256, root_depth_m=root, bone_m=bone)
        seen.append(uvd_to_camera(uvd, K_crop, side_px=256, root_depth_m=root, bone_m=bone))
    np.testing.assert_allclose(seen[0], seen[1], atol=1e-6, rtol=0)


def test_uvd_of_a_point_worked_out_by_hand() -> None:
    K = np.array([[400.0, 0, 112], [0, 300, 100], [0, 0, 1]])
    point = np.array([[0.1, -0.2, 0.8]])
    uvd = camera_to_uvd(point, K, side_px=200, root_depth_m=np.float64(0.71), bone_m=np.float64(0.09))
    # x = 400 * 0.1 / 0.8 + 112 = 162, y = 300 * -0.2 / 0.8 + 100 = 25, d = 0.09 / 0.09
    np.testing.assert_allclose(uvd, [[162 / 200, 25 / 200, 1]])


def test_root_and_bone_are_the_wrist_depth_and_bone_0_9() -> None:
    joints = np.zeros((2, 21, 3))
    joints[:, 0] = 0.1, 0.2, 0.6
    joints[0, 9] = 0.1, 0.24, 0.63
    joints[1, 9] = 0.2, 0.2, 0.6
    root, bone = root_and_bone(joints)
    np.testing.assert_allclose(root, (0.6, 0.6))
    np.testing.assert_allclose(bone, (0.05, 0.1))


def test_rays_have_unit_depth_and_project_to_their_pixel() -> None:
    rng = np.random.default_rng(0)
    K, uv = draw_camera(rng, 256), rng.uniform(0, 1, (10, 2))
    rays = pixel_rays(uv, K, side_px=256)
    np.testing.assert_allclose(rays[:, 2], 1)
    projected = rays @ K.T
    np.testing.assert_allclose(projected[:, :2] / projected[:, 2:], 256 * uv, atol=1e-9)


def test_a_batch_gives_what_its_samples_give() -> None:
    rng = np.random.default_rng(3)
    points = np.stack([draw_hand(rng) for _ in range(4)])
    K = np.stack([draw_camera(rng, 256) for _ in range(4)])
    root, bone = root_and_bone(points)
    scale = np.linalg.norm(points[:, 9] - points[:, 10], axis=-1)
    uvd = camera_to_uvd(points, K, side_px=256, root_depth_m=root, bone_m=bone)
    metres = uvd_to_camera(uvd, K, side_px=256, root_depth_m=root, bone_m=bone)
    roots, bones = root_from_scale(uvd, K, side_px=256, scale_m=scale)
    for i in range(4):
        one = camera_to_uvd(points[i], K[i], side_px=256, root_depth_m=root[i], bone_m=bone[i])
        np.testing.assert_allclose(one, uvd[i], rtol=1e-12)
        back = uvd_to_camera(one, K[i], side_px=256, root_depth_m=root[i], bone_m=bone[i])
        np.testing.assert_allclose(back, metres[i], rtol=1e-12)
        one_root, one_bone = root_from_scale(one, K[i], side_px=256, scale_m=scale[i])
        np.testing.assert_allclose((one_root, one_bone), (roots[i], bones[i]), rtol=1e-9)


@given(seed=SEEDS)
def test_depth_from_scale_is_exact_without_noise(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points, K = draw_hand(rng), draw_camera(rng, 256)
    root, bone = root_and_bone(points)
    scale = np.linalg.norm(points[9] - points[10])
    offset = (points[9] / points[9, 2]) * (points[9, 2] - points[0, 2]) / bone
    # Beyond 1, two hands at different depths have the same uvd: a bone along the line of sight, off the axis.
    assume(np.linalg.norm(offset) < 0.98)
    assume(scale > 0.01)
    uvd = camera_to_uvd(points, K, side_px=256, root_depth_m=root, bone_m=bone)
    found_root, found_bone = root_from_scale(uvd, K, side_px=256, scale_m=scale)
    np.testing.assert_allclose(found_root, root, atol=1e-6, rtol=0)
    np.testing.assert_allclose(found_bone, bone, atol=1e-6, rtol=0)
    back = uvd_to_camera(uvd, K, side_px=256, root_depth_m=found_root, bone_m=found_bone)
    np.testing.assert_allclose(back, points, atol=1e-6, rtol=0)


def test_depth_from_scale_is_finite_where_noise_leaves_no_root() -> None:
    joints = np.full((21, 3), 0.5)
    joints[:, 2] = 0
    joints[9] = 0.52, 0.5, 1.7  # deeper than the bone is long
    joints[10] = 0.56, 0.5, 1.7
    K = np.array([[500.0, 0, 128], [0, 500, 128], [0, 0, 1]])
    root, bone = root_from_scale(joints, K, side_px=256, scale_m=np.float64(0.03))
    assert np.isfinite(root)
    assert np.isfinite(bone)


@pytest.mark.parametrize("side_px", [128, 256])
def test_a_nearer_hand_of_the_same_picture_is_smaller(side_px: int) -> None:
    rng = np.random.default_rng(1)
    points, K = draw_hand(rng), draw_camera(rng, side_px)
    root, bone = root_and_bone(points)
    uvd = camera_to_uvd(points, K, side_px=side_px, root_depth_m=root, bone_m=bone)
    half = camera_to_uvd(points / 2, K, side_px=side_px, root_depth_m=root / 2, bone_m=bone / 2)
    np.testing.assert_allclose(uvd, half, atol=1e-12)
