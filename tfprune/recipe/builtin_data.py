"""The data sets that recipes name: scikit-learn's, Keras's, and some that are made."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfprune.errors import DataError
from tfprune.recipe.made.questions import questions
from tfprune.recipe.made.spoken import spoken_digits
from tfprune.utils.extras import require

TEST_FRACTION = 0.25
"""Fraction of scikit-learn's data for testing: 449 of the 1797 digits."""

Pairs = tuple[tuple[Any, Any], tuple[Any, Any]]


def builtin_data(name: str, seed: int) -> Any:
    """Return the training and the test pair of a data set.

    Raises:
        DataError: It cannot be downloaded.
    """
    if name in MADE:
        return MADE[name](seed)
    return _keras_dataset(name)


def _split(x: NDArray, y: Any, seed: int) -> Pairs:
    order = np.random.default_rng(seed).permutation(len(x))
    test, rest = np.split(order, [round(TEST_FRACTION * len(x))])

    def part(rows: NDArray) -> Any:
        return {key: value[rows] for key, value in y.items()} if isinstance(y, dict) else y[rows]

    return (x[rest], part(rest)), (x[test], part(test))


def _images_of_digits() -> tuple[NDArray, NDArray]:
    require("[data] digits", "demo", "sklearn")
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return (x / 16).astype(np.float32).reshape(-1, 8, 8, 1), y


def digits(seed: int) -> Pairs:
    """Return scikit-learn's digits, 8×8 pixels in [0, 1]."""
    return _split(*_images_of_digits(), seed)


def diabetes(seed: int) -> Pairs:
    """Return scikit-learn's diabetes table: ten numbers, and the progress of the illness.

    The numbers have a standard deviation of 1, and the progress is in hundreds of points.
    """
    require("[data] diabetes", "demo", "sklearn")
    from sklearn.datasets import load_diabetes

    x, y = load_diabetes(return_X_y=True)
    return _split((x / x.std(0)).astype(np.float32), (y / 100).astype(np.float32), seed)


def _on_canvas(
    images: NDArray, side: int, random: np.random.Generator
) -> tuple[NDArray, NDArray[np.int64]]:
    """Return square canvases of noise, an image at a random place on each, and those places."""
    canvas = random.uniform(0, 0.3, (len(images), side, side, 1)).astype(np.float32)
    corners = random.integers(0, side - 8 + 1, (len(images), 2))
    for image, place, (row, column) in zip(images, canvas, corners, strict=True):
        part = place[row : row + 8, column : column + 8]
        part[:] = np.maximum(image, part)
    return canvas, corners


def digit_pixels(seed: int) -> Pairs:
    """Return digits on noise; the labels are 1 for the pixels of the digit and 0 for others."""
    images, _ = _images_of_digits()
    canvas, corners = _on_canvas(images, 24, np.random.default_rng(seed))
    truth = np.zeros(canvas.shape[:3], np.int32)
    for image, mask, (row, column) in zip(images, truth, corners, strict=True):
        mask[row : row + 8, column : column + 8] = image[..., 0] > 0.3
    return _split(canvas, truth, seed)


TIMES_PLACED = 4


def digit_boxes(seed: int) -> Pairs:
    """Return digits on noise; the labels are `digit`, and its `box`: center row and column.

    Each digit of the training set is at four places; those of the test set are other digits.
    """
    random, side = np.random.default_rng(seed), 16

    def placed(images: NDArray, numbers: NDArray, times: int) -> tuple[NDArray, dict[str, NDArray]]:
        images, numbers = images.repeat(times, axis=0), numbers.repeat(times)
        canvas, corners = _on_canvas(images, side, random)
        return canvas, {"digit": numbers, "box": ((corners + 4) / side).astype(np.float32)}

    train, test = digits(seed)
    return placed(*train, TIMES_PLACED), placed(*test, 1)


