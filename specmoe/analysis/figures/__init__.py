"""Every figure that a sweep's table supports, each with a title and one sentence computed from the data.

Start with `setting` (which rows a figure shows), `latency` (a typical figure) and `memory`. Each file has `draw_*`
functions, which draw a panel on given Axes, and `*_figure` functions, which add title and caption.
"""

from collections.abc import Callable, Iterator

from specmoe.analysis.figures.batch import of_batch
from specmoe.analysis.figures.latency import of_copies, of_latency, of_tail
from specmoe.analysis.figures.link import of_link
from specmoe.analysis.figures.memory import of_distance, of_hit_rate, of_memory
from specmoe.analysis.figures.overview import of_choices, of_settings
from specmoe.analysis.figures.pareto import of_pareto_bytes, of_pareto_vram
from specmoe.analysis.figures.precision import of_precision
from specmoe.analysis.figures.setting import Drawn, Setting, settings_of
from specmoe.analysis.figures.tornado import of_tornado, of_unknown
from specmoe.analysis.style import plain_text
from specmoe.sweep_table import SweepTable

__all__ = ["Drawn", "each_figure", "figures_of"]

MOST = 3  # settings that are drawn one by one; `of_settings` shows all
FIGURES: tuple[Callable[[Setting], Drawn | None], ...] = (
    of_latency,
    of_memory,
    of_hit_rate,
    of_distance,
    of_link,
    of_precision,
    of_pareto_vram,
    of_pareto_bytes,
    of_copies,
    of_tornado,
    of_unknown,
    of_tail,
    of_batch,
)


def figures_of(table: SweepTable) -> list[Drawn]:
    """The figures that the table's variation supports; names are unique. Raises InputError if no row has figures.

    A figure shows one trace, machine and model; of several the first `MOST` get figures of their own, numbered in their
    names, and one figure shows all. What else varies is held at its main value (see `setting`), which the title names.
    """
    return list(each_figure(table))


def each_figure(table: SweepTable) -> Iterator[Drawn]:
    """`figures_of`, one by one."""
    settings = settings_of(table)
    with plain_text():
        overall = of_settings(settings)
    if overall is not None:
        yield overall
    for number, setting in enumerate(settings[:MOST], 1):
        for drawn in _own(setting):
            yield drawn if overall is None else drawn._replace(name=f"{drawn.name}-{number}")


def _own(setting: Setting) -> Iterator[Drawn]:
    for draw in FIGURES:
        with plain_text():
            drawn = draw(setting)
        if drawn is not None:
            yield drawn
    with plain_text():
        rest = of_choices(setting)
    yield from rest
