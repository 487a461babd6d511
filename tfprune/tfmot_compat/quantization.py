"""Quantization by the names of tensorflow-model-optimization, for both generations of Keras."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import keras

from tfprune.deploy.qat.quantize_aware import rounded_model
from tfprune.deploy.qat.rounding.choices import Choices
from tfprune.deploy.qat.rounding.layer_rounding import has_rule, rule_for
from tfprune.errors import ModelError, OptionError, type_name
from tfprune.graph.flat import FlatEdits
from tfprune.graph.graph import Graph
from tfprune.graph.read import is_function, read
from tfprune.graph.rebuild import operations, read_weights, rebuild
from tfprune.keras_support.models import is_tf_keras, is_tfmot
from tfprune.tfmot_compat.adapter import toolkit
from tfprune.tfmot_compat.quantize_annotate import QuantizeAnnotate
from tfprune.tfmot_compat.quantize_config import QuantizeConfig, rounding_of
from tfprune.tfmot_compat.quantizers import Quantizer
from tfprune.utils.extras import installed

PREFIX = "quant_"


class Default8BitQuantizeScheme:
    """Rounds to 8 bits; zeros and equal weights may change."""

    keep_zeros = False
    keep_clusters = False


class Default8BitPrunePreserveQuantizeScheme(Default8BitQuantizeScheme):
    """Rounds to 8 bits; kernel weights that are zero stay zero."""

    keep_zeros = True


class Default8BitClusterPreserveQuantizeScheme(Default8BitQuantizeScheme):
    """Rounds to 8 bits; kernel weights that are equal stay equal.

    Args:
        preserve_sparsity: Whether those that are zero stay zero.
    """

    keep_clusters = True

    def __init__(self, preserve_sparsity: bool = True) -> None:
        self.keep_zeros = preserve_sparsity


def quantize_model(to_quantize: Any, quantized_layer_name_prefix: str | None = PREFIX) -> Any:
    """Return a model that trains under the rounding of an int8 file.

    A drop-in replacement for tensorflow-model-optimization's function, which is called for models
    of `tf_keras`; those of Keras 3 are rounded as by `quantize_aware`.

    Args:
        to_quantize: A model of any kind. Layers that are annotated are rounded as they say.
        quantized_layer_name_prefix: What the names of rounded layers begin with.

    Returns:
        A new model.

    Raises:
        ModelError: It is not a model.
        OptionError: A `QuantizeConfig` asks for what the runtime cannot run.

    Example:
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, name="last")])
        >>> quantize_model(model).get_layer("quant_last").name
        'quant_last'
    """
    if is_tf_keras(to_quantize):
        return _api().quantize_model(to_quantize, quantized_layer_name_prefix)
    plain, configs = _without_annotations("quantize_model", to_quantize)
    scheme = Default8BitQuantizeScheme()
    return _rounded(plain, configs, scheme, quantized_layer_name_prefix, everything=True)


def quantize_annotate_layer(to_annotate: Any, quantize_config: Any = None) -> Any:
    """Return a layer that says it is to be rounded by `quantize_apply`.

    Args:
        to_annotate: A layer, not a model.
        quantize_config: A `QuantizeConfig` that says how; None: as layers of its kind are.

    Raises:
        ModelError: It is not a layer.
        OptionError: `quantize_config` is not one.

    Example:
        >>> quantize_annotate_layer(keras.layers.Dense(4, name="last")).layer.name
        'last'
    """
    if is_tf_keras(to_annotate):
        return _api().quantize_annotate_layer(to_annotate, quantize_config)
    if not isinstance(to_annotate, keras.Layer) or isinstance(to_annotate, keras.Model):
        raise ModelError(
            f"quantize_annotate_layer: expected a layer. Received {type_name(to_annotate)}; for a "
            "model, use quantize_annotate_model"
        )
    if quantize_config is not None and not isinstance(quantize_config, QuantizeConfig):
        raise OptionError(
            "quantize_config: expected a tfprune.QuantizeConfig. "
            f"Received {type_name(quantize_config)}"
        )
    return QuantizeAnnotate(to_annotate, quantize_config)


def quantize_annotate_model(to_annotate: Any) -> Any:
    """Return a model all of whose layers say that they are to be rounded by `quantize_apply`.

    Args:
        to_annotate: A sequential or functional model, whose layers the new one shares; layers that
            are annotated keep their `QuantizeConfig`.

    Raises:
        ModelError: It is not such a model.

    Example:
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, name="last")])
        >>> [layer.layer.name for layer in quantize_annotate_model(model).layers]
        ['last']
    """
    if is_tf_keras(to_annotate):
        return _api().quantize_annotate_model(to_annotate)
    _check_model("quantize_annotate_model", to_annotate)
    if not is_function(to_annotate):
        raise ModelError(
            f"quantize_annotate_model: model {to_annotate.name!r} is subclassed, and its layers "
            "cannot be exchanged; use quantize_model, or quantize_aware with only= or skip="
        )

    def annotated(layer: Any) -> Any:
        if isinstance(layer, QuantizeAnnotate):
            return layer
        if isinstance(layer, keras.Model):
            return quantize_annotate_model(layer)
        return QuantizeAnnotate(layer)

    return keras.models.clone_model(to_annotate, clone_function=annotated)


def quantize_apply(
    model: Any, scheme: Any = None, quantized_layer_name_prefix: str | None = PREFIX
) -> Any:
    """Return a model whose annotated layers train under the rounding of an int8 file.

    The others train in floats and stay so in the file.

    Args:
        model: A model with layers of `quantize_annotate_layer`, or of `quantize_annotate_model`.
        scheme: A `Default8BitQuantizeScheme`, `Default8BitPrunePreserveQuantizeScheme` or
            `Default8BitClusterPreserveQuantizeScheme`; None is the first.
        quantized_layer_name_prefix: What the names of rounded layers begin with.

    Returns:
        A new model.

    Raises:
        ModelError: It is not a model, or nothing of it is annotated.
        OptionError: A `QuantizeConfig` asks for what the runtime cannot run.

    Example:
        >>> last = quantize_annotate_layer(keras.layers.Dense(4, name="last"))
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(8, name="first"), last])
        >>> [layer.name for layer in quantize_apply(model).layers if "range" not in layer.name][1:]
        ['first', 'quant_last']
    """
    scheme = Default8BitQuantizeScheme() if scheme is None else scheme
    if is_tf_keras(model):
        theirs = _scheme_to_tfmot(scheme)
        return _api().quantize_apply(model, theirs, quantized_layer_name_prefix)
    if not isinstance(scheme, Default8BitQuantizeScheme):
        raise OptionError(
            "scheme: expected a tfprune.Default8BitQuantizeScheme or one that keeps zeros or equal "
            f"weights. Received {type_name(scheme)}; for other rules, register one for a class "
            "with tfprune.rounding.register"
        )
    plain, configs = _without_annotations("quantize_apply", model)
    if not configs:
        raise ModelError(
            f"quantize_apply: no layer of the model {model.name!r} is annotated; call "
            "quantize_annotate_layer or quantize_annotate_model first"
        )
    return _rounded(plain, configs, scheme, quantized_layer_name_prefix, everything=False)


@contextlib.contextmanager
def quantize_scope(*args: Mapping[str, Any]) -> Iterator[None]:
    """Enter the scope in which files of rounded models can be loaded.

    Files of Keras 3 models need it only for layers and quantizers of your own.

    Args:
        *args: Dicts of classes by name.

    Example:
        >>> with quantize_scope({"Own": keras.layers.Dense}):
        ...     keras.saving.get_registered_object("Own").__name__
        'Dense'
    """
    own = {name: kind for objects in args for name, kind in objects.items()}
    with contextlib.ExitStack() as scopes:
        scopes.enter_context(keras.saving.custom_object_scope(own))
        if installed("tensorflow_model_optimization", "tf_keras"):
            scopes.enter_context(_api().quantize_scope(*args))
        yield


def _api() -> Any:
    """Return `tfmot.quantization.keras`, which then knows our classes."""
    api = toolkit().quantization.keras
    api.QuantizeConfig.register(QuantizeConfig)
    api.quantizers.Quantizer.register(Quantizer)
    return api


def _scheme_to_tfmot(scheme: Any) -> Any:
    if is_tfmot(scheme) or not isinstance(scheme, Default8BitQuantizeScheme):
        return scheme
    name = type(scheme).__name__
    if scheme.keep_clusters:
        return getattr(toolkit().experimental.combine, name)(scheme.keep_zeros)
    if scheme.keep_zeros:
        return getattr(toolkit().experimental.combine, name)()
    return _api().default_8bit.Default8BitQuantizeScheme()


def _check_model(verb: str, model: Any) -> None:
    if not isinstance(model, keras.Model):
        raise ModelError(f"{verb}: expected a keras.Model. Received {type_name(model)}")


class _Unwrapping(FlatEdits):
    """The layers inside annotations, instead of these."""

    def remake(self, op: Any, name: str) -> Any:
        if type(op) is QuantizeAnnotate:
            return super().remake(op.layer, op.layer.name)
        return super().remake(op, name)


def _without_annotations(verb: str, model: Any) -> tuple[Any, dict[str, Any]]:
    """Return a model without annotations, and the configs of annotated layers by their names."""
    _check_model(verb, model)
    if not is_function(model):
        return model, {}
    graph = read(model, lambda op: not is_function(op))
    annotated = [op for op in operations(graph) if type(op) is QuantizeAnnotate]
    if not annotated:
        return model, {}
    weights = read_weights(graph)
    plain, _ = rebuild(graph, weights, _Unwrapping(), weights)
    return plain, {op.layer.name: op.quantize_config for op in annotated}


def _rounded(
    plain: Any,
    configs: Mapping[str, Any],
    scheme: Default8BitQuantizeScheme,
    prefix: str | None,
    *,
    everything: bool,
) -> Any:
    """Return a model whose layers are rounded as their configs say, and all others if asked."""
    own = {
        name: rounding_of(config, plain.get_layer(name))
        for name, config in configs.items()
        if config is not None
    }

    def choose(flat: Graph) -> Choices:
        found = {}
        for op in operations(flat):
            name = flat.paths[op.name].partition("/")[0]
            rounding = own[name] if name in own else rule_for(op)
            if rounding is not None and (everything or name in configs):
                found[op.name] = rounding
        return Choices(found, "moving_average")

    return rounded_model(
        plain,
        choose,
        keep_zeros=scheme.keep_zeros,
        keep_clusters=scheme.keep_clusters,
        whole=lambda op: has_rule(op) or (isinstance(op, keras.Layer) and op.name in own),
        prefix=prefix or "",
    )
