"""Networks: MTI-Net, its task interaction and discriminator, and the networks it is compared with."""

from mtinet.model.build import build_discriminator, build_network
from mtinet.model.network import Features, MultiTaskNetwork, Prediction, Readout

__all__ = [
    "Features",
    "MultiTaskNetwork",
    "Prediction",
    "Readout",
    "build_discriminator",
    "build_network",
]
