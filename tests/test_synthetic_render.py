"""Synthetic images: labels fit the pixels, light and materials behave, one image depends on its index alone."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("anny", reason="the extra 'synthetic' is not installed")
pytest.importorskip("embreex", reason="the extra 'synthetic' is not installed")

from cliphand.data.overlay import project
from cliphand.data.synthetic import props
from cliphand.data.synthetic.arm import RING_M, random_arm, tube_faces
from cliphand.data.synthetic.background import list_photos, random_background
from cliphand.data.synthetic.exposure import develop, expose, frame
from cliphand.data.synthetic.kinds import KINDS
from cliphand.data.synthetic.lights import Lamp, Light, random_light
from cliphand.data.synthetic.mesh import face_normals
from cliphand.data.synthetic.palette import TONES, light_colour, skin_tone, thing_colours, to_linear, to_srgb
from cliphand.data.synthetic.placement import RENDER_PX, SIDE_PX, Placement, random_placement, render_matrix
from cliphand.data.synthetic.render import Picture, render
from cliphand.data.synthetic.rigged_hand import PosedHand, build_rigged_hand, pose_model, random_hand
from cliphand.data.synthetic.sample import Sample, make_sample
from cliphand.data.synthetic.scene import BAND, CLOTH, PROP, SKIN, Stage, build_scene, prepare_stage
from cliphand.data.synthetic.shading import Look, random_look
from cliphand.data.synthetic.tracer import Tracer
from cliphand.hand import MIDDLE_MCP, MIDDLE_PIP

WHITE = Light(np.array([0, -1.0, 0]), np.full(3, 0.5), np.full(3, 0.5), ())


@pytest.fixture(scope="module")
def stage() -> Stage:
    return prepare_stage(build_rigged_hand())


@pytest.fixture(scope="module")
def samples(stage: Stage) -> list[Sample]:
    return [make_sample(stage, seed=11, split="training", index=i) for i in range(60)]


def decoded(data: bytes, *, colour: bool = True) -> NDArray[np.uint8]:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR if colour else cv2.IMREAD_GRAYSCALE)
    assert image is not None
    return np.asarray(image, np.uint8)


def outline(stage: Stage, points: NDArray[np.float64]) -> NDArray[np.uint8]:
    canvas = np.zeros((SIDE_PX, SIDE_PX), np.uint8)
    for face in np.round(points * 16).astype(np.int32)[stage.model.topology.faces]:
        cv2.fillConvexPoly(canvas, face, 1, shift=4)
    return canvas


def bare_picture(
    stage: Stage, light: Light, *, seed: int = 1, tone: float | None = None
) -> tuple[Picture, PosedHand, Placement]:
    """A hand without sleeve, band or things."""
    rng = np.random.default_rng(seed)
    hand = random_hand(rng, stage.model)
    view = random_placement(rng, hand.joints)
    rng = NothingWorn(seed)
    scene = build_scene(rng, stage, hand, view)  # type: ignore[arg-type]
    look = random_look(np.random.default_rng(2))
    if tone is not None:
        object.__setattr__(look, "back", skin_tone(tone).astype(np.float32))
        object.__setattr__(look, "palm", skin_tone(tone).astype(np.float32))
    return render(np.random.default_rng(3), stage, scene, render_matrix(view.K), look, light), hand, view


class NothingWorn:
    """A source of randomness whose chances never come true."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def random(self, size: int | None = None) -> object:
        return 0.999 if size is None else np.full(size, 0.999)

    def __getattr__(self, name: str) -> object:
        return getattr(self._rng, name)


def test_projected_mesh_covers_the_mask(stage: Stage, samples: list[Sample]) -> None:
    shares = []
    for sample in samples:
        mask = decoded(sample.mask, colour=False) > 127
        drawn = outline(stage, project(sample.labels.verts, sample.labels.K)) > 0
        shares.append((mask & drawn).sum() / mask.sum())
    assert np.median(shares) > 0.985  # the mask is the seen part of the drawn mesh
    assert min(shares) > 0.93


