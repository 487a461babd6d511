"""Latency: the order of pairs, their statistics, and real files timed beside each other."""

import subprocess
import sys

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfprune.deploy.tflite import to_tflite
from tfprune.errors import ArtifactError, OptionError
from tfprune.measure.devices.device import DeviceInfo, Sample
from tfprune.measure.devices.host import Host
from tfprune.measure.devices.registry import devices
from tfprune.measure.latency import (
    benchmark,
    interleaved,
    pair_ratios,
    pair_schedule,
    ratio_of,
)

L = keras.layers


@given(st.integers(1, 6), st.integers(1, 9))
def test_every_pair_has_the_baseline_and_runs_both_ways(files: int, rounds: int) -> None:
    schedule = pair_schedule(files, rounds)
    pairs = list(zip(schedule[::2], schedule[1::2], strict=True))
    assert len(pairs) == files * rounds
    assert all(0 in pair and pair != (0, 0) for pair in pairs)
    for other in range(1, files + 1):
        first = sum(pair == (0, other) for pair in pairs)
        last = sum(pair == (other, 0) for pair in pairs)
        assert first + last == rounds
        assert 0 <= first - last <= 1


def test_ratios_are_those_of_pairs_whatever_drifts() -> None:
    # The machine gets ten times slower, and file 1 always takes half as long as file 0.
    schedule = pair_schedule(2, 4)
    samples = [
        Sample(file, (1 + place // 2) * {0: 2.0, 1: 1.0, 2: 2.0}[file], 1)
        for place, file in enumerate(schedule)
    ]
    one, noise = pair_ratios(samples, 2)
    assert (one.median, one.q1, one.q3, one.pairs) == (0.5, 0.5, 0.5, 4)
    assert noise.median == 1.0


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=30))
def test_quartiles_hold_the_median(values: list[float]) -> None:
    ratio = ratio_of(values)
    assert min(values) <= ratio.q1 <= ratio.median <= ratio.q3 <= max(values)


def convolutions(depth: int) -> keras.Model:
    """Return a chain of equal convolutions, small enough to stay in a cache."""
    keras.utils.set_random_seed(0)
    layers = [L.Conv2D(16, 3, padding="same", activation="relu") for _ in range(depth)]
    return keras.Sequential([keras.Input((24, 24, 16)), *layers])


def test_a_file_has_a_latency_with_its_conditions(float_file, tmp_path) -> None:
    saved = float_file.save(tmp_path / "small.tflite")
    found = benchmark(saved.path, runs=12)
    assert found.name == "small.tflite"
    assert 0 < found.min_ms <= found.q1_ms <= found.median_ms <= found.q3_ms <= found.p90_ms
    assert found.samples == 12
    assert found.calls > 1  # far less than a millisecond
    seen = found.conditions
    assert (seen.device, seen.threads, seen.runs, seen.clock) == ("host", 1, 12, "thread CPU time")
    assert seen.runtime.startswith("ai-edge-litert ")
    assert seen.noise.pairs == 12
    assert not seen.fake
    assert "small.tflite: median " in str(found)
    assert seen.runtime in str(found)


def test_onnx_runs_beside_litert_each_in_its_own_runtime(float_file, onnx_file, tmp_path) -> None:
    files = [float_file.save(tmp_path / "a.tflite").path, onnx_file.save(tmp_path / "a.onnx").path]
    found = interleaved(files, runs=6)
    runtimes = [latency.conditions.runtime for latency in found.latencies]
    assert [runtime.split()[0] for runtime in runtimes] == ["ai-edge-litert", "onnxruntime"]
    assert found.conditions.runtime == ", ".join(runtimes)
    assert 0.05 < found.ratios[0].median < 20
    assert "the time of a.tflite, 6 pairs" in str(found)
    alone = benchmark(files[1], runs=3)
    assert alone.conditions.runtime == runtimes[1]


