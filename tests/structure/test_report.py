import json

import keras
from keras import layers as kl

import tfprune


def shrunk(norm=None):
    inputs = keras.Input((8, 8, 3))
    x = kl.Conv2D(16, 3, name="conv")(inputs)
    x = norm(x) if norm else x
    model = keras.Model(inputs, kl.Dense(2, name="out")(kl.GlobalAveragePooling2D()(x)), name="net")
    return tfprune.shrink(model, {"channels": 0.5})[1]


def test_the_report_counts_before_and_after() -> None:
    report = shrunk()
    assert (report.before.params, report.after.params) == (27 * 16 + 16 + 34, 27 * 8 + 8 + 18)
    assert report.before.macs == 36 * 27 * 16 + 32
    assert report.achieved == 0.5
    (change,) = report.groups
    assert (change.name, change.before, change.after, change.exact) == ("conv", 16, 8, True)
    by_layer = {change.layer: change.params_after for change in report.layers}
    assert by_layer == {"conv": 224, "out": 18}
    assert report.frozen == (("out", "it is an output of the model"),)


def test_the_report_is_data() -> None:
    report = shrunk()
    data = json.loads(json.dumps(report.to_json()))
    assert data["after"]["units"] == 8
    assert data["plan"]["removals"][0]["layer"] == "conv"


def test_the_text_says_what_was_verified() -> None:
    text = str(shrunk())
    assert "conv     16 → 8" in text
    assert "from the original with the removed units zeroed" in text
    report = shrunk(kl.LayerNormalization())
    assert not report.exact
    assert "normalizations computed over the kept channels" in str(report)
    assert "not exact: layer_normalization: LayerNormalization" in str(report)


def test_options_that_were_not_used_are_not_in_the_report() -> None:
    model = keras.Sequential([keras.Input((4,)), kl.Dense(8, name="h"), kl.Dense(2)])
    _, report = tfprune.shrink(
        model, {"channels": 0.5}, importance="l1", ranking="uniform", round_to=1
    )
    assert (report.importance, report.ranking) == ("l1", "uniform")
    assert "shrunk to {'channels': 0.5} (l1, uniform)\n" in str(report)
    _, again = tfprune.shrink(model, report.plan)
    assert (again.importance, again.ranking) == (None, None)
    assert "shrunk to plan\n" in str(again)
