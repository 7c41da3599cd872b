"""The logit matrices of the text branch, or why they cannot be shown."""

from typing import TYPE_CHECKING

from benchmarks.measure.photographs import Photographs
from benchmarks.report.charts import logit_matrix
from benchmarks.report.page import Chart, Section
from cliphand.errors import InputError

if TYPE_CHECKING:
    from cliphand.checkpoint import Checkpoint

KEY = "matching"
TITLE = "Matching of poses and prompts"


def matching_section(
    checkpoint: "Checkpoint | None", photographs: Photographs, *, n_images: int, why_not: str
) -> Section:
    """One matrix for each axis, as in the paper's figure 6; without a text branch a sentence.

    Args:
        checkpoint: that PyTorch ran; None where it did not run.
        photographs: whose hands and prompts are matched.
        n_images: how many of them at most.
        why_not: why there is no checkpoint, if there is none.
    """
    if checkpoint is None:
        return Section(KEY, TITLE, [f"{why_not}."])
    from benchmarks.report.matching import AXES, match

    try:
        found = match(checkpoint, photographs, n_images=n_images)
    except InputError as error:
        return Section(KEY, TITLE, [f"Left out: {error}"])
    count = found.logits.shape[-1]
    charts = [
        Chart(
            f"logits_{axis[0]}",
            axis,
            logit_matrix(found.logits[place]),
            f"Logits of {count} poses and {count} prompts along {axis}.",
            f"Temperature {found.temperatures[place]:.0f}.",
            narrow=True,
        )
        for place, axis in enumerate(AXES)
    ]
    sentence = (
        f"Logits between the 1D heatmaps of {count} images (rows) and the prompts that name the order of "
        f"{found.joints} true joints along an axis (columns); the text branch is trained to make the diagonal "
        f"the largest of its row and column. {found.accuracy:.0%} of rows and columns have their largest logit there."
    )
    return Section(KEY, TITLE, [sentence], charts)
