import pytest
import torch
from torch.nn.functional import one_hot

from mtinet.config import TddSettings
from mtinet.model.tdd import (
    TaskDiscriminator,
    boundary,
    discriminator_loss,
    generator_loss,
    swap_between_classes,
)

KINDS = ["nonsaturating", "hinge", "lsgan"]
MEAN_CURVES = torch.tensor([[0.5, 0.8, 1.1, 1.2], [0.5, 1.1, 0.9, 0.7]])  # filling in against washing out


def pairs(number, seed):
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 2, (number,), generator=g)
    curves = MEAN_CURVES[labels] + 0.1 * torch.randn(number, 4, generator=g)
    return curves, one_hot(labels, 2).float(), labels


def discriminator(**changes):
    torch.manual_seed(0)
    net = TaskDiscriminator(4, 2, TddSettings(**changes))
    curves, _, _ = pairs(500, 9)
    net.set_enhancement_statistics(curves.mean(0), curves.std(0))
    return net


@pytest.mark.parametrize(
    ("kind", "steps"),
    [
        pytest.param("nonsaturating", 600, marks=pytest.mark.slow),
        ("hinge", 300),
        pytest.param("lsgan", 300, marks=pytest.mark.slow),
    ],
)
def test_tells_true_pairs_from_pairs_swapped_between_classes(kind, steps):
    settings = TddSettings(loss=kind)
    net = discriminator(loss=kind)
    optimizer = torch.optim.Adam(net.parameters(), lr=4e-3, betas=(0.5, 0.99))
    g = torch.Generator().manual_seed(1)
    for step in range(steps):
        curves, classes, labels = pairs(64, 100 + step)
        present = torch.rand(64, 4, generator=g) > 0.1
        present[:, 2] = True
        wrong, changed = swap_between_classes(classes, labels, g)
        noise = 1 - step / steps
        real = net(curves, classes, present, g, noise)
        fake = net(curves[changed], wrong[changed], present[changed], g, noise)
        loss = discriminator_loss(real, fake, kind)
        if step % settings.r1_every == 0:
            loss = loss + net.gradient_penalty(curves, classes, present, g, noise)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    net.eval()
    curves, classes, _ = pairs(400, 7)
    everything = torch.ones(400, 4).bool()
    threshold = boundary(kind)
    right = torch.cat(
        [net(curves, classes, everything) > threshold, net(curves, classes.flip(1), everything) <= threshold]
    )
    assert right.float().mean() >= 0.90


@pytest.mark.parametrize("kind", KINDS)
def test_the_boundary_is_where_a_logit_costs_the_discriminator_the_same_on_both_sides(kind):
    logit, nothing = torch.tensor([boundary(kind)]), torch.zeros(0)
    as_real, as_fake = discriminator_loss(logit, nothing, kind), discriminator_loss(nothing, logit, kind)
    torch.testing.assert_close(as_real, as_fake)


def test_swapping_happens_between_classes_only():
    _, classes, labels = pairs(200, 0)
    swapped, changed = swap_between_classes(classes, labels, torch.Generator().manual_seed(0))
    assert changed.all()
    assert (swapped.argmax(1) != labels).all()
    lone, changed = swap_between_classes(classes[labels == 1], labels[labels == 1], torch.Generator())
    assert not changed.any()
    torch.testing.assert_close(lone, classes[labels == 1])


def test_both_sides_in_one_pass_are_judged_as_in_two():
    # an exact trick: 1e-5 of the largest value.  In training one pass draws its noise in another order and updates
    # the estimate of the spectral norm once instead of twice
    net = discriminator().eval()
    (real, real_class, _), (fake, fake_class, _) = pairs(20, 5), pairs(12, 6)
    present = torch.rand(32, 4, generator=torch.Generator().manual_seed(3)) > 0.3
    together = net(torch.cat([real, fake]), torch.cat([real_class, fake_class]), present)
    apart = torch.cat([net(real, real_class, present[:20]), net(fake, fake_class, present[20:])])
    assert (together - apart).abs().max() <= 1e-5 * apart.abs().max()


