"""The scripts here are read by a type checker and never run."""

collect_ignore_glob = ["*_script.py"]
