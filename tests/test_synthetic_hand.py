"""The synthetic hand: topology, skeleton, poses, cameras."""

import builtins
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

pytest.importorskip("anny", reason="the extra 'synthetic' is not installed")

from cliphand.data.overlay import project
from cliphand.data.synthetic import anny_source, poses, repertoire
from cliphand.data.synthetic.collision import capsules, penetrates, segment_distance
from cliphand.data.synthetic.gestures import GESTURES, gesture
from cliphand.data.synthetic.joint_definition import FINGER_LENGTHS, PALM, PALM_DISTANCES, freihand_joints
from cliphand.data.synthetic.kinds import KINDS
from cliphand.data.synthetic.mesh import border_loop, edges_of, face_normals, loop_subdivision, unit
from cliphand.data.synthetic.placement import DEPTH_M, FOCAL_PX, MARGIN_PX, SIDE_PX, random_placement, render_matrix
from cliphand.data.synthetic.rig import FINGER_BONES, N_SHAPES, shape_hand
from cliphand.data.synthetic.rigged_hand import (
    PosedHand,
    RiggedHand,
    build_rigged_hand,
    load_rigged_hand,
    pose_model,
    random_hand,
    save_rigged_hand,
)
from cliphand.data.synthetic.topology import decimate
from cliphand.errors import InputError
from cliphand.hand import N_FACES, N_JOINTS, N_VERTICES, PARENTS, load_hand, save_hand

NO_DRIVER = b"Warp CUDA warning: Could not find or load the NVIDIA CUDA driver. It goes on.\n"
N_POSES = 1000
TIPS = np.arange(4, N_JOINTS, 4)


@pytest.fixture(scope="module")
def model() -> RiggedHand:
    return build_rigged_hand()


@pytest.fixture(scope="module")
def hands(model: RiggedHand) -> list[PosedHand]:
    rng = np.random.default_rng(2024)
    return [random_hand(rng, model) for _ in range(N_POSES)]


def straight(model: RiggedHand) -> PosedHand:
    return pose_model(model, np.zeros(N_SHAPES), poses.to_rotations(model.rig, gesture("flat")))


def test_mesh_is_a_glove_of_778_vertices_1538_faces_and_a_rim_of_16_edges(model: RiggedHand) -> None:
    assert model.topology.template.shape == (N_VERTICES, 3)
    assert model.topology.faces.shape == (N_FACES, 3)
    assert sorted(np.unique(model.topology.faces)) == list(range(N_VERTICES))
    edges, count = edges_of(model.topology.faces)
    # A manifold of one piece with one border, like a glove.
    assert count.max() == 2
    assert N_VERTICES - len(edges) + len(model.topology.faces) == 1
    assert len(border_loop(model.topology.faces)) == 16


