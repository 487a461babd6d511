"""Multi-head and grouped-query attention: heads, key width, value width and model width."""

import math
from typing import Any

import numpy as np
from keras import layers as kl

from tfprune.graph.graph import Call
from tfprune.keras_support.attention_steps import projections_of
from tfprune.structure.ids.flow import Flow
from tfprune.structure.ids.ids import HEADS, MAKE, USE, WIDTH, Axes, Ids, Keep, Site
from tfprune.structure.ids.rule_registry import layers, ops, stop


def _argument(call: Call, name: str, position: int) -> Any:
    if name in call.kwargs:
        return call.kwargs[name]
    return call.args[position] if len(call.args) > position else None


def _bind_projection(site: Site, dense: Any, source: Any, heads: Any, width: Any) -> None:
    """Bind a kernel of (model width, heads, head width) and its bias of (heads, head width)."""
    if dense is None:
        return
    site.bind(dense.kernel, 0, source, USE)
    site.bind(dense.kernel, 1, heads, MAKE)
    site.bind(dense.kernel, 2, width, MAKE)
    site.bind(dense.bias, 0, heads)
    site.bind(dense.bias, 1, width)


def _scale_queries(site: Site, dense: Any, key: Any) -> None:
    """Scale queries by √(new/old): the layer divides them by √key_dim, which is now smaller.

    A width is zeroed in them, since the layer multiplies queries and keys inside.
    """

    def factor(keep: Keep) -> float:
        return math.sqrt(keep.count(key) / len(key))

    for axis, weight in (2, dense.kernel), (1, dense.bias):
        if weight is not None:
            site.factor(weight, factor)
            site.zero(weight, axis, key)


@layers(kl.MultiHeadAttention)
def multi_head(flow: Flow, call: Call) -> Axes | list[Axes]:
    """Bind heads and widths: a head is a slice of the query, key, value and output kernels."""
    layer, site = call.op, flow.site(call.op)
    xq, xv, xk = _inputs(flow, call)
    heads = site.make("num_heads", layer.num_heads, kind=HEADS)
    width_k = site.make("key_dim", layer.key_dim, kind=WIDTH)
    width_v = site.make("value_dim", layer.value_dim, kind=WIDTH)
    dense = projections_of(layer)
    _bind_projection(site, dense.query, xq[-1], heads, width_k)
    _bind_projection(site, dense.key, xk[-1], heads, width_k)
    _bind_projection(site, dense.value, xv[-1], heads, width_v)
    _bind_projection(site, dense.gate, xq[-1], heads, width_v)
    _scale_queries(site, dense.query, width_k)
    out = dense.output
    if len(out.kernel.shape) != 3:
        return stop(flow, call, "has an output of several axes")
    made = site.make("output_shape", out.kernel.shape[-1], kind=WIDTH, resize=False)
    wanted, at_query = layer.get_config()["output_shape"], xq[-1]

    def output_shape(keep: Keep) -> Any:
        """Return the width of the output; None if it equals the query's and was None before."""
        if wanted is None and at_query is not None and keep.count(at_query) == keep.count(made):
            return None
        if wanted is None and at_query is None and keep.all(made):
            return None
        return (keep.count(made),)

    site.edit("output_shape", output_shape)
    _bind_output(site, out, heads, width_v, made)
    return _with_scores(flow, call, made, heads)


def _inputs(flow: Flow, call: Call) -> list[Axes]:
    """Return the axes of query, value and key, with frozen positions, over which it sums."""
    query, value, key = (_argument(call, name, at) for at, name in enumerate(_INPUTS))
    found = [flow.axes(ref) for ref in (query, value, value if key is None else key)]
    for axes in found:
        flow.freeze_axes(axes[:-1], f"{call.path} attends over this axis")
    return found