def test_a_damaged_onnx_file_is_one_line(onnx_file, tmp_path) -> None:
    path = tmp_path / "half.onnx"
    path.write_bytes(onnx_file.bytes[: len(onnx_file.bytes) // 2])
    with pytest.raises(ArtifactError, match=r"half\.onnx: the runtime refuses the file: [^\n]+$"):
        benchmark(path)


def test_a_device_that_runs_no_onnx_says_so(onnx_file, monkeypatch) -> None:
    monkeypatch.setitem(devices._entries, "board", lambda address: Board())
    with pytest.raises(OptionError, match="device 'board' runs .tflite files only"):
        benchmark(onnx_file, device="board")


class Board(Host):
    """This machine without ONNX Runtime."""

    def info(self) -> DeviceInfo:
        return DeviceInfo("board", "Linux", "ai-edge-litert 0")


def test_several_threads_are_timed_by_wall_time(float_file) -> None:
    assert benchmark(float_file, runs=3, threads=2).conditions.clock == "wall time"


def test_nine_times_the_layers_take_about_nine_times_as_long() -> None:
    one, nine = to_tflite(convolutions(1)), to_tflite(convolutions(9))
    found = interleaved([one, nine], names=["one", "nine"], runs=15)
    assert [latency.name for latency in found.latencies] == ["one", "nine"]
    (ratio,) = found.ratios
    assert 6 < ratio.median < 12
    assert ratio.q1 <= ratio.median <= ratio.q3
    assert 0.7 < found.conditions.noise.median < 1.4
    assert found.latencies[0].samples == 2 * 15


@pytest.mark.exhaustive
def test_a_busy_machine_hardly_moves_the_ratio() -> None:
    one, three = to_tflite(convolutions(1)), to_tflite(convolutions(3))

    def ratio() -> float:
        return interleaved([one, three], runs=150).ratios[0].median

    quiet = ratio()
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    try:
        loud = ratio()
    finally:
        for process in busy:
            process.kill()
            process.wait()
    assert abs(loud / quiet - 1) < 0.05


def test_progress_is_reported(float_file) -> None:
    class Count:
        steps = 0.0

        def task(self, name, total=None):
            import contextlib

            self.total = total
            return contextlib.nullcontext(self)

        def advance(self, steps=1.0):
            self.steps += steps

    count = Count()
    benchmark(float_file, runs=4, progress=count)
    assert count.steps == count.total == 8


def test_open_sizes_need_a_shape() -> None:
    model = keras.Sequential(
        [keras.Input((None, 4), name="x"), L.Conv1D(3, 1), L.GlobalAveragePooling1D()]
    )
    file = to_tflite(model)
    with pytest.raises(OptionError, match="has open sizes in its shape .*; give input_shapes="):
        benchmark(file, runs=2)
    with pytest.raises(OptionError, match=r"input 'x' takes \(-1, -1, 4\).* Received \(1, 16, 5\)"):
        benchmark(file, runs=1, input_shapes={"x": (1, 16, 5)})
    short = benchmark(file, runs=9, input_shapes={"x": (1, 16, 4)})
    long = benchmark(file, runs=9, input_shapes={"x": (1, 4096, 4)})
    assert long.median_ms > 4 * short.median_ms


def test_shapes_for_an_unknown_input_are_refused(float_file) -> None:
    """They must not be ignored."""
    for files in ([float_file], [float_file, float_file]):
        with pytest.raises(OptionError, match="input_shapes: no input 'nothing'. Known: "):
            interleaved(files, runs=2, input_shapes={"nothing": (7, 8)})


@pytest.mark.parametrize("shapes", [(1, 8), {"x": "a"}, {"x": (1, "8")}, {"x": 3}, {3: (1, 8)}])
def test_values_that_are_not_shapes_are_refused(shapes) -> None:
    with pytest.raises(OptionError, match="input_shapes: expected shapes by input name"):
        benchmark(b"", input_shapes=shapes)


def test_random_indexes_are_within_their_table() -> None:
    model = keras.Sequential([keras.Input((5,), dtype="int32"), L.Embedding(3, 4), L.Flatten()])
    assert benchmark(to_tflite(model), runs=2).median_ms > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "hots"}, "unknown device 'hots'.* Did you mean host"),
        ({"device": "host:me"}, "Use 'host'"),
        ({"threads": 0}, "threads: expected a whole number >= 1. Received 0"),
        ({"runs": 2.5}, "runs: expected a whole number >= 1. Received 2.5"),
    ],
)
def test_wrong_options_are_one_line(options, message, float_file) -> None:
    with pytest.raises(OptionError, match=message):
        benchmark(float_file, **options)


def test_a_file_that_is_none_is_one_line(tmp_path) -> None:
    with pytest.raises(ArtifactError, match=r"none\.tflite: no such file"):
        benchmark(tmp_path / "none.tflite")
    with pytest.raises(ArtifactError):
        benchmark(np.random.default_rng(0).bytes(4000))


def test_a_batch_that_is_asked_for_is_the_batch_that_runs(float_file) -> None:
    one = benchmark(float_file, runs=9)
    many = benchmark(float_file, runs=9, input_shapes={"image": (64, 12, 12, 1)})
    assert many.median_ms > 10 * one.median_ms
