"""A report: one page that answers the question first, and then shows what the answer rests on."""

from specmoe.analysis.report.inputs import Inputs, Study, read_inputs, table_of
from specmoe.analysis.report.page import Report, write_report

__all__ = ["Inputs", "Report", "Study", "read_inputs", "table_of", "write_report"]
