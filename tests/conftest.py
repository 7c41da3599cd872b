"""Fixtures shared by all tests: a synthetic hand, FreiHAND-format folders of it, and the real photographs.

No test uses the network: connections that leave this machine are refused here and in every Python that a test starts.
"""

import itertools
import json
import os
import runpy
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from cliphand.hand import BONES, HandTopology, check_topology, save_hand
from engines.host.available import raised_at_import

NO_NETWORK = Path(__file__).parent / "no_network"


def refused_connections() -> list[str]:
    """What was refused in this process: by the hook that Python began with, or by one set now."""
    begun = sys.modules.get("sitecustomize")
    if begun is not None and Path(str(begun.__file__)).parent == NO_NETWORK:
        return begun.ATTEMPTS
    return runpy.run_path(str(NO_NETWORK / "sitecustomize.py"))["ATTEMPTS"]


os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(NO_NETWORK), os.environ.get("PYTHONPATH")]))
ATTEMPTS = refused_connections()
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # in a script's background; children would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")
REAL_DIR = Path(__file__).resolve().parents[2] / "shared" / "real"
LONG_FILES = {  # though of few tests
    *("test_benchmarks_studies_joint_floor", "test_benchmarks_studies_variants", "test_cli_quickstart"),
    *("test_engines_runtimes_inductor", "test_engines_tensorrt_models", "test_light_install", "test_released"),
    *("test_synthetic_dataset", "test_trust_faults", "test_trust_training"),
}
# Vertices per ring of the mitten, from the open rim at the wrist to the pole at the fingertips: 778 in all.
RINGS = (16, 24, *(32,) * 22, 20, 13, 1)
HAND_LENGTH_M = 0.19
PALM_LENGTH_M = 0.09
# (x at the MCP, x at the tip, y at the MCP, y at the tip), metres, wrist at the origin, fingers along +y.
FINGER_LINES = (
    (0.025, 0.042, 0.030, 0.115),
    (0.024, 0.027, 0.090, 0.165),
    (0.006, 0.008, 0.090, 0.176),
    (-0.012, -0.011, 0.086, 0.168),
    (-0.030, -0.031, 0.076, 0.140),
)
SKIN = (90, 140, 200)  # BGR
FINGER_COLOURS = ((60, 60, 255), (60, 200, 255), (80, 220, 80), (255, 160, 60), (220, 60, 220))  # BGR


def pytest_configure(config: pytest.Config) -> None:
    """`pytest -n 2 --dist loadfile` deals out the files in the order below."""
    config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first, then those of most tests: at the end no core waits long for another's last file."""
    tests = Counter(item.path for item in items)
    items.sort(key=lambda item: (item.path.stem not in LONG_FILES, -tests[item.path]))


@pytest.fixture(autouse=True)
def network_attempts() -> Iterator[list[str]]:
    """The connections that were refused so far; a test that leaves any behind fails."""
    ATTEMPTS.clear()
    yield ATTEMPTS
    assert not ATTEMPTS


@pytest.fixture(autouse=True)
def packages_are_asked_anew() -> None:
    """What an earlier test broke does not stay broken."""
    raised_at_import.cache_clear()


@pytest.fixture(scope="session")
def real_dir() -> Path:
    """../shared/real, beside the repository; the test is skipped where it is absent."""
    if not REAL_DIR.is_dir():
        pytest.skip(f"no real photographs at {REAL_DIR}")
    return REAL_DIR


@pytest.fixture(scope="session")
def hand_topology() -> HandTopology:
    """A mitten: 778 vertices, 1538 faces, a rim of 16 edges at the wrist, 21 joints in a hand's layout."""
    template = _mitten_vertices()
    targets = _joint_targets()
    squared = ((targets[:, None] - template) ** 2).sum(axis=-1)
    weights = np.exp(-squared / (2 * 0.009**2))
    weights[squared > 0.025**2] = 0  # local, as MANO's regressor is
    regressor = weights / weights.sum(axis=1, keepdims=True)
    arrays = {"faces": _mitten_faces(), "template": template, "joint_regressor": regressor}
    return check_topology(arrays, source="the synthetic hand")


