"""Reports as data, with renderings as text, Markdown, JSON and HTML."""

from tfprune.report.data import Conditions, Curve, GateResult, Kernel, Ratio, Row, Section, Stage
from tfprune.report.gates import Gate
from tfprune.report.report import Report

__all__ = [
    "Conditions",
    "Curve",
    "Gate",
    "GateResult",
    "Kernel",
    "Ratio",
    "Report",
    "Row",
    "Section",
    "Stage",
]
