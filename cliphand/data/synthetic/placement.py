"""FreiHAND-like cameras: focal lengths, distances and how much of the image the hand fills.

Ranges from FreiHAND's training set: f 370 to 680 px at 224 px, 0.35 to 1.1 m. Pixel centres lie at whole numbers, as in
OpenCV.
"""

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from cliphand.arrays import FloatArray
from cliphand.data.overlay import project
from cliphand.data.synthetic.kinds import DEFAULT_KIND, SceneKind
from cliphand.hand import MIDDLE_MCP, WRIST

INDEX_MCP, LITTLE_MCP = 5, 17
SIDE_PX = 224  # of a written image
RENDER_PX = 256
FOCAL_PX = (370.0, 680.0)
DEPTH_M = (0.30, 1.15)
REACH_M, ANY_FOCAL_PX = (0.28, 1.0), (170.0, 1100.0)  # of webcams, phones and glasses: views of 11 to 67 degrees
MARGIN_PX = 6.0
BONE_M = (0.0295, 0.0030)  # mean and standard deviation of |joint 9 - joint 10|
BONE_RANGE_M = (0.023, 0.036)


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the hand is: camera point = size * rotation @ hand point + offset.

    Attributes:
        K: (3, 3) camera frame to pixels of the written image.
        size: scale of the hand.
        rotation: (3, 3); offset: (3,) metres.
    """

    K: FloatArray
    size: float
    rotation: FloatArray
    offset: FloatArray

    def place(self, points: FloatArray) -> FloatArray:
        """(N, 3) from the hand frame to the camera frame, metres."""
        return np.asarray(self.size * points @ self.rotation.T + self.offset)


def random_placement(rng: np.random.Generator, joints: FloatArray, kind: SceneKind = DEFAULT_KIND) -> Placement:
    """Draw a camera that sees all joints.

    Args:
        rng: source of randomness.
        joints: (21, 3) metres, hand frame.
        kind: how far the hand is turned, how large it is and where.
    """
    bone = float(np.linalg.norm(joints[9] - joints[10]))
    size = float(np.clip(rng.normal(*BONE_M), *BONE_RANGE_M)) / bone
    # Uniform over all rotations: the viewpoint uniform on the sphere, and the in-plane angle uniform.
    if kind.familiar and rng.random() < kind.familiar:
        rotation = _familiar(rng, joints)
    elif kind.turn_deg is None:
        rotation = Rotation.from_quat(rng.normal(size=4)).as_matrix()
    else:
        rotation = _near_palm(rng, joints, kind.turn_deg)
    turned = size * joints @ rotation.T
    low, high = turned.min(axis=0), turned.max(axis=0)
    across = float((high - low)[:2].max())
    across = max(across, 0.6 * float((high - low).max()))  # a finger that points at the camera brings nobody closer
    focal, depth = (_near_or_far if kind.layered else _of_one_camera)(rng, across, kind)
    centre = (SIDE_PX - 1) / 2
    K = np.array([[focal, 0, centre], [0, focal, centre], [0, 0, 1]])
    offset = np.append(-(low + high)[:2] / 2, depth - turned[:, 2].mean())
    offset[:2] += rng.normal(0, kind.shift_px, 2) * depth / focal
    return Placement(K, size, rotation, _kept_inside(turned, offset, K))


def _of_one_camera(rng: np.random.Generator, across: float, kind: SceneKind) -> tuple[float, float]:
    """Focal length of FreiHAND's cameras, and the depth that gives a hand `across` metres wide its extent."""
    focal = float(np.exp(rng.uniform(*np.log(FOCAL_PX))))
    return focal, float(np.clip(focal * across / _extent_px(rng, kind), *DEPTH_M))


def _near_or_far(rng: np.random.Generator, across: float, kind: SceneKind) -> tuple[float, float]:
    """Depth from an arm's length to a room's, and the focal length that gives the hand its extent."""
    depth = float(np.exp(rng.uniform(*np.log(REACH_M))))
    return float(np.clip(_extent_px(rng, kind) * depth / across, *ANY_FOCAL_PX)), depth


def _extent_px(rng: np.random.Generator, kind: SceneKind) -> float:
    smallest, median, largest = kind.extent_px
    return float(np.clip(median * np.exp(rng.normal(0, kind.extent_spread)), smallest, largest))


def _upright(joints: FloatArray) -> FloatArray:
    """(3, 3) rotation after which the fingers point up in the image and the palm looks at the camera."""
    up = joints[MIDDLE_MCP] - joints[WRIST]
    across = joints[INDEX_MCP] - joints[LITTLE_MCP]
    facing = np.cross(across, up)  # out of the palm
    hand = np.stack([np.cross(up, facing), up, facing])
    hand /= np.linalg.norm(hand, axis=1, keepdims=True)
    return np.asarray(np.diag([1.0, -1.0, -1.0]) @ hand)  # image rows grow downwards


def _familiar(rng: np.random.Generator, joints: FloatArray) -> FloatArray:
    """A hand as it is shown to a camera, or as its owner sees it: palm, back or edge; fingers up, away or aside."""
    side = rng.choice([0.0, np.pi, np.pi / 2, -np.pi / 2], p=[0.45, 0.35, 0.1, 0.1])
    about_arm = side + rng.normal(0, np.radians(25))
    # Seen by its owner the back of the hand leans away, fingers first; shown to a camera it may lean either way.
    lean = np.radians(rng.uniform(20, 75)) if side == np.pi and rng.random() < 0.4 else rng.normal(0, np.radians(25))
    aside = np.radians(rng.choice([0, 75, -75], p=[0.7, 0.15, 0.15]))  # the forearm comes from below, or from a side
    in_plane = aside + rng.normal(0, np.radians(30))
    turns = Rotation.from_euler("z", in_plane) * Rotation.from_euler("x", -lean) * Rotation.from_euler("y", about_arm)
    return np.asarray(turns.as_matrix() @ _upright(joints))


def _near_palm(rng: np.random.Generator, joints: FloatArray, turn_deg: float) -> FloatArray:
    """A rotation by up to `turn_deg`, about any axis, from the palm held upright to the camera."""
    axis = rng.normal(size=3)
    angle = np.radians(turn_deg) * np.sqrt(rng.random())
    return np.asarray(Rotation.from_rotvec(axis / np.linalg.norm(axis) * angle).as_matrix() @ _upright(joints))


def _kept_inside(turned: FloatArray, offset: FloatArray, K: FloatArray) -> FloatArray:
    """Move the hand back into the image where a joint has left it."""
    for _ in range(3):
        pixels = project(turned + offset, K)
        over = np.maximum(pixels.max(axis=0) - (SIDE_PX - 1 - MARGIN_PX), 0)
        under = np.maximum(MARGIN_PX - pixels.min(axis=0), 0)
        offset = offset + np.append((under - over) * offset[2] / K[0, 0], 0)
    return offset


def render_matrix(K: FloatArray) -> FloatArray:
    """K for the rendered image, which is the written one enlarged about its corner."""
    ratio = RENDER_PX / SIDE_PX
    enlarge = np.array([[ratio, 0, (ratio - 1) / 2], [0, ratio, (ratio - 1) / 2], [0, 0, 1]])
    return np.asarray(enlarge @ K)
