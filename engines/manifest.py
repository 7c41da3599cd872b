"""`manifest.json`: what an export folder holds, where it came from, and how its models are to be fed."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cliphand.config import CropConfig, from_json, require
from cliphand.errors import InputError
from cliphand.files import read_json_object, sha256_of, write_json
from cliphand.hand import JOINT_NAMES
from engines.base import INPUT_NAME, OUTPUT_SHAPES, input_shape

MANIFEST_NAME = "manifest.json"
HAND_NAME = "hand.npz"
FORMAT_VERSION = 1
LONGEST_NAME = 200  # bytes; file systems end at 255, and what is made beside a file has a longer name


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """An input or output of the graph; -1 in `shape` is the batch."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"


@dataclass(frozen=True, slots=True)
class CheckpointRecord:
    """The checkpoint an export was made from.

    Attributes:
        path: its safetensors file or folder, absolute or relative to the export folder.
        sha256: of its weights, as `cliphand.checkpoint.load_checkpoint` reports it.
    """

    path: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Artefact:
    """One model file: its arithmetic (`fp32`, `fp16`, `int8`), its hash and its size."""

    precision: str
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """An export folder's sidecar. The file also holds the properties, which follow from these values.

    Attributes:
        input_size: side of the square crop in pixels.
        crop: how a photograph becomes that crop, and its normalisation.
        checkpoint: where the weights came from.
        artefacts: model file name to its facts.
        cliphand_version: of the exporter.
        commit: of the project at export, or `unknown`.
        exporter: facts about the export: opset, torch version, largest difference to PyTorch, ...
        training: facts printed with every result: backbone, text tower, epochs, data, ...
    """

    input_size: int
    crop: CropConfig
    checkpoint: CheckpointRecord
    artefacts: Mapping[str, Artefact]
    cliphand_version: str
    commit: str
    exporter: Mapping[str, object]
    training: Mapping[str, object]

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What every graph in the folder takes."""
        return (TensorSpec(INPUT_NAME, input_shape(self.input_size)),)

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What every graph in the folder gives."""
        return tuple(TensorSpec(name, shape) for name, shape in OUTPUT_SHAPES.items())


@dataclass(frozen=True, slots=True)
class _Typed:
    """The part of the file that `from_json` can check: everything but the tables."""

    format_version: int
    input_size: int
    crop: CropConfig
    checkpoint: CheckpointRecord
    cliphand_version: str
    commit: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    joint_order: tuple[str, ...]


_TABLES = ("artefacts", "exporter", "training")


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
    write_json(path, fixed | dataclasses.asdict(manifest))
    return path


def read_manifest(directory: Path) -> Manifest:
    """Read and check an export folder's manifest.

    Raises:
        InputError: it is missing, of a newer format, has a missing, unknown or ill-typed key, or describes graphs
            with other tensors or joints than this version runs.
    """
    path = directory / MANIFEST_NAME
    require(path.exists(), f"{directory} has no {MANIFEST_NAME}; give a folder that `cliphand export` wrote.")
    value = dict(read_json_object(path))
    version = value.get("format_version")
    # First, since a newer format may well have keys that this version does not know.
    require(
        not (isinstance(version, int) and version > FORMAT_VERSION),
        f"{path} has format {version}; this cliphand reads up to {FORMAT_VERSION}: update it, or export again.",
    )
    tables = {name: _table(value.pop(name, None), f"{path}: {name}") for name in _TABLES}
    typed = from_json(_Typed, value, source=str(path))
    artefacts = {}
    for name, item in tables["artefacts"].items():
        require(is_plain(name), f"{path}: artefact {name[:80]!r} is not a plain file name; export again.")
        artefacts[name] = from_json(Artefact, item, source=f"{path}: artefact {name}")
    manifest = Manifest(
        input_size=typed.input_size,
        crop=typed.crop,
        checkpoint=typed.checkpoint,
        artefacts=artefacts,
        cliphand_version=typed.cliphand_version,
        commit=typed.commit,
        exporter=tables["exporter"],
        training=tables["training"],
    )
    _check(typed, manifest, source=str(path))
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

    Raises:
        InputError: the file is not listed, is missing, or is not the one that was exported.
    """
    artefact = manifest.artefacts.get(path.name)
    if artefact is None:
        raise InputError(
            f"{path} is not in the {MANIFEST_NAME} beside it, which lists {sorted(manifest.artefacts)}; export again."
        )
    require(path.is_file(), f"{path} does not exist, but {MANIFEST_NAME} lists it; export again.")
    require(
        path.stat().st_size == artefact.bytes and describe(path, precision=artefact.precision) == artefact,
        f"{path} is not the file that {MANIFEST_NAME} describes (size or sha256 differs); export again.",
    )
    return artefact


def checkpoint_path(manifest: Manifest, directory: Path) -> Path:
    """Where the checkpoint of the export folder `directory` should lie."""
    return directory / manifest.checkpoint.path


def _table(value: object, where: str) -> dict[str, object]:
    """`value` as a JSON object, or InputError."""
    if not isinstance(value, Mapping):
        raise InputError(f"{where} is {value!r}; it must be a JSON object: export again.")
    return dict(value)


def _check(typed: _Typed, manifest: Manifest, *, source: str) -> None:
    """Refuse graphs and joint orders that this version would misread."""
    require(typed.input_size > 0, f"{source}: input_size is {typed.input_size}; it must be positive.")
    for role, given, valid in (
        ("inputs", typed.inputs, manifest.inputs),
        ("outputs", typed.outputs, manifest.outputs),
    ):
        require(given == valid, f"{source}: {role} are {_spell(given)}; engines run {_spell(valid)}.")
    require(
        typed.joint_order == JOINT_NAMES,
        f"{source}: joint_order is {list(typed.joint_order)}; this version runs {list(JOINT_NAMES)}.",
    )


def _spell(specs: tuple[TensorSpec, ...]) -> str:
    """Tensors in one line."""
    return ", ".join(f"{spec.name} {spec.dtype} {spec.shape}" for spec in specs) or "none"
