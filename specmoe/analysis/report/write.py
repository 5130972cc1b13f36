"""From what was read to a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from specmoe.analysis.answer import Answer, answer_of
from specmoe.analysis.report.document import document
from specmoe.analysis.report.inputs import Inputs
from specmoe.analysis.report.markup import join, tag
from specmoe.analysis.report.notes import Note, marked, notes_of
from specmoe.analysis.report.opening import opening
from specmoe.analysis.report.parts import Advance, parts_of
from specmoe.files import replacing

FOOTER = (
    "Times are simulated by specmoe unless a part says that they were measured. This page holds everything that it "
    "shows; only timelines lie beside it."
)


class Report(NamedTuple):
    """What a page says first."""

    title: str
    answers: dict[str, Answer]  # of each study, by its name
    notes: list[Note]


def write_report(inputs: Inputs, page: Path, command: Sequence[str], advance: Advance = lambda figure: None) -> Report:
    """Write a page, whole or not at all; the same input gives the same bytes.

    `command` is what the page says of how it was made; `advance` is told of each figure that is drawn. Raises
    InputError if no cell of a study has figures, or the place cannot be written.
    """
    answers = {study.name: answer_of(study.table) for study in inputs.studies}
    notes, first = notes_of(inputs), opening(inputs, list(answers.values()))
    with replacing(page) as fresh:
        parts = list(parts_of(inputs, list(answers.values()), page, command, advance))
        body = join([tag("p", "specmoe report", class_="of"), first.body, marked(notes)])
        fresh.write_text(document(f"{first.title} \N{EN DASH} specmoe", body, parts, FOOTER), encoding="utf-8")
    return Report(first.title, answers, notes)
