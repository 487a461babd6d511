"""Held zeros under MirroredStrategy, which wants two logical devices from the very start."""

import subprocess
import sys

import pytest

SCRIPT = """
import keras, numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import tfprune
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
assert strategy.num_replicas_in_sync == 2
x = np.random.default_rng(0).standard_normal((64, 12)).astype("float32")
y = np.arange(64) % 3
for inside in (True, False):
    for score in ("magnitude", "movement"):
        with strategy.scope():
            model = keras.Sequential(
                [keras.Input((12,)), keras.layers.Dense(20, "relu"), keras.layers.Dense(3)]
            )
            schedule = tfprune.PolynomialDecay(0.0, 0.8, 2, 13, frequency=5)
            if inside:
                tfprune.prune(model, 0.8, schedule=schedule, score=score)
            adam = keras.optimizers.Adam(use_ema=score == "magnitude")
            model.compile(adam, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        if not inside:
            tfprune.prune(model, 0.8, schedule=schedule, score=score)
        model.fit(x, y, batch_size=8, epochs=3, verbose=0,
                  callbacks=[tfprune.UpdatePruningStep()])
        print(inside, score, [row.size - row.zeros for row in tfprune.sparsity_of(model)])
        for layer in model.layers:
            for replica in layer.kernel.value.values:
                assert np.count_nonzero(replica.numpy()) == round(0.2 * layer.kernel.numpy().size)
"""


@pytest.mark.slow
def test_zeros_are_exact_on_every_replica() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert [line.split("[")[1] for line in done.stdout.splitlines() if "[" in line] == [
        "48, 12]"
    ] * 4
