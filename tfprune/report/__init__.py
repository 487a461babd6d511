"""A report is data; text, Markdown, JSON and HTML are renderings of it."""

from tfprune.report.data import (
    Conditions,
    Curve,
    Kernel,
    Ratio,
    Report,
    Row,
    Section,
    Stage,
)
from tfprune.report.gates import Gate, GateResult

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
