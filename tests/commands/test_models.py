"""`tfprune convert`, `shrink` and `prune` on a model that someone else has saved."""

import argparse
from pathlib import Path

import keras
import numpy as np
import pytest

import tfprune
from tests.commands.calls import tfprune_command
from tfprune import cli


def test_a_model_becomes_a_verified_file(folder: Path, capsys: pytest.CaptureFixture) -> None:
    assert tfprune_command("convert m.keras --calibration x.npy -o m.tflite") == 0
    shown = capsys.readouterr().out
    assert shown.startswith("int8: ")
    assert "agreement" in shown
    assert (folder / "m.tflite").stat().st_size > 1000
    assert (folder / "m.json").exists()


def test_a_model_becomes_an_onnx_file(folder: Path, capsys: pytest.CaptureFixture) -> None:
    pytest.importorskip("tf2onnx")
    assert tfprune_command("convert m.keras -o m.onnx") == 0
    assert capsys.readouterr().out.startswith("onnx: ")


def test_a_model_gets_smaller(folder: Path, capsys: pytest.CaptureFixture) -> None:
    words = "shrink m.keras --target macs=0.5 --round-to 1 --data d.npz --importance taylor"
    assert tfprune_command(f"{words} -o out/small.keras") == 0
    assert "macs" in capsys.readouterr().out
    small = keras.models.load_model(folder / "out" / "small.keras")
    assert small.count_params() < keras.models.load_model(folder / "m.keras").count_params()


def test_without_samples_nothing_is_refitted_and_that_is_said(
    folder: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    assert tfprune_command("shrink m.keras --target macs=0.5 -o s.keras") == 0
    assert "warning: nothing was refitted on samples" in capsys.readouterr().err


@pytest.mark.parametrize("how", ["--oneshot --data x.npy", "", "--score taylor --data d.npz"])
def test_weights_become_zero(folder: Path, how: str, capsys: pytest.CaptureFixture) -> None:
    assert tfprune_command(f"prune m.keras --sparsity 0.75 {how} -o p.keras") == 0
    shown = capsys.readouterr()
    assert "hidden/kernel" in shown.out
    assert ("the weights that stay are as they were" in shown.err) == ("oneshot" not in how)
    report = tfprune.sparsity_of(keras.models.load_model(folder / "p.keras"))
    assert report.sparsity == pytest.approx(0.75, abs=0.01)
    assert not any(row.held for row in report)


def test_weights_that_stay_are_few_multiples_of_a_step(folder: Path) -> None:
    words = "prune m.keras --sparsity 0.5 --oneshot --data x.npy --bits 2 -o p.keras"
    assert tfprune_command(words) == 0
    kernel = keras.models.load_model(folder / "p.keras").get_layer("hidden").kernel.numpy()
    assert all(np.unique(np.abs(column)).size <= 2 for column in kernel.T)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("convert gone.keras -o a.tflite", "gone.keras: no such file"),
        ("convert m.keras -o a.bin", "expected a name ending in .tflite or .onnx"),
        ("convert m.keras -o a.tflite --scheme int9", "Did you mean int8?"),
        ("convert m.keras -o a.tflite --scheme int8", "calibration"),
        ("convert m.keras -o a.onnx --scheme int8", "--scheme: an .onnx file is float32"),
        ("convert m.keras -o a.onnx --allow-float ADD", "--allow-float: an .onnx file"),
        ("shrink m.keras --target macs=0.5 -o s.h5", "expected a name ending in .keras"),
        ("shrink m.keras --target macs=0.5 -o m.keras/s.keras", "is below"),
        ("shrink m.keras --target macs=0.5 --repair 9 -o s.keras", "--repair: it refits on"),
        ("prune m.keras --bits 4 -o p.keras", "--bits: weights are rounded on samples"),
        ("prune m.keras --oneshot --data x.npy --bits 5 -o p.keras", "bits: expected one of"),
        ("prune m.keras --oneshot -o p.keras", "--oneshot: it refits on samples"),
        ("prune m.keras --oneshot --data x.npy --score l1 -o p.keras", "--score"),
        ("prune m.keras --data x.npy -o p.keras", "--data: nothing reads it here"),
        ("prune m.keras --oneshot --data x.npy --loss mse -o p.keras", "--loss: nothing reads"),
        ("convert m.keras -o a.onnx --max-drop 0.1", "--max-drop: an .onnx file is float32"),
        ("prune m.keras --sparsity 80 -o p.keras", "Did you mean 0.8?"),
        ("prune m.keras --only nothing -o p.keras", "nothing"),
    ],
)
def test_a_wrong_call_is_one_line_with_code_2(
    words: str, said: str, folder: Path, capsys: pytest.CaptureFixture
) -> None:
    before = sorted(folder.iterdir())
    assert tfprune_command(words) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line[:8] == "tfprune:"]
    assert len(errors) == 1
    assert said in errors[0]
    assert sorted(folder.iterdir()) == before


def test_code_in_a_file_runs_only_if_it_is_trusted(
    folder: Path, capsys: pytest.CaptureFixture
) -> None:
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Lambda(lambda x: x * 2.0), keras.layers.Dense(3)]
    )
    model.save(folder / "code.keras")
    assert tfprune_command("prune code.keras --sparsity 0.5 -o p.keras") == 2
    assert "contains code" in capsys.readouterr().err
    assert tfprune_command("prune code.keras --sparsity 0.5 -o p.keras --allow-code") == 0


def test_the_options_are_read_before_tensorflow_is_loaded() -> None:
    parsed = cli.parse(["tfprune", "shrink", "m.keras", "--target", "macs=0.5", "-o", "s.keras"])
    assert isinstance(parsed, argparse.Namespace)
    assert parsed.round_to is None
