"""How much a student listens to each thing its teacher says."""

import dataclasses

from cliphand.checked import Weight, checked
from cliphand.config import require


@checked
class DistilConfig:
    """Weights of the terms between student and teacher; zero leaves a term out.

    Attributes:
        joints: mean absolute difference of joints, uvd.
        vertices: the same of vertices.
        heatmaps: Kullback-Leibler divergence of the student's 1D heatmaps from the teacher's, mean over joints and
            axes.
        features: squared difference of the pyramid's maps, the student's after a linear adapter, over the variance of
            the teacher's; mean over the four maps.
    """

    joints: Weight = 1.0
    vertices: Weight = 1.0
    heatmaps: Weight = 0.05
    features: Weight = 0.02

    def __post_init__(self) -> None:
        heard = max(dataclasses.astuple(self)) > 0
        require(heard, "every weight of the teacher's terms is zero; train without --teacher instead.")
