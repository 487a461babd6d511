"""Clustering by the names of tensorflow-model-optimization, for both generations of Keras."""

import contextlib
import enum
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, TypeVar

from tfprune.clustering import cluster as native
from tfprune.clustering.centroids import INITS
from tfprune.clustering.cluster import Clustering, check_count, shared_values_of, start
from tfprune.clustering.shared import Sharing
from tfprune.errors import OptionError, nearest
from tfprune.keras_support.models import is_tf_keras
from tfprune.sparsity.callbacks import Summaries
from tfprune.tfmot_compat.adapter import toolkit
from tfprune.tfmot_compat.callbacks import forward_hooks, restore_hooks
from tfprune.utils.extras import installed

M = TypeVar("M")  # a model, a layer, or a list of layers
Member = TypeVar("Member", bound=enum.Enum)


class CentroidInitialization(enum.StrEnum):
    """Where the shared values of a kernel begin.

    `LINEAR`: evenly from the smallest to the largest weight. `RANDOM`: anywhere between these.
    `DENSITY_BASED`: with as many weights between each two. `KMEANS_PLUS_PLUS`: far from each other.
    """

    LINEAR = "CentroidInitialization.LINEAR"
    RANDOM = "CentroidInitialization.RANDOM"
    DENSITY_BASED = "CentroidInitialization.DENSITY_BASED"
    KMEANS_PLUS_PLUS = "CentroidInitialization.KMEANS_PLUS_PLUS"


class GradientAggregation(enum.StrEnum):
    """How a centroid of a `tf_keras` model takes the gradients of its weights.

    In a Keras 3 model a centroid takes the mean of its weights' steps. With an optimizer that
    divides by the size of the gradient, such as Adam, sum and mean make the same steps.
    """

    SUM = "GradientAggregation.SUM"
    AVG = "GradientAggregation.AVG"


_INITS = {
    CentroidInitialization.LINEAR: "linear",
    CentroidInitialization.RANDOM: "random",
    CentroidInitialization.DENSITY_BASED: "density",
    CentroidInitialization.KMEANS_PLUS_PLUS: "kmeans++",
}


class ClusterableLayer(ABC):
    """A mixin for layers that name the weights to cluster.

    Example:
        >>> import keras
        >>> class Scale(keras.layers.Layer, ClusterableLayer):
        ...     def build(self, shape):
        ...         self.table = self.add_weight(shape=(4, 4), name="table")
        ...     def get_clusterable_weights(self):
        ...         return [("table", self.table)]
    """

    @abstractmethod
    def get_clusterable_weights(self) -> list[tuple[str, Any]]:
        """Return pairs of an attribute's name and the variable it holds."""

    def get_clusterable_algorithm(self, weight_name: str) -> Any:
        """Return None, or the algorithm for a weight of a `tf_keras` layer."""
        return None


def cluster_weights(
    to_cluster: Any,
    number_of_clusters: int,
    cluster_centroids_init: CentroidInitialization = CentroidInitialization.KMEANS_PLUS_PLUS,
    *,
    preserve_sparsity: bool = False,
    cluster_per_channel: bool = False,
    cluster_gradient_aggregation: GradientAggregation = GradientAggregation.SUM,
    **kwargs: Any,
) -> Any:
    """Make the weights of each kernel share a few values while the model trains.

    A drop-in replacement for tensorflow-model-optimization's function, which is called for
    models, layers and lists of `tf_keras`; those of Keras 3 are clustered here and returned
    themselves. Kernels that are already clustered are not changed.

    Args:
        to_cluster: A model, a layer, or a list of layers.
        number_of_clusters: The most values that a kernel may have.
        cluster_centroids_init: Where they begin.
        preserve_sparsity: Whether weights that are 0 stay 0.
        cluster_per_channel: Whether each output channel of a convolution has values of its own.
        cluster_gradient_aggregation: See `GradientAggregation`.
        **kwargs: Passed on, for `tf_keras` layers only.

    Returns:
        `to_cluster` itself (Keras 3), or the result of tensorflow-model-optimization (`tf_keras`).

    Example:
        >>> import keras
        >>> import numpy as np
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(8)])
        >>> model = cluster_weights(model, 4, CentroidInitialization.LINEAR)
        >>> np.unique(model.layers[0].kernel).size
        4
    """
    init = _member(CentroidInitialization, cluster_centroids_init, "cluster_centroids_init")
    aggregation = _member(
        GradientAggregation, cluster_gradient_aggregation, "cluster_gradient_aggregation"
    )
    check_count("number_of_clusters", number_of_clusters)
    if is_tf_keras(to_cluster):
        api = toolkit().clustering.keras
        api.ClusterableLayer.register(ClusterableLayer)
        return api.cluster_weights(
            to_cluster,
            number_of_clusters,
            api.CentroidInitialization[init.name],
            preserve_sparsity=preserve_sparsity,
            cluster_per_channel=cluster_per_channel,
            cluster_gradient_aggregation=_aggregations()[aggregation.name],
            **kwargs,
        )
    if kwargs:
        raise OptionError(
            f"cluster_weights: unexpected argument {sorted(kwargs)[0]!r}; "
            "only tf_keras layers accept further ones"
        )
    sharing = Sharing(
        number_of_clusters, INITS[_INITS[init]], cluster_per_channel, preserve_sparsity, seed=0
    )
    return start(to_cluster, Clustering(sharing, again=False))


