"""cliphand.data.layers: light mixes linearly, dense targets follow labels, the same chance gives the same view."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from refusal import refused, run

pytest.importorskip("anny", reason="the extra 'synthetic' is not installed")

from cliphand.config import AugmentConfig, CropConfig
from cliphand.data.freihand import FreiHand, open_freihand
from cliphand.data.identity import data_identity, refuse_other_data
from cliphand.data.layers import compose
from cliphand.data.layers.dense import STRIDE, canonical
from cliphand.data.layers.light_mix import mix_lights
from cliphand.data.layers.occlude import draw_thing
from cliphand.data.layers.scenery import (
    PICTURES,
    THINGS,
    Scenery,
    evaluation_pictures,
    list_pictures,
    list_things,
    training_pictures,
)
from cliphand.data.layers.sensor import mix_spectrum
from cliphand.data.layers.store import LAYER_PX, LIGHT_SPAN, N_LIGHTS, layer_paths
from cliphand.data.synthetic import pictures
from cliphand.data.synthetic.background import list_photos
from cliphand.data.synthetic.dataset import make_dataset
from cliphand.data.synthetic.hair import BARE_AT_M, with_hair
from cliphand.data.synthetic.labels import CHUNK
from cliphand.data.synthetic.plan import Plan, make_plan
from cliphand.data.synthetic.props import RING_ROOM, finger_ring
from cliphand.data.synthetic.scene import CLOTH, SKIN
from cliphand.data.synthetic.shading import Points
from cliphand.data.views import TrainingPair, evaluation_view, training_pair
from cliphand.errors import InputError
from cliphand.hand import load_hand

SIDE, TRAIN, EVALUATION = 128, CHUNK + 2, 2
CROP = CropConfig(rule="joints", margin=1.4)


def plan(root: Path, *, train: int = TRAIN) -> Plan:
    return make_plan(root, training=train, evaluation=EVALUATION, seed=3, backgrounds=None, kind="layers")


def content(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("layers") / "set"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pictures, "DRAWN", 24)
        make_dataset(plan(root), workers=0)
    return root


@pytest.fixture(scope="module")
def data(folder: Path) -> FreiHand:
    return open_freihand(folder, "training")


def pair(data: FreiHand, index: int, *, seed: int = 1, difficulty: float = 1.0) -> TrainingPair:
    augment = AugmentConfig(difficulty=difficulty)
    return training_pair(
        data, index, crop=CROP, augment=augment, side_px=SIDE, rng=np.random.default_rng([seed, index])
    )


def test_light_is_linear_in_the_strength_and_colour_of_its_parts(data: FreiHand) -> None:
    assert data.layers is not None
    lights = data.layers.read(0).lights
    rng = np.random.default_rng(0)
    one, two = rng.random((2, N_LIGHTS, 3)).astype(np.float32)
    together = mix_lights(lights, 2 * one + two)
    np.testing.assert_allclose(together, 2 * mix_lights(lights, one) + mix_lights(lights, two), atol=1e-5)
    only = np.zeros((N_LIGHTS, 3), np.float32)
    only[2, 1] = 1
    np.testing.assert_allclose(mix_lights(lights, only)[..., 1], LIGHT_SPAN * (lights[2][..., 1] / 255) ** 2, atol=1e-5)
    assert not mix_lights(lights, only)[..., [0, 2]].any()


def test_every_light_shows_another_side_of_the_hand(data: FreiHand) -> None:
    assert data.layers is not None
    layers = data.layers.read(1)
    inside = layers.cover[..., 1] == 255
    seen = [light[inside].mean(axis=1) for light in layers.lights]
    for first in range(N_LIGHTS):
        for second in range(first):
            assert np.corrcoef(seen[first], seen[second])[0, 1] < 0.97


def test_the_same_chance_gives_the_same_pair_and_other_chance_another(data: FreiHand) -> None:
    for index in range(6):
        one, same, other = pair(data, index), pair(data, index), pair(data, index, seed=2)
        for name in ("first", "second"):
            np.testing.assert_array_equal(getattr(one, name).crop, getattr(same, name).crop)
            np.testing.assert_array_equal(getattr(one, name).dense.seen, getattr(same, name).dense.seen)
        assert (one.first.crop != other.first.crop).mean() > 0.5
        assert (one.first.crop != one.second.crop).mean() > 0.5


def test_a_vertex_is_found_in_the_cell_that_its_label_projects_to(data: FreiHand, folder: Path) -> None:
    template = load_hand(folder / "hand.npz").template
    names = canonical(template, template)
    assert np.abs(names).max() <= 1
    assert data.verts is not None
    off = []
    for index in range(len(data)):
        made = pair(data, index)
        for view in (made.first, made.second):
            assert view.dense is not None
            cells = np.floor((view.verts_uvd[:, :2] * SIDE + 0.5) / STRIDE).astype(int)
            inside = ((cells >= 0) & (cells < SIDE // STRIDE)).all(axis=1)
            x, y = cells[inside].T
            nearest = np.full((SIDE // STRIDE,) * 2, np.inf)
            np.minimum.at(nearest, (y, x), view.verts_uvd[inside, 2])
            in_front = view.verts_uvd[inside, 2] <= nearest[y, x] + 0.02
            whole = view.dense.seen[y, x] > 0.98
            shown = in_front & whole
            error = view.dense.coordinates[:, y, x].T - names[inside]
            depth = view.dense.depth[y, x] - view.verts_uvd[inside, 2]
            off += np.column_stack([error, depth])[shown].tolist()
    assert len(off) > 500
    assert (np.median(np.abs(off), axis=0) < (0.08, 0.04, 0.1, 0.08)).all()


def test_cells_without_the_hand_hold_nothing(data: FreiHand) -> None:
    for index in range(6):
        dense = pair(data, index).first.dense
        assert dense is not None
        cells = (SIDE // STRIDE,) * 2
        assert (dense.coordinates.shape, dense.depth.shape, dense.seen.shape) == ((3, *cells), cells, cells)
        assert {value.dtype for value in (dense.coordinates, dense.depth, dense.seen)} == {np.dtype(np.float32)}
        assert np.abs(dense.coordinates).max() <= 1
        empty = dense.seen == 0
        assert empty.any()
        assert not dense.coordinates[:, empty].any()
        assert not dense.depth[empty].any()


def test_views_of_one_hand_agree_about_their_common_points(data: FreiHand) -> None:
    made = pair(data, 4, difficulty=0.0)
    assert made.first.dense is not None
    assert made.second.dense is not None
    back = np.vstack([made.affine * [[1, 1, SIDE], [1, 1, SIDE]], [0, 0, 1]])
    # From cells to pixels and back, in both views.
    cell = np.array([[STRIDE, 0, (STRIDE - 1) / 2], [0, STRIDE, (STRIDE - 1) / 2], [0, 0, 1]])
    between = np.linalg.inv(cell) @ back @ cell
    side = SIDE // STRIDE
    moved, seen = (
        cv2.warpAffine(image, between[:2], (side, side))
        for image in (made.first.dense.coordinates.transpose(1, 2, 0).copy(), made.first.dense.seen)
    )
    both = (seen > 0.99) & (made.second.dense.seen > 0.99)
    assert both.sum() > 20
    off = np.abs(moved - made.second.dense.coordinates.transpose(1, 2, 0))[both]
    assert np.median(off) < 0.03


def test_the_easiest_views_show_the_whole_hand(data: FreiHand) -> None:
    assert data.layers is not None
    for index in range(8):
        easy, hard = pair(data, index, difficulty=0.0).first.dense, pair(data, index).first.dense
        assert easy is not None
        assert hard is not None
        hand = data.layers.read(index).cover[..., 1].sum() / 255
        assert easy.seen.sum() > 0.2 * hand / LAYER_PX**2
        assert hard.seen.any()


def test_training_reads_no_picture_held_out_for_evaluation(folder: Path, data: FreiHand) -> None:
    kept = list_pictures(folder)
    assert data.layers is not None
    assert data.layers.pictures == training_pictures(kept)
    held_out = evaluation_pictures(kept)
    assert len(held_out) == 3
    assert not set(held_out) & set(data.layers.pictures)
    assert len(held_out) + len(data.layers.pictures) == len(kept)


def test_evaluation_shows_finished_pictures_without_layers(folder: Path) -> None:
    data = open_freihand(folder, "evaluation")
    assert data.layers is None
    view = evaluation_view(data, 1, CROP, SIDE)
    assert view.crop.std() > 5


def test_stopped_and_started_again_a_set_in_layers_ends_with_the_same_bytes(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "DRAWN", 24)
    root = tmp_path / "set"

    def stop(what: str, done: int, total: int) -> None:
        if done > EVALUATION:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_dataset(plan(root), workers=0, progress=stop)
    assert not (root / "training_xyz.json").exists()
    make_dataset(plan(root), workers=0)
    assert content(root) == content(folder)


@pytest.mark.parametrize("name", ["light", "cover", "surface"])
def test_a_damaged_layer_is_an_error_that_names_the_file(data: FreiHand, name: str) -> None:
    assert data.layers is not None
    path = layer_paths(data.layers.folder, 2)[name]
    whole = path.read_bytes()
    try:
        path.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(InputError, match=f"{path.name} is damaged"):
            pair(data, 2)
    finally:
        path.write_bytes(whole)


def test_a_run_on_other_layers_or_pictures_is_another_run(folder: Path, data: FreiHand) -> None:
    hand = load_hand(folder / "hand.npz")
    before = data_identity(data, hand)
    assert data.layers is not None
    for path in (layer_paths(data.layers.folder, 3)["cover"], data.layers.pictures[0]):
        whole = path.read_bytes()
        try:
            path.write_bytes(whole + b"more")
            with pytest.raises(InputError, match=r"other data \(layers differ\)"):
                refuse_other_data(before, data_identity(data, hand), run=folder)
        finally:
            path.write_bytes(whole)
    refuse_other_data(before, data_identity(data, hand), run=folder)


def test_hands_in_layers_fill_their_images_as_photographs_of_hands_do(data: FreiHand) -> None:
    extents = np.array([np.ptp(data.joints_uv(index), axis=0).max() for index in range(len(data))])
    assert extents.min() > 35  # a finger that points at the camera
    assert extents.max() < 216
    assert 70 < np.median(extents) < 160
    assert data.layers is not None
    for index in range(len(data)):
        edges = data.layers.read(index).cover[[0, 0, -1, -1], :, 1]
        assert not edges.any()  # the whole hand lies inside the layers' frame


def test_layers_without_their_pictures_are_refused(folder: Path) -> None:
    away = folder / "elsewhere"
    (folder / PICTURES).rename(away)
    try:
        with pytest.raises(InputError, match=r"backgrounds/00000000\.jpg does not exist"):
            open_freihand(folder, "training")
    finally:
        away.rename(folder / PICTURES)


@pytest.mark.parametrize("words", [("data", "check"), ("train", "--out", "run", "--data")])
def test_a_set_that_lost_its_layers_does_not_pass_for_an_ordinary_one(
    folder: Path, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    layers = folder / "training" / "layers"
    layers.rename(folder / "away")
    try:
        told = refused(capsys, *words, folder, watched=folder)
    finally:
        (folder / "away").rename(layers)
    assert told.startswith(f"{layers} does not exist, though synthetic.json says that the set is in layers; `cliphand")
    assert f"--train {TRAIN} --evaluation {EVALUATION} --seed 3 --kind layers` makes them again" in told


FAULTS = {
    "training/layers/cover/00000004.webp": "does not exist",
    "training/layers/light/00000005.jpg": "is damaged",
    "training/layers/surface/00000006.webp": "is damaged",
    f"{PICTURES}/00000003.jpg": "does not exist",
    f"{PICTURES}/00000007.jpg": "is a truncated or damaged image",
    f"{THINGS}/00000000.webp": "is damaged",
}


def harm(path: Path, said: str) -> None:
    """Make a file what a check says of it."""
    path.parent.mkdir(exist_ok=True)
    if said == "does not exist":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-200] if path.exists() else b"no picture")


@pytest.mark.parametrize("name", FAULTS)
def test_lost_and_damaged_layers_are_found(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    root = shutil.copytree(folder, tmp_path / "set")
    harm(root / name, FAULTS[name])
    assert f"{root / name} {FAULTS[name]}" in refused(capsys, "data", "check", root, watched=root)


def test_the_same_command_makes_lost_and_damaged_layers_again(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "DRAWN", 24)
    root = shutil.copytree(folder, tmp_path / "set")
    for name, said in FAULTS.items():
        if not name.startswith(THINGS):  # which only the user's pictures are
            harm(root / name, said)
    words = ("--train", TRAIN, "--evaluation", EVALUATION, "--seed", 3, "--kind", "layers", "--workers", 1)
    assert run(capsys, "synth", "--out", root, *words)[0] == 0
    assert content(root) == content(folder)


def test_photographs_are_kept_small_among_drawn_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number, size in enumerate(((600, 2400), (900, 700), (100, 120))):
        cv2.imwrite(str(photos / f"{number}.png"), np.full((*size, 3), (0, 80 * number, 250), np.uint8))
    monkeypatch.setattr(pictures, "DRAWN_BESIDE_PHOTOS", 2)
    pictures.write_pictures(tmp_path, seed=4, photos=list_photos(photos))
    kept = [cv2.imread(str(path)) for path in list_pictures(tmp_path)]
    assert len(kept) == 5
    red = sorted(image.shape[:2] for image in kept if (image[..., 2] > 240).all() and (image[..., 0] < 15).all())
    assert red == [(100, 120), (256, 384), (329, 256)]
    before = content(tmp_path)
    _, second, third, *_ = list_pictures(tmp_path)
    third.unlink()
    second.write_bytes(second.read_bytes()[:-30])
    pictures.write_pictures(tmp_path, seed=4, photos=list_photos(photos))
    assert content(tmp_path) == before
    monkeypatch.setattr(pictures.cv2, "imread", lambda *_: pytest.fail("a picture that was taken over is decoded"))
    pictures.write_pictures(tmp_path, seed=4, photos=list_photos(photos))


def test_a_ring_goes_around_its_finger() -> None:
    rng = np.random.default_rng(2)
    joints = np.zeros((21, 3))
    for finger in range(5):
        joints[4 * finger + 1 : 4 * finger + 5] = np.array([0.02 * finger, 0, 0]) + 0.03 * np.outer(range(4), (0, 1, 0))
    for _ in range(20):
        ring = finger_ring(rng, joints, np.full((5, 3), 0.008))
        around = ring.vertices
        finger = round(float(around[:, 0].mean() / 0.02))
        radius = np.linalg.norm(around[:, [0, 2]] - [0.02 * finger, 0], axis=1)
        assert radius.max() == pytest.approx(0.008 * RING_ROOM)
        assert 0.01 < around[:, 1].mean() < 0.025


def test_hair_darkens_the_back_of_hand_and_arm_alone() -> None:
    n = 4000
    rng = np.random.default_rng(3)
    fields = np.zeros((n, 13), np.float32)
    fields[:, 0], fields[:, 1] = rng.uniform(-0.04, 0.04, n), rng.uniform(-0.1, 0.18, n)
    fields[:, 3] = np.arange(n) % 2  # back and palm in turn
    zeros = np.zeros((n, 3), np.float32)
    points = Points(np.where(np.arange(n) % 5, SKIN, CLOTH), zeros, zeros, fields, zeros[:, 0])
    albedo = np.full((n, 3), 0.5, np.float32)
    drawn = [with_hair(np.random.default_rng(seed), points, albedo) for seed in range(12)]
    bare = (fields[:, 3] == 1) | (fields[:, 1] > BARE_AT_M) | (points.material == CLOTH)
    assert any((one < albedo).any() for one in drawn)
    assert any((one == albedo).all() for one in drawn)
    for one in drawn:
        np.testing.assert_array_equal(one[bare], albedo[bare])
        assert (one <= albedo).all()


def test_another_picture_lends_its_spectrum_and_not_its_shapes() -> None:
    rng = np.random.default_rng(5)
    image, other = (cv2.resize(rng.integers(40, 210, (9, 9, 3)).astype(np.uint8), (64, 64)) for _ in range(2))
    np.testing.assert_array_equal(mix_spectrum(image, other, 0.0), image)
    mixed = mix_spectrum(image, other, 0.4)

    def brightness(picture: np.ndarray) -> np.ndarray:
        return cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(float).ravel()

    assert np.corrcoef(brightness(mixed), brightness(image))[0, 1] > 0.7
    assert abs(np.corrcoef(brightness(mixed), brightness(other))[0, 1]) < 0.5
    own, foreign, new = (np.abs(np.fft.rfft2(brightness(x).reshape(64, 64))) for x in (image, other, mixed))
    assert np.abs(new - foreign).sum() < 0.8 * np.abs(own - foreign).sum()


def test_a_frame_is_black_and_hides_the_hand_behind_it() -> None:
    crop, seen = np.full((64, 64, 3), 200, np.uint8), np.full((64, 64), 255, np.uint8)
    black = []
    for seed in range(20):
        framed, left = compose._framed(np.random.default_rng(seed), crop, seen)
        np.testing.assert_array_equal(left > 0, framed[..., 0] > 0)
        assert framed[20:44, 20:44].all()
        black.append((left == 0).mean())
    assert min(black) == 0
    assert max(black) > 0.1


def test_what_lies_before_the_hand_is_taken_off_its_seen_part(data: FreiHand) -> None:
    assert data.layers is not None
    scenery = data.layers.scenery()
    hand = np.zeros((SIDE, SIDE), np.uint8)
    hand[40:90, 30:100] = 255
    scene = np.full((SIDE, SIDE, 3), 0.2, np.float32)
    hidden = 0
    for seed in range(20):
        drawn, left = compose._with_thing(np.random.default_rng(seed), scene, hand, scenery, hand)
        changed = np.abs(drawn - scene).max(axis=2) > 0
        assert (left <= hand).all()
        covered = left < hand
        assert (changed & covered).sum() >= 0.95 * covered.sum()
        assert left.sum() >= compose.LEAST_SEEN * hand.sum()
        hidden += bool(covered.any())
    assert hidden > 5


def test_a_picture_that_is_clear_around_a_thing_lies_before_hands_as_it_is_cut_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    thing = np.zeros((300, 200, 4), np.uint8)
    cv2.circle(thing, (100, 150), 80, (20, 250, 30, 255), -1)
    cv2.imwrite(str(photos / "a.png"), thing)
    cv2.imwrite(str(photos / "b.png"), np.full((90, 90, 4), 255, np.uint8))  # clear nowhere: a photograph
    monkeypatch.setattr(pictures, "DRAWN_BESIDE_PHOTOS", 1)
    pictures.write_pictures(tmp_path, seed=4, photos=list_photos(photos))
    kept = list_things(tmp_path)
    assert (len(kept), len(list_pictures(tmp_path))) == (1, 2)
    scenery = Scenery(list_pictures(tmp_path), lambda _: pytest.fail("no other hand is needed"), kept)
    hand = np.full((SIDE, SIDE), 255, np.uint8)
    green = 0
    for seed in range(20):
        drawn = draw_thing(np.random.default_rng(seed), scenery, hand)
        assert drawn is not None
        solid = drawn.colour[drawn.cover == 255].astype(int)
        green += bool(len(solid) > 50 and (np.abs(solid - (30, 250, 20)) < 8).all())
    assert 4 <= green <= 16
