"""The inputs of a graph, and batches of data as tensors for it."""

from typing import Any

import keras
from keras import tree

from tfprune.data.model_inputs import ModelInputs, OneInput
from tfprune.graph.graph import Graph


def takes(graph: Graph) -> ModelInputs:
    """Return the description of a graph's inputs, for reading data."""
    refs = tree.flatten(graph.inputs)
    values = [graph.values[ref.index] for ref in refs]
    layers = zip(graph.input_layers, values, strict=True)
    inputs = tuple(OneInput(layer.name, value.shape, value.dtype) for layer, value in layers)
    places = {ref: place for place, ref in enumerate(refs)}
    return ModelInputs(inputs, tree.map_structure(places.__getitem__, graph.inputs))


def flat_inputs(graph: Graph, inputs: Any) -> list[Any]:
    """Return the inputs of a batch as tensors, in the order of the graph's inputs."""
    values = [graph.values[ref.index] for ref in tree.flatten(graph.inputs)]
    return [
        keras.ops.convert_to_tensor(array, dtype=value.dtype)
        for array, value in zip(tree.flatten(inputs), values, strict=True)
    ]
