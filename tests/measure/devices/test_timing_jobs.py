"""The jobs of the child process, called in this one: samples, input, answers."""

import numpy as np
import pytest

from tfprune.measure.devices.timing_jobs import (
    calls_per_sample,
    load_for_timing,
    parts,
    sample_ms,
    time_files,
    weigh_file,
)


@pytest.fixture
def path(float_file, tmp_path) -> str:
    file = tmp_path / "a.tflite"
    file.write_bytes(float_file.bytes)
    return str(file)


class Clock:
    """A clock that only a call moves, by a fixed time."""

    def __init__(self, call_ns: int) -> None:
        self.now, self.call_ns, self.calls = 0, call_ns, 0

    def __call__(self) -> int:
        return self.now

    def invoke(self) -> None:
        self.calls += 1
        self.now += self.call_ns


def test_a_sample_is_the_mean_of_its_calls_after_as_many_warm_up_calls() -> None:
    clock = Clock(250_000)
    assert sample_ms(clock.invoke, 8, clock) == 0.25
    assert clock.calls == 16


@pytest.mark.parametrize(("call_ns", "calls"), [(10_000, 500), (300_000, 17), (50_000_000, 1)])
def test_fast_files_are_called_until_a_sample_takes_five_milliseconds(call_ns, calls) -> None:
    clock = Clock(call_ns)
    assert calls_per_sample(clock.invoke, clock) == calls


def test_samples_follow_the_schedule(path) -> None:
    found = list(time_files([path, path], 1, {}, [0, 1, 1, 0]))
    assert [answer["file"] for answer in found if "sample" in answer] == [0, 1, 1, 0]
    assert all(answer["sample"] > 0 for answer in found if "sample" in answer)


def test_files_change_places_in_memory_between_rounds(path) -> None:
    """Each is loaded before the other as often as after it."""
    found = list(time_files([path, path], 1, {}, [0, 1, 1, 0] * 3))
    told = [answer for answer in found if answer.get("stage") == "loading" or "sample" in answer]
    order = [(answer["file"], "sample" in answer) for answer in told]
    rounds = [(0, 1), (1, 0)] * 3
    loads = [(0, 1), (1, 0), (0, 1), (1, 0), (0, 1), (1, 0)]
    expected = []
    for files, samples in zip(loads, rounds, strict=True):
        expected += [(file, False) for file in files] + [(file, True) for file in samples]
    assert order == expected


def test_long_schedules_are_split_into_at_most_ten_parts() -> None:
    assert len(list(parts(range(400), 4))) == 10
    assert [len(part) for part in parts(range(404), 4)] == [44] * 9 + [8]
    assert list(parts([], 4)) == []


def test_the_memory_of_a_file_is_measured(path) -> None:
    (found,) = [answer for answer in weigh_file([path], 1, {}) if "peak_bytes" in answer]
    assert found["peak_bytes"] >= 0


def test_a_quantized_input_gets_noise(int8_file, tmp_path) -> None:
    file = tmp_path / "a.tflite"
    file.write_bytes(int8_file.bytes)
    runner = load_for_timing(str(file), 1, {})
    runner.invoke()
    detail = runner._interpreter.get_input_details()[0]
    assert len(np.unique(runner._interpreter.get_tensor(detail["index"]))) > 20
