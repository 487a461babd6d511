"""A graph that cannot be built differs from one that is only out of order."""

from typing import Any

import pytest

from tfprune.loading.references import dangling_calls


def graph(**nodes: Any) -> dict[str, Any]:
    return {"layers": [{"name": name, "inbound_nodes": calls} for name, calls in nodes.items()]}


@pytest.mark.parametrize(
    ("config", "unmade"),
    [
        (graph(i=[], a=[[["i", 0, 0, {}]]]), []),
        (graph(b=[[["a", 0, 0, {}]]], a=[[["i", 0, 0, {}]]], i=[]), []),
        (graph(i=[], a=[[["i", 0, 0]], [["b", 0, 0]]], b=[[["a", 0, 0]]]), []),
        (graph(i=[], a=[[["i", 300000000, 0, {}]]]), ["a"]),
        (graph(i=[], a=[[["b", 0, 0, {}]]], b=[[["a", 0, 0, {}]]]), ["a", "b"]),
        (graph(i=[], a=[[["i", 0, 0, {"mask": ["a", 0, 0]}]]]), ["a"]),
        (graph(i=[], a=[{"args": [{"config": {"keras_history": ["i", 0, 0]}}]}]), []),
        (graph(i=[], a=[{"args": [{"config": {"keras_history": ["a", 0, 0]}}]}]), ["a"]),
    ],
)
def test_calls_that_depend_on_missing_calls_are_found(config: Any, unmade: list[str]) -> None:
    assert list(dangling_calls([{"config": config}])) == unmade
