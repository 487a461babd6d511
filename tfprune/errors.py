"""Every error of tfprune: one line that names where, what was received and the fix.

Each also derives from the built-in exception a caller would expect to catch.
"""

import difflib
from collections.abc import Iterable


class TfpruneError(Exception):
    """The base of all errors that tfprune raises on purpose."""


class ModelError(TfpruneError, ValueError):
    """The call does not support this model."""


class DataError(TfpruneError, ValueError):
    """The data does not fit the call: empty, wrong shape, NaN, labels out of range."""


class OptionError(TfpruneError, ValueError):
    """An argument is not among the allowed values."""


class FilterError(OptionError):
    """A filter (`only`, `skip`, a per-layer table) matches nothing in the model."""


class RecipeError(TfpruneError, ValueError):
    """A recipe has errors; the message lists all of them, one per line."""


class TrainingError(TfpruneError, RuntimeError):
    """Training diverged: the loss is not finite."""


class ConversionError(TfpruneError, RuntimeError):
    """The model could not be converted to a file that passes verification."""


class ArtifactError(TfpruneError, ValueError):
    """A file is missing, truncated, or not of the expected format."""


ArtefactError = ArtifactError  # its name in 0.1.0


class DeviceError(TfpruneError, RuntimeError):
    """A device cannot be reached, or cannot run the file."""


class GateError(TfpruneError, RuntimeError):
    """A result missed a gate of its recipe."""


class ScheduleWarning(UserWarning):
    """A pruning schedule will not reach its target in this training run."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the end of an error message: the known names, and the closest one.

    Example:
        >>> nearest("magnitud", ["magnitude", "taylor"])
        'Known: magnitude, taylor. Did you mean magnitude?'
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f"Known: {', '.join(names)}." + (f" Did you mean {close[0]}?" if close else "")


def type_name(value: object) -> str:
    """Return a type's name with its package, to tell `keras.Sequential` from `tf_keras.Sequential`.

    Example:
        >>> type_name(3)
        'int'
    """
    kind = type(value)
    package = kind.__module__.partition(".")[0]
    return kind.__name__ if package == "builtins" else f"{package}.{kind.__name__}"
