import pytest
import torch

from mtinet.config import PRESETS
from mtinet.model import build_discriminator, build_network


def test_weights_depend_on_the_seed_alone(settings):
    torch.manual_seed(1)
    a = build_network(settings(), 2).state_dict()
    torch.manual_seed(2)
    state = torch.get_rng_state()
    b = build_network(settings(), 2).state_dict()
    assert torch.equal(state, torch.get_rng_state())
    c = build_network(settings("training.seed=1"), 2).state_dict()
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert any(not torch.equal(a[name], c[name]) for name in a)


def test_discriminator_depends_on_the_seed_alone(settings):
    torch.manual_seed(1)
    a = build_discriminator(settings(), 3)
    torch.manual_seed(2)
    b = build_discriminator(settings(), 3)
    assert all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values()))
    assert a(torch.rand(2, 4), torch.rand(2, 3), torch.ones(2, 4).bool()).shape == (2,)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_builds(preset):
    network = build_network(PRESETS[preset](), 2)
    assert sum(p.numel() for p in network.parameters()) > 1000


def test_no_classes_is_an_error(settings):
    with pytest.raises(ValueError, match=r"cohort\.yaml"):
        build_network(settings(), 0)
