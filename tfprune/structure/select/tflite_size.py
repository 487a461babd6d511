"""A target in bytes of the float32 file, met by converting and not by an estimate alone."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tfprune.errors import OptionError
from tfprune.structure.rebuild.cut import Cut
from tfprune.structure.rebuild.rebuild import rebuild
from tfprune.structure.select.cost_meter import Meter
from tfprune.structure.select.ranking import AGAINST, Choice
from tfprune.structure.select.target import OutOfReach, Target

ATTEMPTS = 4
"""How often a choice is corrected by what its file weighs."""


def file_bytes(model: Any) -> int:
    """The size of the float32 file that `to_tflite` gives."""
    # Files come after structure in the flow: only a target in bytes looks ahead.
    from tfprune.deploy.tflite import to_tflite

    return len(to_tflite(model).bytes)


def meet_file_size(
    cut: Cut, meter: Meter, target: Target, pick: Callable[[Target | None], Choice]
) -> Choice:
    """The choice whose file is no larger than asked.

    What a file holds besides the weights that are counted (the graph, constants) is measured on
    the file itself; if the next file still is too large, the difference is measured anew.

    Raises:
        OptionError: No choice gets there.
        ConversionError: The model cannot be a file.
    """
    whole = file_bytes(cut.whole.model)
    limit = target.limit(whole)
    beside = whole - meter.file_bytes(meter.everything)
    for _ in range(ATTEMPTS):
        wanted = limit - beside
        if wanted <= 1:
            break
        try:
            choice = pick(None if whole <= limit else Target("tflite_bytes", wanted))
        except OutOfReach as error:
            raise OptionError(
                f"shrink target {target}: the float32 file has {whole:,} bytes now and keeps about "
                f"{error.least + beside:,.0f} at least; asked for {limit:,.0f}. {AGAINST}"
            ) from error
        smaller = replace(cut, removed=choice.removed)
        size = file_bytes(rebuild(smaller).model)
        if size <= limit:
            note = f"its float32 .tflite file has {size:,} bytes ({limit:,.0f} asked for)"
            return Choice(choice.removed, (*choice.notes, note))
        beside = max(beside, size - meter.file_bytes(smaller.alive)) + max(1, (size - limit) // 4)
    raise OptionError(
        f"shrink target {target}: the float32 file has {whole:,} bytes now, {beside:,.0f} of them "
        f"no weights, and cannot be brought to {limit:,.0f} by removing units"
    )
