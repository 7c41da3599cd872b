"""What is asked for where graphs of lower precision are made; known before PyTorch is needed."""

from collections.abc import Mapping
from dataclasses import field
from typing import Annotated

from cliphand.checked import checked
from cliphand.config import require
from cliphand.limits import SPELL, THREADS
from export.gate.images import GateRequest
from export.gate.parity import TOLERANCES, Tolerance
from export.precision.calibration import CalibrationRequest
from export.precision.maker import PRECISIONS
from export.precision.table import Keep


@checked
class TypedRequest:
    """What to make and how it is judged.

    Attributes:
        precisions: of the graphs to make beside the FP32 one.
        calibration: images that ranges are measured on.
        gate: images that the graphs are judged on.
        keep: changes to the table of what stays in higher precision.
        tolerances: by precision.
        search_s: time for the search for layers to blame where a graph fails; 0 leaves it out.
        auto: whether the blamed layers are kept in higher precision and the graph is judged again.
        threads: of one call; None leaves the choice to each run-time.
        tensorrt: have TensorRT for RTX, where it is installed, parse and build each graph.
    """

    precisions: tuple[str, ...]
    calibration: CalibrationRequest
    gate: GateRequest
    keep: Keep = field(default_factory=Keep)
    tolerances: Mapping[str, Tolerance] = field(default_factory=lambda: TOLERANCES)
    search_s: Annotated[float, SPELL] = 600.0
    auto: bool = False
    threads: Annotated[int, THREADS] | None = None
    tensorrt: bool = True

    def __post_init__(self) -> None:
        unknown = sorted(set(self.precisions) - set(PRECISIONS))
        require(not unknown, f"there is no precision {unknown}; valid are {list(PRECISIONS)}.")
