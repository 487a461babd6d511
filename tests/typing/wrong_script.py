"""Wrong calls of a user: each line ends with the error that the checker must report."""

import keras
import numpy as np

import tfprune

model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])

tfprune.prunne(model)  # error: Module has no attribute "prunne"
tfprune.shrink(model, {"macs": 0.5}, nonsense=1)  # error: Unexpected keyword argument "nonsense"
tfprune.shrink(model, 0.5)  # error: Argument 2 to "shrink" has incompatible type "float"
tfprune.shrink(model)  # error: Missing positional argument "target"
tfprune.prune(model, sparsity="0.5")  # error: Argument "sparsity" to "prune" has incompatible type
tfprune.prune(model, only=7)  # error: Argument "only" to "prune" has incompatible type "int"
tfprune.prune(model, score=abs)  # error: Argument "score" to "prune" has incompatible type
tfprune.prune_oneshot(model, np.ones(4), 0.5, method="sgd")  # error: Argument "method"
tfprune.to_tflite(model, prefer="speed")  # error: Argument "prefer" to "to_tflite"
data = tfprune.to_tflite(model).bytez  # error: "Artifact" has no attribute "bytez"
tfprune.Gate(0.9)  # error: Too many positional arguments for "Gate"
tfprune.PolynomialDecay(0.0, 0.8)  # error: Missing positional arguments "begin_step", "end_step"
