"""Spoken digits, synthesized from the resonances of the vocal tract, and their spectrograms."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RATE_HZ = 8_000
FRAMES, BANDS = 32, 24
"""The shape of a spectrogram: steps of 25 ms, and bands of frequencies."""

_STEP, _WINDOW = RATE_HZ // 40, 400
_LOWEST_HZ, _HIGHEST_HZ = 80, 3_900
_RANGE_DB = 60


def spectrogram(sound: NDArray) -> NDArray[np.float32]:
    """Return the power of a sound in decibels, from 60 below its maximum, 0, to its maximum, 1.

    Args:
        sound: Samples at 8 kHz; the middle 0.8 s of a longer one are taken.

    Returns:
        An image of `FRAMES` by `BANDS`, with one channel. Bands are equally wide in mel.

    Example:
        >>> tone = np.sin(2 * np.pi * 1000 / RATE_HZ * np.arange(RATE_HZ))
        >>> int(spectrogram(tone)[16, :, 0].argmax())
        10
    """
    length = (FRAMES - 1) * _STEP + _WINDOW
    sound = sound[max(len(sound) - length, 0) // 2 :][:length].astype(np.float64)
    sound = np.pad(sound, (0, length - len(sound)))
    frames = np.lib.stride_tricks.sliding_window_view(sound, _WINDOW)[::_STEP]
    power = np.abs(np.fft.rfft(frames * np.hanning(_WINDOW))) ** 2 @ _bands()
    decibels = 10 * np.log10(np.maximum(power, 1e-12) / max(power.max(), 1e-12))
    return (np.maximum(1 + decibels / _RANGE_DB, 0)[..., None]).astype(np.float32)


def _bands() -> NDArray:
    """Return how much each frequency of a window counts in each band: triangles, equal in mel."""
    lowest, highest = 2595 * np.log10(1 + np.array([_LOWEST_HZ, _HIGHEST_HZ]) / 700)
    mel = np.linspace(lowest, highest, BANDS + 2)
    corners = 700 * (10 ** (mel / 2595) - 1)
    hz = np.fft.rfftfreq(_WINDOW, 1 / RATE_HZ)[:, None]
    low, middle, high = corners[:-2], corners[1:-1], corners[2:]
    return np.maximum(np.minimum((hz - low) / (middle - low), (high - hz) / (high - middle)), 0)


@dataclass(frozen=True)
class _Sound:
    """A part of a word: three resonances in Hz, how loud voice and noise are, how long it is."""

    resonances: tuple[float, float, float]
    voice: float = 1.0
    noise: float = 0.0
    seconds: float = 0.11


# Resonances of vowels: the means of men in Peterson and Barney (1952).
_SOUNDS = {
    "iy": _Sound((270, 2290, 3010)), "ih": _Sound((390, 1990, 2550)),
    "eh": _Sound((530, 1840, 2480)), "ah": _Sound((640, 1190, 2390)),
    "aa": _Sound((730, 1090, 2440)), "ao": _Sound((570, 840, 2410)),
    "ow": _Sound((450, 900, 2400)), "uw": _Sound((300, 870, 2240)),
    "r": _Sound((490, 1350, 1690), seconds=0.07), "w": _Sound((300, 610, 2200), seconds=0.07),
    "n": _Sound((250, 1500, 2500), 0.4, seconds=0.09),
    "v": _Sound((300, 1100, 2300), 0.3, 0.05, 0.07), "z": _Sound((300, 2600, 3500), 0.3, 0.3, 0.09),
    "s": _Sound((2600, 3300, 3700), 0, 0.5, 0.12), "f": _Sound((1200, 2200, 3200), 0, 0.12, 0.1),
    "th": _Sound((1500, 2500, 3500), 0, 0.08, 0.1), " ": _Sound((500, 1500, 2500), 0, 0, 0.05),
    "t": _Sound((2000, 3000, 3700), 0, 0.6, 0.03), "k": _Sound((1200, 1900, 2600), 0, 0.6, 0.03),
}  # fmt: skip
_WORDS = (
    "z iy r ow", "w ah n", " t uw", "th r iy", "f ao r", "f aa iy v", "s ih  k s", "s eh v ah n",
    "eh iy  t", "n aa iy n",
)  # fmt: skip


def _parts(word: str) -> list[_Sound]:
    """Return the sounds of a word; two spaces are a silence between."""
    return [_SOUNDS[name or " "] for name in word.split(" ")]


def spoken(digit: int, random: np.random.Generator) -> NDArray[np.float32]:
    """Return a digit in a random voice: its pitch, vocal tract, speed, and the noise around it."""
    pitch, tract = random.uniform(90, 230), random.uniform(0.85, 1.2)
    parts = _parts(_WORDS[digit])
    lengths = [part.seconds * random.uniform(0.6, 1.3) for part in parts]
    ends = np.cumsum(lengths)
    time = np.arange(round(ends[-1] * RATE_HZ), dtype=np.float32) / RATE_HZ
    middles = ends - np.array(lengths) / 2

    def course(values: list[float]) -> NDArray[np.float32]:
        return np.interp(time, middles, values).astype(np.float32)

    shifts = tract * random.uniform(0.92, 1.08, 3).astype(np.float32)
    resonances = [
        shift * course([part.resonances[i] for part in parts]) for i, shift in enumerate(shifts)
    ]

    def loudness(hz: NDArray[np.float32]) -> NDArray:
        """Return how loud tones of some frequencies are, at all times."""
        total = np.zeros_like(hz + time)
        for weight, place, width in zip((1, 0.5, 0.33), resonances, (80, 110, 160), strict=True):
            total += np.float32(weight) / (1 + ((hz - place) / np.float32(width)) ** 2)
        return total

    falling = np.linspace(1.1, random.uniform(0.75, 1), len(time), dtype=np.float32)
    harmonics = np.arange(1, int(_HIGHEST_HZ / pitch / 1.1), dtype=np.float32)[:, None]
    tones = harmonics * np.float32(pitch) * falling
    turns = harmonics * np.cumsum(2 * np.pi * pitch / RATE_HZ * falling, dtype=np.float32)
    voice = (loudness(tones) * np.sin(turns)).sum(0) * course([part.voice for part in parts])
    # Noise is tones of many frequencies and any phase, so that it has the same resonances.
    hz, phase = random.uniform((300, 0), (_HIGHEST_HZ, 1), (24, 2)).astype(np.float32).T[..., None]
    hiss = (loudness(hz) * np.sin(2 * np.pi * (hz * time + phase))).sum(0)
    sound = voice + 0.8 * hiss * course([part.noise for part in parts])
    sound = np.pad(sound, (int(random.integers(0, 1_600)), 400))
    around = sound.std() * 10 ** random.uniform(-1.2, 0.1)
    return (sound + around * random.normal(size=len(sound))).astype(np.float32)


TRAIN, TEST = 1_500, 500


def spoken_digits(seed: int) -> tuple[tuple[NDArray, NDArray], tuple[NDArray, NDArray]]:
    """Return spectrograms of synthesized digits; every one is in another voice."""
    random = np.random.default_rng(seed)
    y = np.arange(TRAIN + TEST) % len(_WORDS)
    random.shuffle(y)
    x = np.stack([spectrogram(spoken(int(digit), random)) for digit in y])
    return (x[:TRAIN], y[:TRAIN]), (x[TRAIN:], y[TRAIN:])
