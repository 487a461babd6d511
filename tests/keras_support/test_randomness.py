"""Random numbers in a model that only predicts."""

import keras
import numpy as np

from tfprune.keras_support.randomness import fixed_seeds


def test_drawing_leaves_the_state_of_a_seed_generator_unchanged_while_entered():
    generator = keras.random.SeedGenerator(7)
    before = generator.state.numpy()
    with fixed_seeds():
        drawn = [np.asarray(keras.random.normal((3,), seed=generator)) for _ in range(2)]
    np.testing.assert_array_equal(generator.state.numpy(), before)
    np.testing.assert_array_equal(drawn[0], drawn[1])
    keras.random.normal((3,), seed=generator)
    assert (generator.state.numpy() != before).any()