def _aggregations() -> Any:
    """Return tensorflow-model-optimization's `GradientAggregation`, which it does not export."""
    from tensorflow_model_optimization.python.core.clustering.keras import cluster_config

    return cluster_config.GradientAggregation


def _member(kind: type[Member], value: Any, name: str) -> Member:
    """Return a member of an enumeration for a member of ours or of theirs, which is a text."""
    known = {member.value: member for member in kind}
    if isinstance(value, str) and str.__str__(value) in known:
        return known[str.__str__(value)]
    raise OptionError(
        f"{name}: expected a member of {kind.__name__}. Received {value!r}. "
        f"{nearest(str(value), kind.__members__)}"
    )


def strip_clustering(model: M) -> M:
    """Remove what makes the weights of a trained model share values; they still do.

    Args:
        model: A model from `cluster` or `cluster_weights`.

    Returns:
        `model` itself (Keras 3), or a stripped copy (`tf_keras`).

    Warns:
        ScheduleWarning: If weights did not share values any more, since something other than the
            optimizer had changed them, so that the accuracy measured before is not this model's.
    """
    if is_tf_keras(model):
        return toolkit().clustering.keras.strip_clustering(model)
    return native.strip_clustering(model)


@contextlib.contextmanager
def cluster_scope() -> Iterator[None]:
    """Enter the scope in which files of clustered `tf_keras` models can be loaded.

    Files of Keras 3 models need no scope: they have no custom objects.
    """
    with contextlib.ExitStack() as stack:
        if installed("tensorflow_model_optimization", "tf_keras"):
            stack.enter_context(toolkit().clustering.keras.cluster_scope())
        yield


class ClusteringSummaries(Summaries):
    """A TensorBoard callback that also writes histograms of clustered kernels and their centroids.

    Args:
        log_dir: The folder that TensorBoard reads.
        cluster_update_freq: `"epoch"`, `"batch"`, or a number of batches.
        **kwargs: Arguments of `keras.callbacks.TensorBoard`.
    """

    _call, _folder = "ClusteringSummaries", "clustering"

    def __init__(
        self, log_dir: str = "logs", cluster_update_freq: str | int = "epoch", **kwargs: Any
    ) -> None:
        super().__init__(log_dir, **kwargs)
        self._options = kwargs
        self.cluster_update_freq = 1 if cluster_update_freq == "batch" else cluster_update_freq
        self._batches = 0

    def set_model(self, model: Any) -> None:
        if is_tf_keras(model):
            kind = toolkit().clustering.keras.ClusteringSummaries
            forward_hooks(
                self, kind(self.log_dir, self.cluster_update_freq, **self._options), model
            )
        else:
            restore_hooks(self)
            super().set_model(model)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        super().on_train_batch_end(batch, logs)
        self._batches += 1
        frequency = self.cluster_update_freq
        if isinstance(frequency, int) and self._batches % frequency == 0:
            self._write()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        super().on_epoch_end(epoch, logs)
        if self.cluster_update_freq == "epoch":
            self._write()

    def _write(self) -> None:
        import tensorflow as tf

        with self._written() as step:
            for held in shared_values_of(self.model):
                name = f"clustering/{held.kernel.path}"
                tf.summary.histogram(name, held.kernel.variable.value, step=step)
                tf.summary.histogram(f"{name}/centroids", held.centroids, step=step)
