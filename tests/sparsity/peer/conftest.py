"""Keeps pytest from importing these scripts: each is run in a process of its own."""

collect_ignore_glob = ["*.py"]
