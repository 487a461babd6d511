"""Multi-head and grouped-query attention: heads, key width, value width and model width."""

import math
from typing import Any

import numpy as np
from keras import layers as kl

from tfprune.graph.read import Call
from tfprune.keras_support.attention_steps import projections_of
from tfprune.structure.ids.flow import Flow
from tfprune.structure.ids.ids import HEADS, MAKE, USE, WIDTH, Axes, Ids, Keep
from tfprune.structure.ids.rule_registry import layers, ops, stop
from tfprune.structure.ids.site import Site


def _argument(call: Call, name: str, position: int) -> Any:
    if name in call.kwargs:
        return call.kwargs[name]
    return call.args[position] if len(call.args) > position else None


def _bind_projection(site: Site, dense: Any, source: Any, heads: Any, width: Any) -> None:
    """A kernel of (model width, heads, head width) and its bias of (heads, head width)."""
    site.bind(dense.kernel, 0, source, USE)
    site.bind(dense.kernel, 1, heads, MAKE)
    site.bind(dense.kernel, 2, width, MAKE)
    if dense.bias is not None:
        site.bind(dense.bias, 0, heads)
        site.bind(dense.bias, 1, width)


def _keep_scale(site: Site, dense: Any, key: Any) -> None:
    """Queries are divided by √key_dim: what stays must be made larger by √(new/old)."""

    def factor(keep: Keep) -> float:
        return math.sqrt(keep.count(key) / len(key))

    site.factor(dense.kernel, factor)
    if dense.bias is not None:
        site.factor(dense.bias, factor)


@layers(kl.MultiHeadAttention)
def multi_head(flow: Flow, call: Call) -> Axes | list[Axes]:
    """A head is a slice of the query, key, value and output kernels."""
    layer, site = call.op, flow.site(call.op)
    query, value = _argument(call, "query", 0), _argument(call, "value", 1)
    key = _argument(call, "key", 2)
    key = value if key is None else key
    xq, xv, xk = flow.axes(query), flow.axes(value), flow.axes(key)
    if len(xq) != 3 or layer.attention_axes not in (None, (1,)):
        return stop(flow, call, "attends over several axes")
    heads = site.make("num_heads", layer.num_heads, kind=HEADS)
    width_k = site.make("key_dim", layer.key_dim, kind=WIDTH)
    width_v = site.make("value_dim", layer.value_dim, kind=WIDTH)
    dense = projections_of(layer)
    _bind_projection(site, dense.query, xq[-1], heads, width_k)
    _bind_projection(site, dense.key, xk[-1], heads, width_k)
    _bind_projection(site, dense.value, xv[-1], heads, width_v)
    if dense.gate is not None:
        _bind_projection(site, dense.gate, xq[-1], heads, width_v)
    _keep_scale(site, dense.query, width_k)
    out = dense.output
    if len(out.kernel.shape) != 3:
        return stop(flow, call, "has an output of several axes")
    made = site.make("output_shape", out.kernel.shape[-1], kind=WIDTH, resize=False)
    asked, at_query = layer.get_config()["output_shape"], xq[-1]

    def output_shape(keep: Keep) -> Any:
        """Only where the output is not as wide as the query, or was so by name."""
        if asked is None and at_query is not None and keep.count(at_query) == keep.count(made):
            return None
        if asked is None and at_query is None and keep.all(made):
            return None
        return (keep.count(made),)

    site.edit("output_shape", output_shape)
    _bind_output(site, out, heads, width_v, made)
    _silence_keys(site, dense.query, width_k)
    return _with_scores(call, made, heads)


def _with_scores(call: Call, made: Ids, heads: Ids) -> Axes | list[Axes]:
    """The output, and where a call returns its scores, these: one table for each head."""
    output: Axes = (None, None, made)
    return output if len(call.outputs) == 1 else [output, (None, heads, None, None)]


def _bind_output(site: Site, dense: Any, heads: Any, width: Any, made: Any) -> None:
    """The projection that uses up heads and their widths, and makes the output."""
    site.bind(dense.kernel, 0, heads, USE)
    site.bind(dense.kernel, 1, width, USE)
    site.bind(dense.kernel, 2, made, MAKE)
    if dense.bias is not None:
        site.bind(dense.bias, 0, made)


def _silence_keys(site: Site, dense: Any, width: Any) -> None:
    """Queries and keys are multiplied inside: the query's column is what silences a width."""
    site.hush(dense.kernel, 2, width)
    if dense.bias is not None:
        site.hush(dense.bias, 1, width)


@layers(kl.GroupQueryAttention)
def grouped_query(flow: Flow, call: Call) -> Axes | list[Axes]:
    """A key-value head goes with the queries that use it; a single one stays for all."""
    layer, site = call.op, flow.site(call.op)
    query, value = _argument(call, "query", 0), _argument(call, "value", 1)
    key = _argument(call, "key", 2)
    key = value if key is None else key
    xq, xv, xk = flow.axes(query), flow.axes(value), flow.axes(key)
    flow.join(xq[-1], xv[-1], f"{call.path} asks that its value be as wide as its query")
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
    if dense.gate is not None:
        _bind_projection(site, dense.gate, xq[-1], queries, width)
    _keep_scale(site, dense.query, width)
    out = dense.output
    # The output is as wide as the query by the layer's own definition.
    made = site.make("output", out.kernel.shape[-1], kind=WIDTH, resize=False)
    flow.join(xq[-1], made, f"{call.path} gives as many channels as its query has")
    _bind_output(site, out, queries, width, made)
    _silence_keys(site, dense.query, width)
    return _with_scores(call, made, queries)


@ops("DotProductAttention")
def dot_product(flow: Flow, call: Call) -> Axes:
    """Attention without weights: (batch, steps, heads, width), which all three are as wide in."""
    query, key, value = (_argument(call, name, at) for at, name in enumerate(_TENSORS))
    xq, xk, xv = flow.axes(query), flow.axes(key), flow.axes(value)
    why = f"{call.path} joins this to something that cannot be removed"
    shared = flow.join(xk[2], xv[2], why)
    if flow.shape(query)[2] == flow.shape(key)[2]:
        heads = flow.join(xq[2], shared, why)
    else:
        # TensorFlow shares out keys among queries only where there are at least two.
        heads = None
        flow.freeze_axes((xq[2], shared), f"{call.path} shares out its keys among the queries")
    for name in ("bias", "mask"):
        extra = call.kwargs.get(name)
        if len(flow.shape(extra)) == 4 and flow.shape(extra)[1] != 1:
            heads = flow.join(heads, flow.axes(extra)[1], why)
    width = flow.join(xq[3], xk[3], why)
    flow.silence(call, query, 3, width)
    if width is None or xv[3] is None:
        # Keras takes the output to be as wide as the query.
        flow.freeze_axes((width, xv[3]), f"{call.path} asks that queries and values be as wide")
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
