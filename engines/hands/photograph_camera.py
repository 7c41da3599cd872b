"""The camera of a photograph and the one length that together give metres."""

from dataclasses import dataclass

import numpy as np

from cliphand.arrays import FloatArray
from cliphand.config import require

BONE_M = (0.01, 0.08)  # bone 9-10: FreiHAND's are 20 to 40 mm
FOCAL = (0.1, 100.0)  # over the longer side of the photograph


@dataclass(frozen=True, slots=True, eq=False)
class Camera:
    """What turns a hand into metres."""

    scale_m: float  # length of bone 9-10
    K: FloatArray | None = None  # (3, 3) camera frame to the photograph's pixels; None follows from `focal_px`
    focal_px: float | None = None  # the principal point is then the middle of the photograph

    def __post_init__(self) -> None:
        """Refuse a bone or a matrix that no hand or camera has."""
        low, high = BONE_M
        require(
            low <= self.scale_m <= high,
            f"the bone 9-10 is {1000 * self.scale_m:g} mm long; hands have {1000 * low:g} to {1000 * high:g} mm: give "
            "--bone-mm in millimetres.",
        )
        K = self.K
        if K is not None:
            good = np.isfinite(K).all() and K[0, 0] > 0 and K[1, 1] > 0 and K[1, 0] == 0 and tuple(K[2]) == (0, 0, 1)
            require(
                bool(good),
                f"K is {K.tolist()}; it must be [[fx, s, cx], [0, fy, cy], [0, 0, 1]] with positive focal lengths in "
                "pixels, row by row.",
            )

    def matrix(self, shape: tuple[int, int]) -> FloatArray:
        """K of a photograph of this height and width.

        Raises:
            InputError: the camera cannot have taken it: its focal length or principal point is of other pixels.
        """
        height, width = shape
        longer = max(height, width)
        if self.K is not None:
            (fx, _, cx), (_, fy, cy) = self.K[:2]
            inside = -width <= cx <= 2 * width and -height <= cy <= 2 * height
            require(
                inside and all(FOCAL[0] * longer <= f <= FOCAL[1] * longer for f in (fx, fy)),
                f"K has focal lengths {fx:g}, {fy:g} and the principal point ({cx:g}, {cy:g}), which no photograph of "
                f"{width} x {height} pixels has; give K in the photograph's own pixels.",
            )
            return self.K
        if self.focal_px is None:
            raise ValueError("a camera needs K or a focal length")
        require(
            FOCAL[0] * longer <= self.focal_px <= FOCAL[1] * longer,
            f"--focal is {self.focal_px:g} pixels, where a photograph of {width} x {height} pixels has "
            f"{FOCAL[0] * longer:g} to {FOCAL[1] * longer:g}; give it in pixels.",
        )
        return np.array([[self.focal_px, 0, (width - 1) / 2], [0, self.focal_px, (height - 1) / 2], [0, 0, 1]])
