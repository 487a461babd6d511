"""Random numbers in a model that only predicts."""

import keras
import numpy as np
import tensorflow as tf

from tfprune.keras_support.randomness import fixed_seeds, means_for_draws


def test_drawing_leaves_the_state_of_a_seed_generator_unchanged_while_entered():
    generator = keras.random.SeedGenerator(7)
    before = generator.state.numpy()
    with fixed_seeds():
        drawn = [np.asarray(keras.random.normal((3,), seed=generator)) for _ in range(2)]
    np.testing.assert_array_equal(generator.state.numpy(), before)
    np.testing.assert_array_equal(drawn[0], drawn[1])
    keras.random.normal((3,), seed=generator)
    assert (generator.state.numpy() != before).any()


def test_a_draw_is_the_mean_of_its_distribution_while_entered():
    with means_for_draws():
        normal = keras.random.normal((2, 3), mean=4.0, stddev=2.0)
        uniform = keras.random.uniform((2, 3), minval=1.0, maxval=3.0)
        old = tf.random.normal((2, 3), mean=-1.0)
    np.testing.assert_array_equal(normal, np.full((2, 3), 4.0))
    np.testing.assert_array_equal(uniform, np.full((2, 3), 2.0))
    np.testing.assert_array_equal(old, np.full((2, 3), -1.0))
    assert np.ptp(keras.random.normal((2, 3))) > 0
