"""The licences of everything that cliphand's own requirements pull in, as the installed distributions state them.

Sources: the fields `License-Expression`, `License` and `Classifier` of the Python core metadata specification, in this
order, then the licence texts that a distribution carries; names of licences are SPDX's.
"""

import importlib.metadata
import re
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from cliphand.licence_texts import RESTRICTIVE, holds_nothing, plain, read_licence


class Verdict(StrEnum):
    """Whether a distribution may be used beside Apache-2.0 code; the worst part of a licence decides."""

    INCOMPATIBLE = "incompatible"
    UNKNOWN = "unknown"  # nothing is said, or nothing that is known: somebody has to read it
    VENDOR = "vendor's terms"  # libraries of a device's maker: free to use, not ours to pass on
    COMPATIBLE = "compatible"


# All of them may be used from, and distributed beside, code under Apache-2.0. MPL-2.0 and LGPL ask for their own files'
# source alone, which this project does not change.
COMPATIBLE = frozenset(
    {
        "0BSD",
        "Apache-2.0",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "BSL-1.0",
        "CC0-1.0",
        "CNRI-Python",
        "HPND",
        "ISC",
        "LGPL-2.1-or-later",
        "LGPL-3.0-only",
        "LGPL-3.0-or-later",
        "LicenseRef-BSD",
        "MIT",
        "MIT-0",
        "MIT-CMU",
        "MPL-2.0",
        "PSF-2.0",
        "Python-2.0",
        "Unlicense",
        "Zlib",
    }
)
VENDOR = frozenset({"LicenseRef-NVIDIA-Proprietary", "LicenseRef-Proprietary"})
# Words of the older fields, in lower case and without punctuation, whose SPDX name is plain.
NAMES = {
    "apache 2 0": "Apache-2.0",
    "apache license 2 0": "Apache-2.0",
    "apache license version 2 0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "bsd": "LicenseRef-BSD",  # which of them is not said; two and three clauses are compatible alike
    "bsd license": "LicenseRef-BSD",
    "bsd 2 clause license": "BSD-2-Clause",
    "bsd 3 clause license": "BSD-3-Clause",
    "3 clause bsd license": "BSD-3-Clause",
    "isc license": "ISC",
    "isc license iscl": "ISC",
    "mit license": "MIT",
    "the mit license": "MIT",
    "the mit license mit": "MIT",
    "mozilla public license 2 0 mpl 2 0": "MPL-2.0",
    "python software foundation license": "PSF-2.0",
    "gplv2": "GPL-2.0-only",
    "gplv3": "GPL-3.0-only",
    "nvidia proprietary software": "LicenseRef-NVIDIA-Proprietary",
    "other proprietary license": "LicenseRef-Proprietary",
    "proprietary": "LicenseRef-Proprietary",
}
NO_FILES = "none needed: it holds no files but its metadata"


@dataclass(frozen=True, slots=True)
class Licence:
    """A distribution and what it may be used for."""

    name: str
    version: str
    licence: str  # SPDX where it could be read so, else the distribution's words; empty where there are none
    verdict: Verdict
    needed_by: str  # the first that asked for it; empty for the root


@dataclass(frozen=True, slots=True)
class Supply:
    """Everything that a distribution pulls in."""

    licences: tuple[Licence, ...]  # by name
    not_installed: tuple[str, ...]  # asked for and absent: an extra that was not chosen


