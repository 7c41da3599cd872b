"""Every engine's hands on labelled photographs, and their errors image by image."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.bench.rows import tolerance_of
from benchmarks.contestants.exported import REFERENCE, Contestant
from benchmarks.measure.accuracy import PredictedHands
from benchmarks.measure.photographs import Photographs
from benchmarks.report.theme import engine_label
from cliphand.arrays import FloatArray
from cliphand.hand import HandTopology
from cliphand.metrics import aligned_point_errors
from export.gate.parity import Comparison, Hands, Truth, compare


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """What the engines gave on N images; engines by label, PyTorch first where it is there.

    Attributes:
        photographs: what they ran on.
        topology: of the mesh.
        hands: of every engine.
        joint_errors_mm: (N, 21) after alignment; empty without true joints; only engines whose output is finite.
        reference: label of PyTorch, or None.
        gate: every other engine against it.
    """

    photographs: Photographs
    topology: HandTopology
    n_images: int
    hands: Mapping[str, PredictedHands]
    joint_errors_mm: Mapping[str, FloatArray]
    reference: str | None
    gate: tuple[Comparison, ...]

    @property
    def labels(self) -> list[str]:
        """Engines that have errors, in order."""
        return list(self.joint_errors_mm)

    def true_joints(self) -> FloatArray | None:
        """(N, 21, 3) metres, camera frame."""
        data = self.photographs.data
        return None if data.xyz is None else data.xyz[self.label_indices()]

    def true_verts(self) -> FloatArray | None:
        """(N, 778, 3) metres, camera frame."""
        data = self.photographs.data
        return None if data.verts is None else data.verts[self.label_indices()]

    def label_indices(self) -> list[int]:
        """The sample of each image."""
        return [self.photographs.data.label_index(index) for index in range(self.n_images)]

    def image_name(self, index: int) -> str:
        """File name of an image."""
        return self.photographs.data.image_path(index).name


def label_contestants(contestants: Mapping[str, Contestant]) -> dict[str, str]:
    """A label for each key: engine and precision, with the file's name where that is not enough."""
    short = {
        key: engine_label(contestant.engine.name, contestant.engine.precision, contestant.artefact)
        for key, contestant in contestants.items()
    }
    taken = list(short.values())
    return {
        key: label if taken.count(label) == 1 else f"{label} ({Path(contestants[key].artefact).name})"
        for key, label in short.items()
    }


def measure(
    contestants: Mapping[str, Contestant],
    predictions: Mapping[str, PredictedHands],
    photographs: Photographs,
    topology: HandTopology,
) -> Measured:
    """Compare every engine's hands with the labels and with PyTorch's."""
    labels = label_contestants(contestants)
    n_images = len(next(iter(predictions.values())).xyz)
    measured = Measured(
        photographs=photographs,
        topology=topology,
        n_images=n_images,
        hands={labels[key]: value for key, value in predictions.items()},
        joint_errors_mm={},
        reference=labels.get(REFERENCE),
        gate=(),
    )
    truth = measured.true_joints()
    if truth is None:
        return measured
    errors = {
        label: aligned_point_errors(hands.xyz, truth).errors_mm
        for label, hands in measured.hands.items()
        if not hands.n_nonfinite
    }
    return Measured(
        photographs=photographs,
        topology=topology,
        n_images=n_images,
        hands=measured.hands,
        joint_errors_mm=errors,
        reference=measured.reference,
        gate=_gate(contestants, predictions, Truth(truth, measured.true_verts()), measured),
    )


def _gate(
    contestants: Mapping[str, Contestant], predictions: Mapping[str, PredictedHands], truth: Truth, measured: Measured
) -> tuple[Comparison, ...]:
    """Every engine but PyTorch against PyTorch; none where that is missing."""
    reference = predictions.get(REFERENCE)
    if reference is None or reference.n_nonfinite:
        return ()
    names = tuple(measured.image_name(index) for index in range(measured.n_images))
    return tuple(
        compare(
            Hands(hands.xyz, hands.verts),
            Hands(reference.xyz, reference.verts),
            truth,
            names=names,
            tolerance=tolerance_of(contestants[key].engine.precision),
            artefact=contestants[key].artefact,
            engine=contestants[key].engine.name,
            precision=contestants[key].engine.precision,
        )
        for key, hands in predictions.items()
        if key != REFERENCE
    )


def farthest_engine(measured: Measured) -> str | None:
    """The engine whose vertices differ most from PyTorch's; without PyTorch the last one; None where it is alone."""
    finite = [label for label, hands in measured.hands.items() if not hands.n_nonfinite]
    others = [label for label in finite if label != measured.reference]
    if not others or measured.reference not in finite:
        return others[-1] if len(others) > 1 else None
    reference = measured.hands[measured.reference].verts
    return max(others, key=lambda label: float(np.abs(measured.hands[label].verts - reference).mean()))