@pytest.fixture(scope="session")
def hand_file(hand_topology: HandTopology, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`hand_topology` as hand.npz."""
    path = tmp_path_factory.mktemp("hand") / "hand.npz"
    save_hand(hand_topology, path)
    return path


@pytest.fixture(scope="session")
def freihand_folder(hand_topology: HandTopology, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A function that writes a new FreiHAND-format folder of synthetic pictures and returns its path.

    Keywords: `n_labels` = 4 samples; `versions` = 1 images per training sample; `verts`, `scale`, `mask` = True
    whether those labels are written; `evaluation_labels` = True whether xyz and verts of the evaluation split are;
    `size_px` = 224; `seed` = 0. The evaluation split repeats the training split's samples in one version.
    """

    def write(*, n_labels: int = 4, versions: int = 1, seed: int = 0, size_px: int = 224, **options: bool) -> Path:
        chosen = {"verts": True, "scale": True, "mask": True, "evaluation_labels": True} | options
        assert len(chosen) == 4, f"unknown options in {options}"
        root = tmp_path_factory.mktemp("freihand")
        rng = np.random.default_rng(seed)
        samples = [_pose(hand_topology, rng, size_px=size_px) for _ in range(n_labels)]
        hidden = () if chosen["evaluation_labels"] else ("xyz", "verts")
        for split, repeats, left_out in (("training", versions, ()), ("evaluation", 1, hidden)):
            _write_labels(root, split, samples, chosen, left_out)
            _write_images(root / split, hand_topology, samples, repeats, size_px, mask=chosen["mask"])
        return root

    return write


@dataclass(frozen=True)
class Sample:
    K: np.ndarray
    xyz: np.ndarray
    verts: np.ndarray


def _mitten_vertices() -> np.ndarray:
    """Rings of elliptical cross-section along y; the last is the pole."""
    rings = []
    for index, count in enumerate(RINGS):
        along = index / (len(RINGS) - 1)
        # Wide at the palm, closed like a dome at the fingertips.
        closing = np.sqrt(1 - np.clip((along - 0.7) / 0.3, 0, 1) ** 2)
        half_width = (0.028 + 0.022 * np.sin(np.pi * min(along / 0.7, 1.0))) * closing
        half_depth = 0.016 * closing
        angle = 2 * np.pi * np.arange(count) / count
        rings.append(
            np.column_stack(
                [
                    half_width * np.cos(angle),
                    np.full(count, along * HAND_LENGTH_M - 0.01),
                    half_depth * np.sin(angle),
                ]
            )
        )
    return np.concatenate(rings)


def _mitten_faces() -> np.ndarray:
    """Triangles between neighbouring rings, counter-clockwise seen from outside."""
    faces: list[tuple[int, int, int]] = []
    start = 0
    for lower, upper in itertools.pairwise(RINGS):
        above = start + lower
        if upper == 1:
            faces += [(start + i, above, start + (i + 1) % lower) for i in range(lower)]
        else:
            i = j = 0
            while i < lower or j < upper:
                # Advance on the ring whose next vertex comes first around the axis.
                if j == upper or (i < lower and (i + 1) * upper <= (j + 1) * lower):
                    faces.append((start + i % lower, above + j % upper, start + (i + 1) % lower))
                    i += 1
                else:
                    faces.append((start + i % lower, above + j % upper, above + (j + 1) % upper))
                    j += 1
        start = above
    return np.array(faces)


def _joint_targets() -> np.ndarray:
    joints = [(0.0, 0.0, 0.0)]
    for x_base, x_tip, y_base, y_tip in FINGER_LINES:
        for share in (0.0, 0.42, 0.72, 1.0):
            joints.append((x_base + share * (x_tip - x_base), y_base + share * (y_tip - y_base), 0.0))
    return np.array(joints)


def _pose(topology: HandTopology, rng: np.random.Generator, *, size_px: int) -> Sample:
    """The template bent at the fingers, swayed, turned and placed before a camera."""
    verts = topology.template.copy()
    beyond = np.maximum(verts[:, 1] - PALM_LENGTH_M, 0)
    verts[:, 2] += rng.uniform(1, 5) * beyond**2
    verts[:, 0] += rng.uniform(-3, 3) * beyond**2
    verts[:, 2] += 0.003 * np.sin(40 * verts[:, 0] + rng.uniform(0, 2 * np.pi))
    verts = (verts - verts.mean(axis=0)) * rng.uniform(0.9, 1.1)
    turn, _ = cv2.Rodrigues(rng.uniform((-0.6, -0.6, -np.pi), (0.6, 0.6, np.pi)))
    focal = size_px * rng.uniform(1.8, 2.2)
    K = np.array([[focal, 0, size_px / 2], [0, focal * rng.uniform(0.98, 1.02), size_px / 2], [0, 0, 1]])
    verts = verts @ turn.T + (*rng.uniform(-0.02, 0.02, 2), rng.uniform(0.55, 0.75))
    return Sample(K=K, xyz=topology.joint_regressor @ verts, verts=verts)


def _write_labels(
    root: Path, split: str, samples: list[Sample], chosen: dict[str, bool], left_out: tuple[str, ...]
) -> None:
    fields = {
        "K": [sample.K.tolist() for sample in samples],
        "xyz": [sample.xyz.tolist() for sample in samples],
        "verts": [sample.verts.tolist() for sample in samples],
        "scale": [float(np.linalg.norm(sample.xyz[9] - sample.xyz[10])) for sample in samples],
    }
    for field, values in fields.items():
        if chosen.get(field, True) and field not in left_out:
            (root / f"{split}_{field}.json").write_text(json.dumps(values))


def _write_images(
    folder: Path, topology: HandTopology, samples: list[Sample], versions: int, size_px: int, *, mask: bool
) -> None:
    (folder / "rgb").mkdir(parents=True)
    if mask:
        (folder / "mask").mkdir()
    for index in range(versions * len(samples)):
        version, label = divmod(index, len(samples))
        picture, silhouette = _draw(topology, samples[label], version, size_px)
        assert cv2.imwrite(str(folder / "rgb" / f"{index:08d}.jpg"), picture, (cv2.IMWRITE_JPEG_QUALITY, 95))
        if mask and version == 0:
            assert cv2.imwrite(str(folder / "mask" / f"{index:08d}.jpg"), silhouette)


def _draw(topology: HandTopology, sample: Sample, version: int, size_px: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture whose content follows the pose, and its hand mask."""
    silhouette = np.zeros((size_px, size_px), np.uint8)
    uv = _project(sample.verts, sample.K)
    for face in topology.faces:
        cv2.fillConvexPoly(silhouette, np.round(uv[face]).astype(np.int32), 255)
    row, column = np.mgrid[:size_px, :size_px] / size_px
    background = np.stack([row, column, np.full_like(row, 0.25 * (version + 1))], axis=-1) * 160 + 40
    picture = np.where(silhouette[..., None] > 0, np.array(SKIN), background).astype(np.uint8)
    joints = _project(sample.xyz, sample.K)
    width = max(1, round(size_px / 110))
    for parent, joint in BONES:
        near = 1 - (sample.xyz[joint, 2] - sample.xyz[:, 2].mean()) / 0.2  # brighter towards the camera
        colour = tuple(float(np.clip(c * near, 0, 255)) for c in FINGER_COLOURS[(joint - 1) // 4])
        ends = [tuple(round(x * 16) for x in joints[end]) for end in (parent, joint)]
        cv2.line(picture, ends[0], ends[1], colour, width, cv2.LINE_AA, shift=4)
        cv2.circle(picture, ends[1], 16 * (width + 1), colour, cv2.FILLED, cv2.LINE_AA, shift=4)
    return picture, silhouette


def _project(points_m: np.ndarray, K: np.ndarray) -> np.ndarray:
    homogeneous = points_m @ K.T
    return homogeneous[:, :2] / homogeneous[:, 2:]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Closes what a test opens."""
    with ExitStack() as stack:
        yield stack
