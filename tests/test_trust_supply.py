"""What the project is made of: bounded, of licences that go together, and silent towards the network."""

import importlib.metadata
import json
import socket
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version
from typer.testing import CliRunner

from cliphand.cli.app import app
from cliphand.licences import Verdict, judge

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("cliphand", "export", "engines", "benchmarks")
ELSEWHERE = "192.0.2.1"  # kept free for documentation by RFC 5737
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
GROUPS = {"": PROJECT["dependencies"], **PROJECT["optional-dependencies"]}


@pytest.mark.parametrize("group", GROUPS)
def test_every_dependency_has_a_lower_and_an_upper_bound(group: str) -> None:
    for requirement in map(Requirement, GROUPS[group]):
        if requirement.name != "cliphand":
            bounds = {bound.operator: Version(bound.version) for bound in requirement.specifier}
            assert set(bounds) == {">=", "<"}, requirement
            assert bounds[">="] < bounds["<"], requirement
            assert requirement.url is None, requirement


def test_the_build_system_is_bounded_too() -> None:
    requires = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    assert all({bound.operator for bound in Requirement(text).specifier} == {">=", "<"} for text in requires)


Plant = Callable[..., None]


@pytest.fixture
def plant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plant:
    """A function that installs a distribution's metadata, found before any that is really installed."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(name: str, *fields: str, **files: str) -> None:
        folder = tmp_path / f"{name}-1.0.dist-info"
        (folder / "licenses").mkdir(parents=True)
        for file, text in files.items():
            (folder / "RECORD" if file == "RECORD" else folder / "licenses" / file).write_text(text)
        (folder / "METADATA").write_text("\n".join(["Metadata-Version: 2.4", f"Name: {name}", "Version: 1.0", *fields]))

    return write


def licences() -> tuple[int, dict[str, dict[str, str]], dict[str, object]]:
    """Exit code, rows by name and the whole object of `cliphand licences`."""
    result = CliRunner().invoke(app, ["licences"])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    value = json.loads(result.stdout.splitlines()[-1])
    return result.exit_code, {row["name"]: row for row in value["distributions"]}, value


def test_licences_are_followed_through_extras_and_markers(plant: Plant) -> None:
    plant(
        "cliphand",
        "License-Expression: Apache-2.0",
        "Provides-Extra: more",
        "Requires-Dist: planted-one[fast]>=1",
        "Requires-Dist: planted-absent; extra == 'more'",
        "Requires-Dist: planted-never; python_version < '3'",
    )
    plant("planted_one", "License: MIT", "Requires-Dist: Planted.Two; extra == 'fast'")
    plant("planted_two", "Classifier: License :: OSI Approved :: BSD License", "Requires-Dist: planted-one")
    plant("planted_never", "License: GPL-3.0-only")
    code, rows, value = licences()
    assert (code, value["compatible"]) == (0, True)
    assert set(rows) == {"cliphand", "planted-one", "planted-two"}
    assert rows["planted-two"]["needed_by"] == "planted-one"
    assert value["not_installed"] == ["planted-absent"]


@pytest.mark.parametrize(
    ("fields", "verdict"),
    [
        (("License-Expression: MIT AND (GPL-3.0-only OR BSD-2-Clause)",), Verdict.COMPATIBLE),
        (("License-Expression: Apache-2.0 WITH LLVM-exception",), Verdict.COMPATIBLE),
        (("License-Expression: MIT", "License: GPL-3.0-only"), Verdict.COMPATIBLE),  # the expression is what counts
        (("License: Apache License, Version 2.0",), Verdict.COMPATIBLE),
        (("License: The MIT License (MIT)\n        \n        Permission is hereby granted",), Verdict.COMPATIBLE),
        (("Classifier: License :: OSI Approved :: MIT License",), Verdict.COMPATIBLE),
        (("License-Expression: MIT AND AGPL-3.0-or-later",), Verdict.INCOMPATIBLE),
        (("License: GPLv3",), Verdict.INCOMPATIBLE),
        (("License-Expression: CC-BY-NC-4.0",), Verdict.INCOMPATIBLE),
        (("Classifier: License :: OSI Approved :: GNU Affero General Public License v3",), Verdict.INCOMPATIBLE),
        (("License-Expression: LicenseRef-NVIDIA-Proprietary",), Verdict.VENDOR),
        (("Classifier: License :: Other/Proprietary License",), Verdict.VENDOR),
        ((), Verdict.UNKNOWN),
        (("License: see the file",), Verdict.UNKNOWN),
        (("License-Expression: LicenseRef-Ours",), Verdict.UNKNOWN),
        (("License-Expression: MIT AND ((",), Verdict.UNKNOWN),
        (("License-Expression: LicenseRef-Ours AND GPL-2.0-only",), Verdict.INCOMPATIBLE),
    ],
)
def test_a_licence_is_judged_and_one_that_is_not_known_is_called_so(
    plant: Plant, fields: tuple[str, ...], verdict: Verdict
) -> None:
    plant("cliphand", "License-Expression: Apache-2.0", "Requires-Dist: planted-one")
    plant("planted_one", *fields)
    code, rows, _ = licences()
    assert rows["planted-one"]["verdict"] == verdict
    assert code == (verdict in (Verdict.INCOMPATIBLE, Verdict.UNKNOWN))


def test_what_is_installed_here_goes_together() -> None:
    code, rows, value = licences()
    assert (code, value["compatible"], value["unknown"]) == (0, True, [])
    assert {name for name, row in rows.items() if row["verdict"] == Verdict.INCOMPATIBLE} == set()
    for name in ("torch", "numpy", "onnxruntime", "lightning", "timm", "open-clip-torch"):
        assert rows[name]["verdict"] == Verdict.COMPATIBLE, name
        assert rows[name]["version"] == importlib.metadata.version(name)


def test_the_projects_own_licence_is_on_its_list() -> None:
    assert judge(PROJECT["license"]) is Verdict.COMPATIBLE


def test_a_connection_that_leaves_this_machine_is_refused(network_attempts: list[str]) -> None:
    tries = (
        lambda: socket.create_connection((ELSEWHERE, 80), timeout=1),
        lambda: socket.getaddrinfo("example.org", 443),
        lambda: socket.gethostbyname("example.org"),
        lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", (ELSEWHERE, 53)),
    )
    for attempt in tries:
        with pytest.raises(RuntimeError, match="tests use no network"):
            attempt()
    assert len(network_attempts) == len(tries)
    network_attempts.clear()


def test_a_connection_within_this_machine_is_made() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname(), timeout=5).close()
    first, second = socket.socketpair()
    first.close()
    second.close()


def test_a_process_that_a_test_starts_is_refused_as_well() -> None:
    code = f"import socket; socket.create_connection(({ELSEWHERE!r}, 80), timeout=1)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "tests use no network" in result.stderr


IMPORT_ALL = f"""
import importlib, pkgutil, sitecustomize
for name in {PACKAGES}:
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, name + "."):
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            assert error.name.split(".")[0] in ("anny", "trimesh", "embreex", "vl_convert", "jinja2", "openvino"), error
        print(module.name)
