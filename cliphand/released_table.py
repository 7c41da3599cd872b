"""Every tensor of the authors' released weights: its name and shape there, and where it goes here.

Source: github ShaoXiang23/CLIP_Hand_Demo, `demo/model_inderence.py` and `models/*.py`: 613 tensors under `state_dict`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from cliphand.hand import FINGERS, N_JOINTS, N_VERTICES

Shape = tuple[int, ...]
Tensors = Mapping[str, Shape]

STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))  # ResNet50: width and blocks
EXPANSION = 4  # channels of a stage over its width
BINS_XY, BINS_Z, MAP_SIDE, JOINT_FEATURE, LATENT = 32, 64, 64, 512, 512
LEVELS = (  # module, nodes before and after, features before and after, channels of the pyramid's map
    ("MR_21_98_", (21, 98), (512, 256), 2048),
    ("MR_98_195", (98, 195), (256, 128), 1024),
    ("MR_195_389", (195, 389), (128, 64), 512),
    ("MR_389_778", (389, 778), (64, 32), 256),
)
SHALLOW_CHANNELS = 64
JOINT_CONVS = ("joint_feature.shallow_conv.weight", "joint_feature.heatmap_conv.weight")
BLOCKS = 2  # Transformer blocks of each level and of each text encoder
# MANO's order of joints: the wrist, three of each of these fingers, then their tips.
MANO_FINGERS = ("index", "middle", "little", "ring", "thumb")


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor of the released file.

    Attributes:
        key: its name there.
        shape: its shape there.
        use: `model`: it fills `targets`; `topology`: template or joint regressor; `training`: inference ignores it.
        targets: names in `HandModel`, the tensor's parts in order.
    """

    key: str
    shape: Shape
    use: Literal["model", "topology", "training"]
    targets: tuple[str, ...] = ()


def released_table() -> dict[str, Entry]:
    """All entries by key."""
    parts = (_topology(), _encoder(), _joint_regressor(), _joint_feature(), _mesh_regressor(), _training_only())
    return {entry.key: entry for part in parts for entry in part}


def freihand_rows() -> tuple[int, ...]:
    """Row of the released joint regressor, which is in MANO's order, for each joint in FreiHAND's."""
    rows = [0]
    for finger in FINGERS:
        place = MANO_FINGERS.index(finger)
        rows += [3 * place + 1, 3 * place + 2, 3 * place + 3, 16 + place]
    return tuple(rows)


def _topology() -> Iterator[Entry]:
    yield Entry("J_Reg", (N_JOINTS, N_VERTICES), "topology")
    for level, (_, (_, nodes), _, _) in enumerate(LEVELS):
        yield Entry(f"Vertx_{nodes}", (nodes, 3), "topology", (f"mesh_regressor.levels.{level}.template",))


def _encoder() -> Iterator[Entry]:
    """ResNet50 as torchvision lays it out, of which timm has the same names."""
    yield from _moved("Encoder.conv1", "encoder.backbone.conv1", {"weight": (64, 3, 7, 7)})
    yield from _moved("Encoder.bn1", "encoder.backbone.bn1", _norm(64))
    channels = 64
    for stage, (width, blocks) in enumerate(STAGES, start=1):
        for block in range(blocks):
            for part, tensors in _bottleneck(channels, width, first=block == 0).items():
                name = f"layer{stage}.{block}.{part}"
                yield from _moved(f"Encoder.{name}", f"encoder.backbone.{name}", tensors)
            channels = width * EXPANSION


def _bottleneck(channels: int, width: int, *, first: bool) -> dict[str, Tensors]:
    out = width * EXPANSION
    parts: dict[str, Tensors] = {
        "conv1": {"weight": (width, channels, 1, 1)},
        "bn1": _norm(width),
        "conv2": {"weight": (width, width, 3, 3)},
        "bn2": _norm(width),
        "conv3": {"weight": (out, width, 1, 1)},
        "bn3": _norm(out),
    }
    if first:
        parts |= {"downsample.0": {"weight": (out, channels, 1, 1)}, "downsample.1": _norm(out)}
    return parts


def _joint_regressor() -> Iterator[Entry]:
    here, n_depth = "joint_regressor", N_JOINTS * BINS_Z
    yield from _moved("PoseNet.deconv.0", f"{here}.upsample.0", {"weight": (2048, 256, 4, 4)})
    yield from _moved("PoseNet.deconv.1", f"{here}.upsample.1", _norm(256))
    yield from _moved("PoseNet.deconv.3", f"{here}.upsample.3", {"weight": (256, 256, 4, 4)})
    yield from _moved("PoseNet.deconv.4", f"{here}.upsample.4", _norm(256))
    yield from _moved("PoseNet.conv_x.0", f"{here}.head_x", _layer(N_JOINTS, 256, 1))
    yield from _moved("PoseNet.conv_y.0", f"{here}.head_y", _layer(N_JOINTS, 256, 1))
    yield from _moved("PoseNet.conv_z_1.0", f"{here}.depth_expand", _layer(n_depth, 2048, 1))
    yield from _moved("PoseNet.conv_z_1.1", f"{here}.depth_norm", _norm(n_depth))
    yield from _moved("PoseNet.conv_z_2.0", f"{here}.head_z", _layer(N_JOINTS, N_JOINTS, 1))


