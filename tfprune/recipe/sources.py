"""Allowed values of `source` in [model] and [data]: a built-in name, a file, a function."""

from tfprune.errors import nearest
from tfprune.recipe.kinds import FUNCTION, Kind, Refused

MODELS = ("attention", "autoencoder", "convnet", "lstm", "mlp", "unet")
"""Built-in models, which fit the data."""

MADE = (
    "diabetes", "digit_anomalies", "digit_boxes", "digit_pixels", "digit_traits", "digits",
    "hourly_demand", "questions", "spoken_digits",
)  # fmt: skip
"""Part of scikit-learn, made of its digits, or computed."""

DATASETS = ("cifar10", "cifar100", *MADE, "fashion_mnist", "mnist")
"""The others are keras.datasets, which download."""

APPLICATIONS = "keras.applications."
MODEL_FILES = (".keras", ".h5", ".hdf5")
DATA_FILES = (".npz",)


def is_function(source: str) -> bool:
    """Return whether `source` has the form package.module:function."""
    return FUNCTION.fullmatch(source) is not None


def is_file(source: str) -> bool:
    """Return whether `source` is the path of a model or of data."""
    return source.endswith(MODEL_FILES + DATA_FILES)


def _check(value: object, names: tuple[str, ...], files: tuple[str, ...]) -> str:
    if not isinstance(value, str):
        raise Refused
    if value in names or value.endswith(files) or is_function(value):
        return value
    raise Refused(nearest(value, names).partition(". ")[2])


def _model(value: object) -> str:
    if isinstance(value, str) and value.startswith(APPLICATIONS) and value != APPLICATIONS:
        return value
    return _check(value, MODELS, MODEL_FILES)


def _data(value: object) -> str:
    if isinstance(value, str) and not value.endswith(MADE):
        value = value.removeprefix("keras.datasets.")
    return _check(value, DATASETS, DATA_FILES)


MODEL_SOURCE = Kind(
    f"a built-in model ({', '.join(MODELS)}), a path ending in .keras or .h5, "
    "keras.applications.NAME or package.module:function",
    _model,
)

DATA_SOURCE = Kind(
    f"a built-in data set ({', '.join(DATASETS)}), a path ending in .npz, "
    "or package.module:function",
    _data,
)