def _with_scores(flow: Flow, call: Call, made: Ids, heads: Ids) -> Axes | list[Axes]:
    """Return the axes of the output, and of the scores if a call returns them."""
    first, *scores = (flow.shape(ref) for ref in call.outputs)
    output: Axes = (*(None for _ in first[:-1]), made)
    if not scores:
        return output
    if len(first) == 3:
        return [output, (None, heads, None, None)]
    # Over several axes, Keras declares scores of another shape than it returns.
    flow.freeze(heads, f"{call.path} returns the scores of several axes")
    return [output, (None,) * len(scores[0])]


def _bind_output(site: Site, dense: Any, heads: Any, width: Any, made: Any) -> None:
    """Bind the projection that uses heads and their widths, and makes the output."""
    site.bind(dense.kernel, 0, heads, USE)
    site.bind(dense.kernel, 1, width, USE)
    site.bind(dense.kernel, 2, made, MAKE)
    site.bind(dense.bias, 0, made)


@layers(kl.GroupQueryAttention)
def grouped_query(flow: Flow, call: Call) -> Axes | list[Axes]:
    """Bind each key-value head together with its query heads; a single one is kept for all."""
    layer, site = call.op, flow.site(call.op)
    xq, xv, xk = _inputs(flow, call)
    flow.join(xq[-1], xv[-1], f"{call.path} requires its value to be as wide as its query")
    hq, hkv = layer.num_query_heads, layer.num_key_value_heads
    if hkv == 1:
        queries = site.make("num_query_heads", hq, kind=HEADS)
        shared = None
    else:
        shared = site.make("num_key_value_heads", hkv, kind=HEADS)
        queries = np.repeat(shared, hq // hkv)
        site.edit("num_query_heads", lambda keep: keep.count(queries))
    width = site.make("head_dim", layer.head_dim, kind=WIDTH)
    dense = projections_of(layer)
    _bind_projection(site, dense.query, xq[-1], queries, width)
    _bind_projection(site, dense.key, xk[-1], shared, width)
    _bind_projection(site, dense.value, xv[-1], shared, width)
    _bind_projection(site, dense.gate, xq[-1], queries, width)
    _scale_queries(site, dense.query, width)
    out = dense.output
    # The output is as wide as the query by the layer's own definition.
    made = site.make("output", out.kernel.shape[-1], kind=WIDTH, resize=False)
    flow.join(xq[-1], made, f"{call.path} gives as many channels as its query has")
    _bind_output(site, out, queries, width, made)
    return _with_scores(flow, call, made, queries)


@ops("DotProductAttention")
def dot_product(flow: Flow, call: Call) -> Axes:
    """Propagate through attention without weights, on (batch, steps, heads, width)."""
    query, key, value = (_argument(call, name, at) for at, name in enumerate(_TENSORS))
    xq, xk, xv = flow.axes(query), flow.axes(key), flow.axes(value)
    why = f"{call.path} joins this to something that cannot be removed"
    shared = flow.join(xk[2], xv[2], why)
    if flow.shape(query)[2] == flow.shape(key)[2]:
        heads = flow.join(xq[2], shared, why)
    else:
        # TensorFlow distributes keys over queries only if there are at least two.
        heads = None
        flow.freeze_axes((xq[2], shared), f"{call.path} distributes its keys over the queries")
    for name in ("bias", "mask"):
        extra = call.kwargs.get(name)
        if len(flow.shape(extra)) == 4 and flow.shape(extra)[1] != 1:
            heads = flow.join(heads, flow.axes(extra)[1], why)
    width = flow.join(xq[3], xk[3], why)
    flow.zero_input(call, query, 3, width)
    if width is None or xv[3] is None:
        # Keras takes the output to be as wide as the query.
        flow.freeze_axes((width, xv[3]), f"{call.path} requires equally wide queries and values")
    else:
        flow.block(np.concatenate([width, xv[3]]), 2)

    def rewrite(keep: Keep, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        scale = kwargs.get("scale")
        if scale is None and not keep.all(width):
            kwargs = {**kwargs, "scale": 1 / math.sqrt(flow.shape(query)[3] or 1)}
        return args, kwargs

    flow.rewrite(call, rewrite)
    return (xq[0], xq[1], heads, xv[3])


_TENSORS = ("query", "key", "value")
_INPUTS = ("query", "value", "key")
