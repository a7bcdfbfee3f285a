"""Which phases a study has, and maps without what stands at those that it lacks."""

from __future__ import annotations

import torch
from torch import Tensor


def shown(maps: Tensor, phase_present: Tensor | None) -> Tensor:
    """``maps`` [B, P, ...] with zeros at absent phases, whatever fills them, be it NaN; None = all are there.

    Raises
    ------
    ValueError
        ``phase_present`` [B, P] is not bool.
    """
    if phase_present is None:
        return maps
    check_bool(phase_present)
    # a copy of every map would cost a step some percent; a GPU would have to be waited for, a compiler cannot branch
    if maps.device.type == "cpu" and not torch.compiler.is_compiling() and bool(phase_present.all()):
        return maps
    there = phase_present.reshape(*phase_present.shape, *[1] * (maps.ndim - 2))
    return torch.where(there, maps, 0.0)


def check_bool(phase_present: Tensor) -> None:
    """Refuse a mask of phases that is not bool: numbers would leave open which of them mean absent."""
    if phase_present.dtype != torch.bool:
        raise ValueError(
            f"phase_present is {str(phase_present.dtype).removeprefix('torch.')}; give bool, True where the study "
            "has the phase (for example phase_present > 0)"
        )