assert not sitecustomize.ATTEMPTS, sitecustomize.ATTEMPTS
"""


def test_no_module_reaches_for_the_network_when_it_is_imported() -> None:
    result = subprocess.run([sys.executable, "-c", IMPORT_ALL], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    imported = set(result.stdout.split())
    files = [path for name in PACKAGES for path in (ROOT / name).rglob("*.py") if path.stem != "__init__"]
    assert {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in files} <= imported


def test_a_licence_that_nobody_could_read_leaves_the_verdict_open_and_is_named(plant: Plant) -> None:
    plant("cliphand", "License-Expression: Apache-2.0", "Requires-Dist: planted-one")
    plant("planted_one")
    code, _, value = licences()
    assert (code, value["compatible"], value["unknown"]) == (1, None, ["planted-one"])


# Whose own metadata name another licence than their text's, or the same: the texts are real ones.
CARRIED = {"MIT": "typer", "Apache-2.0": "openvino-telemetry", "BSD-3-Clause": "jinja2", "BSD-2-Clause": "grimp"}


def carried_text(name: str) -> str:
    """A licence's text, from an installed distribution that carries it."""
    distribution = importlib.metadata.distribution(name)
    return next(text for file in distribution.metadata.get_all("License-File") if (text := read_file(name, file)))


