"""Spoken digits: words that differ, voices that differ, and their spectrograms."""

import numpy as np
import pytest

from tfprune.recipe.made.spoken import BANDS, FRAMES, RATE_HZ, spectrogram, spoken, spoken_digits

TIME = np.arange(RATE_HZ) / RATE_HZ


def test_a_spectrogram_shows_pitch_and_time() -> None:
    low, high = (spectrogram(np.sin(2 * np.pi * hz * TIME)) for hz in (300, 2500))
    assert low.shape == high.shape == (FRAMES, BANDS, 1)
    assert low[16].argmax() < high[16].argmax()
    assert low.max() == high.max() == 1
    assert low.min() >= 0
    short = spectrogram(np.sin(2 * np.pi * 300 * TIME[: RATE_HZ // 4]))
    assert (short[12:] == 0).all()
    # Loudness is not seen, and silence is no error.
    np.testing.assert_allclose(spectrogram(np.sin(2 * np.pi * 300 * TIME) / 100), low, atol=1e-3)
    assert np.isfinite(spectrogram(np.zeros(10))).all()


@pytest.mark.parametrize("digit", range(10))
def test_a_digit_takes_as_long_as_a_word(digit: int) -> None:
    random = np.random.default_rng(digit)
    one, other = spoken(digit, random), spoken(digit, random)
    assert 0.1 < len(one) / RATE_HZ < 1.1
    assert np.isfinite(one).all()
    assert len(one) != len(other)


def test_digits_are_told_apart_across_voices() -> None:
    (x, y), (test, truth) = spoken_digits(0)
    assert np.bincount(np.concatenate([y, truth])).tolist() == [200] * 10
    flat, asked = x.reshape(len(x), -1), test.reshape(len(test), -1)
    distance = (flat**2).sum(1) - 2 * asked @ flat.T
    assert 0.7 < (y[distance.argmin(1)] == truth).mean() < 0.99
