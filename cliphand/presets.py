"""The networks that have a name."""

from cliphand.config import ModelConfig

PRESETS: dict[str, ModelConfig] = {
    # For new models: one attention head for every 32 features. The paper's eight at each level make eight times as many
    # softmaxes over 778 x 778 nodes, of four features each, and no difference in accuracy that was found.
    "light": ModelConfig(heads=(8, 4, 2, 1)),
    "paper": ModelConfig(),
    # A first look on a CPU: a quarter of the pixels, half the joint regressor's width, attention where it is cheap.
    "small": ModelConfig(
        backbone="resnet18", input_size=128, lixel_channels=128, depths=(1, 1, 0, 0), heads=(8, 4, 2, 1)
    ),
}