def test_faces_point_outwards(model: RiggedHand) -> None:
    # The flux of the position through a closed surface is three times its volume; the open rim adds little.
    vertices = model.topology.template - model.topology.template[border_loop(model.topology.faces)].mean(axis=0)
    corners = vertices[model.topology.faces]
    volume = np.einsum("fi,fi->f", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum() / 6
    assert 1.5e-4 < volume < 4e-4  # cubic metres: a hand holds 0.15 to 0.4 litres


def test_topology_does_not_change_between_calls(model: RiggedHand) -> None:
    rest = model.smooth @ model.rig.vertices
    _, again = decimate(model.rig.vertices, model.rig.faces, rest, model.rim)
    np.testing.assert_array_equal(again, model.topology.faces)


def test_skinning_weights_of_the_mesh_sum_to_one(model: RiggedHand) -> None:
    assert model.skin_weights.shape == (N_VERTICES, 42)
    assert model.skin_weights.min() >= 0
    np.testing.assert_allclose(model.skin_weights.sum(axis=1), 1, atol=1e-9)


def test_pivots_and_regressed_pivots_agree_within_a_millimetre(model: RiggedHand, hands: list[PosedHand]) -> None:
    regressed = model.skeleton_regressor @ np.stack([hand.mesh for hand in hands])
    gap = np.linalg.norm(regressed - np.stack([hand.pivots for hand in hands]), axis=-1)
    assert gap.max() < 1e-3
    assert gap.mean() < 1e-4


def test_bones_have_freihands_mean_proportions(hands: list[PosedHand]) -> None:
    joints = np.stack([hand.joints for hand in hands])
    lengths = np.linalg.norm(joints[:, 1:] - joints[:, list(PARENTS[1:])], axis=-1)
    shares = (lengths / lengths[:, 8:9]).mean(axis=0).reshape(5, 4)
    freihand = np.concatenate([PALM_DISTANCES[0, 1:, None], FINGER_LENGTHS], axis=1)
    np.testing.assert_allclose(shares, freihand, atol=0.03)  # of bone 0-9, which is 87 mm long


def test_the_palms_joints_lie_as_freihands_do(model: RiggedHand) -> None:
    palm = (model.topology.joint_regressor @ model.topology.template)[PALM]
    distances = np.linalg.norm(palm[:, None] - palm, axis=-1)
    np.testing.assert_allclose(distances / distances[0, 3], PALM_DISTANCES, atol=0.02)


def test_a_moved_joint_follows_its_piece_of_the_hand(model: RiggedHand, hands: list[PosedHand]) -> None:
    palm = np.stack([hand.joints[[0, 5, 9]] for hand in hands])
    sides = np.linalg.norm(palm - np.roll(palm, 1, axis=1), axis=-1)
    assert (sides / sides.mean(axis=1, keepdims=True)).std(axis=0).max() < 0.02  # a rigid palm, whatever the fingers do


def test_rows_move_no_further_than_asked_and_still_sum_to_one(model: RiggedHand) -> None:
    skeleton, template = model.skeleton_regressor, model.topology.template
    asked = freihand_joints(skeleton @ template)
    regressor = model.topology.joint_regressor
    np.testing.assert_allclose(regressor @ template, asked, atol=1e-9)
    np.testing.assert_array_equal(regressor[TIPS], skeleton[TIPS])
    assert not regressor[skeleton == 0].any()
    assert np.abs(regressor).sum(axis=1).max() < 1.1 * np.abs(skeleton).sum(axis=1).max()


def test_a_hand_of_freihands_proportions_stays_as_it_is(model: RiggedHand) -> None:
    once = freihand_joints(model.skeleton_regressor @ model.topology.template)
    assert np.linalg.norm(freihand_joints(once) - once, axis=1).max() < 1e-3


def test_no_triangle_is_inverted_over_a_thousand_poses(model: RiggedHand, hands: list[PosedHand]) -> None:
    # Carried along by hand: each rest normal, turned by the blended rotation of its corners.
    inverted = 0
    for hand in hands:
        rest = face_normals(hand.rest, model.topology.faces)
        turns = (model.skin_weights @ hand.rotations.reshape(-1, 9)).reshape(-1, 3, 3)
        carried = np.einsum("fij,fj->fi", turns[model.topology.faces].mean(axis=1), rest)
        posed = face_normals(hand.mesh, model.topology.faces)
        cosine = (unit(carried) * unit(posed)).sum(axis=1)
        inverted += int((cosine < 0).sum())
    assert inverted == 0


def test_the_inversion_test_sees_a_folded_finger(model: RiggedHand) -> None:
    angles = gesture("flat")
    angles.flexion[1:, 1] = 170  # no finger bends like this
    hand = pose_model(model, np.zeros(N_SHAPES), poses.to_rotations(model.rig, angles))
    assert hand.faults > 0


def test_fingertips_lie_on_the_skin(model: RiggedHand, hands: list[PosedHand]) -> None:
    rows = model.topology.joint_regressor[TIPS]
    assert ((rows == 1).sum(axis=1) == 1).all()
    assert ((rows != 0).sum(axis=1) == 1).all()


def test_regressor_is_local_and_sums_to_one(model: RiggedHand) -> None:
    regressor = model.topology.joint_regressor
    np.testing.assert_allclose(regressor.sum(axis=1), 1, atol=1e-9)
    joints = regressor @ model.topology.template
    for joint in range(N_JOINTS):
        far = np.linalg.norm(model.topology.template - joints[joint], axis=1) > 0.09
        assert np.abs(regressor[joint, far]).sum() < 0.05


def test_joints_follow_freihands_order(model: RiggedHand) -> None:
    hand = straight(model)
    thumb_to_little = hand.joints[[4, 8, 12, 16, 20], 0]
    assert (np.diff(thumb_to_little) > 0).all()  # x runs towards the little finger
    for finger in range(1, 5):
        along = hand.joints[[0, *range(4 * finger + 1, 4 * finger + 5)], 1]
        assert (np.diff(along) > 0).all()  # y runs from the wrist to the tips
    lengths = np.linalg.norm(hand.joints[1:] - hand.joints[list(PARENTS[1:])], axis=1)
    assert lengths.min() > 0.009
    assert 2.5 < lengths[8] / lengths[9] < 3.6  # wrist to middle MCP over 9-10: about 3 in FreiHAND


def test_mesh_lies_on_the_rendered_surface(model: RiggedHand, hands: list[PosedHand]) -> None:
    moved = np.stack([np.linalg.norm(hand.mesh - hand.surface[model.anchors], axis=1) for hand in hands])
    assert np.median(moved) == 0
    assert moved.max() < 0.005  # only where a crease had to be opened
    assert (moved > 0.001).mean() < 0.001


def test_fingers_stay_as_long_as_they_are(model: RiggedHand, hands: list[PosedHand]) -> None:
    for hand in hands[:50]:
        middle = np.linalg.norm(hand.joints[9] - hand.joints[10]), np.linalg.norm(hand.joints[10] - hand.joints[11])
        assert 0.015 < middle[1] < middle[0] < 0.05


def test_model_survives_a_file(model: RiggedHand, tmp_path: Path) -> None:
    save_rigged_hand(model, tmp_path / "model.npz")
    again = load_rigged_hand(tmp_path / "model.npz")
    rng, other = np.random.default_rng(3), np.random.default_rng(3)
    np.testing.assert_array_equal(random_hand(rng, model).mesh, random_hand(other, again).mesh)


def test_topology_survives_hand_npz(model: RiggedHand, tmp_path: Path) -> None:
    save_hand(model.topology, tmp_path / "hand.npz")
    np.testing.assert_array_equal(load_hand(tmp_path / "hand.npz").faces, model.topology.faces)


def test_every_gesture_is_within_limits_and_free_of_penetration(model: RiggedHand) -> None:
    heads = shape_hand(model.rig, np.zeros(N_SHAPES))[1]
    for name in GESTURES:
        angles = gesture(name)
        np.testing.assert_array_equal(poses.limit(angles).flexion, angles.flexion, err_msg=name)
        assert not penetrates(model.rig, heads, poses.to_rotations(model.rig, angles)), name


def test_the_named_gestures_are_there() -> None:
    assert {"open", "fist", "point", "pinch", "grip", "thumbs up", "victory"} <= set(GESTURES)


def test_a_finger_through_the_palm_is_seen(model: RiggedHand) -> None:
    heads = shape_hand(model.rig, np.zeros(N_SHAPES))[1]
    angles = gesture("flat")
    angles.flexion[2] = [110, 110, 20]
    assert penetrates(model.rig, heads, poses.to_rotations(model.rig, angles))


def test_crossed_fingers_are_seen(model: RiggedHand) -> None:
    heads = shape_hand(model.rig, np.zeros(N_SHAPES))[1]
    angles = gesture("flat")
    angles.spread[1], angles.spread[2] = 20, -8
    assert penetrates(model.rig, heads, poses.to_rotations(model.rig, angles))


def test_poses_are_free_of_penetration(model: RiggedHand) -> None:
    rng = np.random.default_rng(4)
    heads = shape_hand(model.rig, np.zeros(N_SHAPES))[1]
    assert not any(penetrates(model.rig, heads, poses.random_rotations(rng, model.rig, heads)) for _ in range(150))


@settings(max_examples=60)
@given(seed=st.integers(0, 2**31))
def test_angles_stay_within_limits_and_a_bent_finger_does_not_spread(seed: int) -> None:
    angles = poses.random_angles(np.random.default_rng(seed))
    assert (angles.flexion >= poses.LOW_DEG).all()
    assert (angles.flexion <= poses.HIGH_DEG).all()
    assert (np.abs(angles.spread[1:][angles.flexion[1:, 0] >= 70]) == 0).all()


def test_neighbouring_fingers_and_joints_bend_together() -> None:
    rng = np.random.default_rng(5)
    flexion = np.stack([poses.random_angles(rng).flexion for _ in range(600)])
    assert np.corrcoef(flexion[:, 2, 1], flexion[:, 3, 1])[0, 1] > 0.4
    assert np.corrcoef(flexion[:, 2, 1], flexion[:, 2, 2])[0, 1] > 0.7


def test_flexion_bends_towards_the_palm_by_the_angle(model: RiggedHand) -> None:
    angles = gesture("flat")
    angles.flexion[2] = [0, 60, 0]
    hand = pose_model(model, np.zeros(N_SHAPES), poses.to_rotations(model.rig, angles))
    first, second = hand.joints[10] - hand.joints[9], hand.joints[11] - hand.joints[10]
    bend = np.degrees(np.arccos(unit(first) @ unit(second)))
    assert bend == pytest.approx(60, abs=6)
    assert second[2] < -0.015  # z points out of the back


finite = st.floats(-1, 1, allow_nan=False, width=32)


@settings(max_examples=80)
@given(ends=hnp.arrays(np.float64, (4, 3), elements=finite))
def test_segment_distance_is_the_smallest_over_both_segments(ends: NDArray[np.float64]) -> None:
    p0, p1, q0, q1 = ends
    if np.linalg.norm(p1 - p0) < 1e-2 or np.linalg.norm(q1 - q0) < 1e-2:
        return
    share = np.linspace(0, 1, 60)[:, None]
    sampled = np.linalg.norm((p0 + share * (p1 - p0))[:, None] - (q0 + share * (q1 - q0))[None], axis=-1).min()
    found = segment_distance(*(end[None] for end in ends))[0]
    assert found <= sampled + 1e-6
    assert found >= sampled - 0.06  # a step of the samples


def test_subdivision_keeps_a_plane_flat_and_a_border_on_its_line() -> None:
    x, y = np.meshgrid(np.arange(4.0), np.arange(4.0))
    plane = np.stack([x.ravel(), y.ravel(), np.full(16, 2.0)], axis=1)
    quads = [(r * 4 + c, r * 4 + c + 1, r * 4 + c + 4, r * 4 + c + 5) for r in range(3) for c in range(3)]
    faces = np.array([t for a, b, c, d in quads for t in ((a, b, c), (b, d, c))])
    weights, fine = loop_subdivision(faces, 16)
    points = weights @ plane
    np.testing.assert_allclose(np.asarray(weights.sum(axis=1)).ravel(), 1)
    np.testing.assert_allclose(points[:, 2], 2)
    assert len(fine) == 4 * len(faces)
    assert len(border_loop(fine)) == 24
    assert points[:, :2].min() >= 0
    assert points[:, :2].max() <= 3
    normals = face_normals(points, fine)
    assert (normals[:, 2] > 0).all()


def test_edges_of_a_closed_mesh_are_used_twice() -> None:
    tetrahedron = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]])
    edges, count = edges_of(tetrahedron)
    assert len(edges) == 6
    assert (count == 2).all()


