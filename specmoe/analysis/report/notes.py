"""What a reader must know before believing a page: one marked line each, on its first screen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from specmoe.analysis.report.inputs import Inputs, Study
from specmoe.analysis.report.markup import Html, tag

MADE_UP = {
    "random": "the trace's model was never trained, so nothing follows for real routing",
    "synthetic": "no model produced the trace, so nothing follows for real routing",
}
MISSED = "missed its target"  # in a warning: what a profile says of its calibration
NAMED = 3  # of a list: so many by name, the others as a number


class Note(NamedTuple):
    """What is wrong in a few words, and what that means."""

    what: str
    why: str

    def __str__(self) -> str:
        return f"{self.what}: {self.why}."


def notes_of(inputs: Inputs) -> list[Note]:
    """The heaviest first."""
    studies = inputs.studies
    found = (_routing(inputs), _calibrations(studies), _validations(inputs), _assumed(studies), _failures(studies))
    return [note for notes in found for note in notes]


def marked(notes: Sequence[Note]) -> Html | None:
    """As a list; None of nothing."""
    lines = (tag("li", tag("strong", note.what), f": {note.why}.") for note in notes)
    return tag("ul", *lines, class_="notes", aria_label="Before you rely on this") if notes else None


def distinct(studies: Sequence[Study], column: str) -> list[Any]:
    """Values of a column in all rows with figures, sorted; those of lists one by one."""
    values = (value for study in studies for value in study.table.good[column])
    return sorted({each for value in values for each in ([value] if isinstance(value, str) else value)})


def listed(names: Sequence[str]) -> str:
    """The first few of them."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _routing(inputs: Inputs) -> Iterator[Note]:
    analysed = [analysis.facts["trace"]["kind"] for analysis in inputs.analyses]
    for kind in sorted({*distinct(inputs.studies, "trace_kind"), *analysed}):
        if kind in MADE_UP:
            yield Note(f"{kind.capitalize()} routing", MADE_UP[kind])


def _calibrations(studies: Sequence[Study]) -> Iterator[Note]:
    for warning in distinct(studies, "warnings"):
        if MISSED in warning:
            yield Note("Failed calibration", warning)


def _validations(inputs: Inputs) -> Iterator[Note]:
    failed = [each.name for each in inputs.validations if each.told["failed"]]
    if failed:
        yield Note("Failed validation", f"{listed(failed)} missed a target (see Validation)")
    version = inputs.studies[0].version if inputs.studies else None
    others = [each.name for each in inputs.validations if version not in (None, each.told["versions"].get("specmoe"))]
    if others:
        yield Note("Validation of another version", f"{listed(others)}, while the results are of specmoe {version}")


def _assumed(studies: Sequence[Study]) -> Iterator[Note]:
    """Those results only that rest on nothing better."""
    weak = [study for study in studies if "assumed" in distinct([study], "evidence")]
    if weak:
        names = distinct(weak, "assumed")
        yield Note("Assumed, not measured", f"these times rest on guesses: {listed(names) or 'see the evidence'}")


def _failures(studies: Sequence[Study]) -> Iterator[Note]:
    for study in studies:
        failed, cells = len(study.table.rows) - len(study.table.good), len(study.table.rows)
        if failed:
            yield Note("Failed cells", f"{failed} of {cells} in {study.name}; its table says why")
