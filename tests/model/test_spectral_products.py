"""The filter and the entropy that exporters know, beside those that training uses."""

from __future__ import annotations

import pytest
import torch

from mtinet.config import MdiefSettings
from mtinet.model import mdief, spectral_products


@pytest.mark.parametrize("shape", [(6, 5), (45, 39), (7, 32), (4, 9, 11)])
@pytest.mark.parametrize("kind", ["gaussian", "butterworth", "ideal"])
def test_the_filter_is_that_of_the_transforms(shape, kind):
    settings = MdiefSettings(filter=kind, cutoff=0.3)
    maps = torch.rand(2, 3, 4, *shape, generator=torch.Generator().manual_seed(0))
    axes = tuple(range(3, maps.ndim))
    expected = mdief._passed(maps, axes, mdief.transfer_function(shape, settings, maps.device))
    found = spectral_products.filtered(maps, axes, settings)
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_the_filter_runs_over_phases_too():
    settings = MdiefSettings(filter="butterworth", axes="space+phase")
    maps = torch.rand(2, 3, 4, 12, 10, generator=torch.Generator().manual_seed(1))
    expected = mdief._passed(maps, (2, 3, 4), mdief.transfer_function((4, 12, 10), settings, maps.device))
    found = spectral_products.filtered(maps, (2, 3, 4), settings)
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_the_plain_entropy_is_that_of_training():
    maps = torch.rand(2, 4, 3, 9, 11, generator=torch.Generator().manual_seed(2)) - 0.5
    maps[0, 1] = 0.0  # an absent phase
    maps[1, 0, 0, :5] = 0.0  # what ReLU leaves
    found = mdief.space_entropy(maps)
    spectral, entropies = mdief.Mdief(MdiefSettings())._domains(maps, None)
    assert torch.allclose(found, entropies[:, :, 0], atol=1e-6)
    assert torch.allclose(mdief.space_entropy(spectral), entropies[:, :, 1], atol=1e-6)
    assert (found[0, 1] == 0).all()
