"""The same masks as tensorflow-model-optimization, to the bit; or the right one where it errs."""

import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import keras
import numpy as np
import pytest

import tfprune
from tfprune.sparsity.choices import schedules
from tfprune.sparsity.choices.selection import keep_count
from tfprune.sparsity.masks import Hold, Pruning, holds_of, prunings_of

PEER = Path(__file__).parent / "peer"
sys.path.insert(0, str(PEER))
from layers import COMMON, RUNS, cases  # noqa: E402 - the folder is no package

pytestmark = [pytest.mark.peer, pytest.mark.slow]  # the peer takes a minute

BY_NAME = {run["name"]: run for run in RUNS}


class Update:
    """One mask update of one kernel, as the peer did it."""

    def __init__(self, store, key: str, step: int) -> None:
        self.step = step
        self.weights = store[f"{key}/{step}/weights"]
        self.mask = store[f"{key}/{step}/mask"]
        self.sparsity = store[f"{key}/{step}/sparsity"]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("peer") / "masks.npz"
    command = [sys.executable, str(PEER / "masks.py"), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    with np.load(path) as file:
        return dict(file)


def updates_of(store, run: str) -> dict[tuple[str, int], list[Update]]:
    """Return the updates of a run by (layer, number of its kernel), in the order of steps."""
    steps = defaultdict(list)
    for key in store:
        name, _, rest = key.partition("/")
        if name == run and rest.endswith("/mask"):
            case, number, step, _ = rest.split("/")
            steps[case, int(number)].append(int(step))
    return {
        (case, number): [Update(store, f"{run}/{case}/{number}", step) for step in sorted(found)]
        for (case, number), found in steps.items()
    }


def schedule_of(run: str) -> schedules.PruningSchedule:
    spec = BY_NAME[run]["schedule"]
    return getattr(schedules, spec["class_name"])(**spec["config"])


def held_layers(run: str) -> dict[str, list[Hold]]:
    """Prune Keras 3 layers of the same kinds with the same arguments; return what is held."""
    held = {}
    for case in cases(keras.layers, BY_NAME[run]["cases"]):
        x = keras.Input(case.shape, dtype=case.dtype)
        model = keras.Model(x, case.layer(x, x) if case.twice else case.layer(x))
        tfprune.prune_low_magnitude(model, schedule_of(run), **BY_NAME[run]["options"])
        held[case.name] = sorted(holds_of(model), key=peer_order)
    return held


def peer_order(hold: Hold) -> int:
    """Place a kernel as the peer's `get_prunable_weights` does."""
    names = ("query/", "key/", "value/", "attention_output/")
    return next((i for i, name in enumerate(names) if name in hold.kernel.path), 0)


def remask(hold: Hold, update: Update) -> np.ndarray:
    """Give a kernel the peer's dense weights and return the mask that tfprune makes of them."""
    pruning: Pruning = hold.pruning
    hold.kernel.variable.assign(update.weights)
    pruning.sparsity = None
    assert pruning.update(pruning.choices.schedule(update.step)[1])
    return hold.mask_array()


@pytest.mark.parametrize("run", ["every step", "every 7", "constant"])
def test_unstructured_masks_are_the_peers_to_the_bit(store, run) -> None:
    assert_same_masks(store, run, set(BY_NAME[run]["cases"]))


def test_of_equal_weights_the_peer_keeps_all_and_tfprune_the_requested_number(store) -> None:
    ((update,),) = updates_of(store, "tie").values()
    x = keras.Input((2,))
    model = keras.Model(x, keras.layers.Dense(2)(x))
    tfprune.prune_low_magnitude(model, tfprune.ConstantSparsity(0.5, 1))
    (hold,) = holds_of(model)
    mask = remask(hold, update)
    assert mask.tolist() == [[True, True], [False, False]]
    assert update.mask.all()
    assert same_but_for_ties(mask, update)


@pytest.mark.parametrize("run", ["block AVG", "block MAX"])
def test_block_masks_are_the_peers_to_the_bit(store, run) -> None:
    assert_same_masks(store, run, set(BY_NAME[run]["cases"]))


def test_2_of_4_masks_are_the_peers_to_the_bit(store) -> None:
    assert_same_masks(store, "2:4", set(BY_NAME["2:4"]["cases"]) - {"transpose"})


def assert_same_masks(store, run: str, names: set[str]) -> None:
    held, updates = held_layers(run), updates_of(store, run)
    assert {case for case, _ in updates} == set(BY_NAME[run]["cases"])
    for (case, number), found in updates.items():
        if case in names:
            assert len(held[case]) == 1 + max(n for c, n in updates if c == case)
            for update in found:
                mask = remask(held[case][number], update)
                where = f"{run}: kernel {number} of {case} at step {update.step}"
                if not same_but_for_ties(mask, update):
                    np.testing.assert_array_equal(mask, update.mask, err_msg=where)


def same_but_for_ties(mask: np.ndarray, update: Update) -> bool:
    """Say whether the peer keeps the same, and beyond the number only what ties with the least.

    Two of a few hundred random float32 are equally large more often than one thinks.
    """
    sizes, kept = abs(update.weights), update.mask
    beyond = sizes[kept & ~mask]
    return (
        not (mask & ~kept).any()
        and np.count_nonzero(mask) == keep_count(mask.size, update.sparsity)
        and bool((beyond == sizes[kept].min()).all())
    )


@pytest.mark.parametrize("run", ["every step", "every 7", "constant", "block AVG", "block MAX"])
def test_steps_and_sparsities_are_the_peers_to_the_bit(store, run) -> None:
    schedule = schedule_of(run)
    ours = {step: schedule(step)[1] for step in range(1, BY_NAME[run]["steps"] + 1)
            if schedule(step)[0]}  # fmt: skip
    (found, *_) = updates_of(store, run).values()
    theirs = {update.step: update.sparsity for update in found}
    assert len(theirs) > 20
    extra = set(ours) - set(theirs)
    # `end_step` prunes here also where it is no multiple of the frequency.
    assert extra <= {BY_NAME[run]["schedule"]["config"]["end_step"]}
    for step, sparsity in theirs.items():
        assert np.float32(ours[step]) == sparsity, step


def test_the_peer_prunes_the_outputs_of_a_transposed_convolution_2_of_4(store) -> None:
    """Its kernel is (height, width, outputs, inputs): the peer takes outputs for inputs."""
    (update,) = updates_of(store, "2:4")["transpose", 0]
    (hold,) = held_layers("2:4")["transpose"]
    mask = remask(hold, update)
    assert mask.shape == (2, 2, 6, 4)
    assert (mask.sum(axis=3) == 2).all()
    assert not (update.mask.sum(axis=3) == 2).all()
    assert (update.mask[:, :, :4].sum(axis=2) == 2).all()
    largest = np.argsort(-abs(update.weights), axis=3)[..., :2]
    assert np.take_along_axis(mask, largest, axis=3).all()


def test_the_peer_judges_blocks_by_weights_beside_them(store) -> None:
    """Where blocks do not divide the kernel its pooling windows are offset from the blocks."""
    (first, *_) = updates_of(store, "uneven block")["dense", 0]
    (hold,) = held_layers("uneven block")["dense"]
    mask = remask(hold, first)
    right = blocks_kept(abs(first.weights), 5, 5, first.sparsity)
    np.testing.assert_array_equal(mask, right)
    assert all(len(set(block.ravel().tolist())) == 1 for block in blocks_of(first.mask, 5, 5))
    assert not np.array_equal(first.mask, right)


def blocks_of(array: np.ndarray, height: int, width: int) -> list[np.ndarray]:
    return [
        array[row : row + height, column : column + width]
        for row in range(0, array.shape[0], height)
        for column in range(0, array.shape[1], width)
    ]


def blocks_kept(scores: np.ndarray, height: int, width: int, sparsity: float) -> np.ndarray:
    """Keep the blocks of largest mean, one after the other."""
    mask = np.zeros(scores.shape, bool)
    means = [block.mean() for block in blocks_of(scores, height, width)]
    keep = max(round((1 - float(sparsity)) * len(means)), 1)
    views = blocks_of(mask, height, width)
    for index in np.argsort(means)[::-1][:keep]:
        views[index][:] = True
    return mask


def test_layers_that_the_peer_refuses_are_pruned_here(store) -> None:
    refused = json.loads(str(store["refusals"]))
    windows = {"conv1d", "conv2d", "conv3d", "transpose", "separable", "attention"}
    assert {key.partition("/")[2] for key in refused if key.startswith("block")} == windows
    assert {key.partition("/")[2] for key in refused if key.startswith("2:4")} == {
        "conv1d", "conv3d", "attention"}  # fmt: skip
    for options in ({"block_size": (2, 2)}, {"sparsity_m_by_n": (2, 4)}):
        for case in cases(keras.layers, COMMON):
            x = keras.Input(case.shape, dtype=case.dtype)
            model = keras.Model(x, case.layer(x, x) if case.twice else case.layer(x))
            tfprune.prune_low_magnitude(model, tfprune.ConstantSparsity(0.5, 0), **options)
            (pruning,) = prunings_of(model)
            assert pruning.advance(0)
            for row in tfprune.sparsity_of(model):
                assert 0.3 < row.sparsity <= 0.6, (case.name, options, row)
