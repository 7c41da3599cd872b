"""What `cliphand bench` wrote, as far as a report shows it."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

from annotated_types import Interval, Len

from benchmarks.contestants.exported import Skipped
from benchmarks.contestants.plans import skipped_lines
from benchmarks.report.theme import engine_label
from cliphand.checked import Count, checked, from_json
from cliphand.errors import InputError
from cliphand.files import read_json_object
from engines.open import REJECTED

PYTORCH = "pytorch"
Kind = TypeVar("Kind")
Milliseconds = Annotated[float, Interval(gt=0, le=1e9)]
Text = Annotated[str, Len(1, 1000)]


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Of the latencies of one call, ms, and single calls where the benchmark kept them."""

    p50: float
    p90: float
    p99: float
    samples: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class SpeedRow:
    """One engine x precision x batch x threads; None is what the benchmark did not tell.

    Attributes:
        label: engine and precision, as charts name it.
        is_reference: whether it is PyTorch as it is.
        threads: as asked for; None left the choice to the run-time.
        model: of the engine's call.
        end_to_end: the same from JPEG files to metres.
        facts: the row itself.
    """

    label: str
    is_reference: bool
    batch: int
    threads: int | None
    model: Percentiles
    end_to_end: Percentiles | None
    facts: Mapping[object, object]

    def number(self, *path: str) -> float | None:
        """A number of the row, deeper and deeper; None where it is not there."""
        value: object = self.facts
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        return _number(value)

    @property
    def is_rejected(self) -> bool:
        """Whether its graph failed the gate at export."""
        return str(self.facts.get("artefact")).endswith(REJECTED)

    @property
    def pa_pjpe_mm(self) -> float | None:
        """Mean error after alignment."""
        return self.number("pa_pjpe_mm")


@dataclass(frozen=True, slots=True)
class BenchFile:
    """A benchmark's result; `facts` is the whole object."""

    path: Path
    rows: tuple[SpeedRow, ...]
    facts: Mapping[str, object]

    def fact(self, table: str, key: str, kind: type[Kind]) -> Kind | None:
        """`facts[table][key]` where it is there and of the given type."""
        values = self.facts.get(table)
        value = values.get(key) if isinstance(values, Mapping) else None
        return value if isinstance(value, kind) else None

    def text(self, table: str, key: str) -> str:
        """`facts[table][key]` as text, `unknown` where it is not there."""
        value = self.fact(table, key, object)
        return "unknown" if value is None else str(value)

    @property
    def skipped(self) -> list[str]:
        """A line for each engine that was not measured and the reason."""
        found = self.facts.get("skipped")
        told = [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []
        texts = [[str(one.get(name)) for name in ("key", "engine", "precision", "reason")] for one in told]
        return skipped_lines(Skipped(key, engine, precision, reason) for key, engine, precision, reason in texts)

    @property
    def labels(self) -> list[str]:
        """Of all rows, each once, in order."""
        return list(dict.fromkeys(row.label for row in self.rows))


def read_bench(path: Path) -> BenchFile:
    """Read a benchmark's JSON file.

    Raises:
        InputError: it is missing, is not JSON, or is not what `cliphand bench` writes.
    """
    value = read_json_object(path)
    rows = value.get("rows")
    if not isinstance(rows, list) or not rows:
        raise InputError(f"{path} holds no rows; write it again with `cliphand bench DIR --json {path}`.")
    return BenchFile(path=path, rows=tuple(_row(number, row, path) for number, row in enumerate(rows)), facts=value)


def smallest_batch(rows: Sequence[SpeedRow]) -> tuple[SpeedRow, ...]:
    """One row for each label: of the smallest batch, and of its thread counts the fastest."""
    batch = min(row.batch for row in rows)
    best: dict[str, SpeedRow] = {}
    for row in rows:
        if row.batch == batch and (row.label not in best or row.model.p50 < best[row.label].model.p50):
            best[row.label] = row
    return tuple(best.values())


def reference_row(rows: Sequence[SpeedRow], like: SpeedRow) -> SpeedRow | None:
    """PyTorch's row of the same batch, and of as many threads where there is one."""
    own = [row for row in rows if row.is_reference and row.batch == like.batch]
    return next((row for row in own if row.threads == like.threads), own[0] if own else None)


def speedup(row: SpeedRow, rows: Sequence[SpeedRow]) -> float | None:
    """How many times faster than PyTorch: as the benchmark tells it, turn by turn, else by the medians."""
    told = row.number("speedup", "median")
    reference = reference_row(rows, row)
    return told if told is not None else None if reference is None else reference.model.p50 / row.model.p50


@checked
class _Timed:
    """What every row of the file must tell, and what it may."""

    engine: Text
    precision: Text
    batch: Count
    latency_ms_p50: Milliseconds
    latency_ms_p90: Milliseconds
    latency_ms_p99: Milliseconds
    artefact: Text | None = None
    threads: Count | None = None
    end_to_end_ms_p50: Milliseconds | None = None
    end_to_end_ms_p90: Milliseconds | None = None
    end_to_end_ms_p99: Milliseconds | None = None
    latency_samples_ms: tuple[Milliseconds, ...] | None = None
    end_to_end_samples_ms: tuple[Milliseconds, ...] | None = None


def _row(number: int, value: object, path: Path) -> SpeedRow:
    facts = value if isinstance(value, Mapping) else {}
    names = [field.name for field in dataclasses.fields(_Timed)]
    told = {name: facts[name] for name in names if name in facts}
    try:
        row = from_json(_Timed, told, source=f"{path}: rows[{number}]")
    except InputError as error:
        raise InputError(f"{error} Write the file again with this version's `cliphand bench`.") from None
    end_to_end = (row.end_to_end_ms_p50, row.end_to_end_ms_p90, row.end_to_end_ms_p99)
    return SpeedRow(
        label=engine_label(row.engine, row.precision, str(row.artefact)),
        is_reference=row.engine == PYTORCH,
        batch=row.batch,
        threads=row.threads,
        model=Percentiles(row.latency_ms_p50, row.latency_ms_p90, row.latency_ms_p99, row.latency_samples_ms or ()),
        end_to_end=_percentiles(end_to_end, row.end_to_end_samples_ms or ()),
        facts=facts,
    )


def _percentiles(values: tuple[float | None, ...], samples: tuple[float, ...]) -> Percentiles | None:
    p50, p90, p99 = values
    return None if p50 is None or p90 is None or p99 is None else Percentiles(p50, p90, p99, samples)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