def supply(root: str = "cliphand") -> Supply:
    """Follow the requirements of an installed distribution with all of its extras.

    Raises:
        importlib.metadata.PackageNotFoundError: `root` is not installed.
    """
    extras = importlib.metadata.metadata(root).get_all("Provides-Extra") or []
    waiting = deque([(Requirement(f"{root}[{','.join(extras)}]"), "")])
    seen: dict[str, set[str]] = {}
    found: dict[str, Licence] = {}
    absent: set[str] = set()
    while waiting:
        requirement, needed_by = waiting.popleft()
        name = canonicalize_name(requirement.name)
        new = {"", *requirement.extras} - seen.setdefault(name, set())
        seen[name] |= new
        try:
            distribution = importlib.metadata.distribution(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            absent.add(name)
            continue
        found.setdefault(name, _licence(distribution, name, needed_by))
        for needed in map(Requirement, distribution.requires or []):
            if any(needed.marker is None or needed.marker.evaluate({"extra": extra}) for extra in new):
                waiting.append((needed, name))
    return Supply(tuple(found[name] for name in sorted(found)), tuple(sorted(absent)))


def judge(licence: str) -> Verdict:
    """The verdict on an SPDX expression, or on the words that stand in its place.

    Of alternatives the best counts, of licences that hold together the worst. An SPDX licence that is not on the list
    is incompatible until somebody has read it.
    """
    try:
        expression = canonicalize_license_expression(licence)
    except InvalidLicenseExpression:
        return Verdict.INCOMPATIBLE if RESTRICTIVE.search(plain(licence)) else Verdict.UNKNOWN
    # An exception after WITH only ever allows more.
    words = deque(re.findall(r"[()]|[^\s()]+", re.sub(r" WITH \S+", "", expression)))
    return _alternatives(words)


def _alternatives(words: deque[str]) -> Verdict:
    """One or more conjunctions with OR between them."""
    best = _conjunction(words)
    while words and words[0] == "OR":
        words.popleft()
        best = max(best, _conjunction(words), key=_ORDER.index)
    return best


def _conjunction(words: deque[str]) -> Verdict:
    """One or more terms with AND between them; AND binds closer than OR."""
    worst = _term(words)
    while words and words[0] == "AND":
        words.popleft()
        worst = min(worst, _term(words), key=_ORDER.index)
    return worst


def _term(words: deque[str]) -> Verdict:
    """One licence, or an expression in brackets."""
    word = words.popleft()
    if word == "(":
        verdict = _alternatives(words)
        words.popleft()
        return verdict
    if word in COMPATIBLE:
        return Verdict.COMPATIBLE
    if word in VENDOR:
        return Verdict.VENDOR
    return Verdict.UNKNOWN if word.startswith("LicenseRef-") else Verdict.INCOMPATIBLE


_ORDER = tuple(Verdict)


def _licence(distribution: importlib.metadata.Distribution, name: str, needed_by: str) -> Licence:
    licence = _stated(distribution)
    verdict = judge(licence)
    if verdict is Verdict.UNKNOWN and (read := read_licence(distribution)):
        licence, verdict = read, judge(read)
    if not licence and holds_nothing(distribution):
        licence, verdict = NO_FILES, Verdict.COMPATIBLE
    return Licence(name, distribution.version, licence, verdict, needed_by)


def _stated(distribution: importlib.metadata.Distribution) -> str:
    """What a distribution says of its licence, as SPDX where it can be read so."""
    fields = distribution.metadata.get_all
    expression = fields("License-Expression") or []
    if expression:
        return str(expression[0])
    # A whole licence text may stand in the older field: its first line names it, or says nothing.
    first, *rest = [line.strip() for field in fields("License") or [] for line in field.splitlines()] or [""]
    if first and (_spdx(first) or not rest):
        return _spdx(first) or first
    classifiers = [entry for entry in fields("Classifier") or [] if entry.startswith("License :: ")]
    return _together(_spdx(entry) or entry for entry in classifiers if not entry.endswith(":: OSI Approved"))


def _together(licences: Iterable[str]) -> str:
    """Several classifiers are read strictly: all of them hold."""
    return " AND ".join(sorted(set(licences)))


def _spdx(words: str) -> str | None:
    """The SPDX name of a licence's usual name."""
    try:
        name = words.rpartition(" :: ")[2]
        return NAMES.get(plain(name)) or canonicalize_license_expression(name)
    except InvalidLicenseExpression:
        return None
