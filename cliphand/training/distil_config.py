"""How much a student listens to each thing its teacher says."""

import dataclasses
from dataclasses import dataclass

from cliphand.config import require


@dataclass(frozen=True, slots=True)
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

    joints: float = 1.0
    vertices: float = 1.0
    heatmaps: float = 0.05
    features: float = 0.02

    def __post_init__(self) -> None:
        weights = dataclasses.astuple(self)
        require(min(weights) >= 0, "weights of a teacher's terms cannot be negative.")
        require(max(weights) > 0, "every weight of the teacher's terms is zero; train without --teacher instead.")
