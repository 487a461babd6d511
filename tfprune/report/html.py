"""A report as one HTML page."""

from html import escape

from tfprune.report.data import Report


def to_html(report: Report) -> str:
    """Return a self-contained page."""
    return (
        f"<!doctype html><title>{escape(report.title)}</title><pre>{escape(report.to_text())}</pre>"
    )
