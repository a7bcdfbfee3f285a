"""A training's state as named tensors: networks, moving average, optimisers."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

Tensors = dict[str, Tensor]


def collect(modules: Mapping[str, nn.Module], optimizers: Mapping[str, torch.optim.Optimizer]) -> Tensors:
    """Every tensor that a resumed training needs, under names that :func:`restore` understands."""
    tensors: Tensors = {}
    for name, module in modules.items():
        tensors |= {f"{name}/{key}": value for key, value in module.state_dict().items()}
    for name, optimizer in optimizers.items():
        for index, values in optimizer.state_dict()["state"].items():
            tensors |= {f"{name}/{index}/{key}": value for key, value in values.items() if _is_kept(value)}
    return tensors


def restore(
    tensors: Mapping[str, Tensor],
    modules: Mapping[str, nn.Module],
    optimizers: Mapping[str, torch.optim.Optimizer],
) -> None:
    """Put the tensors of :func:`collect` back."""
    for name, module in modules.items():
        module.load_state_dict(_under(tensors, name))
    for name, optimizer in optimizers.items():
        state: dict[int, Tensors] = {}
        for key, value in _under(tensors, name).items():
            index, _, field = key.partition("/")
            state.setdefault(int(index), {})[field] = value
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _under(tensors: Mapping[str, Tensor], name: str) -> Tensors:
    return {key.removeprefix(f"{name}/"): v for key, v in tensors.items() if key.startswith(f"{name}/")}


def _is_kept(value: object) -> bool:
    return isinstance(value, Tensor)
