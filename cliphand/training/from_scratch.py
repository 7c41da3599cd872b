"""From random weights to a usable model within minutes on a CPU, where hands fill the middle of the image.

A loss that finds the joints soon, views that differ little, and no text branch: CLIP's weights are a download, and a
random tower has nothing to teach in so short a time.
"""

from cliphand.config import AugmentConfig, LossConfig, TextConfig, TrainConfig

FROM_SCRATCH = TrainConfig(
    epochs=8,
    batch=8,
    learning_rate=3e-3,
    schedule="cosine",
    workers=0,
    validation_fraction=0.05,
    backbone_weights="none",
    augment=AugmentConfig(rotation_deg=5.0, scale=0.03, shift=0.015, colour=0.15, blur_px=0.0, noise=0.0),
    loss=LossConfig(clip=0.0, heatmaps=0.3),
    text=TextConfig(tower="random"),
)
