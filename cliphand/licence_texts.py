"""Licences told by their texts, for distributions whose metadata name none.

A text counts as a licence only where its operative words, spaces and punctuation aside, are the licence's to the
letter, and little else stands around them: a copyright line, a notice, an appendix that says how to apply it.

Source of the hashes: the texts at spdx.org/licenses, as the wheels of many projects carry them.
"""

import hashlib
import re
from collections.abc import Iterator
from importlib.metadata import Distribution
from typing import NamedTuple

MOST_AROUND = 200  # words; Apache's appendix has 177
# Of words that are no SPDX name: these licences oblige whoever distributes a work built on them, or forbid a use.
RESTRICTIVE = re.compile(
    r"\b(?:affero|agpl|gnu general public|gpl|sspl|server side public|non ?commercial|commons clause)\b"
)
OWN_FOLDER = re.compile(r"[^/]+\.(?:dist|egg)-info/")


class Terms(NamedTuple):
    """The operative words of a licence: how they begin and end, and the SHA-256 of all from the one to the other."""

    spdx: str
    begin: str
    end: str
    sha256: str


BSD = ("redistribution and use in source and binary forms", "even if advised of the possibility of such damage")
TERMS = (
    Terms(
        "Apache-2.0",
        "apache license version 2 0 january 2004",
        "end of terms and conditions",
        "f45538b138cf9aea39fa205de037a0bede8305e68281650e7ab809a8b3ebb2f0",
    ),
    Terms("BSD-2-Clause", *BSD, "986c3c3199a93b916c8f2e0aeed57819bcbdcb2cd9d99902dcc9d74b53f93a74"),
    Terms("BSD-3-Clause", *BSD, "9b83d3dee0616d07b82a272dd9bf5134a9f402b750f5ee6188458073b0a32ff2"),
    Terms(
        "MIT",
        "permission is hereby granted free of charge",
        "other dealings in the software",
        "0cf21bdfd1964a97a8615e128534845826afbc887edc95aa5c925cbf64386b5c",
    ),
)


def read_licence(distribution: Distribution) -> str:
    """The SPDX names of all licence texts that a distribution carries, joined by AND; empty where one is not known."""
    named = [licence_of_text(text) for text in _texts(distribution)]
    return " AND ".join(sorted({name for name in named if name})) if all(named) else ""


def licence_of_text(text: str) -> str | None:
    """The SPDX name of the licence that a text is."""
    words = plain(text)
    for terms in TERMS:
        start = words.find(terms.begin)
        end = words.find(terms.end, start) + len(terms.end)
        if start < 0 or end < len(terms.end):
            continue
        around = f"{words[:start]} {words[end:]}"
        if hashlib.sha256(words[start:end].encode()).hexdigest() == terms.sha256:
            return None if len(around.split()) > MOST_AROUND or RESTRICTIVE.search(around) else terms.spdx
    return None


def holds_nothing(distribution: Distribution) -> bool:
    """Whether there is nothing in a distribution but its metadata: it only asks for others, each judged by itself."""
    files = distribution.files
    return bool(files) and all(OWN_FOLDER.match(str(file)) for file in files or ())


def plain(words: str) -> str:
    """Words in lower case, with one space between them and without punctuation."""
    return " ".join(re.findall(r"[a-z0-9]+", words.lower()))


def _texts(distribution: Distribution) -> Iterator[str]:
    """The texts in the older field `License`, and the files that `License-File` names."""
    yield from (field for field in distribution.metadata.get_all("License") or [] if "\n" in field)
    for name in distribution.metadata.get_all("License-File") or []:
        # Since metadata 2.4 they lie in a folder of their own, before beside the metadata.
        texts = (distribution.read_text(place) for place in (f"licenses/{name}", name))
        yield next((text for text in texts if text), "")
