"""Which files of the package a call enters: run by house.py, with the package of a checkout.

    PYTHONPATH=CHECKOUT python benchmarks/house_trace.py

Prints a line of JSON.
"""

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any


class Recorder:
    """Writes down which files of a package calls enter, while it is the profiler of a process.

    Attributes:
        files: The files entered.
        crossings: Pairs of files, in different folders, of which one calls a function of the other,
            itself or through other packages.
    """

    def __init__(self, folder: Path) -> None:
        self._prefix = f"{folder}{os.sep}"
        self.files: set[str] = set()
        self.crossings: set[tuple[str, str]] = set()

    def __call__(self, frame: Any, event: str, _: object) -> None:
        if event != "call" or not self._counts(frame):
            return
        file = self._name(frame)
        self.files.add(file)
        caller = frame.f_back
        while caller is not None and not self._counts(caller):
            caller = caller.f_back
        if caller is not None:
            source = self._name(caller)
            if os.path.dirname(source) != os.path.dirname(file):
                self.crossings.add((source, file))

    def _counts(self, frame: Any) -> bool:
        code = frame.f_code
        return code.co_name != "<module>" and code.co_filename.startswith(self._prefix)

    def _name(self, frame: Any) -> str:
        return frame.f_code.co_filename.removeprefix(self._prefix)


def network() -> Any:
    """Return a small residual network with random weights."""
    image = keras.Input((8, 8, 3))
    x = stem = keras.layers.Conv2D(16, 3, padding="same", activation="relu")(image)
    for _ in range(2):
        x = keras.layers.Conv2D(16, 3, padding="same", use_bias=False)(x)
        x = keras.layers.BatchNormalization()(x)
        x = keras.layers.ReLU()(x)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Add()([x, stem]))
    return keras.Model(image, keras.layers.Dense(2, activation="softmax")(x))


def trace() -> dict[str, Any]:
    """Return what each call enters, in this process: not in those that it starts."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(48, 8, 8, 3)).astype("float32")
    y = (x.mean((1, 2, 3)) > 0).astype(int)
    recipe = {
        "train": {"epochs": 1}, "prune": {"sparsity": 0.5, "epochs": 1},
        "quantize": {"scheme": "int8", "calibration": 16}, "measure": {"runs": 2},
    }  # fmt: skip
    calls = {
        "shrink": lambda model: tfprune.shrink(model, {"macs": 0.5}),
        "prune": lambda model: tfprune.prune(model, 0.5),
        "to_tflite": lambda model: tfprune.to_tflite(model),
        "compress": lambda model: tfprune.compress(model, recipe, ((x, y), (x, y))),
    }
    found = {}
    for name, call in calls.items():
        recorder = Recorder(Path(tfprune.__file__).parent)
        # The first call imports; the second, of other weights, is the one that counts.
        for profiler in (None, recorder):
            model = network()
            threading.setprofile(profiler)
            sys.setprofile(profiler)
            try:
                call(model)
            finally:
                sys.setprofile(None)
                threading.setprofile(None)  # type: ignore[arg-type]
        found[name] = {
            "files": sorted(recorder.files), "crossings": sorted(map(list, recorder.crossings))
        }  # fmt: skip
    return found


if __name__ == "__main__":
    import keras
    import numpy as np

    import tfprune

    print(json.dumps(trace()))
