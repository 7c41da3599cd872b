"""The search for the layers to blame: the smallest set of nodes to keep in higher precision so that the gate passes.

It knows nothing of graphs or engines. First every group alone, which prices it; then groups until the gate passes, the
needless ones out again; then bisection of what is left, node by node, until no node can be left out (delta debugging,
Zeller and Hildebrandt 2002).
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

INFINITE = float("inf")


@dataclass(frozen=True, slots=True)
class Trial:
    """What keeping some nodes in higher precision gave.

    Attributes:
        excess: how far outside the tolerance, see `export.gate.parity.excess`; at most 1 passes.
        delta_mm: change of PA-PJPE against PyTorch; None where an output is not finite.
        p99_mm: 99th percentile of the vertex distances to PyTorch; None as above.
        latency_ms: of one image, median.
    """

    excess: float
    delta_mm: float | None
    p99_mm: float | None
    latency_ms: float

    @property
    def within_tolerance(self) -> bool:
        """Whether it is within the tolerance; NaN is not."""
        return self.excess <= 1


@dataclass(frozen=True, slots=True)
class GroupCost:
    """One group kept alone: the millimetres it takes away and the time it costs are the differences to nothing kept."""

    group: str
    nodes: int
    trial: Trial


@dataclass(frozen=True, slots=True)
class Blame:
    """The search's result.

    Attributes:
        nodes: to keep in higher precision, in the graph's order; empty where nothing helps.
        trial: with these nodes kept; the trial with all nodes kept where nothing helps.
        nothing_kept: the trial that failed the gate.
        groups: price of each group.
        minimal: whether leaving out any one node fails the gate; false where the time ran out first.
        n_trials: how many graphs were made and measured.
    """

    nodes: tuple[str, ...]
    trial: Trial
    nothing_kept: Trial
    groups: tuple[GroupCost, ...]
    minimal: bool
    n_trials: int

    @property
    def found(self) -> bool:
        """Whether keeping the nodes passes the gate."""
        return self.trial.within_tolerance and len(self.nodes) > 0


class _OutOfTimeError(Exception):
    """The budget is spent."""


@dataclass(slots=True)
class _Laboratory:
    """Makes each trial once, until the time is up."""

    measure: Callable[[frozenset[str]], Trial]
    deadline: float
    progress: Callable[[int], None] | None
    done: dict[frozenset[str], Trial] = field(default_factory=dict)

    def __call__(self, nodes: Sequence[str]) -> Trial:
        key = frozenset(nodes)
        if key not in self.done:
            if time.monotonic() > self.deadline:
                raise _OutOfTimeError
            self.done[key] = self.measure(key)
            if self.progress is not None:
                self.progress(len(self.done))
        return self.done[key]


def find_blame(
    groups: Mapping[str, Sequence[str]],
    measure: Callable[[frozenset[str]], Trial],
    *,
    budget_s: float,
    progress: Callable[[int], None] | None = None,
) -> Blame:
    """Search.

    Args:
        groups: the nodes that can be kept, by group, in the graph's order.
        measure: makes and measures a graph with the given nodes kept.
        budget_s: no trial starts later than this after the first; the first two are always made.
        progress: called with the number of trials made.
    """
    everything = [node for nodes in groups.values() for node in nodes]
    start = time.monotonic()
    laboratory = _Laboratory(measure, INFINITE, progress)
    nothing_kept, best = laboratory(()), everything
    costs: list[GroupCost] = []
    minimal = False
    if not laboratory(everything).within_tolerance:
        return Blame((), laboratory(everything), nothing_kept, (), False, len(laboratory.done))
    laboratory.deadline = start + budget_s
    try:
        for group, nodes in groups.items():
            costs.append(GroupCost(group, len(nodes), laboratory(nodes)))
        for smaller in _narrow(groups, costs, laboratory):
            best = smaller
        minimal = True
    except _OutOfTimeError:
        pass
    return Blame(
        tuple(best), laboratory.done[frozenset(best)], nothing_kept, tuple(costs), minimal, len(laboratory.done)
    )


def _narrow(
    groups: Mapping[str, Sequence[str]], costs: Sequence[GroupCost], laboratory: _Laboratory
) -> Iterator[list[str]]:
    """Ever smaller sets that pass: whole groups first, the most helpful ones, then their nodes."""
    chosen: list[str] = []
    for cost in sorted(costs, key=lambda cost: cost.trial.excess):
        chosen.append(cost.group)
        if laboratory(_nodes(groups, chosen)).within_tolerance:
            break
    yield _nodes(groups, chosen)
    for group in tuple(chosen):
        others = [other for other in chosen if other != group]
        if others and laboratory(_nodes(groups, others)).within_tolerance:
            chosen = others
            yield _nodes(groups, chosen)
    yield from _bisect(_nodes(groups, chosen), laboratory)


def _bisect(nodes: list[str], laboratory: _Laboratory) -> Iterator[list[str]]:
    """Delta debugging: one of n parts alone, else all but one of them, else finer parts."""
    n_parts = 2
    while len(nodes) > 1:
        parts = [nodes[len(nodes) * part // n_parts : len(nodes) * (part + 1) // n_parts] for part in range(n_parts)]
        others = [[node for node in nodes if node not in part] for part in parts]
        smaller = next((tried for tried in (*parts, *others) if laboratory(tried).within_tolerance), None)
        if smaller is not None:
            n_parts = 2 if smaller in parts else max(n_parts - 1, 2)
            nodes = smaller
            yield nodes
        elif n_parts == len(nodes):
            return
        else:
            n_parts = min(2 * n_parts, len(nodes))


def _nodes(groups: Mapping[str, Sequence[str]], chosen: Sequence[str]) -> list[str]:
    """The nodes of some groups, in the order of the groups."""
    return [node for group, nodes in groups.items() if group in chosen for node in nodes]
