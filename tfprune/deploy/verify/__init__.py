"""The checks that a file passes before it is handed over."""
