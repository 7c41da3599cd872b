"""The search for layers to blame: exact on planted faults, bounded in time."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted_graphs import OUTLIER, OVERFLOW, planted_workshop, request_on, save_planted_export

from cliphand.hand import HandTopology
from export.gate.parity import ROUNDED
from export.precision.blame import Trial, find_blame

GROUPS = {"encoder": [f"e{i}" for i in range(7)], "heatmap": ["h0"], "mesh": [f"m{i}" for i in range(12)]}
NODES = [node for nodes in GROUPS.values() for node in nodes]


def needs(*nodes: str) -> Callable[[frozenset[str]], Trial]:
    """A graph that passes where all of `nodes` are kept; each kept node costs a tenth of a millisecond."""

    def measure(kept: frozenset[str]) -> Trial:
        missing = len(set(nodes) - kept)
        return Trial(
            excess=1.0 + missing if missing else 0.5, delta_mm=0.1 * missing, p99_mm=1.0, latency_ms=0.1 * len(kept)
        )

    return measure


@given(st.sets(st.sampled_from(NODES), min_size=1, max_size=4))
@settings(max_examples=60)
def test_search_names_exactly_the_nodes_that_are_needed(faulty: set[str]) -> None:
    blame = find_blame(GROUPS, needs(*faulty), budget_s=60)
    assert set(blame.nodes) == faulty
    assert blame.found
    assert blame.minimal
    assert list(blame.nodes) == [node for node in NODES if node in faulty]


def test_one_faulty_node_among_a_thousand_is_found_in_few_trials() -> None:
    groups = {"a": [f"a{i}" for i in range(500)], "b": [f"b{i}" for i in range(500)]}
    blame = find_blame(groups, needs("b123"), budget_s=60)
    assert blame.nodes == ("b123",)
    assert blame.n_trials < 40


def test_every_group_is_priced_in_millimetres_and_milliseconds() -> None:
    blame = find_blame(GROUPS, needs("e1", "m3"), budget_s=60)
    prices = {cost.group: (cost.nodes, cost.trial.delta_mm, cost.trial.latency_ms) for cost in blame.groups}
    assert blame.nothing_kept.delta_mm == pytest.approx(0.2)
    assert prices == {
        "encoder": (7, pytest.approx(0.1), pytest.approx(0.7)),
        "heatmap": (1, pytest.approx(0.2), pytest.approx(0.1)),
        "mesh": (12, pytest.approx(0.1), pytest.approx(1.2)),
    }


def test_where_nothing_helps_no_node_is_named() -> None:
    blame = find_blame(GROUPS, lambda _: Trial(float("inf"), None, None, 1.0), budget_s=60)
    assert blame.nodes == ()
    assert not blame.found


def test_out_of_time_the_smallest_set_so_far_that_passes_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(np.arange(1000.0))  # a second for each look at it
    monkeypatch.setattr("export.precision.blame.time.monotonic", lambda: next(clock))
    blame = find_blame(GROUPS, needs("m3"), budget_s=6)
    assert "m3" in blame.nodes
    assert blame.trial.within_tolerance
    assert not blame.minimal
    assert len(blame.nodes) > 1


def test_planted_overflow_in_fp16_is_named_exactly(
    tmp_path: Path, hand_topology: HandTopology, freihand_folder: Callable[..., Path]
) -> None:
    data = freihand_folder(size_px=64)
    folder = save_planted_export(tmp_path / "export", hand_topology, overflow=True)
    with planted_workshop(folder, hand_topology, request_on(data)) as workshop:
        # On a black image nothing is large, so that AutoCast sees no reason to keep anything.
        dark = dataclasses.replace(workshop.maker.calibration, images=np.zeros_like(workshop.maker.calibration.images))
        workshop = dataclasses.replace(workshop, maker=dataclasses.replace(workshop.maker, calibration=dark))
        candidate = workshop.best_candidate("fp16")
        assert not candidate.within_tolerance
        assert {row.engine: row.nonfinite > 0 for row in candidate.rows} == {"onnxruntime": False, ROUNDED: True}
        blame = workshop.search(candidate)
        assert set(blame.nodes) == set(OVERFLOW)
        assert blame.minimal
        assert workshop.candidate("fp16", candidate.made.rest, frozenset(blame.nodes)).within_tolerance


def test_planted_outlier_in_int8_is_named_exactly(
    tmp_path: Path, hand_topology: HandTopology, freihand_folder: Callable[..., Path]
) -> None:
    data = freihand_folder(size_px=64)
    folder = save_planted_export(tmp_path / "export", hand_topology, outlier=True)
    with planted_workshop(folder, hand_topology, request_on(data)) as workshop:
        candidate = workshop.best_candidate("int8")
        assert not candidate.within_tolerance
        blame = workshop.search(candidate)
        assert set(blame.nodes) == set(OUTLIER)
        assert blame.minimal
        assert workshop.candidate("int8", candidate.made.rest, frozenset(blame.nodes)).within_tolerance


def test_without_a_fault_both_precisions_pass(
    tmp_path: Path, hand_topology: HandTopology, freihand_folder: Callable[..., Path]
) -> None:
    data = freihand_folder(size_px=64)
    folder = save_planted_export(tmp_path / "export", hand_topology)
    with planted_workshop(folder, hand_topology, request_on(data)) as workshop:
        assert workshop.best_candidate("fp16").within_tolerance
        assert workshop.best_candidate("int8").within_tolerance
