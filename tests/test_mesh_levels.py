import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from cliphand.errors import InputError
from cliphand.hand import HandTopology, load_hand
from cliphand.mesh_levels import FINGERTIPS, _Mesh, mesh_levels

MOST_OVER_FARTHEST_POINTS = 1.8  # pure quadric error, without the point term, is at 2.0 to 2.9


def reach(template: np.ndarray, kept: np.ndarray) -> float:
    """Largest distance from any vertex to its nearest kept one."""
    return float(np.linalg.norm(template[:, None] - template[kept], axis=2).min(axis=1).max())


def farthest_points(template: np.ndarray, count: int) -> np.ndarray:
    """The greedy covering, whose reach is at most twice the best possible (Gonzalez 1985)."""
    chosen = [0]
    distance = np.linalg.norm(template - template[0], axis=1)
    while len(chosen) < count:
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(template - template[chosen[-1]], axis=1))
    return np.array(chosen)


def rim_of(faces: np.ndarray) -> set[int]:
    edges = Counter(tuple(sorted(edge)) for face in faces.tolist() for edge in itertools.combinations(face, 2))
    return {vertex for edge, count in edges.items() if count == 1 for vertex in edge}


@pytest.fixture(scope="module")
def levels(hand_topology: HandTopology) -> tuple[np.ndarray, ...]:
    return mesh_levels(hand_topology)


def test_levels_are_sorted_nested_subsets_of_the_asked_sizes(levels: tuple[np.ndarray, ...]) -> None:
    assert [len(level) for level in levels] == [98, 195, 389, 778]
    for coarse, fine in itertools.pairwise(levels):
        assert set(coarse.tolist()) <= set(fine.tolist())
    for level in levels:
        assert (np.diff(level) > 0).all()
        assert level.dtype == np.int64
    assert levels[-1].tolist() == list(range(778))


def test_the_same_hand_gives_the_same_levels(hand_topology: HandTopology, levels: tuple[np.ndarray, ...]) -> None:
    for again, level in zip(mesh_levels(hand_topology), levels, strict=True):
        np.testing.assert_array_equal(again, level)


def test_a_level_does_not_depend_on_the_others_asked_for(
    hand_topology: HandTopology, levels: tuple[np.ndarray, ...]
) -> None:
    np.testing.assert_array_equal(mesh_levels(hand_topology, (195,))[0], levels[1])


def test_every_vertex_is_near_each_level(hand_topology: HandTopology, levels: tuple[np.ndarray, ...]) -> None:
    template = hand_topology.template
    for level in levels[:3]:
        spread = reach(template, farthest_points(template, len(level)))
        assert reach(template, level) < MOST_OVER_FARTHEST_POINTS * spread


def test_every_level_holds_the_fingertips(hand_topology: HandTopology) -> None:
    tips = hand_topology.joint_regressor[list(FINGERTIPS)].argmax(axis=1)
    for level in mesh_levels(hand_topology, (20, 98)):
        assert set(tips.tolist()) <= set(level.tolist())


def test_the_rim_at_the_wrist_stays_in_every_level(hand_topology: HandTopology, levels: tuple[np.ndarray, ...]) -> None:
    rim = rim_of(hand_topology.faces)
    assert len(rim) == 16
    for level in levels:
        # Still a loop, and nearly as wide as the whole rim.
        kept = sorted(rim & set(level.tolist()))
        assert len(kept) >= 4
        wide, whole = (np.ptp(hand_topology.template[list(ring)], axis=0).max() for ring in (kept, rim))
        assert wide > 2 / 3 * whole


def test_the_decimated_surface_is_still_a_disc(hand_topology: HandTopology) -> None:
    mesh = _Mesh(hand_topology, kept=set())
    for count in (98, 20):
        mesh.decimate(count)
        faces = set().union(*mesh.faces_of)
        edges = Counter(tuple(sorted(edge)) for face in faces for edge in itertools.combinations(face, 2))
        assert count - len(edges) + len(faces) == 1  # Euler's characteristic of a disc
        assert set(edges.values()) == {1, 2}


@pytest.mark.parametrize("counts", [(), (195, 98), (98, 98), (0, 98), (98, 779)])
def test_counts_that_do_not_increase_within_the_mesh_are_refused(
    hand_topology: HandTopology, counts: tuple[int, ...]
) -> None:
    with pytest.raises(InputError, match="they must increase and lie within 1 and 778"):
        mesh_levels(hand_topology, counts)


def test_a_level_too_coarse_for_the_hands_shape_is_refused(hand_topology: HandTopology) -> None:
    with pytest.raises(InputError, match="cannot be decimated to 4 vertices"):
        mesh_levels(hand_topology, (4, 98))


@pytest.mark.real
def test_levels_of_the_real_template_are_spread_and_hold_its_fingertips(real_dir: Path) -> None:
    topology = load_hand(real_dir / "hand.npz")
    for level in mesh_levels(topology)[:3]:
        assert {744, 333, 444, 555, 672} <= set(level.tolist())
        spread = reach(topology.template, farthest_points(topology.template, len(level)))
        assert reach(topology.template, level) < MOST_OVER_FARTHEST_POINTS * spread
