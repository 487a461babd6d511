"""Every error of tfprune: one clear line that names where, what was received and the fix.

Each is also the built-in a caller would expect to catch.
"""

import difflib
from collections.abc import Iterable


class TfpruneError(Exception):
    """The base of all errors that tfprune raises on purpose."""


class ModelError(TfpruneError, ValueError):
    """The model is not one that the call can work on."""


class DataError(TfpruneError, ValueError):
    """The data is not what the call needs: empty, wrong shape, NaN, labels out of range."""


class OptionError(TfpruneError, ValueError):
    """An argument is outside of what is allowed."""


class FilterError(OptionError):
    """A filter (`only`, `skip`, a per-layer table) matches nothing in the model."""


class RecipeError(TfpruneError, ValueError):
    """A recipe has faults; the message lists all of them, one a line."""


class TrainingError(TfpruneError, RuntimeError):
    """Training came to nothing: its loss is no finite number any more."""


class ConversionError(TfpruneError, RuntimeError):
    """The model could not be turned into a file that is right."""


class ArtifactError(TfpruneError, ValueError):
    """A file is missing, truncated, or not of the format it should be."""


ArtefactError = ArtifactError  # its name in 0.1.0


class DeviceError(TfpruneError, RuntimeError):
    """A device cannot be reached, or cannot run what it was given."""


class GateError(TfpruneError, RuntimeError):
    """A result missed a gate of its recipe."""


class ScheduleWarning(UserWarning):
    """A pruning schedule will not do, in this training, what it was asked to do."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Say which known name is closest, as the end of an error message.

    Example:
        >>> nearest("magnitud", ["magnitude", "taylor"])
        'Known: magnitude, taylor. Did you mean magnitude?'
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f"Known: {', '.join(names)}." + (f" Did you mean {close[0]}?" if close else "")


def type_name(value: object) -> str:
    """Name a type with its package, so that `keras.Sequential` is told from `tf_keras.Sequential`.

    Example:
        >>> type_name(3)
        'int'
    """
    kind = type(value)
    package = kind.__module__.partition(".")[0]
    return kind.__name__ if package == "builtins" else f"{package}.{kind.__name__}"
