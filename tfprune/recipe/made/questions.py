"""Questions as numbers of words, made from patterns, with what each asks for."""

import numpy as np
from numpy.typing import NDArray

LENGTH = 14
"""Words of a question; 0 follows the last."""

# What a slot may be: words that several kinds share, so that none tells the kind alone.
_SLOTS = {
    "PERSON": "smith jones baker turner miller clark hill wood green king carter cook",
    "PLACE": "paris london egypt peru japan spain kenya oslo lima rome texas cuba",
    "THING": "bridge clock engine piano camera rocket tunnel ship watch tower radio statue",
    "BEING": "whale eagle tiger horse wolf snake shark owl bear fox deer frog",
    "DOES": "build invent sell find paint move break lose design name",
    "DID": "built invented sold found painted moved broke lost designed named",
    "KIND": "old famous large small first last oldest best second modern",
    "YEAR": "1890 1912 1925 1941 1957 1969 1983 1996",
    "SHORT": "nasa un bbc fifa nato ibm dna usb",
}
_PATTERNS = (
    # a person
    "who DID the KIND THING", "who DID the THING of PLACE", "what person DID the KIND THING",
    "which man DID the THING in YEAR", "name the woman who DID the THING",
    "what is the name of the man who DID the THING",
    # a place
    "where did PERSON DOES the THING", "where is the KIND THING", "what town did PERSON DOES",
    "in which country does the KIND BEING live", "what is the town of PERSON",
    "name the country where PERSON DID the THING",
    # a number
    "how many THING did PERSON DOES", "when did PERSON DOES the THING",
    "how tall is the THING of PLACE",
    "what year did PERSON DOES the THING", "how long does the KIND BEING live",
    "in which year was the THING of PLACE DID",
    # a thing
    "what THING did PERSON DOES in PLACE", "which BEING is the KIND in PLACE",
    "what BEING did PERSON DOES in YEAR", "name the KIND THING of PLACE",
    "what is the name of the THING of PERSON", "what did PERSON DOES in PLACE",
    # a reason or a description
    "why did PERSON DOES the THING", "what is a KIND THING", "how did PERSON DOES the THING",
    "how does the KIND BEING live", "what is the KIND BEING of PLACE known for",
    "why is the THING of PLACE KIND",
    # a short form
    "what does SHORT stand for", "what is the full name of SHORT", "what is SHORT short for",
    "name what SHORT stands for in PLACE", "what do the letters SHORT mean",
    "how is SHORT written in full",
)  # fmt: skip
_PER_KIND = 6
_FILLERS = ("please", "tell", "me", "now", "so", "then", "well", "really")


def _vocabulary() -> dict[str, int]:
    """Return the number of each word, from 1."""
    slots = [word for words in _SLOTS.values() for word in words.split()]
    plain = [word for text in _PATTERNS for word in text.split() if word not in _SLOTS]
    return {word: i for i, word in enumerate(dict.fromkeys([*plain, *slots, *_FILLERS]), 1)}


WORDS = _vocabulary()
TRAIN, TEST = 3_000, 1_000

MISHEARD = 0.1
"""How often a word is replaced by another, and how often one is put in."""


def asked(random: np.random.Generator) -> tuple[list[str], int]:
    """Return the words of a random question, and its kind, from 0 to 5."""
    pattern = int(random.integers(len(_PATTERNS)))
    words = []
    for word in _PATTERNS[pattern].split():
        choices = _SLOTS[word].split() if word in _SLOTS else [word]
        words.append(choices[random.integers(len(choices))])
        if random.random() < MISHEARD:
            words[-1] = list(WORDS)[random.integers(len(WORDS))]
        if random.random() < MISHEARD:
            words.append(_FILLERS[random.integers(len(_FILLERS))])
    return words[:LENGTH], pattern // _PER_KIND


def questions(seed: int) -> tuple[tuple[NDArray, NDArray], tuple[NDArray, NDArray]]:
    """Return questions as numbers of words, and the kind of answer that each asks for, 0 to 5."""
    random = np.random.default_rng(seed)
    x, y = np.zeros((TRAIN + TEST, LENGTH), np.int32), np.zeros(TRAIN + TEST, np.int32)
    for i in range(len(x)):
        words, y[i] = asked(random)
        x[i, : len(words)] = [WORDS[word] for word in words]
    return (x[:TRAIN], y[:TRAIN]), (x[TRAIN:], y[TRAIN:])
