"""Comparison networks: MONAI's, with the phases as channels and a read-out on the last layer's features.

``unet_cnn`` is two networks that share nothing: a BasicUNet draws the mask, and a small CNN sees the image
around each lesion and the lesion's mask, as a classifier after a segmentation does.

MONAI takes seconds to import, so it is imported where a network is built and never on MTI-Net's path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mtinet.config import Config
from mtinet.model.lesion_cnn import LesionCnn, lesion_crops
from mtinet.model.network import Features, MultiTaskNetwork, Readout, pool_regions, start_at_zero
from mtinet.model.presence import shown


class _Body(NamedTuple):
    """A network [B, P, *S] -> [B, 1 + features, *S] and what each side of S has to be a multiple of."""

    network: nn.Module
    multiple: tuple[int, ...]


def _norm(spatial_dims: int) -> str:
    """Batch norm in 2-D: to instance norm a whole slice looks unlike the patches of the training."""
    return "batch" if spatial_dims == 2 else "instance"


def _basic_unet(config: Config, outputs: int) -> _Body:
    from monai.networks.nets.basic_unet import BasicUNet

    w, dims = config.baseline.width, config.spatial_dims
    features = (w, w, 2 * w, 4 * w, 8 * w, w)
    network = BasicUNet(dims, len(config.phases), outputs, features=features, norm=_norm(dims))
    return _Body(network, (16,) * dims)


def _attention_unet(config: Config, outputs: int) -> _Body:
    from monai.networks.nets.attentionunet import AttentionUnet

    dims, channels = config.spatial_dims, [config.baseline.width * 2**level for level in range(5)]
    network = AttentionUnet(dims, len(config.phases), outputs, channels=channels, strides=(2, 2, 2, 2))
    return _Body(network, (16,) * dims)


def _swin_unetr(config: Config, outputs: int) -> _Body:
    from monai.networks.nets.swin_unetr import SwinUNETR

    dims = config.spatial_dims
    width = 12 * max(config.baseline.width // 12, 1)  # its attention heads need a multiple of 12
    network = SwinUNETR(
        len(config.phases), outputs, feature_size=width, spatial_dims=dims, norm_name=_norm(dims)
    )
    return _Body(network, (32,) * dims)


def nnunet_strides(patch_size: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Strides of nnU-Net's stages: a side of the patch is halved while at least 4 voxels are left."""
    strides, size = [tuple(1 for _ in patch_size)], patch_size
    while any(side // 2 >= 4 for side in size):
        strides.append(tuple(2 if side // 2 >= 4 else 1 for side in size))
        size = tuple(side // stride for side, stride in zip(size, strides[-1]))
    if len(strides) == 1:  # a patch below 8 voxels: one halving, the least that makes a U
        strides.append(tuple(2 for _ in patch_size))
    return strides


def _dynunet(config: Config, outputs: int) -> _Body:
    """nnU-Net's architecture for the patch: features double up to 512, leaky ReLU."""
    from monai.networks.nets.dynunet import DynUNet

    strides = nnunet_strides(config.sampling.patch_size)
    network = DynUNet(
        config.spatial_dims,
        len(config.phases),
        outputs,
        kernel_size=[3] * len(strides),
        strides=strides,
        upsample_kernel_size=strides[1:],
        filters=[min(config.baseline.width * 2**level, 512) for level in range(len(strides))],
        norm_name=_norm(config.spatial_dims),
    )
    total = torch.tensor(strides).prod(0)
    return _Body(network, tuple(int(side) for side in total))


BASELINES: dict[str, Callable[[Config, int], _Body]] = {
    "basic_unet": _basic_unet,
    "dynunet": _dynunet,
    "swinunetr": _swin_unetr,
    "attention_unet": _attention_unet,
}


class _AroundBody(MultiTaskNetwork):
    """A segmentation network, ``body``, that sees the phases as channels; absent ones are zero."""

    body: nn.Module
    multiple: tuple[int, ...]

    def encode(
        self, image: Tensor, phase_present: Tensor | None = None, phase_times_s: Tensor | None = None
    ) -> Features:
        """Run the segmentation network once; what is read of lesions waits for the regions."""
        if phase_present is None:
            phase_present = torch.ones(image.shape[:2], dtype=torch.bool, device=image.device)
        seen = shown(image, phase_present)
        maps = _at_full_size(self.body, seen, self.multiple)
        return Features((maps,), tuple(image.shape[2:]), phase_present, phase_times_s, image=seen)

    def shared_parameters(self) -> Iterator[nn.Parameter]:
        """The segmentation network's."""
        return iter(self.body.parameters())


class BaselineNetwork(_AroundBody):
    """A segmentation network whose last layer also gives features that are pooled and read by a small MLP.

    Absent phases are zero channels.
    """

    def __init__(self, config: Config, n_classes: int) -> None:
        super().__init__(config)
        features, width = config.baseline.features, config.head.width
        self.body, self.multiple = BASELINES[config.model](config, 1 + features)
        self.hidden = nn.Sequential(nn.Linear(features, width), nn.ReLU(inplace=True))
        self.enhancement = nn.Linear(width, len(config.phases))
        self.classes = nn.Linear(width, n_classes)
        if config.head.readout == "residual":
            start_at_zero(self.enhancement)

    def segment(self, features: Features) -> Tensor:
        """Mask logits [B, 1, *S]: the first output channel."""
        return features.maps[0][:, :1]

    def read_regions(self, features: Features, regions: Tensor | None) -> Readout:
        """Pool the other output channels under each region, through an MLP."""
        hidden = self.hidden(pool_regions(features.maps[0][:, 1:], regions))
        enhancement = self.as_signal(self.enhancement(hidden), features, regions)
        return Readout(enhancement, self.classes(hidden).float(), None)


class SeparateNetworks(_AroundBody):
    """A segmentation network, and a CNN of its own for enhancement and class; absent phases are zero channels.

    Both are trained in one run, on the same patches, but no weight and no gradient is common to them.
    """

    def __init__(self, config: Config, n_classes: int) -> None:
        super().__init__(config)
        self.body, self.multiple = _basic_unet(config, 1)
        self.crop = config.baseline.crop
        widths = tuple(config.baseline.width * 2**level for level in range(3))
        channels, outputs = len(config.phases) + 1, len(config.phases) + n_classes
        self.cnn = LesionCnn(config.spatial_dims, channels, outputs, widths, config.head.dropout)

    def segment(self, features: Features) -> Tensor:
        """Mask logits [B, 1, *S]."""
        return features.maps[0]

    def read_regions(self, features: Features, regions: Tensor | None) -> Readout:
        """The image around each region, and the region, through the CNN."""
        assert features.image is not None
        image = features.image
        if regions is None:
            regions = torch.ones_like(image[:, :1])
        signal = (image - self.enhancement_mean) / self.enhancement_std
        seen = self.cnn(lesion_crops(signal, regions.to(image.dtype), self.crop).flatten(0, 1))
        found = seen.float().unflatten(0, regions.shape[:2])
        phases = image.shape[1]
        enhancement = self.as_signal(found[..., :phases], features, regions)
        return Readout(enhancement, found[..., phases:], None)


def _at_full_size(body: nn.Module, image: Tensor, multiple: tuple[int, ...]) -> Tensor:
    """A network's output on the grid of its input, whatever sizes it can take."""
    maps: Tensor = body(_padded(image, multiple))
    for axis, side in enumerate(image.shape[2:], start=2):
        maps = maps.narrow(axis, 0, side)
    return maps


def _padded(image: Tensor, multiple: tuple[int, ...]) -> Tensor:
    """``image`` with zeros behind its sides, to multiples; never to a single voxel at the deepest level."""
    sides = [(side + m - 1) // m * m for side, m in zip(image.shape[2:], multiple)]
    if all(side == m for side, m in zip(sides, multiple)):
        sides[-1] *= 2  # normalisation over one voxel is undefined
    after = [side - given for side, given in zip(sides, image.shape[2:])]
    return F.pad(image, [amount for extra in reversed(after) for amount in (0, extra)])