def test_unhidden_hand_matches_its_projected_mesh(stage: Stage) -> None:
    picture, hand, view = bare_picture(stage, WHITE)
    seen = cv2.resize(picture.hand, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA) >= 0.5
    drawn = outline(stage, project(view.place(hand.mesh), view.K)) > 0
    overlap = (seen & drawn).sum() / (seen | drawn).sum()
    assert overlap > 0.93  # the forearm hides a little, and 778 vertices cut corners
    shifted = np.roll(drawn, 3, axis=1)
    assert (seen & shifted).sum() / (seen | shifted).sum() < overlap - 0.02


def test_labels_agree_with_each_other(stage: Stage, samples: list[Sample]) -> None:
    for sample in samples:
        np.testing.assert_allclose(
            stage.model.topology.joint_regressor @ sample.labels.verts, sample.labels.xyz, atol=1e-6
        )
        assert sample.labels.scale == pytest.approx(
            np.linalg.norm(sample.labels.xyz[MIDDLE_MCP] - sample.labels.xyz[MIDDLE_PIP]), abs=2e-6
        )
        assert sample.labels.verts[:, 2].min() > 0.1


def test_images_are_224_px_and_masks_black_and_white(samples: list[Sample]) -> None:
    for sample in samples:
        assert decoded(sample.photo).shape == (SIDE_PX, SIDE_PX, 3)
        mask = decoded(sample.mask, colour=False)
        assert mask.shape == (SIDE_PX, SIDE_PX)
        assert ((mask < 40) | (mask > 215)).mean() > 0.99


def test_a_sample_depends_on_seed_split_and_index_alone(stage: Stage, samples: list[Sample]) -> None:
    again = make_sample(stage, seed=11, split="training", index=7)
    assert again.photo == samples[7].photo
    assert again.mask == samples[7].mask
    np.testing.assert_array_equal(again.labels.verts, samples[7].labels.verts)
    others = [
        make_sample(stage, seed=12, split="training", index=7),
        make_sample(stage, seed=11, split="evaluation", index=7),
        samples[8],
    ]
    assert all(other.photo != samples[7].photo for other in others)


def test_enough_of_every_hand_is_seen(samples: list[Sample]) -> None:
    areas = [(decoded(sample.mask, colour=False) > 127).sum() for sample in samples]
    assert min(areas) > 200
    assert 1500 < np.median(areas) < 9000  # of 50176


def test_photographs_have_the_brightness_and_contrast_of_real_ones(samples: list[Sample]) -> None:
    photos = np.stack([decoded(sample.photo) for sample in samples]).astype(float)
    grey = photos.mean(axis=-1)
    assert 70 < grey.mean() < 150  # FreiHAND's five average 113, Ge's 106
    assert 30 < grey.std(axis=(1, 2)).mean() < 70  # 56 and 43


def test_lamp_lights_the_side_that_faces_it_and_casts_shadows(stage: Stage) -> None:
    def mean_light(direction: list[float]) -> float:
        lamp = Lamp(np.array(direction, float), np.ones(3), 0.04)
        picture, _, _ = bare_picture(stage, Light(np.array([0, -1.0, 0]), np.zeros(3), np.zeros(3), (lamp,)))
        return float(picture.colour[picture.hand > 0.5].mean())

    assert mean_light([0, 0, -1]) > 8 * mean_light([0, 0, 1])  # the camera looks along +z


def test_a_wall_shadows_what_is_behind_it() -> None:
    wall = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], np.float32)
    tracer = Tracer(wall, np.array([[0, 1, 2], [0, 2, 3]]))
    origins = np.array([[0, 0, 1], [0, 0, -1], [3, 0, 1]], np.float32)
    down = np.tile(np.array([0, 0, -1], np.float32), (3, 1))
    np.testing.assert_array_equal(tracer.occluded(origins, down), [True, False, False])
    hits = tracer.first_hits(origins, down)
    np.testing.assert_array_equal(hits.face >= 0, [True, False, False])
    assert hits.distance[0] == pytest.approx(1)
    assert tracer.first_hits(origins[:0], down[:0]).face.shape == (0,)


def test_creases_between_fingers_are_darker_than_open_skin(stage: Stage) -> None:
    picture, _, _ = bare_picture(stage, WHITE)
    skin = picture.colour[picture.hand > 0.99].mean(axis=1)
    assert np.percentile(skin, 2) < 0.6 * np.percentile(skin, 90)


