import json
import tracemalloc

import keras
import numpy as np
import pytest

import tfprune
from tfprune.errors import ArtifactError, ModelError, OptionError
from tfprune.sparsity.masks import holds_of


@pytest.fixture
def saved(model, tmp_path):
    tfprune.prune(model, 0.7, only="hidden")
    return tfprune.save_masks(model, tmp_path / "masks.npz")


def test_masks_are_loaded_into_an_equal_model_and_applied_there(model, saved, data) -> None:
    other = keras.models.clone_model(model)
    head = other.get_layer("head").kernel.numpy()
    assert tfprune.load_masks(other, saved) is other
    mask = holds_of(model)[0].mask_array()
    assert np.array_equal(other.get_layer("hidden").kernel.numpy() != 0, mask)
    np.testing.assert_array_equal(other.get_layer("head").kernel.numpy(), head)
    other.compile("adam", "sparse_categorical_crossentropy")
    other.fit(*data, epochs=2, verbose=0, callbacks=[tfprune.UpdatePruningStep()])
    assert np.array_equal(other.get_layer("hidden").kernel.numpy() != 0, mask)


def test_a_kernel_on_a_schedule_stays_on_it(model, saved) -> None:
    other = keras.models.clone_model(model)
    tfprune.prune_low_magnitude(other, tfprune.PolynomialDecay(0, 0.9, 0, 100))
    schedules = [hold.pruning.choices.schedule for hold in holds_of(other)]
    tfprune.load_masks(other, saved)
    assert [hold.pruning.choices.schedule for hold in holds_of(other)] == schedules
    assert tfprune.sparsity_of(other)["hidden/kernel"].sparsity == 0.7


def test_a_file_for_another_model_changes_nothing(saved) -> None:
    x = keras.Input((12,))
    renamed = keras.Model(x, keras.layers.Dense(20, name="hiden")(x))
    with pytest.raises(
        ModelError, match=r"'hidden/kernel', which is not in the model .* Did you mean hiden/"
    ):
        tfprune.load_masks(renamed, saved)
    reshaped = keras.Model(x, keras.layers.Dense(21, name="hidden")(x))
    with pytest.raises(ModelError, match=r"shape \(12, 20\), the kernel \(12, 21\)"):
        tfprune.load_masks(reshaped, saved)
    assert holds_of(renamed) == holds_of(reshaped) == []


def test_other_files_are_refused_as_not_masks(model, saved, tmp_path) -> None:
    whole = saved.read_bytes()
    bad = tmp_path / "bad.npz"
    end = whole.index(b"PK\x01\x02")  # of the last array, where the table of contents begins
    damaged = whole[: end - 9] + b"damage" + whole[end - 3 :]
    for content in (b"", b"hello", whole[: len(whole) // 2], damaged):
        bad.write_bytes(content)
        with pytest.raises(ArtifactError, match=r"bad\.npz"):
            tfprune.load_masks(model, bad)
    np.savez(bad, a=np.ones(3))
    with pytest.raises(ArtifactError, match="not a file written by save_masks"):
        tfprune.load_masks(model, bad)
    with pytest.raises(ArtifactError, match="no such file"):
        tfprune.load_masks(model, tmp_path / "none.npz")
    with pytest.raises(OptionError, match="path: expected a file name. Received None"):
        tfprune.load_masks(model, None)
    with pytest.raises(OptionError, match="is a folder; give the name of a file in it"):
        tfprune.save_masks(model, tmp_path)


def test_a_changed_bit_is_found(model, saved, tmp_path) -> None:
    with np.load(saved) as file:
        arrays = dict(file)
    arrays["mask_0"][0] ^= 1
    np.savez(tmp_path / "flipped.npz", **arrays)
    with pytest.raises(ArtifactError, match="the mask of 'hidden/kernel' is damaged"):
        tfprune.load_masks(model, tmp_path / "flipped.npz")


def changed_entry(**fields):
    def change(index):
        index["masks"][0].update(fields)
        return index

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (changed_entry(path=True), "no path, shape and sha256"),
        (changed_entry(path=["hidden/kernel"]), "no path, shape and sha256"),
        (changed_entry(sha256=None), "no path, shape and sha256"),
        (changed_entry(shape=[12.0, 20]), "no path, shape and sha256"),
        (changed_entry(shape=[-12, -20]), "no path, shape and sha256"),
        (changed_entry(shape=[True, 20]), "no path, shape and sha256"),
        (changed_entry(shape=[float("nan"), 20]), "NaN is not allowed in JSON"),
        (changed_entry(shape=[10**18]), r"0000,\), the kernel \(12, 20\)"),
        (lambda index: {**index, "masks": index["masks"] * 2}, "lists 'hidden/kernel' twice"),
        (lambda index: {**index, "masks": []}, "lists no masks"),
        (lambda index: {**index, "masks": [3]}, "lists 3 for a mask"),
        (lambda index: {**index, "format": "tfprune masks 9"}, "format is not 'tfprune masks 1'"),
        (lambda index: [index], "format is not 'tfprune masks 1'"),
    ],
)
def test_a_damaged_index_is_one_line_and_changes_nothing(model, saved, tmp_path, change, said):
    other = keras.models.clone_model(model)
    with np.load(saved) as file:
        arrays = dict(file)
    arrays["index"] = np.array(json.dumps(change(json.loads(str(arrays["index"])))))
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises((ArtifactError, ModelError), match=said) as caught:
        tfprune.load_masks(other, tmp_path / "bad.npz")
    assert "\n" not in str(caught.value)
    assert holds_of(other) == []


def test_an_index_that_is_nested_too_deep_is_one_line(model, saved, tmp_path) -> None:
    np.savez(tmp_path / "deep.npz", index=np.array("[" * 100_000))
    with pytest.raises(ArtifactError, match="nested too deeply"):
        tfprune.load_masks(model, tmp_path / "deep.npz")


def test_a_mask_is_no_larger_than_its_kernel_whatever_the_file_holds(model, saved, tmp_path):
    with np.load(saved) as file:
        arrays = dict(file)
    arrays["mask_0"] = np.zeros(1 << 28, np.uint8)  # a quarter of a gigabyte in 260 KB
    np.savez_compressed(tmp_path / "bomb.npz", **arrays)
    tracemalloc.start()
    with pytest.raises(ArtifactError, match="takes 268435456 bytes, more than 30"):
        tfprune.load_masks(model, tmp_path / "bomb.npz")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 24


def test_a_model_that_holds_nothing_has_no_masks(model, tmp_path) -> None:
    with pytest.raises(ModelError, match="save masks before strip_pruning"):
        tfprune.save_masks(model, tmp_path / "masks.npz")
