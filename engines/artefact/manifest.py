"""`manifest.json`: what an export folder holds, where it came from, and how its models are to be fed."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from annotated_types import Ge, Interval

from cliphand.checked import checked, from_json
from cliphand.config import CropConfig, require
from cliphand.errors import InputError
from cliphand.files import read_json_object, require_folder, sha256_of, write_json
from cliphand.hand import HAND_NAME, JOINT_NAMES, HandTopology, load_hand, topology_sha256
from engines.base import INPUT_NAME, OUTPUT_SHAPES, input_shape

MANIFEST_NAME = "manifest.json"
GRAPH_NAME = "model.onnx"
EXPORTS = Path("exports")  # where `cliphand export` puts folders unless it is told another place
FORMAT_VERSION = 2
LONGEST_NAME = 200  # bytes; file systems end at 255, and what is made beside a file has a longer name


@checked
class TensorSpec:
    """An input or output of the graph; -1 in `shape` is the batch."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"


@checked
class CheckpointRecord:
    """The checkpoint an export was made from.

    Attributes:
        path: its safetensors file or folder, absolute or relative to the export folder.
        sha256: of its weights, as `cliphand.checkpoint.load_checkpoint` reports it.
    """

    path: str
    sha256: str


@checked
class Artefact:
    """One model file: its arithmetic (`fp32`, `fp16`, `int8`), its hash and its size."""

    precision: str
    sha256: str
    bytes: Annotated[int, Ge(0)]


@checked
class Manifest:
    """An export folder's sidecar. The file also holds the properties, which follow from these values.

    Attributes:
        input_size: side of the square crop in pixels.
        crop: how a photograph becomes that crop, and its normalisation.
        checkpoint: where the weights came from.
        hand_sha256: of the topology in `hand.npz`, as `topology_sha256` gives it.
        artefacts: model file name to its facts.
        cliphand_version: of the exporter.
        commit: of the project at export, or `unknown`.
        exporter: facts about the export: opset, torch version, largest difference to PyTorch, ...
        training: facts printed with every result: backbone, text tower, epochs, data, ...
    """

    input_size: Annotated[int, Interval(ge=1, le=4096)]
    crop: CropConfig
    checkpoint: CheckpointRecord
    hand_sha256: str
    artefacts: Mapping[str, Artefact]
    cliphand_version: str
    commit: str
    exporter: Mapping[str, object]
    training: Mapping[str, object]

    def __post_init__(self) -> None:
        for name in self.artefacts:
            require(is_plain(name), f"artefact {name[:80]!r} is not a plain file name; export again.")

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What every graph in the folder takes."""
        return (TensorSpec(INPUT_NAME, input_shape(self.input_size)),)

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What every graph in the folder gives."""
        return tuple(TensorSpec(name, shape) for name, shape in OUTPUT_SHAPES.items())


@checked
class _Fixed:
    """What the file holds beside the values: the same for all exports of a format."""

    format_version: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    joint_order: tuple[str, ...]


def mesh_warnings(training: Mapping[str, object]) -> tuple[str, ...]:
    """The sentence, without its full stop, about a model whose mesh is not trained; nothing for any other.

    Args:
        training: a manifest's or a checkpoint's facts.
    """
    train = training.get("train")
    if not isinstance(train, Mapping) or train.get("stage") != "joints":
        return ()
    return (
        "The mesh of this model is not trained, nor are joints that are regressed from it: its run (--stage joints) "
        "trained joints_uvd alone; `cliphand train --start RUN` trains the mesh",
    )


def describe(path: Path, *, precision: str) -> Artefact:
    """The manifest's entry for a model file that lies at `path`."""
    return Artefact(precision=precision, sha256=sha256_of(path), bytes=path.stat().st_size)


def write_manifest(manifest: Manifest, directory: Path) -> Path:
    """Write `manifest.json` into an export folder, atomically, and return its path."""
    path = directory / MANIFEST_NAME
    fixed = {
        "format_version": FORMAT_VERSION,
        "inputs": [dataclasses.asdict(spec) for spec in manifest.inputs],
        "outputs": [dataclasses.asdict(spec) for spec in manifest.outputs],
        "joint_order": JOINT_NAMES,
    }
    write_json(path, fixed | dataclasses.asdict(manifest), None)
    return path