def test_darker_tones_reflect_less_and_range_over_all_human_skin(stage: Stage) -> None:
    tones = np.stack([skin_tone(t) for t in np.linspace(0, 1, 30)])
    assert (np.diff(tones @ [0.21, 0.72, 0.07]) < 0).all()
    assert (tones[:, 0] > tones[:, 1]).all()
    assert (tones[:, 1] > tones[:, 2]).all()
    light, dark = (bare_picture(stage, WHITE, tone=t)[0] for t in (0.0, 1.0))
    inside = light.hand > 0.99
    assert light.colour[inside].mean() > 5 * dark.colour[inside].mean()
    np.testing.assert_array_equal(light.hand, dark.hand)


def test_srgb_and_linear_light_are_inverse() -> None:
    codes = np.linspace(0, 1, 256)
    np.testing.assert_allclose(to_srgb(to_linear(codes)), codes, atol=2.5e-3)  # 4096 steps of a table


def test_warm_light_is_red_and_cold_light_blue() -> None:
    warm, cold = light_colour(2700), light_colour(10000)
    assert warm[0] > warm[1] > warm[2]
    assert cold[2] > cold[0]
    for colour in (warm, cold):
        assert colour @ [0.2126, 0.7152, 0.0722] == pytest.approx(1)


def test_colours_of_things_are_albedos() -> None:
    colours = thing_colours(np.random.default_rng(0), 500)
    assert colours.shape == (500, 3)
    assert colours.min() >= 0
    assert colours.max() <= 1
    assert len(TONES) == 9


def test_looks_and_lights_vary() -> None:
    rng = np.random.default_rng(1)
    looks: list[Look] = [random_look(rng) for _ in range(200)]
    back = np.array([look.back.mean() for look in looks])
    assert back.max() / back.min() > 10
    lights = [random_light(rng) for _ in range(200)]
    assert {len(light.lamps) for light in lights} == {1, 2, 3}
    for light in lights:
        assert min(light.sky.min(), *(lamp.colour.min() for lamp in light.lamps)) > 0


def test_scenes_hold_sleeves_bands_and_things_in_their_shares(stage: Stage) -> None:
    rng = np.random.default_rng(2)
    hand = pose_model(stage.model, np.zeros(10), np.zeros((21, 3)))
    found = np.zeros(4)
    for _ in range(120):
        scene = build_scene(rng, stage, hand, random_placement(rng, hand.joints))
        found[np.unique(scene.material)] += 1
    assert found[SKIN] == 120
    assert 0.3 < found[CLOTH] / 120 < 0.6
    assert 0.04 < found[BAND] / 120 < 0.22
    assert 0.1 < found[PROP] / 120 < 0.45


def test_forearm_starts_at_the_rim_and_faces_outwards(stage: Stage) -> None:
    hand = pose_model(stage.model, np.zeros(10), np.zeros((21, 3)))
    rim = hand.surface[stage.model.rim]
    arm = random_arm(np.random.default_rng(3), rim)
    assert np.linalg.norm(arm.rings[0] - rim, axis=1).max() < 0.008
    assert np.linalg.norm(arm.axis[-1] - rim.mean(axis=0)) > 0.25
    rings = arm.rings.reshape(-1, 3)
    faces = tube_faces(len(RING_M), 40)
    centres = rings[faces].mean(axis=1)
    middle = arm.axis[np.abs(centres[:, None] - arm.axis[None]).sum(-1).argmin(axis=1)]
    outwards = ((centres - middle) * face_normals(rings, faces)).sum(axis=1) > 0
    assert outwards.mean() > 0.97  # the inside of a bent wrist may fold


@pytest.mark.parametrize("kind", ["ball", "box", "cylinder"])
def test_props_are_closed_and_face_outwards(kind: str) -> None:
    centre = np.array([0.1, 0.2, 0.3])
    made = {
        "ball": props.ball(centre, 0.02),
        "box": props.box(centre, np.eye(3), np.array([0.01, 0.02, 0.03])),
        "cylinder": props.cylinder(centre, np.eye(3), 0.01, 0.05, taper=0.8),
    }[kind]
    normals = face_normals(made.vertices, made.faces)
    real = np.linalg.norm(normals, axis=1) > 1e-12  # poles have faces of no area
    away = ((made.vertices[made.faces].mean(axis=1) - centre) * normals).sum(axis=1)
    assert (away[real] > 0).all()
    assert np.abs(normals.sum(axis=0)).max() < 1e-9  # a closed surface