def test_absent_phase_does_not_count_even_as_nan():
    net = discriminator().eval()
    curves, classes, _ = pairs(5, 3)
    present = torch.ones(5, 4).bool()
    present[:, 1] = False
    hidden = curves.clone()
    hidden[:, 1] = float("nan")
    torch.testing.assert_close(net(curves, classes, present), net(hidden, classes, present))
    attention = net.attention(hidden, classes, present)
    assert (attention[:, 1] == 0).all()
    torch.testing.assert_close(attention.sum(1), torch.ones(5))
    hidden.requires_grad_()
    net(hidden, classes, present).sum().backward()
    assert torch.isfinite(hidden.grad).all()


def test_order_of_the_phases_matters():
    net = discriminator().eval()
    curves, classes, _ = pairs(8, 3)
    present = torch.ones(8, 4).bool()
    with torch.no_grad():
        assert (net(curves, classes, present) - net(curves.flip(1), classes, present)).abs().max() > 1e-3


def test_randomness_is_the_generators_alone():
    net = discriminator(spectral_norm=False)
    curves, classes, _ = pairs(8, 3)
    present = torch.ones(8, 4).bool()
    state = torch.get_rng_state()
    a, b, c = (net(curves, classes, present, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert torch.equal(state, torch.get_rng_state())


def test_smoothing_brings_one_hot_and_softmax_together():
    curves, present = torch.ones(1, 4), torch.ones(1, 4).bool()
    hard, soft = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.93, 0.07]])

    def gap(share):
        net = discriminator(label_smoothing=share).eval()
        return (net(curves, hard, present) - net(curves, soft, present)).abs().item()

    assert gap(0.5) < gap(0.0)


def test_gradient_penalty_is_the_squared_gradient_and_trains():
    net = discriminator(r1=2.0, r1_every=1, label_smoothing=0.0).eval()
    curves, classes, _ = pairs(6, 3)
    present = torch.ones(6, 4).bool()
    penalty = net.gradient_penalty(curves, classes, present)
    x, c = curves.clone().requires_grad_(), classes.clone().requires_grad_()
    g_curve, g_class = torch.autograd.grad(net(x, c, present).sum(), (x, c))
    expected = ((g_curve * net.enhancement_std).square().sum(1) + g_class.square().sum(1)).mean()
    torch.testing.assert_close(penalty, expected)
    penalty.backward()
    assert sum(float(p.grad.abs().sum()) for p in net.parameters() if p.grad is not None) > 0


def test_a_penalty_that_is_added_seldom_weighs_as_if_it_were_added_always():
    curves, classes, _ = pairs(6, 3)
    present = torch.ones(6, 4).bool()
    always, seldom = (
        discriminator(r1_every=every).eval().gradient_penalty(curves, classes, present) for every in (1, 8)
    )
    torch.testing.assert_close(seldom, 8 * always)


@pytest.mark.parametrize("kind", KINDS)
def test_losses_push_in_opposite_directions_and_are_zero_for_empty_batches(kind):
    logits = torch.zeros(4, requires_grad=True)
    real = torch.ones(4)
    (down,) = torch.autograd.grad(discriminator_loss(real, logits, kind), logits)
    (up,) = torch.autograd.grad(generator_loss(logits, kind), logits)
    assert (down >= 0).all()
    assert (up < 0).all()
    empty = torch.zeros(0)
    assert discriminator_loss(empty, empty, kind).item() == 0
    assert generator_loss(empty, kind).item() == 0


def test_spectral_norm_bounds_every_linear_layer():
    net = discriminator()
    curves, classes, _ = pairs(8, 3)
    for _ in range(30):  # every training pass is one power iteration
        net(curves, classes, torch.ones(8, 4).bool())
    layers = [m for m in net.modules() if isinstance(m, torch.nn.Linear)]
    assert len(layers) == 6
    for layer in layers:
        assert torch.linalg.matrix_norm(layer.weight, 2) < 1.05


def test_statistics_must_be_usable():
    with pytest.raises(ValueError, match="at least two different"):
        discriminator().set_enhancement_statistics(torch.zeros(4), torch.tensor([1.0, 1.0, 0.0, 1.0]))
