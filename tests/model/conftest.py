from collections.abc import Callable

import pytest
import torch

from mtinet.config import Config, resolve

PHASE_ORDER = (
    "pre",
    "arterial",
    "arterial_late",
    "portal_venous",
    "transitional",
    "delayed",
    "hepatobiliary",
)


@pytest.fixture(autouse=True)
def _one_thread_and_a_seed() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture
def settings() -> Callable[..., Config]:
    """``settings("head.depth=2", phases=3, shape=(9, 32, 32))``: the tiny preset, changed."""

    def make(*assignments: str, phases: int = 4, shape: tuple[int, ...] = (32, 32)) -> Config:
        names = ",".join(PHASE_ORDER[:phases])
        patch = ",".join(map(str, shape))
        given = (f"phases={names}", f"spatial_dims={len(shape)}", f"sampling.patch_size={patch}")
        return resolve("tiny", assignments=(*given, *assignments))

    return make