def read_manifest(directory: Path) -> Manifest:
    """Read and check an export folder's manifest.

    Raises:
        InputError: it is missing, of a newer format, has a missing, unknown or ill-typed key, or describes graphs
            with other tensors or joints than this version runs.
    """
    path = directory / MANIFEST_NAME
    require_folder(directory, advice="give a folder that `cliphand export` wrote")
    require(path.exists(), f"{directory} has no {MANIFEST_NAME}; give a folder that `cliphand export` wrote.")
    value = dict(read_json_object(path))
    version = value.get("format_version")
    # First, since a newer format may well have keys that this version does not know.
    require(
        not (isinstance(version, int) and version > FORMAT_VERSION),
        f"{path} has format {version}; this cliphand reads up to {FORMAT_VERSION}: update it, or export again.",
    )
    require(
        version is None or version == FORMAT_VERSION,
        f"{path} has format {version}, which does not say which hand belongs to the graphs; export again.",
    )
    names = {field.name for field in dataclasses.fields(_Fixed)}
    fixed = from_json(_Fixed, {name: value.pop(name) for name in names & {*value}}, source=str(path))
    manifest = from_json(Manifest, value, source=str(path))
    _check(fixed, manifest, source=str(path))
    return manifest


def is_plain(name: str) -> bool:
    """Whether a name from a file of ours means a file in the same folder, on every system."""
    return (
        name not in ("", ".", "..")
        and not set(name) & set('/\\:*?"<>|')
        and name.isprintable()
        and len(name.encode()) <= LONGEST_NAME
    )


def check_artefact(manifest: Manifest, path: Path) -> Artefact:
    """The manifest's entry for a model file, after comparing the file's size and hash with it.

    A link is followed wherever it points, so that large files can be kept elsewhere: the hash binds what is read, and
    a link to anything else is refused like a changed file.

    Raises:
        InputError: the file is not listed, is missing, or is not the one that was exported.
    """
    artefact = manifest.artefacts.get(path.name)
    if artefact is None:
        listed = ", ".join(sorted(manifest.artefacts))
        raise InputError(f"{path} is not in the {MANIFEST_NAME} beside it, which lists {listed}; export again.")
    require(path.is_file(), f"{path} does not exist, but {MANIFEST_NAME} lists it; export again.")
    require(
        path.stat().st_size == artefact.bytes and describe(path, precision=artefact.precision) == artefact,
        f"{path} is not the file that {MANIFEST_NAME} describes (size or sha256 differs); export again.",
    )
    return artefact


def open_hand(manifest: Manifest, directory: Path) -> HandTopology:
    """The topology in an export folder, which must be the one that was exported; a link is followed as to a model file.

    Raises:
        InputError: `hand.npz` is missing, broken or another hand.
    """
    path = directory / HAND_NAME
    topology = load_hand(path)
    require(
        topology_sha256(topology) == manifest.hand_sha256,
        f"{path} is not the hand that {MANIFEST_NAME} beside it describes (its sha256 differs); export again.",
    )
    return topology


def checkpoint_path(manifest: Manifest, directory: Path) -> Path:
    """Where the checkpoint of the export folder `directory` should lie."""
    return directory / manifest.checkpoint.path


def _check(fixed: _Fixed, manifest: Manifest, *, source: str) -> None:
    """Refuse graphs and joint orders that this version would misread."""
    for role, given, valid in (
        ("inputs", fixed.inputs, manifest.inputs),
        ("outputs", fixed.outputs, manifest.outputs),
    ):
        require(given == valid, f"{source}: {role} are {_spell(given)}; engines run {_spell(valid)}.")
    require(
        fixed.joint_order == JOINT_NAMES,
        f"{source}: joint_order is {', '.join(fixed.joint_order)}; this version runs {', '.join(JOINT_NAMES)}.",
    )


def _spell(specs: tuple[TensorSpec, ...]) -> str:
    """Tensors in one line."""
    return ", ".join(f"{spec.name} {spec.dtype} {spec.shape}" for spec in specs) or "none"


def newest_export(folder: Path = EXPORTS) -> Path:
    """The export folder under `folder` whose manifest was written last.

    Raises:
        InputError: there is none.
    """
    manifests = list(folder.glob(f"*/{MANIFEST_NAME}"))
    require(len(manifests) > 0, f"there is no export under {folder}; run `cliphand export`, or name an export folder.")
    return max(manifests, key=lambda path: path.stat().st_mtime_ns).parent
