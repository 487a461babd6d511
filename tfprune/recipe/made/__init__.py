"""Data sets that recipes name and that are computed: sounds and sentences."""