def test_views_come_from_everywhere(hands: list[PosedHand]) -> None:
    rng = np.random.default_rng(6)
    backs = np.stack([random_placement(rng, hands[i % 50].joints).rotation[:, 2] for i in range(1500)])
    assert np.linalg.norm(backs.mean(axis=0)) < 0.08  # 1500 directions: 0.045 expected for the farthest axis
    octants = np.bincount(((backs > 0) @ [1, 2, 4]), minlength=8)
    assert octants.min() > 0.75 * 1500 / 8


def test_cameras_are_freihand_like_and_see_every_joint(hands: list[PosedHand]) -> None:
    rng = np.random.default_rng(7)
    extents, bones = [], []
    for hand in hands[:300]:
        view = random_placement(rng, hand.joints)
        joints = view.place(hand.joints)
        pixels = project(joints, view.K)
        assert np.linalg.det(view.rotation) == pytest.approx(1)  # a right hand stays one
        assert FOCAL_PX[0] <= view.K[0, 0] <= FOCAL_PX[1]
        assert DEPTH_M[0] - 0.15 < joints[:, 2].min()
        assert joints[:, 2].max() < DEPTH_M[1] + 0.15
        assert pixels.min() > MARGIN_PX - 3
        assert pixels.max() < SIDE_PX - MARGIN_PX + 2
        extents.append(np.ptp(pixels, axis=0).max())
        bones.append(np.linalg.norm(joints[9] - joints[10]))
    assert 70 < np.median(extents) < 110
    assert 0.028 < np.mean(bones) < 0.031


