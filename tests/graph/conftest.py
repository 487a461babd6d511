"""The checks of the structure tests, which read graphs as well."""

from tests.structure.conftest import _fresh_session, _sizes, check, loose_inputs

__all__ = ["_fresh_session", "_sizes", "check", "loose_inputs"]
