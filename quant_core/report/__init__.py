"""The report: one self-contained HTML page about a run, made from its manifest and tables."""

from quant_core.report.page import report_page

__all__ = ["report_page"]
