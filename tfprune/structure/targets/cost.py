"""A cost that may stay: parameters, multiplications, channels, or bytes of the file."""

from dataclasses import replace
from functools import partial

from tfprune.structure.groups.units import Units
from tfprune.structure.rebuild.cut import Cut, uncut
from tfprune.structure.select.cost_meter import Meter
from tfprune.structure.select.importance import Evidence, judge
from tfprune.structure.select.ranking import choose
from tfprune.structure.select.tflite_size import meet_file_size
from tfprune.structure.targets.asked import TARGETS, Asked


@TARGETS.register("cost")
def cut_to_cost(found: Units, asked: Asked) -> Cut:
    """The least important units go until the cost is met, or as many as ratios say."""
    cut, meter = uncut(found), Meter(found)
    evidence = Evidence(found, cut.weights, asked.data, asked.loss, asked.seed)
    pick = partial(
        choose,
        found,
        meter,
        judge(asked.importance, evidence),
        ranking=asked.ranking,
        round_to=asked.round_to,
        cap=asked.cap,
        only=asked.only,
        skip=asked.skip,
        ratios=asked.ratios,
        heads=asked.heads,
    )
    if asked.cost is not None and asked.cost.cost == "tflite_bytes":
        choice = meet_file_size(cut, meter, asked.cost, pick)
    else:
        choice = pick(asked.cost)
    return replace(cut, removed=choice.removed, notes=choice.notes)