def read_file(name: str, file: str) -> str:
    distribution = importlib.metadata.distribution(name)
    return distribution.read_text(f"licenses/{file}") or distribution.read_text(file) or ""


def planted_verdict(plant: Plant, *fields: str, **files: str) -> tuple[int, dict[str, str]]:
    """Exit code and row of a distribution with these fields and licence files."""
    plant("cliphand", "License-Expression: Apache-2.0", "Requires-Dist: planted-one")
    plant("planted_one", *fields, *(f"License-File: {name}" for name in files if name != "RECORD"), **files)
    code, rows, _ = licences()
    return code, rows["planted-one"]


@pytest.mark.parametrize("licence", CARRIED)
def test_a_licence_that_only_its_text_tells_is_known(plant: Plant, licence: str) -> None:
    text = "Copyright (c) 2031 Somebody Else\n\n" + carried_text(CARRIED[licence])
    code, row = planted_verdict(plant, LICENSE=text)
    assert (code, row["licence"], row["verdict"]) == (0, licence, Verdict.COMPATIBLE)


def test_a_text_in_the_older_field_is_read(plant: Plant) -> None:
    lines = carried_text(CARRIED["MIT"]).splitlines()
    code, row = planted_verdict(plant, "License: " + "\n        ".join(lines))
    assert (code, row["licence"]) == (0, "MIT")


CHANGED: dict[str, Callable[[str], str]] = {
    "a word more": lambda text: text.replace("without restriction", "without military restriction"),
    "a word less": lambda text: text.replace("without restriction", "restriction"),
    "a rider": lambda text: text + "\nThe software is for non-commercial use only.",
    "a clause before it": lambda text: '"Commons Clause" License Condition v1.0\n' + text,
    "another text after it": lambda text: text + "word " * 250,
    "empty": lambda text: "",
}


@pytest.mark.parametrize("change", CHANGED)
def test_a_text_that_is_not_a_licences_own_stays_unknown(plant: Plant, change: str) -> None:
    text = carried_text(CARRIED["MIT"])
    assert CHANGED[change](text) != text
    code, row = planted_verdict(plant, LICENSE=CHANGED[change](text))
    assert (code, row["verdict"]) == (1, Verdict.UNKNOWN)


def test_one_text_of_two_that_is_not_known_leaves_the_whole_unknown(plant: Plant) -> None:
    mit = carried_text(CARRIED["MIT"])
    code, row = planted_verdict(plant, LICENSE=mit, NOTICE="You must ask us first.")
    assert (code, row["verdict"]) == (1, Verdict.UNKNOWN)


def test_what_is_stated_is_not_overridden_by_a_text(plant: Plant) -> None:
    code, row = planted_verdict(plant, "License-Expression: GPL-3.0-only", LICENSE=carried_text(CARRIED["MIT"]))
    assert (code, row["verdict"]) == (1, Verdict.INCOMPATIBLE)


@pytest.mark.parametrize(("also", "verdict"), [("", Verdict.COMPATIBLE), ("planted.py,,\n", Verdict.UNKNOWN)])
def test_a_distribution_without_files_needs_no_licence_and_what_it_asks_for_is_judged(
    plant: Plant, also: str, verdict: Verdict
) -> None:
    record = "planted_one-1.0.dist-info/METADATA,,\nplanted_one-1.0.dist-info/RECORD,,\n" + also
    plant("planted_two", "License: GPLv3")
    code, row = planted_verdict(plant, "Requires-Dist: planted-two", RECORD=record)
    assert (code, row["verdict"]) == (1, verdict)
    assert licences()[1]["planted-two"]["verdict"] == Verdict.INCOMPATIBLE
