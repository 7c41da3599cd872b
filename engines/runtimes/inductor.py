"""A model compiled ahead of time by PyTorch's AOTInductor: native code in a `.pt2` package, without the model's Python.

Needs PyTorch. The package is bound to the kind of processor or GPU that it was compiled for; opening it runs its native
code, so open only packages whose origin is known.
"""

import json
import platform
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from cliphand.arrays import FloatArray
from cliphand.config import require
from cliphand.errors import InputError
from engines.base import NATIVE_CODE, Engine, HandOutput, check_images

# Written by `export.folder.inductor_package` beside AOTInductor's own.
PRECISION_KEY, SIZE_KEY = "cliphand_precision", "cliphand_input_size"
CPU_LEVELS = {"DEFAULT": 0, "AVX2": 1, "AVX512": 2}  # instruction sets, each with those before it
Outputs = tuple[Tensor, Tensor]
MAX_FACTS_BYTES = 1_000_000
# What zipfile and json raise at damaged, encrypted or deeply nested content.
UNREADABLE = (zipfile.BadZipFile, zlib.error, ValueError, RecursionError, RuntimeError, OSError, EOFError)


class InductorEngine(Engine):
    """A package on the device that it was compiled for.

    Args:
        path: the `.pt2` file.
        threads: of one call on the CPU; None leaves PyTorch's setting alone.
        cuda_graphs: on a GPU, capture every batch size once and replay it.

    Raises:
        InputError: the file is no package of this project, or was compiled for another machine.
    """

    name = "inductor"

    def __init__(self, path: Path, *, threads: int | None = None, cuda_graphs: bool = True) -> None:
        facts = read_facts(path)
        self.precision, self.input_size = facts[PRECISION_KEY], int(facts[SIZE_KEY])
        check_machine(path, facts)
        self._threads = threads
        on_gpu = facts["AOTI_DEVICE_KEY"] == "cuda"
        # Without its own thread pool the package can be captured.
        run = torch._inductor.aoti_load_package(str(path), run_single_threaded=on_gpu)
        self._run: Callable[[Tensor], Outputs] | None = _OnGpu(run, cuda_graphs=cuda_graphs) if on_gpu else run

    def __call__(self, images: FloatArray) -> HandOutput:
        """See `engines.base.Engine`."""
        check_images(images, self.input_size)
        if self._run is None:
            raise RuntimeError("this engine is closed; open it again")
        # The setting is the whole process's, so another engine may have changed it since the last call.
        if self._threads is not None and torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        with torch.inference_mode():
            joints, verts = self._run(torch.from_numpy(images))
        return HandOutput(joints_uvd=joints.numpy(), verts_uvd=verts.numpy())

    def close(self) -> None:
        """Free the model; a second call does nothing."""
        self._run = None


class _OnGpu:
    """The package between host arrays: a graph for each batch size, replayed on buffers of its own."""

    def __init__(self, run: Callable[[Tensor], Outputs], *, cuda_graphs: bool) -> None:
        self._run_package, self._captures = run, cuda_graphs
        self._captured: dict[int, tuple[torch.cuda.CUDAGraph, Tensor, Outputs]] = {}

    def __call__(self, images: Tensor) -> Outputs:
        if not self._captures:
            joints, verts = self._run_package(images.cuda())
            return joints.cpu(), verts.cpu()
        if len(images) not in self._captured:
            self._captured[len(images)] = self._capture(images)
        graph, given, (joints, verts) = self._captured[len(images)]
        given.copy_(images)
        graph.replay()
        return joints.cpu(), verts.cpu()

    def _capture(self, images: Tensor) -> tuple[torch.cuda.CUDAGraph, Tensor, Outputs]:
        """Run once on a side stream, as PyTorch asks for, then record the next run."""
        given, graph, side = images.cuda(), torch.cuda.CUDAGraph(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            self._run_package(given)
        torch.cuda.current_stream().wait_stream(side)
        with torch.cuda.graph(graph):
            outputs = self._run_package(given)
        return graph, given, outputs


def load(path: Path, *, precision: str, threads: int | None, trust: bool = False) -> InductorEngine:
    """Open a package; the form that `engines.open` calls. The package itself states its precision.

    Raises:
        InputError: nobody said that the package is to be trusted.
    """
    require(trust, f"{path} is a package of AOTInductor: {NATIVE_CODE}")
    return InductorEngine(path, threads=threads)


def read_facts(path: Path) -> dict[str, str]:
    """What a package says of itself; nothing of it is run.

    Raises:
        InputError: the file is missing or is not a package that `export.folder.inductor_package` wrote.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist; give a package that `cliphand export` wrote.")
    facts: dict[str, str] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if entry.filename.endswith("_metadata.json")]
            _check_size(path, entries)
            for entry in entries:
                facts |= _texts(archive.read(entry))
    except UNREADABLE as error:
        raise InputError(f"{path} is not an AOTInductor package ({error}); export it again.") from None
    missing = {PRECISION_KEY, SIZE_KEY, "AOTI_DEVICE_KEY"} - set(facts)
    require(
        not missing,
        f"{path} does not state {', '.join(sorted(missing))}; it is no package of this project: export it again.",
    )
    side = facts[SIZE_KEY]
    require(
        side.isdecimal() and len(side) < 6 and int(side) > 0,
        f"{path} states crops of {side[:20]!r} px; it is no package of this project: export it again.",
    )
    return facts


def _check_size(path: Path, entries: Iterable[zipfile.ZipInfo]) -> None:
    """Refuse what would unpack to more than facts ever take."""
    size = sum(entry.file_size for entry in entries)
    require(
        size <= MAX_FACTS_BYTES,
        f"{path} states its facts in {size} bytes, and at most {MAX_FACTS_BYTES} are read; it is no package of this "
        "project: export it again.",
    )


def _texts(content: bytes) -> dict[str, str]:
    """A JSON object of texts.

    Raises:
        ValueError, RecursionError: it is something else.
    """
    value = json.loads(content)
    if not isinstance(value, dict) or not all(isinstance(fact, str) for fact in value.values()):
        raise ValueError("its facts are no JSON object of texts")
    return value


def check_machine(path: Path, facts: Mapping[str, str]) -> None:
    """Refuse a package that would stop this machine at its first instruction.

    Raises:
        InputError: it was compiled for another processor, or for a GPU that is not here.
    """
    machine = facts.get("AOTI_MACHINE", platform.machine())
    require(
        machine == platform.machine(),
        f"{path} was compiled for {machine}, this machine is {platform.machine()}; export it here.",
    )
    if facts["AOTI_DEVICE_KEY"] == "cuda":
        require(torch.cuda.is_available(), f"{path} was compiled for a GPU, and PyTorch sees none; export it here.")
        capability = "".join(map(str, torch.cuda.get_device_capability()))
        wanted = facts.get("AOTI_COMPUTE_CAPABILITY") or capability
        require(
            wanted == capability,
            f"{path} was compiled for compute capability {wanted}, this GPU has {capability}; export it here.",
        )
        return
    wanted, here = facts.get("AOTI_CPU_ISA", "").split(" ")[0], torch.backends.cpu.get_cpu_capability()
    require(
        CPU_LEVELS.get(wanted, 0) <= CPU_LEVELS.get(here, 0),
        f"{path} was compiled for {wanted}, this processor has {here}; export it here.",
    )
