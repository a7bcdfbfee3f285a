"""Where a training computes in bfloat16, and where the machine is made for it."""

from __future__ import annotations

import torch

from mtinet.config import Config
from mtinet.results import Finding


def mixed_precision(config: Config, device: torch.device) -> bool:
    """Whether the forward pass runs in bfloat16 where that is safe: as asked, or where a GPU has it.

    Half precision (float16) is not offered: it needs a loss scale, which is a state of its own.
    """
    if config.training.precision == "auto":
        return device.type == "cuda" and native_bfloat16(device)
    return config.training.precision == "bf16-mixed"


def native_bfloat16(device: torch.device) -> bool:
    """Whether a device has bfloat16 kernels; one that emulates it is slower with it than without."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        # PyTorch's own question before it fuses for bfloat16; there is no public name for it
        return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return True


def precision_findings(config: Config, device: torch.device) -> list[Finding]:
    """What is to be said of the precision before a training begins."""
    if not mixed_precision(config, device) or native_bfloat16(device):
        return []
    return [
        Finding(
            "bfloat16-emulated",
            "train",
            "warning",
            f"this {device.type.upper()} has no bfloat16 kernels, and training.precision=bf16-mixed emulates them: a "
            "step takes many times as long as in single precision",
            "Train with training.precision=auto, or on a processor with AVX-512 or a GPU with bfloat16.",
        )
    ]
