"""What the studies of a trace share: tables (every column with its type and meaning), notes, and panels of layers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from specmoe.analysis.style import describe, figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Column(NamedTuple):
    """One column of a table."""

    kind: pa.DataType
    meaning: str


INT, REAL, TEXT = pa.int64(), pa.float64(), pa.string()
LAYER = Column(INT, "MoE layer, from 0")
EXPERT = Column(INT, "expert, from 0")
SOURCE = Column(TEXT, "text domain")
BATCH = Column(INT, "sequences at once")

TABLES: dict[str, dict[str, Column]] = {
    "layers": {
        "layer": LAYER,
        "total": Column(INT, "uses of experts by tokens"),
        "mean": Column(REAL, "uses of an expert"),
        "std": Column(REAL, "population standard deviation of the experts' uses"),
        "cv": Column(REAL, "std / mean"),
        "median": Column(REAL, "of the experts' uses"),
        "min": Column(INT, "uses of the least used expert"),
        "max": Column(INT, "uses of the most used expert"),
        "q1": Column(REAL, "lower quartile, interpolated linearly"),
        "q3": Column(REAL, "upper quartile"),
        "iqr": Column(REAL, "q3 - q1"),
        "skewness": Column(REAL, "third standardised moment, population; nan if all are used alike"),
        "kurtosis": Column(REAL, "fourth standardised moment - 3, population; nan if all are used alike"),
        "entropy_bits": Column(REAL, "of the experts' shares; log2(experts) if all are used alike"),
        "active": Column(INT, "experts used at least once"),
        "unused": Column(INT, "experts never used"),
        "top_share": Column(REAL, "share of the most used expert among all uses"),
        "dropped": Column(INT, "tokens that no expert served"),
        "persistence": Column(REAL, "share of uses that repeat an expert of the sequence's token before"),
        "persistence_by_chance": Column(REAL, "the same of tokens that do not depend on each other"),
        "domain_bits": Column(REAL, "mutual information of text domain and first-choice expert, bias corrected"),
        "confidence": Column(REAL, "median router probability of the first-choice expert; nan if not recorded"),
        "lookahead_top1": Column(REAL, "share of first-choice experts that the look-ahead one layer before puts first"),
        "lookahead_top8": Column(REAL, "the same among its eight best candidates"),
    },
    "usage": {"layer": LAYER, "expert": EXPERT, "uses": Column(INT, "by tokens; 0 for an expert never used")},
    "transitions": {
        "layer": Column(INT, "of the first expert; the other is in the next layer"),
        "expert": EXPERT,
        "next_expert": EXPERT,
        "uses": Column(INT, "tokens that use both; pairs that none uses have no row"),
        "probability": Column(REAL, "of the next expert, given the first: uses / all uses of pairs with the first"),
    },
    "reuse": {
        "batch": BATCH,
        "distance": Column(INT, "other experts, of all layers, demanded since the last use and before this event"),
        "uses": Column(INT, "demands with this distance; first uses have none"),
    },
    "miss-ratio": {
        "batch": BATCH,
        "slots": Column(INT, "experts of all layers that are held"),
        "share": Column(REAL, "slots / all experts of all layers"),
        "lru_hits": Column(INT, "demands that an LRU over all layers finds resident"),
        "lru_miss_ratio": Column(REAL, "1 - lru_hits / demands"),
        "belady_hits": Column(INT, "the most that is possible without prefetching (Belady); null: not computed"),
        "belady_miss_ratio": Column(REAL, "1 - belady_hits / demands"),
    },
    "coactivation": {
        "layer": LAYER,
        "expert": EXPERT,
        "other": Column(INT, "expert of the same layer, the higher id"),
        "together": Column(INT, "tokens that use both; of top-1 routing windows of 8 tokens of a sequence"),
        "lift": Column(REAL, "together / what it were if both came independently of each other"),
    },
    "sequences": {
        "sequence": Column(INT, "its number in the trace"),
        "source": SOURCE,
        "tokens": Column(INT, "of the sequence"),
        "experts": Column(INT, "distinct experts it uses, summed over layers"),
    },
    "working-set": {
        "tokens": Column(INT, "consecutive tokens of a sequence: a window"),
        "windows": Column(INT, "how many there are"),
        "mean": Column(REAL, "distinct experts of all layers in a window"),
        "p10": Column(REAL, "the same, 10th percentile"),
        "median": Column(REAL, "the same, median"),
        "p90": Column(REAL, "the same, 90th percentile"),
    },
    "domains": {
        "layer": LAYER,
        "source": SOURCE,
        "uses": Column(INT, "by tokens of this source"),
        "active": Column(INT, "experts they use"),
        "entropy_bits": Column(REAL, "of the experts' shares"),
        "corrected_bits": Column(REAL, "the same with Miller and Madow's correction for a small sample"),
        "cv": Column(REAL, "population standard deviation / mean of the experts' uses"),
        "top_share": Column(REAL, "share of the most used expert among all uses"),
        "variation": Column(REAL, "total variation from the other sources' use: 0 alike, 1 no expert in common"),
        "variation_by_chance": Column(REAL, "what samples of this size differ by if nothing sets them apart"),
    },
    "domain-pairs": {
        "source": SOURCE,
        "other": SOURCE,
        "variation": Column(REAL, "total variation between the two, mean over layers"),
        "variation_by_chance": Column(REAL, "what samples of this size differ by, mean over layers"),
    },
    "deduplication": {
        "batch": BATCH,
        "layer": LAYER,
        "events": Column(INT, "steps"),
        "tokens": Column(REAL, "that run in a mean step"),
        "uses": Column(REAL, "of experts by tokens, in a mean step"),
        "demanded": Column(REAL, "distinct experts among them"),
        "saving": Column(REAL, "1 - demanded / uses"),
        "independent": Column(REAL, "distinct experts if tokens chose independently of each other"),
    },
    "predictability": {
        "layer": LAYER,
        "context": Column(TEXT, "what is known: the layer before's expert, the token before's, or the token id"),
        "targets": Column(INT, "tokens that have this context"),
        "contexts": Column(INT, "distinct contexts among them"),
        "bits": Column(REAL, "entropy of their first-choice experts, bias corrected"),
        "left": Column(REAL, "the same, given the context; biased low where contexts are rare"),
        "told": Column(REAL, "bits - left"),
    },
    "timeline": {
        "slice": Column(INT, "of the trace's tokens in their order"),
        "begin": Column(INT, "row of its first token"),
        "tokens": Column(INT, "in the slice"),
        "layer": LAYER,
        "expert": EXPERT,
        "uses": Column(INT, "in the slice; experts not used there have no row"),
    },
    "paths": {
        "sequence": Column(INT, "its number in the trace"),
        "source": SOURCE,
        "place": Column(INT, "of the token in the sequence, from 0"),
        "layer": LAYER,
        "expert": Column(INT, "first choice; -1 if the token was dropped"),
    },
}


def schema_of(name: str) -> pa.Schema:
    """Columns of a table with their meanings as field metadata."""
    fields = [pa.field(key, column.kind, metadata={"meaning": column.meaning}) for key, column in TABLES[name].items()]
    return pa.schema(fields)


def shaped(name: str, frame: pd.DataFrame) -> pd.DataFrame:
    """A table with just the columns and types it should have, as it is read back; an empty frame gives an empty one."""
    if frame.empty:
        frame = pd.DataFrame(columns=list(TABLES[name]))
    shaped_frame: pd.DataFrame = to_arrow(name, frame).to_pandas()
    return shaped_frame


def to_arrow(name: str, frame: pd.DataFrame) -> pa.Table:
    """For writing; in a column of integers nan becomes null."""
    return pa.Table.from_pandas(frame, schema_of(name), preserve_index=False).replace_schema_metadata(None)


@dataclass(frozen=True)
class Analysis:
    """`facts` are plain values for JSON (see `facts.facts_of`); `tables` are those of `tables.TABLES`, by name."""

    facts: dict[str, Any]
    tables: dict[str, pd.DataFrame]


SHOWN = 6  # layers that a figure of panels holds
COLOURS = "cividis"  # of heat maps: read alike by the colour-blind, and in grey
Facts = dict[str, Any]


def told(chart: "Figure", facts: Facts, title: str, note: str) -> None:
    """Title and caption: the note, the trace and its kind, the semantics, and that no hardware is involved."""
    trace = facts["trace"]
    routing = f"Routing: {trace['name']} ({trace['kind']}), {trace['phase']}, {facts['tokens']:,} tokens of "
    routing += f"{facts['sequences']} sequences; top-{trace['top_k']} of {trace['num_experts']} experts."
    origin = f"Semantics: {facts['semantics']}. Counted from the trace; no hardware profile enters."
    describe(chart, title, f"{note}\n{routing}\n{origin}")


def some_of(values: Sequence[int], most: int = SHOWN) -> list[int]:
    """All values; of more than `most`, `most` of them at equal distances, with both ends."""
    places = np.linspace(0, len(values) - 1, min(len(values), most)).round().astype(int)
    return [values[place] for place in places]


def ticks(layers: int, most: int = 12) -> range:
    """Places of at most `most` labels on an axis of layers, at equal distances from 0 on."""
    return range(0, layers, -(-layers // most))


def left_out(values: Sequence[int], most: int = SHOWN) -> str:
    """A sentence on what `some_of` leaves out; empty if nothing."""
    return f" {most} of {len(values)} panels are shown." if len(values) > most else ""


def cut(tokens: float, facts: Facts) -> str:
    """A sentence for streams that are the first part of a long trace; empty if they are all of it."""
    return f" Of the first {tokens:,.0f} tokens." if tokens < facts["tokens"] else ""


def grid(count: int, columns: int, width: float, height: float) -> "tuple[Figure, list[Any]]":
    """A figure of `count` panels in rows of at most `columns`; the last row's empty places stay blank."""
    across = min(count, columns)
    chart, axes = figure(-(-count // across), across, width=width, height=height)
    flat = list(np.atleast_1d(axes).reshape(-1))
    for blank in flat[count:]:
        blank.set_visible(False)
    return chart, flat[:count]


def matrix(
    rows: "pd.Series[Any]", columns: "pd.Series[Any]", values: "pd.Series[Any]", shape: Any
) -> NDArray[np.float64]:
    """A dense matrix from its cells; 0 where there is none."""
    dense = np.zeros(shape)
    dense[rows.to_numpy(), columns.to_numpy()] = values.to_numpy()
    return dense


def heat(axes: Any, values: NDArray[np.float64], top: float, **look: Any) -> Any:
    """A heat map from 0 to `top`, row 0 at the bottom, cells as they are."""
    look = {"origin": "lower", "aspect": "auto", "interpolation": "nearest", "cmap": COLOURS} | look
    return axes.imshow(values, vmin=0, vmax=top, **look)
