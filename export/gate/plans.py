"""The gate for TensorRT's plans: judged where they can run, in millimetres, and set aside where they fail.

On the photographs that the graphs were judged on, where they are at hand, by the same comparison and tolerance; beside
them, or alone, on noise at every profile's least and largest batch against the plan's own graph. Of a plan that cannot
run here its graph is run alone, in ONNX Runtime: NaN there is NaN in the plan.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cliphand.arrays import FloatArray
from cliphand.config import require
from cliphand.data.freihand import Split
from cliphand.errors import InputError
from cliphand.files import read_json_object
from cliphand.hand import HAND_NAME, load_hand
from engines.artefact.manifest import read_manifest
from engines.base import OUTPUT_SHAPES, Engine
from engines.choice.verdicts import PARITY_NAME
from engines.open import REJECTED
from engines.runtimes.ort import OrtEngine
from engines.tensorrt.flavour import TENSORRT
from engines.tensorrt.plan import PlanRecord, has_passed, record_path, write_record
from engines.tensorrt.process import BuiltPlan
from engines.tensorrt.run import TrtEngine
from export.gate.images import GateImages, GateRequest, read_gate_images
from export.gate.parity import TOLERANCES, compare
from export.graph.reference_view import distances_mm

GRAPH_ON_NOISE = "graph_on_noise"  # of a plan's findings: how its graph does where the plan cannot run
WORDS = 300  # characters of another library's message that a note passes on
EXACT = ("fp32", ".onnx")  # the graph that stands for PyTorch


@dataclass(frozen=True, slots=True)
class NoiseParity:
    """A plan beside its graph on noise; None where a number is NaN or infinite."""

    batches: tuple[int, ...]
    max_difference_uvd: dict[str, float] | None
    vertices_p99_mm: float | None


def gate_request(folder: Path, data: Path | None = None) -> GateRequest | None:
    """The photographs to judge by: those of `data`, else those that `parity.json` names and that are still there."""
    if data is not None:
        return GateRequest(data)
    path = folder / PARITY_NAME
    gate = read_json_object(path).get("gate") if path.is_file() else None
    if not isinstance(gate, dict) or not isinstance(gate.get("data"), str) or not Path(gate["data"]).is_dir():
        return None
    images = gate.get("images")
    split: Split = "training" if gate.get("split") == "training" else "evaluation"
    return GateRequest(Path(gate["data"]), split, images if isinstance(images, int) else 200)


def judge_plans(folder: Path, plans: tuple[BuiltPlan, ...], request: GateRequest | None) -> Iterator[BuiltPlan]:
    """Judge each plan that was not judged, one after the other: itself where this machine can run it, else its graph.

    Args:
        folder: the export folder.
        plans: that stand in it.
        request: photographs; None leaves noise.

    Yields:
        The plans, those that failed under a name that ends in `.rejected`.

    Raises:
        InputError: the photographs cannot be read.
    """
    images: GateImages | None = None
    for built in plans:
        if has_passed(built.record) is not None:
            yield built
            continue
        if built.record.key.gpu is None:
            yield judge_graph(built)
            continue
        if images is None and request is not None:
            manifest = read_manifest(folder)
            images = read_gate_images(request, manifest.crop, manifest.input_size)
        yield judge_plan(built, images)


def judge_plan(built: BuiltPlan, images: GateImages | None) -> BuiltPlan:
    """Judge one plan that was built for this machine; see `judge_plans`."""
    folder, record = built.path.parent, built.record
    verdict: dict[str, object] | str
    try:
        with TrtEngine(built.path, trust=True) as engine:  # it was built here
            verdict = _verdict(engine, engine_batches(engine), folder, record, images)
    except InputError as error:
        if record.key.flavour != TENSORRT.name:  # TensorRT for RTX builds for GPUs that it is not run on
            verdict = str(error)
        else:
            verdict = {"passed": False, "failures": [f"it does not run here: {error}"]}
    return _noted(built, {"parity": verdict})


def judge_graph(built: BuiltPlan) -> BuiltPlan:
    """Judge the graph of a plan that was built for other machines by one image of noise; see `judge_plans`."""
    try:
        with OrtEngine(built.path.parent / built.record.onnx) as graph:
            output = graph(noise_images(1, graph.input_size))
    except Exception as error:  # TensorRT took the graph; what ONNX Runtime raises shares no base but this
        words = " ".join(str(error).split())[:WORDS].rstrip(".")
        return _noted(built, {GRAPH_ON_NOISE: f"ONNX Runtime does not run its graph ({words})"})
    broken = [name for name in OUTPUT_SHAPES if not np.isfinite(getattr(output, name)).all()]
    if not broken:
        return _noted(built, {GRAPH_ON_NOISE: "its graph gives finite numbers on noise in ONNX Runtime"})
    why = (
        f"its graph gives NaN or infinity in {' and '.join(broken)} on noise in ONNX Runtime; export another checkpoint"
    )
    return _noted(built, {"parity": {"passed": False, "failures": [why]}})


def _noted(built: BuiltPlan, found: dict[str, object]) -> BuiltPlan:
    """Note what was found in the plan's sidecar, and set the plan aside where it failed."""
    record = dataclasses.replace(built.record, findings={**built.record.findings, **found})
    rejected = built.path.with_name(built.path.name + REJECTED)
    if has_passed(record) is False:
        write_record(record, rejected)
        built.path.replace(rejected)
        record_path(built.path).unlink()
        return dataclasses.replace(built, path=rejected, record=record)
    write_record(record, built.path)
    for stale in (rejected, record_path(rejected)):
        stale.unlink(missing_ok=True)
    return dataclasses.replace(built, record=record)


