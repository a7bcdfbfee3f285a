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


def build_discriminator(config: Config, n_classes: int) -> TaskDiscriminator:
    """The discriminator, freshly initialised from ``config.training.seed``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.training.seed + 1)
        return TaskDiscriminator(len(config.phases), n_classes, config.tdd)
