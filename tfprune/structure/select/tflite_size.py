"""Meeting a target in bytes of the float32 file, by converting and not by an estimate alone."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tfprune.errors import OptionError
from tfprune.structure.rebuild.cut import Cut
from tfprune.structure.rebuild.rebuild import rebuild
from tfprune.structure.select.cost_meter import Meter
from tfprune.structure.select.ranking import AGAINST, Selection
from tfprune.structure.select.target import OutOfReach, Target

ATTEMPTS = 4
"""How many times a choice is corrected by the size of its file."""


def file_bytes(model: Any) -> int:
    """Return the size of the float32 file that `to_tflite` gives."""
    # Conversion loads much more; only a target in bytes needs it.
    from tfprune.deploy.tflite import to_tflite

    return len(to_tflite(model).bytes)


def meet_file_size(
    cut: Cut, meter: Meter, target: Target, pick: Callable[[Target | None], Selection]
) -> Selection:
    """Return a choice whose file is no larger than the target.

    The bytes in a file besides the counted weights (the graph, constants) are measured on the
    file; if the next file is still too large, they are measured again.

    Raises:
        OptionError: No choice meets the target.
        ConversionError: The model cannot be converted.
    """
    whole = file_bytes(cut.whole.model)
    limit = target.limit(whole)
    overhead = whole - meter.file_bytes(meter.everything)
    for _ in range(ATTEMPTS):
        wanted = limit - overhead
        if wanted <= 1:
            break
        try:
            choice = pick(None if whole <= limit else Target("tflite_bytes", wanted))
        except OutOfReach as error:
            raise OptionError(
                f"shrink target {target}: at most {limit:,.0f} bytes wanted, but the float32 file "
                f"of {whole:,} bytes keeps at least about {error.least + overhead:,.0f}. {AGAINST}"
            ) from error
        smaller = replace(cut, removed=choice.removed)
        size = file_bytes(rebuild(smaller).model)
        if size <= limit:
            note = f"its float32 .tflite file has {size:,} bytes (target {limit:,.0f})"
            return Selection(choice.removed, (*choice.notes, note))
        overhead = max(overhead, size - meter.file_bytes(smaller.kept_mask)) + max(
            1, (size - limit) // 4
        )
    raise OptionError(
        f"shrink target {target}: the float32 file has {whole:,} bytes, {overhead:,.0f} of them "
        f"not weights, and cannot be reduced to {limit:,.0f} by removing units"
    )
