"""Metrics of an order: area under the ROC curve, and nearest neighbors."""

from dataclasses import dataclass, field

import numpy as np

from tfprune.errors import DataError
from tfprune.task.answers import Answers

MOST_SCORES = 1 << 20
"""Number of different scores that are told apart; beyond it the last bits are dropped."""

BLOCK = 1024
"""Number of samples that are sorted in, or compared with all others, at a time."""


@dataclass
class Curve:
    """The area under the ROC curve, from counts by score.

    The counts are exact up to `MOST_SCORES` different scores. Then scores that differ in their
    last bits only are counted as equal, so that memory does not grow with the data.
    """

    scores: np.ndarray = field(default_factory=lambda: np.zeros(0))
    counts: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), np.int64))
    dropped: int = 0
    waiting: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)

    def add(self, answers: Answers) -> None:
        truth = answers.truth.reshape(-1)
        counts = np.stack([truth == 0, truth == 1], 1).astype(np.int64)
        self.waiting.append((_one_score(answers), counts))
        # Merging sorts, so it waits until there is as much to add as there is.
        if sum(len(scores) for scores, _ in self.waiting) > max(len(self.scores), BLOCK):
            self._merge()

    def _merge(self) -> None:
        scores = [_rounded(scores, self.dropped) for scores, _ in self.waiting]
        counts = [counts for _, counts in self.waiting]
        self.waiting.clear()
        self.scores, self.counts = _merged(
            np.concatenate([self.scores, *scores]), np.concatenate([self.counts, *counts])
        )
        while len(self.scores) > MOST_SCORES:
            self.dropped += 1
            self.scores, self.counts = _merged(_rounded(self.scores, self.dropped), self.counts)

    def value(self) -> float:
        self._merge()
        negatives, positives = self.counts.T.astype(np.float64)
        pairs = negatives.sum() * positives.sum()
        if not pairs:
            raise DataError("labels: AUC needs samples of both classes, 0 and 1")
        below = np.cumsum(negatives) - negatives
        return float((positives * (below + negatives / 2)).sum() / pairs)


def _one_score(answers: Answers) -> np.ndarray:
    """Return the score of class 1."""
    if not answers.scores.size:
        return answers.found.reshape(-1).astype(np.float64)
    scores = answers.scores.reshape(-1, answers.scores.shape[-1]).astype(np.float64)
    if scores.shape[1] > 2:
        raise DataError(f"AUC is for two classes; the output has {scores.shape[1]}. Take f1")
    return scores[:, 0] if scores.shape[1] == 1 else scores[:, 1] - scores[:, 0]


def _rounded(scores: np.ndarray, bits: int) -> np.ndarray:
    """Return doubles without their last bits: those beyond a float32 first, of which few differ."""
    if not bits:
        return scores
    stored = scores.view(np.int64)
    return (stored >> (28 + bits) << (28 + bits)).view(np.float64)


def _merged(scores: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each score once, in order, with its counts added up."""
    different, place = np.unique(scores, return_inverse=True)
    total = [np.bincount(place, weights=column, minlength=len(different)) for column in counts.T]
    return different, np.stack(total, 1).astype(np.int64)


@dataclass
class Neighbors:
    """Recall@k: whether one of the k nearest other samples, by cosine, is of the same group.

    Samples that are alone in their group are not asked. The vectors of all samples are kept.
    """

    k: int
    vectors: list[np.ndarray] = field(default_factory=list)
    groups: list[np.ndarray] = field(default_factory=list)

    def add(self, answers: Answers) -> None:
        length = np.linalg.norm(answers.found, axis=1, keepdims=True)
        self.vectors.append((answers.found / np.maximum(length, 1e-12)).astype(np.float32))
        self.groups.append(answers.truth)

    def value(self) -> float:
        vectors, groups = np.concatenate(self.vectors), np.concatenate(self.groups)
        _, place, sizes = np.unique(groups, return_inverse=True, return_counts=True)
        asked = np.flatnonzero(sizes[place] > 1)
        if not len(asked):
            raise DataError("labels: no two samples are of one group; recall@k needs such pairs")
        right, k = 0, min(self.k, len(vectors) - 1)
        for start in range(0, len(asked), BLOCK):
            rows = asked[start : start + BLOCK]
            near = vectors[rows] @ vectors.T
            near[np.arange(len(rows)), rows] = -np.inf
            nearest = np.argpartition(-near, k - 1, axis=1)[:, :k]
            right += int((groups[nearest] == groups[rows][:, None]).any(1).sum())
        return right / len(asked)
