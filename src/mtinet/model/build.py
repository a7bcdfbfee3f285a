"""From settings to networks, with weights that depend on the settings' seed alone."""

from __future__ import annotations

import torch

from mtinet.config import Config
from mtinet.errors import UserError
from mtinet.model.mtinet import MTINet
from mtinet.model.network import MultiTaskNetwork
from mtinet.model.tdd import TaskDiscriminator


def build_network(config: Config, n_classes: int) -> MultiTaskNetwork:
    """The network that ``config.model`` names, freshly initialised from ``config.training.seed``.

    Raises
    ------
    UserError
        There is no class to predict.
    """
    if n_classes < 1:
        raise UserError(
            "the cohort has no classes, so there is nothing to classify: list them in cohort.yaml"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.training.seed)
        if config.model == "mtinet":
            return MTINet(config, n_classes)
        from mtinet.model.baselines import BaselineNetwork, SeparateNetworks

        if config.model == "unet_cnn":
            return SeparateNetworks(config, n_classes)
        return BaselineNetwork(config, n_classes)


def class_tensors(config: Config, n_classes: int) -> dict[str, int]:
    """Axis by name of the network's tensors with an entry a class, in the classes' order at the axis' end."""
    return _resized(config, n_classes, config, n_classes + 1)


def phase_tensors(config: Config, n_classes: int) -> set[str]:
    """Names of the network's tensors that belong to certain phases, or to a place in the phases' order."""
    one_more = config.model_copy(update={"phases": (*config.phases, config.phases[-1])})
    found = set(_resized(config, n_classes, one_more, n_classes))
    if not config.encoder.shared:
        # an encoder a phase: with other phases there are more of them, of one shape
        names = build_network(config, n_classes).state_dict()
        found |= {name for name in names if name.startswith("encoder.encoders.")}
    return found


def enhancement_tensors(config: Config, n_classes: int) -> set[str]:
    """Names of the network's tensors that say the enhancement, or what is added to it (``head.readout``)."""
    if config.model == "unet_cnn":  # one layer says enhancement and class
        return set(class_tensors(config, n_classes))
    one, two = (
        build_network(
            config.model_copy(update={"head": config.head.model_copy(update={"readout": readout})}), n_classes
        ).state_dict()
        for readout in ("none", "residual")
    )
    # what is added to the signal starts at zero
    return {name for name, tensor in one.items() if not torch.equal(tensor, two[name])}


def _resized(config: Config, n_classes: int, other: Config, other_classes: int) -> dict[str, int]:
    """First axis by name in which tensors of two networks differ in length."""
    one, two = (build_network(c, n).state_dict() for c, n in ((config, n_classes), (other, other_classes)))
    return {
        name: next(axis for axis, sides in enumerate(zip(t.shape, two[name].shape)) if len(set(sides)) > 1)
        for name, t in one.items()
        if name in two and t.shape != two[name].shape
    }


def build_discriminator(config: Config, n_classes: int) -> TaskDiscriminator:
    """The discriminator, freshly initialised from ``config.training.seed``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.training.seed + 1)
        return TaskDiscriminator(len(config.phases), n_classes, config.tdd)