def test_plain_hands_fill_the_middle_of_the_image(hands: list[PosedHand]) -> None:
    rng = np.random.default_rng(9)
    boxes = []
    for hand in hands[:200]:
        view = random_placement(rng, hand.joints, KINDS["plain"])
        pixels = project(view.place(hand.joints), view.K)
        boxes.append((pixels.min(axis=0), pixels.max(axis=0)))
    low, high = np.array(boxes).swapaxes(0, 1)
    extents = (high - low).max(axis=1)
    assert extents.min() > 100
    assert extents.max() < 180
    assert np.abs((low + high) / 2 - (SIDE_PX - 1) / 2).max() < 30


def test_a_set_of_gestures_has_no_freely_bent_fingers(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(rng: np.random.Generator) -> poses.HandAngles:
        raise AssertionError("fingers were bent at will")

    monkeypatch.setattr(poses, "_free", refuse)
    rng = np.random.default_rng(10)
    for _ in range(50):
        poses.random_angles(rng, kind=KINDS["plain"])
    with pytest.raises(AssertionError, match="at will"):
        [poses.random_angles(rng) for _ in range(50)]


def test_every_family_of_poses_can_be_held_by_a_hand(model: RiggedHand) -> None:
    rng = np.random.default_rng(12)
    heads = model.rig.heads
    for family in repertoire._FAMILIES:
        drawn = [poses.limit(repertoire.jittered(rng, family(rng))) for _ in range(40)]
        free = [not penetrates(model.rig, heads, poses.to_rotations(model.rig, angles)) for angles in drawn]
        assert np.mean(free) > 0.3


def test_a_pinch_brings_the_thumb_to_the_finger(model: RiggedHand) -> None:
    rig = model.rig
    for finger, (curled, flat) in enumerate(zip(repertoire._CURLED, repertoire._FLAT, strict=True)):
        for share in (0.2, 0.5, 0.9):
            pinch = curled + share * (flat - curled)
            flexion = np.zeros((5, 3))
            flexion[0], flexion[finger + 1] = pinch[:3], pinch[5:]
            cup = np.array([5.0, 10.0]) * (finger > 1)
            angles = poses.HandAngles(flexion, np.array([pinch[3], 0, 0, 0, 0]), float(pinch[4]), cup)
            start, end = capsules(rig, rig.heads, poses.to_rotations(rig, angles))
            thumb, other = 2, 3 * (finger + 1) + 2  # last phalanges
            between = segment_distance(start[[thumb]], end[[thumb]], start[[other]], end[[other]])[0]
            assert between < rig.radius[0, 2] + rig.radius[finger + 1, 2] + 0.003


def test_the_rendered_camera_is_the_written_one_enlarged(hands: list[PosedHand]) -> None:
    view = random_placement(np.random.default_rng(8), hands[0].joints)
    joints = view.place(hands[0].joints)
    written, rendered = project(joints, view.K), project(joints, render_matrix(view.K))
    np.testing.assert_allclose((rendered + 0.5) / 256, (written + 0.5) / 224, atol=1e-12)


def test_without_the_extra_the_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real: Callable[..., ModuleType] = builtins.__import__

    def refuse(name: str, *args: object) -> ModuleType:
        if name.split(".")[0] == "anny":
            raise ImportError("No module named 'anny'", name="anny")
        return real(name, *args)

    monkeypatch.delitem(sys.modules, "anny", raising=False)
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(InputError, match=r"pip install -e '\.\[synthetic\]'"):
        build_rigged_hand.__wrapped__()


def test_bones_of_the_fingers_are_chained(model: RiggedHand) -> None:
    assert (model.rig.parents[FINGER_BONES[:, 1:]] == FINGER_BONES[:, :-1]).all()


def test_a_driver_that_nothing_needs_is_not_missed_aloud(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pytest.importorskip("warp"), "init", lambda: os.write(2, NO_DRIVER + b"something else\n"))
    anny_source.start_warp()
    assert capfd.readouterr().err == "something else\n"
