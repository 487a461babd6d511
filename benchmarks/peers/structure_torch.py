"""Prunes PyTorch networks with Torch-Pruning, in a process of its own.

Started by benchmarks/structure.py with a number of threads, or `default`. It imports neither Keras
nor tfprune, so it can run in an environment of its own.
"""

import gc
import sys
import warnings
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import torch
import torch_pruning
import transformers
from workers import Cost, Job, memory_growth, serve, stopwatch

PACKAGES = ("torch", "torch-pruning", "transformers")


def resnet50() -> tuple[Any, Any]:
    """Return ResNet-50 and an input."""
    config = transformers.ResNetConfig(num_labels=1000)
    return transformers.ResNetForImageClassification(config), image()


def mobilenet_v2() -> tuple[Any, Any]:
    """Return MobileNetV2 and an input."""
    config = transformers.MobileNetV2Config(num_labels=1000)
    return transformers.MobileNetV2ForImageClassification(config), image()


def vit_b16() -> tuple[Any, Any]:
    """Return ViT-B/16 and an input."""
    config = transformers.ViTConfig(num_labels=1000)
    return transformers.ViTForImageClassification(config), image()


def bert_base() -> tuple[Any, Any]:
    """Return BERT-base with two classes and an input of 128 tokens."""
    config = transformers.BertConfig(num_labels=2)
    tokens = torch.zeros(1, 128, dtype=torch.long)
    given = {"input_ids": tokens, "token_type_ids": tokens}
    return transformers.BertForSequenceClassification(config), given


def image() -> Any:
    return torch.randn(1, 3, 224, 224)


NETWORKS: dict[str, Callable[[], tuple[Any, Any]]] = {
    function.__name__: function for function in (resnet50, mobilenet_v2, vit_b16, bert_base)
}


def heads_of(model: Any) -> dict[Any, int]:
    """Return the number of heads of every projection to queries, keys and values."""
    return {
        getattr(module, name): module.num_attention_heads
        for module in model.modules()
        if hasattr(module, "num_attention_heads")
        for name in ("query", "key", "value", "q_proj", "k_proj", "v_proj")
        if hasattr(module, name)
    }


def prune(model: Any, example: Any) -> None:
    """Take half of the channels of every group, in place; heads stay, and get narrower."""
    pruner = torch_pruning.pruner.BasePruner(
        model,
        example,
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=0.5,
        round_to=8,
        ignored_layers=[last_linear(model)],
        num_heads=heads_of(model),
        # The pruner writes into these, and its defaults outlive it.
        in_channel_groups={},
        out_channel_groups={},
        output_transform=lambda out: out.logits.sum(),
    )
    pruner.step()
    for module in model.modules():
        for heads, width in (("query", "attention_head_size"), ("q_proj", "head_dim")):
            if hasattr(module, heads) and hasattr(module, width):
                setattr(
                    module, width, getattr(module, heads).out_features // module.num_attention_heads
                )


def last_linear(model: Any) -> Any:
    """Return the layer that makes the classes."""
    return [module for module in model.modules() if isinstance(module, torch.nn.Linear)][-1]


def parameters(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def run(model: Any, example: Any) -> Any:
    with torch.no_grad():
        return model(**example) if isinstance(example, dict) else model(example)


def answer(job: Job) -> Job:
    """Prune a new copy of a network; `do` says whether time or memory is wanted."""
    if job["do"] == "versions":
        return {package: version(package) for package in PACKAGES}
    torch.manual_seed(0)
    model, example = NETWORKS[job["network"]]()
    model.eval()
    before = parameters(model)
    gc.collect()
    cost: Cost = {}
    measure = memory_growth if job["do"] == "memory" else stopwatch
    with measure(cost):
        prune(model, example)
    assert run(model, example).logits.shape[0] == 1
    return {**cost, "before": before, "after": parameters(model)}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    if sys.argv[1] != "default":
        torch.set_num_threads(int(sys.argv[1]))
    serve(answer)
