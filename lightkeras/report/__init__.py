"""The report of runs: one HTML page that is made from a run's folder alone, without TensorFlow."""

from lightkeras.report.blocks import Curve, Picture, Section, Table, Text
from lightkeras.report.page import make_report, write_report

__all__ = ["Curve", "Picture", "Section", "Table", "Text", "make_report", "write_report"]
