"""Shared helpers: registries, progress, filters, text tables, signals, versions."""