def digit_anomalies(seed: int) -> Pairs:
    """Return digits; a third of the test set has its left and right halves exchanged, label 1."""
    (x, _), (test, _) = digits(seed)
    odd = np.random.default_rng(seed + 1).random(len(test)) < 1 / 3
    test = np.where(odd[:, None, None, None], np.roll(test, 4, axis=2), test)
    return (x, np.zeros(len(x), np.int32)), (test, odd.astype(np.int32))


def digit_traits(seed: int) -> Pairs:
    """Return digits; the labels are whether each is even, has a closed loop, and has two of them.

    One in ten has two.
    """
    images, numbers = _images_of_digits()
    traits = [numbers % 2 == 0, np.isin(numbers, (0, 6, 8, 9)), numbers == 8]
    return _split(images, np.stack(traits, 1).astype(np.float32), seed)


HOURS, PAST, AHEAD = 9_000, 48, 12


def hourly_demand(seed: int) -> Pairs:
    """Return the demand of a town for power, made up: the next 12 hours from several inputs.

    `past` is demand and temperature of the last 48 hours, `weather` the temperature of the next 12,
    and `calendar` the hour and the day of the week on a circle, and whether it is a weekend. The
    test set is the last quarter. Demand is in GW.
    """
    random, hour = np.random.default_rng(seed), np.arange(HOURS)
    slow = np.convolve(random.normal(size=HOURS + 71), np.ones(72) / np.sqrt(72), "valid")
    day, week = 2 * np.pi * hour / 24, 2 * np.pi * hour / 168
    temperature = 12 + 9 * np.sin(week / 52) + 4 * np.sin(day - 2) + 3 * slow
    weekend = (hour // 24) % 7 >= 5
    rhythm = 5 - 1.2 * np.cos(day) - 0.5 * np.cos(2 * day) * ~weekend - 0.6 * weekend
    heating = 0.12 * np.maximum(15 - temperature, 0) + 0.1 * np.maximum(temperature - 21, 0)
    demand = rhythm + heating + 0.1 * random.normal(size=HOURS)
    circles = [np.sin(day), np.cos(day), np.sin(week), np.cos(week), weekend]

    now = np.arange(PAST, HOURS - AHEAD)
    before, after = now[:, None] - np.arange(PAST, 0, -1), now[:, None] + np.arange(AHEAD)
    warmth = (temperature - 12) / 8
    x = {
        "past": np.stack([demand[before] - 5, warmth[before]], -1).astype(np.float32),
        "weather": warmth[after].astype(np.float32),
        "calendar": np.stack(circles, -1)[now].astype(np.float32),
    }
    y = demand[after].astype(np.float32)
    cut = round((1 - TEST_FRACTION) * len(now))
    late = cut + PAST + AHEAD  # no hour is in both sets
    return ({k: v[:cut] for k, v in x.items()}, y[:cut]), (
        {k: v[late:] for k, v in x.items()},
        y[late:],
    )


MADE: dict[str, Callable[[int], Pairs]] = {
    "diabetes": diabetes,
    "digit_anomalies": digit_anomalies,
    "digit_boxes": digit_boxes,
    "digit_pixels": digit_pixels,
    "digit_traits": digit_traits,
    "digits": digits,
    "hourly_demand": hourly_demand,
    "questions": questions,
    "spoken_digits": spoken_digits,
}


def _keras_dataset(name: str) -> list[tuple[NDArray, NDArray]]:
    import keras

    try:
        pairs = getattr(keras.datasets, name).load_data()
    except Exception as error:
        # Keras raises a bare Exception if a download fails; only its text identifies it.
        if type(error) is Exception and str(error).startswith("URL fetch failure"):
            raise DataError(
                f"[data] {name}: {error}. Go online once, or give an .npz with x_train, y_train, "
                "x_test, y_test."
            ) from None
        raise
    return [(_scaled(x), y) for x, y in pairs]


def _scaled(x: NDArray) -> NDArray[np.float32]:
    images = x.astype(np.float32) / np.float32(255)
    return images if images.ndim == 4 else images[..., None]
