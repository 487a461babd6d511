"""Built-in models that fit the data, and loading of the other models a recipe may name.

Built-in models end in one logit per class: int8 represents logits better than probabilities.
"""

import inspect
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfprune.data.feed import in_order
from tfprune.data.model_inputs import known_inputs
from tfprune.data.samples import Split
from tfprune.errors import DataError, ModelError, OptionError, nearest, type_name
from tfprune.pipeline.datasets import Dataset, check_for_model
from tfprune.recipe.sources import APPLICATIONS, is_file, is_function
from tfprune.recipe.tables import ModelTable, QuantizeTable
from tfprune.recipe.user_code import import_function
from tfprune.utils.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable

    import keras

BUILDERS: "Registry[Callable[..., keras.Model]]" = Registry("built-in model")
"""Functions `(input_shape, outputs, **options) -> keras.Model`."""

Shape = tuple[int, ...] | Mapping[str, tuple[int, ...]]
"""The shape of one example, or of each of several inputs."""

Outputs = int | Mapping[str, int]
"""The number of outputs, or for several outputs, that of each."""


def build_model(table: ModelTable, input_shape: Shape, classes: Outputs) -> "keras.Model":
    """Build or load the model that a recipe names.

    The shape of one example and the number of classes are for models that are built to fit.

    Raises:
        ModelError, ArtifactError, OptionError: One line, if there is no such model.
    """
    import keras

    source = table.source
    options = dict(table.options or {})
    if is_file(source):
        from tfprune.loading.load import load_as_far_as_plain

        return with_known_outputs(load_as_far_as_plain(source))
    if is_function(source):
        model = import_function(source)(**options)
    elif source == "mlp" and isinstance(input_shape, Mapping):
        model = _call(source, mlp, input_shape, classes, **options)
    elif not isinstance(input_shape, tuple):
        raise ModelError(
            f"[model] {source} takes one input; the data has {len(input_shape)}. Use mlp, with the "
            "inputs in a dict, or a function."
        )
    elif source.startswith(APPLICATIONS):
        model = _application(source, table.weights, input_shape, classes, options)
    else:
        model = _call(source, BUILDERS[source], input_shape, classes, **options)
    if not isinstance(model, keras.Model):
        raise ModelError(f"[model] {source} returned {type_name(model)}, not a keras.Model.")
    return model


def with_known_outputs(model: "keras.Model") -> "keras.Model":
    """Return a model whose inputs and outputs are known: a subclassed one as a functional one.

    Raises:
        ModelError: It is not built, or cannot be read.
    """
    if getattr(model, "outputs", None) or not model.built:
        return model
    from tfprune.graph.flat import flat_model
    from tfprune.keras_support.models import carry_compile

    flat = flat_model(model)
    carry_compile(model, flat)
    return flat


def check_model(model: "keras.Model", data: Dataset) -> None:
    """Raise unless the model fits the data and its task."""
    name, task = f"the model {model.name!r}", data.task
    known = model.built and model.outputs
    names = list(getattr(model, "output_names", None) or ["output"]) if known else []
    several = bool(task.outputs) or task.name == "custom"
    if not known or not model.inputs or (len(names) > 1 and not several):
        raise ModelError(
            f"{name}: a run takes a built model with one output, or a task for each output: "
            "[task.outputs.NAME]. Compress others with tfprune.prune and tfprune.to_tflite."
        )
    missing = [output for output in task.outputs if output not in names]
    if missing:
        raise ModelError(f"{name}: has no output {missing[0]!r}. {nearest(missing[0], names)}")
    if not task.outputs and task.kind.form == "classes":
        found = tuple(model.outputs[0].shape)
        rank = data.train.head.y.ndim
        if len(found) != rank + 1 or found[-1] is None:
            wanted = ", ".join(["None", *["…"] * (rank - 1), "classes"])
            raise ModelError(f"{name}: output of shape {found}; {task.name} takes ({wanted}).")
    check_for_model(data, known_inputs(model), output_shapes(model, data), name)
    _check_tokens(model, data, name)


def _check_tokens(model: "keras.Model", data: Dataset, name: str) -> None:
    """Raise if an input that a layer looks up in a table has numbers beyond the table."""
    from tfprune.graph.ends import tables_of_inputs

    takes, tables = known_inputs(model), list(tables_of_inputs(model))
    for title, split in data.splits.items():
        for place, layer in tables:
            tokens = in_order(split.head.x, takes, data.name)[place]
            least, most = tokens.min(), tokens.max()
            if least < 0 or most >= layer.input_dim:
                wrong = least if least < 0 else most
                raise DataError(
                    f"{data.name}: the {title} set has the token {wrong}; layer {layer.name!r} of "
                    f"{name} takes 0 to {layer.input_dim - 1}. Give the model more words."
                )