def _joint_feature() -> Iterator[Entry]:
    there, here = "Pose2Feat_", "joint_feature"
    channels = SHALLOW_CHANNELS + N_JOINTS * BINS_Z  # F0, then each joint's volume with z in the channels
    yield Entry(f"{there}.conv0.0.weight", (N_JOINTS, channels, 3, 3), "model", JOINT_CONVS)
    yield Entry(f"{there}.conv0.0.bias", (N_JOINTS,), "model", (f"{here}.shallow_conv.bias",))
    yield from _moved(f"{there}.conv0.1", f"{here}.norm", _norm(N_JOINTS))
    yield from _moved(f"{there}.conv1.0", f"{here}.refine.0", _layer(N_JOINTS, N_JOINTS, 3, 3))
    yield from _moved(f"{there}.conv1.1", f"{here}.refine.1", _norm(N_JOINTS))
    yield from _moved("Feat_down_.0", f"{here}.flatten", _layer(JOINT_FEATURE, MAP_SIDE**2))


def _mesh_regressor() -> Iterator[Entry]:
    for level, (there, (before, nodes), (wide, size), channels) in enumerate(LEVELS):
        here = f"mesh_regressor.levels.{level}"
        yield from _moved(f"{there}.UP_Layer.fc", f"{here}.nodes_up", _layer(nodes, before))
        yield from _moved(f"{there}.Dim_Down", f"{here}.features_down", _layer(size - 3, wide))
        yield from _moved(f"{there}.Dim_Project", f"{here}.map_features", _layer(size, channels))
        yield from _moved(f"{there}.Num_Project", f"{here}.map_nodes", _layer(nodes, N_JOINTS))
        for block in range(BLOCKS):
            yield from _block(f"{there}.Attn_Layer.resblocks.{block}", f"{here}.blocks.{block}", size)
    yield from _moved("Out_Layer", "mesh_regressor.out", _layer(3, LEVELS[-1][2][1]))


def _block(there: str, here: str, size: int) -> Iterator[Entry]:
    """For one token attention is its value and its output: query and key never reach the result."""
    value = f"{here}.attention.value"
    yield Entry(f"{there}.attn.in_proj_weight", (3 * size, size), "model", (f"{value}.weight",))
    yield Entry(f"{there}.attn.in_proj_bias", (3 * size,), "model", (f"{value}.bias",))
    yield from _moved(f"{there}.attn.out_proj", f"{here}.attention.out", _layer(size, size))
    yield from _moved(f"{there}.ln_1", f"{here}.attention_norm", {"weight": (size,), "bias": (size,)})
    yield from _moved(f"{there}.ln_2", f"{here}.mlp_norm", {"weight": (size,), "bias": (size,)})
    yield from _moved(f"{there}.mlp.c_fc", f"{here}.mlp.0", _layer(4 * size, size))
    yield from _moved(f"{there}.mlp.c_proj", f"{here}.mlp.2", _layer(size, 4 * size))


def _training_only() -> Iterator[Entry]:
    """Temperatures, text encoders, projections of the 1D heatmaps, and the decoder of the hand's mask."""
    for axes in ("nf", "lr", "td", "xz", "yz", "xy"):
        yield Entry(f"logit_scale_{axes}", (), "training")
    for axis, bins in (("x", BINS_XY), ("y", BINS_XY), ("z", BINS_Z)):
        yield from _ignored(f"latent_{axis}_layer", _layer(LATENT, N_JOINTS * bins))
    for axis in ("nf", "lr", "tb"):
        for block in range(BLOCKS):
            name = f"text_{axis}_encoder.resblocks.{block}"
            yield from (Entry(entry.key, entry.shape, "training") for entry in _block(name, "", LATENT))
    for number, (wide, size) in enumerate(((2048, 1024), (1024, 512), (512, 256), (256, 64)), start=1):
        yield from _ignored(f"Seg_Decoder.conv{number}", _layer(size, wide, 1, 1))
        yield from _ignored(f"Seg_Decoder.fusion{number}", _layer(size, size, 3, 3))
        yield from _ignored(f"Seg_Decoder.bn{number}", _norm(size) if number < 4 else {})
    yield from _ignored("Seg_Decoder.predict_head.0", _layer(16, 64, 3, 3))
    yield from _ignored("Seg_Decoder.predict_head.1", _layer(1, 16, 1, 1))


def _moved(there: str, here: str, tensors: Tensors) -> Iterator[Entry]:
    """A module's tensors under another prefix."""
    yield from (Entry(f"{there}.{leaf}", shape, "model", (f"{here}.{leaf}",)) for leaf, shape in tensors.items())


def _ignored(there: str, tensors: Tensors) -> Iterator[Entry]:
    yield from (Entry(f"{there}.{leaf}", shape, "training") for leaf, shape in tensors.items())


def _layer(out: int, *rest: int) -> Tensors:
    return {"weight": (out, *rest), "bias": (out,)}


def _norm(size: int) -> Tensors:
    statistics = {"running_mean": (size,), "running_var": (size,), "num_batches_tracked": ()}
    return {"weight": (size,), "bias": (size,), **statistics}
