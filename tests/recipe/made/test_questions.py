"""Questions as numbers of words."""

import numpy as np

from tfprune.recipe.made.questions import LENGTH, WORDS, asked, questions


def test_a_question_has_words_of_the_vocabulary() -> None:
    random = np.random.default_rng(0)
    for _ in range(200):
        words, kind = asked(random)
        assert set(words) <= set(WORDS)
        assert len(words) <= LENGTH
        assert 0 <= kind < 6


def test_numbers_end_in_zeros_and_every_kind_is_asked_for() -> None:
    (x, y), (test, truth) = questions(0)
    assert x.dtype == np.int32
    assert max(x.max(), test.max()) <= max(WORDS.values()) < 150
    assert ((x == 0)[:, :-1] <= (x == 0)[:, 1:]).all()
    assert x[:, 0].all()
    assert np.bincount(y).min() > 300
    assert set(truth) == set(range(6))


def test_no_single_word_tells_the_kind() -> None:
    (x, y), _ = questions(0)
    first = x[:, 0]
    most = sum(np.bincount(y[first == word]).max() for word in np.unique(first))
    assert most / len(y) < 0.65