def file_shape(
    model: "keras.Model", table: QuantizeTable | None, data: Dataset
) -> tuple[int, ...] | None:
    """Return the shape of a file's input, without the batch; None: that of the model.

    Where the model leaves sizes open, it is that of the recipe, or else of the examples.
    """
    if table is not None and table.input_shape is not None:
        return table.input_shape
    inputs = known_inputs(model).inputs
    if len(inputs) > 1 or None not in inputs[0].shape[1:] or not isinstance(data.train, Split):
        return None
    return tuple(data.input_shape)


def output_shapes(model: "keras.Model", data: Dataset) -> Any:
    """Return the shape of the output, or for a task with several outputs, a dict of shapes."""
    if not data.task.outputs:
        return tuple(model.outputs[0].shape)
    return {
        name: tuple(out.shape) for name, out in zip(model.output_names, model.outputs, strict=True)
    }


def _call(source: str, build: "Callable[..., Any]", *args: Any, **options: Any) -> Any:
    known = list(inspect.signature(build).parameters)[len(args) :]
    for name in options:
        if name not in known:
            raise OptionError(f"[model] options: {source} has no {name!r}. {nearest(name, known)}")
    return build(*args, **options)


def _application(
    source: str,
    weights: str | None,
    input_shape: tuple[int, ...],
    classes: Outputs,
    options: Mapping[str, Any],
) -> "keras.Model":
    import keras

    name = source.removeprefix(APPLICATIONS)
    known = [key for key, value in vars(keras.applications).items() if _builds(key, value)]
    if name not in known:
        raise OptionError(f"[model] {source}: no such application. {nearest(name, known)}")
    build = getattr(keras.applications, name)
    if weights is not None and Path(weights).is_file():
        from tfprune.loading.model_files import check_weights_file

        check_weights_file(Path(weights))
    given = {"input_shape": input_shape, "classes": classes, "weights": weights}
    try:
        return build(**{**given, **options})
    except (TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(
            f"[model] {source} for examples of shape {input_shape}: {reason}"
        ) from None


def _builds(name: str, value: object) -> bool:
    return name[0].isupper() and callable(value)


def _image_shape(name: str, shape: tuple[int, ...]) -> tuple[int, int, int]:
    if len(shape) != 3:
        raise ModelError(
            f"[model] {name} takes images of shape (height, width, channels); the data has shape "
            f"{shape}. Add the channel axis, x[..., None], or use mlp."
        )
    return shape


@BUILDERS.register("convnet")
def convnet(input_shape: tuple[int, ...], classes: Outputs, width: int = 32) -> "keras.Model":
    """Build three 3×3 convolutions, the last two of twice `width` filters, and two dense layers."""
    from keras import Input, layers

    return _with_heads(
        "convnet",
        [
            Input(_image_shape("convnet", input_shape)),
            layers.Conv2D(width, 3, padding="same", activation="relu", name="conv1"),
            layers.Conv2D(2 * width, 3, padding="same", activation="relu", name="conv2"),
            layers.MaxPooling2D(name="pool1"),
            layers.Conv2D(2 * width, 3, padding="same", activation="relu", name="conv3"),
            layers.MaxPooling2D(padding="same", name="pool2"),
            layers.Flatten(name="flatten"),
            layers.Dropout(0.3, name="dropout"),
            layers.Dense(8 * width, activation="relu", name="dense"),
        ],
        classes,
    )


@BUILDERS.register("mlp")
def mlp(input_shape: Shape, classes: Outputs, width: int = 256) -> "keras.Model":
    """Build dense layers of `width` and half as many units, and the logits, on any shapes."""
    from keras import Input, layers

    body = [
        layers.Dense(width, activation="relu", name="dense1"),
        layers.Dense(width // 2, activation="relu", name="dense2"),
    ]
    if not isinstance(input_shape, Mapping):
        flat = layers.Flatten(name="flatten")
        return _with_heads("mlp", [Input(input_shape), flat, *body], classes)
    inputs = {name: Input(shape, name=name) for name, shape in input_shape.items()}
    parts = [layers.Flatten(name=f"flatten_{name}")(x) for name, x in inputs.items()]
    return _on("mlp", inputs, layers.Concatenate(name="join")(parts), body, classes)


def _with_heads(name: str, body: list[Any], outputs: Outputs) -> "keras.Model":
    """Return a model of layers in a row, and a dense layer for each output."""
    from keras import Sequential, layers

    if isinstance(outputs, int):
        return Sequential([*body, layers.Dense(outputs, name="logits")], name=name)
    first, *rest = body
    return _on(name, first, first, rest, outputs)


def _on(name: str, inputs: Any, last: Any, body: list[Any], outputs: Outputs) -> "keras.Model":
    """Return a model of layers on a tensor, and a dense layer for each output."""
    from keras import Model, layers

    for layer in body:
        last = layer(last)
    if isinstance(outputs, int):
        return Model(inputs, layers.Dense(outputs, name="logits")(last), name=name)
    ends = {key: layers.Dense(count, name=key)(last) for key, count in outputs.items()}
    return Model(inputs, ends, name=name)


@BUILDERS.register("attention")
def attention(
    input_shape: tuple[int, ...], classes: Outputs, width: int = 64, heads: int = 4, blocks: int = 2
) -> "keras.Model":
    """Build a small transformer that reads an image row by row.

    Args:
        input_shape: Height, width and channels of an image.
        classes: Outputs.
        width: Width of the embedding; the dense layers between have twice as many units.
        heads: Heads of each attention layer, which share `width`.
        blocks: Number of pairs of attention and dense layers.
    """
    from keras import Input, Model, layers

    height, columns, channels = _image_shape("attention", input_shape)
    if width % heads:
        raise OptionError(f"[model] options: width = {width} is not a multiple of heads = {heads}.")
    image = Input((height, columns, channels), name="image")
    # A convolution over the width of the image gives one embedding per row; with `same` padding
    # above and below, each row also sees its neighbors, which preserves the order of the rows.
    x = layers.ZeroPadding2D(((1, 1), (0, 0)), name="pad")(image)
    x = layers.Conv2D(width, (3, columns), name="embed")(x)
    x = layers.Reshape((height, width), name="rows")(x)
    for number in range(1, blocks + 1):
        seen = layers.LayerNormalization(name=f"norm{number}a")(x)
        attend = layers.MultiHeadAttention(heads, width // heads, name=f"attention{number}")
        x = layers.Add(name=f"add{number}a")([x, attend(seen, seen)])
        hidden = layers.LayerNormalization(name=f"norm{number}b")(x)
        hidden = layers.Dense(2 * width, activation="relu", name=f"expand{number}")(hidden)
        hidden = layers.Dense(width, name=f"contract{number}")(hidden)
        x = layers.Add(name=f"add{number}b")([x, hidden])
    x = layers.Flatten(name="flatten")(layers.LayerNormalization(name="norm")(x))
    if isinstance(classes, int):
        return Model(image, layers.Dense(classes, name="logits")(x), name="attention")
    ends = {name: layers.Dense(count, name=name)(x) for name, count in classes.items()}
    return Model(image, ends, name="attention")


@BUILDERS.register("unet")
def unet(input_shape: tuple[int, ...], classes: int, width: int = 16) -> "keras.Model":
    """Build a U-Net of two steps down and up, with an output for each pixel.

    Height and width of the images are multiples of 4.
    """
    from keras import Input, Model, layers

    height, columns, channels = _image_shape("unet", input_shape)
    if height % 4 or columns % 4:
        raise ModelError(f"[model] unet takes images of multiples of 4. Received {input_shape}")

    def twice(x: Any, filters: int, name: str) -> Any:
        for part in "ab":
            x = layers.Conv2D(filters, 3, padding="same", activation="relu", name=f"{name}{part}")(
                x
            )
        return x

    image = Input((height, columns, channels), name="image")
    first = twice(image, width, "down1")
    second = twice(layers.MaxPooling2D(name="pool1")(first), 2 * width, "down2")
    x = twice(layers.MaxPooling2D(name="pool2")(second), 4 * width, "middle")
    for beside, filters, name in ((second, 2 * width, "up2"), (first, width, "up1")):
        x = layers.Conv2DTranspose(filters, 2, strides=2, name=f"{name}_wider")(x)
        x = layers.Concatenate(name=f"{name}_join")([x, beside])
        x = twice(x, filters, name)
    return Model(image, layers.Conv2D(classes, 1, name="logits")(x), name="unet")


@BUILDERS.register("autoencoder")
def autoencoder(
    input_shape: tuple[int, ...], classes: int, width: int = 64, code: int = 16
) -> "keras.Model":
    """Build dense layers of `width` units to a code and back to the shape of the input."""
    from keras import Input, Sequential, layers

    size = math.prod(input_shape)
    return Sequential(
        [
            Input(input_shape),
            layers.Flatten(name="flatten"),
            layers.Dense(width, activation="relu", name="encode"),
            layers.Dense(code, activation="relu", name="code"),
            layers.Dense(width, activation="relu", name="decode"),
            layers.Dense(size, name="pixels"),
            layers.Reshape(input_shape, name="image"),
        ],
        name="autoencoder",
    )


@BUILDERS.register("lstm")
def lstm(
    input_shape: tuple[int, ...], classes: Outputs, words: int = 10_000, width: int = 64
) -> "keras.Model":
    """Build an embedding of `words` tokens, an LSTM, and a dense layer of `width` units each.

    The token 0 fills up a sequence, and is skipped.
    """
    from keras import Input, layers

    if len(input_shape) != 1:
        raise ModelError(
            f"[model] lstm takes sequences of tokens; the data has examples of shape {input_shape}."
        )
    return _with_heads(
        "lstm",
        [
            Input(input_shape, dtype="int32", name="tokens"),
            layers.Embedding(words, width, mask_zero=True, name="embedding"),
            layers.LSTM(width, name="lstm"),
            layers.Dropout(0.3, name="dropout"),
            layers.Dense(width, activation="relu", name="dense"),
        ],
        classes,
    )