def exact_graph(folder: Path) -> str:
    """File name of the FP32 graph, which stands for PyTorch."""
    names = [
        name for name, item in read_manifest(folder).artefacts.items() if (item.precision, Path(name).suffix) == EXACT
    ]
    require(len(names) > 0, f"{folder} lists no FP32 graph to compare with; export it again.")
    return names[0]


def engine_batches(engine: TrtEngine) -> tuple[int, ...]:
    """Every profile's least and largest batch."""
    return tuple(sorted({size for span in engine.profiles for size in (span.min, span.max)}))


def _verdict(
    engine: Engine, batches: tuple[int, ...], folder: Path, record: PlanRecord, images: GateImages | None
) -> dict[str, object]:
    """Everything that was found, `passed`, and `failures` in words."""
    tolerance = TOLERANCES[record.key.precision]
    with OrtEngine(folder / record.onnx) as graph:
        noise = on_noise(engine, graph, batches)
    failures = ["NaN or infinity on noise"] if noise.vertices_p99_mm is None else []
    if noise.vertices_p99_mm is not None and images is None and not noise.vertices_p99_mm <= tolerance.p99_mm:
        failures.append(
            f"99 % of vertices lie within {noise.vertices_p99_mm:.3f} mm of its graph's on noise, bound "
            f"{tolerance.p99_mm:g} mm"
        )
    found: dict[str, object] = {"noise": dataclasses.asdict(noise), "tolerance": dataclasses.asdict(tolerance)}
    if images is not None:
        regressor = load_hand(folder / HAND_NAME).joint_regressor
        with OrtEngine(folder / exact_graph(folder)) as reference:
            row = compare(
                images.predict(engine, regressor),
                images.predict(reference, regressor),
                images.truth,
                names=images.names,
                tolerance=tolerance,
                artefact=record.onnx,
                engine=record.key.flavour,
                precision=record.key.precision,
            )
        found["photographs"] = dataclasses.asdict(row)
        failures += row.failures
    return {"passed": not failures, "failures": failures} | found


def noise_images(batch: int, side_px: int) -> FloatArray:
    """(B, 3, S, S) float32, the same for the same batch."""
    return np.random.default_rng(batch).uniform(-1, 1, (batch, 3, side_px, side_px)).astype(np.float32)


def on_noise(engine: Engine, graph: Engine, batches: tuple[int, ...]) -> NoiseParity:
    """Largest differences in uvd, and the 99th percentile of the distances of matching vertices, over all batches."""
    worst = dict.fromkeys(OUTPUT_SHAPES, 0.0)
    apart: list[FloatArray] = []
    for batch in batches:
        noise = noise_images(batch, engine.input_size)
        ours, theirs = engine(noise), graph(noise)
        for name in worst:  # a NaN stays
            difference = np.abs(getattr(ours, name) - getattr(theirs, name)).max()
            worst[name] = float(np.maximum(worst[name], difference))
        apart.append(distances_mm(ours.verts_uvd, theirs.verts_uvd).ravel())
    if not np.isfinite(list(worst.values())).all():
        return NoiseParity(batches, None, None)
    return NoiseParity(batches, worst, float(np.percentile(np.concatenate(apart), 99)))