def test_held_things_do_not_cut_the_hand(stage: Stage) -> None:
    rng = np.random.default_rng(4)
    seen = 0
    for _ in range(60):
        hand = random_hand(rng, stage.model)
        thing = props.held(rng, hand.mesh, hand.joints)
        if thing is not None:
            seen += 1
            middle = thing.vertices.mean(axis=0)
            nearest = np.linalg.norm(hand.mesh - middle, axis=1).min()
            assert nearest > 0.004
    assert seen > 20


def test_backgrounds_fill_the_image_and_differ() -> None:
    images = [random_background(np.random.default_rng(i), ()) for i in range(30)]
    for image in images:
        assert image.shape == (RENDER_PX, RENDER_PX, 3)
        assert image.min() >= 0
        assert image.max() <= 1
    assert len({image.tobytes() for image in images}) == 30


def test_the_users_photographs_are_used(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "b.png"), np.full((300, 500, 3), (0, 0, 255), np.uint8))
    (tmp_path / "inner").mkdir()
    cv2.imwrite(str(tmp_path / "inner" / "a.JPG"), np.full((90, 80, 3), (0, 0, 255), np.uint8))
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    photos = list_photos(tmp_path)
    assert [photo.name for photo in photos] == ["b.png", "broken.jpg", "a.JPG"]
    red = sum(random_background(np.random.default_rng(i), photos).mean(axis=(0, 1))[0] > 0.9 for i in range(40))
    assert 10 < red < 40


def test_a_frame_never_hides_the_hand() -> None:
    image = np.full((SIDE_PX, SIDE_PX, 3), 200, np.uint8)
    corners = np.array([[30.0, 40.0], [190.0, 180.0], [112.0, 112.0]])
    framed = 0
    for seed in range(300):
        out = frame(np.random.default_rng(seed), image, corners)
        framed += bool((out == 0).any())
        assert (out[corners[:, 1].astype(int), corners[:, 0].astype(int)] == 200).all()
    assert 3 < framed < 60


def test_exposure_shows_the_background_where_nothing_covers_it() -> None:
    background = np.full((RENDER_PX, RENDER_PX, 3), 0.5, np.float32)
    colour, coverage = np.zeros_like(background), np.zeros((RENDER_PX, RENDER_PX), np.float32)
    coverage[100:150, 100:150] = 1
    light = expose(np.random.default_rng(0), colour, coverage, background)
    assert light[10, 10] == pytest.approx(0.5)
    assert light[125, 125] == pytest.approx(0, abs=1e-6)
    image = develop(np.random.default_rng(0), light)
    assert image.dtype == np.uint8
    assert image[10, 10].mean() > image[109, 109].mean() + 50


def test_plain_scenes_show_an_upright_palm_before_one_colour(stage: Stage) -> None:
    for index in range(8):
        sample = make_sample(stage, seed=3, split="training", index=index, kind=KINDS["plain"])
        wrist, index_mcp, middle_mcp, little_mcp = (sample.labels.xyz[joint] for joint in (0, 5, 9, 17))
        up = (middle_mcp - wrist) / np.linalg.norm(middle_mcp - wrist)
        assert up[1] < -np.cos(np.radians(31))  # image rows grow downwards
        facing = np.cross(index_mcp - little_mcp, up)
        assert facing[2] / np.linalg.norm(facing) < -np.cos(np.radians(31))  # out of the palm, at the camera
        image = cv2.imdecode(np.frombuffer(sample.photo, np.uint8), cv2.IMREAD_COLOR)
        strip = image[:6].reshape(-1, 3).astype(float)
        one_colour = np.median(strip, axis=0)  # whatever a turned frame's black corner takes
        assert np.median(np.abs(strip - one_colour), axis=0).max() < 5  # noise and lens shading apart
