"""What the functions of the Python API return: tables as DataFrames, plots, and what a notebook shows."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from specmoe.results import RunResult, latencies
from specmoe.sim.run import Run, Scenario
from specmoe.summary import Row, summary
from specmoe.uncertainty import add_fastest_shares

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from specmoe.sim.advise.advice import Advice as Found
    from specmoe.sweep_table import SweepTable

SHOWN = {  # of a table, for people
    "policy": "policy",
    "latency_mean_ns": "step, ms",
    "tokens_per_second": "tokens/s",
    "hit_rate": "hit rate",
    "stall_ns": "stall, ms a step",
}


@dataclass(frozen=True)
class Simulation:
    """Policies simulated on one machine. `runs` are the results by policy; `failures` say why others could not run."""

    runs: dict[str, Run]
    failures: dict[str, str]
    scenario: Scenario

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row per policy, the fastest first; columns are those of `specmoe.summary` (docs/glossary.md)."""
        return pd.DataFrame(self.rows).sort_values("latency_mean_ns", kind="stable", ignore_index=True)

    @property
    def rows(self) -> list[Row]:
        """The same as dictionaries, in the order in which policies were named: what `--json` prints."""
        rows = [summary(run.result) for run in self.runs.values()]
        add_fastest_shares(rows)
        return rows

    @cached_property
    def steps(self) -> pd.DataFrame:
        """One row per policy and step: `latency_ns`, and sums over the layers of the run's columns."""
        return pd.concat([_steps(name, run.result) for name, run in self.runs.items()], ignore_index=True)

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw a bar for each policy, fastest first, and the bounds; on new Axes by default."""
        from specmoe.analysis.figures.latency import draw_latency
        from specmoe.analysis.point import point

        return draw_latency([point(run.result) for run in self.runs.values()], ax)

    def save(self, directory: str | Path) -> None:
        """Write one Parquet file per policy, as `specmoe simulate --out` does."""
        from specmoe.files import make_directory

        make_directory(Path(directory))
        for name, run in self.runs.items():
            run.result.save(Path(directory) / f"{name}.parquet")

    def _repr_html_(self) -> str:
        first = self.table.iloc[0]
        about = f"{first['trace']}; {first['shape']} in {first['format']}; {first['profile']}; {first['steps']} steps"
        return f"{_html(self.table)}<p>{about}. Evidence: {first['evidence']}.</p>"


@dataclass(frozen=True)
class Summaries:
    """Policies simulated part by part, of which only summaries are kept; `failures` say why others could not run."""

    rows: list[Row]
    failures: dict[str, str]

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row per policy, the fastest first; columns are those of `specmoe.summary` (docs/glossary.md)."""
        return pd.DataFrame(self.rows).sort_values("latency_mean_ns", kind="stable", ignore_index=True)

    def _repr_html_(self) -> str:
        return _html(self.table)


@dataclass(frozen=True)
class Sweep:
    """A grid of simulated configurations."""

    sweep: "SweepTable"

    @property
    def table(self) -> pd.DataFrame:
        """One row per configuration, in the order asked for; `error` says why a row has no figures."""
        return self.sweep.rows

    @cached_property
    def best(self) -> pd.DataFrame:
        """The fastest policy of each setting that a runtime could have."""
        from specmoe.sim.sweep.summary import best

        return pd.DataFrame(best(self.sweep))

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the mean step of every policy in the fastest setting, fastest first; on new Axes by default."""
        from specmoe.analysis.figures.latency import draw_latency
        from specmoe.analysis.figures.setting import settings_of

        return draw_latency([cell.point for cell in settings_of(self.sweep)[0].along()], ax)

    def _repr_html_(self) -> str:
        return str(self.best.to_html(index=False))


@dataclass(frozen=True)
class Advice:
    """What to run on a machine, how fast it will be, and what would help."""

    found: "Found"

    @cached_property
    def lines(self) -> tuple[str, ...]:
        """The answer in sentences, as `specmoe advise` prints it."""
        from specmoe.sim.advise.advice import lines

        return tuple(lines(self.found))

    @cached_property
    def table(self) -> pd.DataFrame:
        """The best configuration of each policy, the fastest first; columns are those of `specmoe.summary`."""
        return pd.DataFrame([trial.row for trial in self.found.found.ranking])

    def __str__(self) -> str:
        return "\n".join(self.lines)

    def _repr_html_(self) -> str:
        from html import escape

        return "".join(f"<p>{escape(line)}</p>" for line in self.lines) + _html(self.table)


def _steps(name: str, result: RunResult) -> pd.DataFrame:
    """One row per step."""
    sums = pd.DataFrame(result.table).drop(columns=["layer", "begin_ns", "end_ns", "tokens"]).groupby("step").sum()
    tokens = result.table["tokens"][:: result.manifest.num_layers]
    sums.insert(0, "tokens", tokens)
    sums.insert(0, "latency_ns", latencies(result))
    return sums.reset_index().assign(policy=name)[["policy", "step", *sums.columns]]


def _html(table: pd.DataFrame) -> str:
    """The few columns that people look at first, in units that are read at a glance."""
    shown = pd.DataFrame({label: table[name] for name, label in SHOWN.items()})
    shown["step, ms"] /= 1e6
    shown["stall, ms a step"] /= table["steps"] * 1e6
    return str(shown.to_html(index=False, float_format=lambda value: f"{value:.4g}"))
