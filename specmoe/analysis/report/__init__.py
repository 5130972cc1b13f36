"""The report: one HTML page about sweeps, runs, validations, analyses of traces and timelines.

Start with `inputs` (what a directory holds), `page` (the order of the page) and `opening` (its first screen).
"""

from specmoe.analysis.report.inputs import Inputs, Study, read_inputs, table_of, table_of_rows
from specmoe.analysis.report.page import Report, write_report

__all__ = ["Inputs", "Report", "Study", "read_inputs", "table_of", "table_of_rows", "write_report"]
