"""cliphand.config: frozen values, their ranges and their JSON form."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cliphand.checked import from_json, to_json
from cliphand.config import (
    AugmentConfig,
    CropConfig,
    LossConfig,
    ModelConfig,
    TextConfig,
    TrainConfig,
)
from cliphand.errors import InputError

KINDS = (CropConfig, ModelConfig, TextConfig, AugmentConfig, LossConfig, TrainConfig)
SHARE = st.floats(0, 0.99)
AUGMENTS = st.builds(AugmentConfig, rotation_deg=st.floats(0, 180), scale=st.floats(0, 0.9), shift=SHARE, colour=SHARE)
TRAININGS = st.builds(
    TrainConfig,
    stage=st.sampled_from(["joints", "mesh"]),
    epochs=st.integers(1, 1000),
    learning_rate=st.floats(1e-9, 1),
    seed=st.integers(0, 2**32 - 1),
    augment=AUGMENTS,
    loss=st.builds(LossConfig, clip=SHARE),
    text=st.builds(TextConfig, tower=st.text(min_size=1, max_size=100), joints=st.integers(2, 21)),
)
CROPS = st.builds(
    CropConfig,
    rule=st.sampled_from(["whole", "centre", "mask", "joints"]),
    side_px=st.floats(1, 1000),
    mean=st.tuples(SHARE, SHARE, SHARE),
)


@given(config=st.one_of(TRAININGS, CROPS, AUGMENTS))
def test_a_config_comes_back_from_its_json_text(config: TrainConfig | CropConfig | AugmentConfig) -> None:
    text = json.dumps(to_json(config))
    assert from_json(type(config), json.loads(text), source="test") == config


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_object_is_the_default(kind: type) -> None:
    assert from_json(kind, {}, source="test") == kind()


@pytest.mark.parametrize("kind", KINDS)
def test_a_config_cannot_be_changed(kind: type) -> None:
    config = kind()
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(config, dataclasses.fields(kind)[0].name, 1)


def test_a_number_without_a_point_is_a_float_where_one_is_due() -> None:
    crop = from_json(CropConfig, {"side_px": 130}, source="test")
    assert isinstance(crop.side_px, float)


REFUSED_JSON = [
    (CropConfig, [], r"^config\.json is \[\]; it must be a JSON object\.$"),
    (CropConfig, {"size": 3}, r"size is unknown; remove it"),
    (CropConfig, {"rule": "detector"}, "rule is 'detector'; it must be 'whole', 'centre', 'mask' or 'joints'"),
    (CropConfig, {"side_px": "130"}, "side_px is '130'; it must be a valid number"),
    (CropConfig, {"mean": [0.5, 0.5]}, r"mean\[2\] is missing"),
    (CropConfig, {"mean": 0.5}, "mean is 0.5; it must be a list"),
    (CropConfig, {"std": [0.5, None, 0.5]}, r"std\[1\] is null; it must be a valid number"),
    (ModelConfig, {"levels": [98, 195.5, 389, 778]}, r"levels\[1\] is 195.5; it must be a valid integer"),
    (ModelConfig, {"input_size": 256.0}, "input_size is 256.0; it must be a valid integer"),
    (ModelConfig, {"backbone": "x" * 5000}, r"backbone is 'x{79}\.\.\.; it must have at most 4096 characters"),
    (TrainConfig, {"epochs": True}, "epochs is True; it must be a valid integer"),
    (TrainConfig, {"learning_rate": True}, "learning_rate is True; it must be a valid number"),
    (TrainConfig, {"learning_rate": float("nan")}, "learning_rate is nan; it must be a finite number"),
    (TrainConfig, {"augment": {"scale": 1}}, r"augment\.scale is 1; it must be at most 0\.9"),
    (TrainConfig, {"augment": {"flip": 1}}, r"augment\.flip is unknown"),
    (TrainConfig, {"text": 5}, "text is 5; it must be a JSON object"),
    (TrainConfig, {"text": {"heads": 7}}, "heads is 7; it must divide the tower's 512"),
]


@pytest.mark.parametrize(("kind", "value", "reason"), REFUSED_JSON)
def test_json_that_is_no_such_config_is_refused(kind: type, value: object, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        from_json(kind, value, source="config.json")


@pytest.mark.parametrize("value", [{"rule": "detector"}, {"nothing": 1}, [], {"mean": 1}, {"side_px": "1"}])
def test_a_refusal_of_shape_or_type_names_its_source(value: object) -> None:
    with pytest.raises(InputError, match=r"^run/config\.json(:| is) "):
        from_json(CropConfig, value, source="run/config.json")


REFUSED_VALUES = [
    (CropConfig, {"side_px": 0}),
    (CropConfig, {"margin": 0.9}),
    (CropConfig, {"std": (0.5, 0.0, 0.5)}),
    (ModelConfig, {"input_size": 224 + 16}),
    (ModelConfig, {"input_size": 0}),
    (ModelConfig, {"depths": (2, 2, 2)}),
    (ModelConfig, {"levels": (98, 195, 389, 777)}),
    (ModelConfig, {"levels": (98, 389, 195, 778)}),
    (ModelConfig, {"heads": (8, 8, 8, 7)}),
    (ModelConfig, {"heads": (8, 8, 8, 0)}),
    (TextConfig, {"joints": 1}),
    (TextConfig, {"joints": 22}),
    (TextConfig, {"layers": 0}),
    (AugmentConfig, {"rotation_deg": 181}),
    (AugmentConfig, {"scale": 1}),
    (AugmentConfig, {"noise": -0.1}),
    (TrainConfig, {"epochs": 0}),
    (TrainConfig, {"batch": 0}),
    (TrainConfig, {"step_epochs": 0}),
    (TrainConfig, {"devices": 0}),
    (TrainConfig, {"learning_rate": 0}),
    (TrainConfig, {"workers": -1}),
    (TrainConfig, {"validation_fraction": 1}),
]


@pytest.mark.parametrize(("kind", "values"), REFUSED_VALUES)
def test_a_value_out_of_range_is_refused(kind: type, values: dict[str, object]) -> None:
    with pytest.raises(InputError):
        kind(**values)


def test_the_defaults_are_the_papers() -> None:
    train, model = TrainConfig(), ModelConfig()
    assert (train.epochs, train.batch, train.learning_rate) == (200, 48, 1e-3)
    assert (train.step_epochs, train.step_factor) == (50, 0.25)
    loss = train.loss
    assert (loss.joints, loss.vertices, loss.normals, loss.edges) == (1, 1, 0.05, 0.05)
    assert (loss.consistency_2d, loss.consistency_3d, loss.clip) == (0.1, 0.1, 0.1)
    assert model.levels == (98, 195, 389, 778)
    assert model.feature_sizes == (256, 128, 64, 32)
    assert (train.text.joints, train.augment.rotation_deg) == (21, 180)
