"""A report: one page that answers the question first, and then shows what the answer rests on."""

from specmoe.analysis.report.inputs import Inputs, read_inputs
from specmoe.analysis.report.write import Report, write_report

__all__ = ["Inputs", "Report", "read_inputs", "write_report"]
