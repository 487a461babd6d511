"""Conversion to files: calibration, conversion, verification."""
