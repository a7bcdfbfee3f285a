"""What every network takes and returns, so that training and inference know one interface.

Throughout: B studies (or slices), P phases, R regions, C classes, S the spatial shape (y, x) or (z, y, x).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mtinet.config import Config
from mtinet.errors import UserError
from mtinet.model.presence import check_bool
from mtinet.model.tim import mask_weights

EMPTY_REGION = 1e-6
"""A region whose weights add up to less holds nothing to pool."""


class Prediction(NamedTuple):
    """What a network says about a batch.

    Attributes
    ----------
    mask_logits : Tensor [B, 1, *S]
    enhancement : Tensor [B, R, P]
        Mean signal of the region on each phase, in normalised units (1 = the study's gain).  The value at an
        absent phase has no meaning.
    class_logits : Tensor [B, R, C]
    region_valid : Tensor [B, R], bool
        False where the region is empty or the caller said so; its values are finite and have no meaning.
    """

    mask_logits: Tensor
    enhancement: Tensor
    class_logits: Tensor
    region_valid: Tensor


class Readout(NamedTuple):
    """What is read from regions: enhancement [B, R, P], class logits [B, R, C], attention [B, R, P] or None.

    The attention is the share that each phase has in the tokens from which the class is read (0 for absent
    phases, sum 1); networks without attention have none.
    """

    enhancement: Tensor
    class_logits: Tensor
    attention: Tensor | None


class Features(NamedTuple):
    """An encoded batch; opaque to everyone but the network that made it.

    ``domain_weights`` holds, for every fused level from fine to deep, the weights [B, P, C, 2] that fusion
    gave the spatial and the spectral map, for the report.  ``image`` [B, P, *S], zero at absent phases, is there
    where the network reads in it again.
    """

    maps: tuple[Tensor, ...]
    spatial_shape: tuple[int, ...]
    phase_present: Tensor
    phase_times_s: Tensor | None = None
    domain_weights: tuple[Tensor, ...] = ()
    image: Tensor | None = None


class MultiTaskNetwork(nn.Module):
    """Base of all networks: segments, and reads enhancement and class from regions.

    Parameters
    ----------
    config : Config
        Gives phases, number of spatial dimensions, pooling, and mask weighting (``config.tim``).
    """

    interacts = False
    """Whether task interaction (TIM) and discriminator (TDD) train it, where the settings switch them on."""

    enhancement_mean: Tensor
    enhancement_std: Tensor
    # nn.Module types its call as Any; callers deserve the truth
    __call__: Callable[..., Prediction]

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        # scalars, shared by the phases: with one a phase, permuting tokens would not permute enhancement
        self.register_buffer("enhancement_mean", torch.tensor(0.0))
        self.register_buffer("enhancement_std", torch.tensor(1.0))

    def set_enhancement_statistics(self, mean: float, std: float) -> None:
        """Mean and standard deviation of the training enhancement; the head predicts standardised values."""
        if not std > 0 or not abs(mean) < float("inf"):
            raise UserError(
                f"enhancement statistics of the training set are mean {mean}, std {std}; at least two "
                "different enhancement values are needed: check the training masks and images"
            )
        self.enhancement_mean.fill_(mean)
        self.enhancement_std.fill_(std)

    @abstractmethod
    def encode(
        self, image: Tensor, phase_present: Tensor | None = None, phase_times_s: Tensor | None = None
    ) -> Features:
        """Encode ``image`` [B, P, *S]; what stands at absent phases is never looked at.

        ``phase_present`` [B, P] is bool (None: all), ``phase_times_s`` [B, P] seconds from the start of
        injection, NaN where unknown.
        """

    @abstractmethod
    def segment(self, features: Features) -> Tensor:
        """Mask logits [B, 1, *S]."""

    @abstractmethod
    def read_regions(self, features: Features, regions: Tensor | None) -> Readout:
        """Read from ``regions`` [B, R, *S], or from the whole image (None, R = 1)."""

    @abstractmethod
    def shared_parameters(self) -> Iterator[nn.Parameter]:
        """Parameters that every task trains; the tasks' gradients are compared there."""

    def describe(self, features: Features) -> Tensor:
        """What the images look like to the network: means of its maps over space, [B, G, F].

        G is the number of phases where the network keeps them apart (zero at absent ones), else 1.
        """
        return features.maps[-1].float().flatten(2).mean(-1).unsqueeze(1)

    def read(self, features: Features, regions: Tensor | None = None) -> Readout:
        """Enhancement and class of regions, weights 0 to 1, [B, R, *S].

        With ``head.pooling = global`` the whole image is read and repeated for each region, so that callers
        need not care.  Without regions, ``lesion`` pooling reads under the network's own predicted mask.
        """
        if self.config.head.pooling == "global":
            one = self.read_regions(features, None)
            count = 1 if regions is None else regions.shape[1]
            attention = None if one.attention is None else one.attention.expand(-1, count, -1)
            return Readout(
                one.enhancement.expand(-1, count, -1), one.class_logits.expand(-1, count, -1), attention
            )
        if regions is None:
            regions = self.predicted_region(self.segment(features))
        return self.read_regions(features, regions)

    def predicted_region(self, mask_logits: Tensor) -> Tensor:
        """Soft region [B, 1, *S] of the predicted mask; no gradient: pooling must not reshape the mask."""
        return mask_weights(mask_logits.detach().float(), self.config.tim)

    def forward(
        self,
        image: Tensor,
        phase_present: Tensor | None = None,
        phase_times_s: Tensor | None = None,
        regions: Tensor | None = None,
        region_valid: Tensor | None = None,
    ) -> Prediction:
        """Predict a batch; :meth:`encode` and :meth:`read` describe the inputs."""
        self._check(image, phase_present, regions)
        features = self.encode(image, phase_present, phase_times_s)
        mask_logits = self.segment(features)
        if regions is None and self.config.head.pooling == "lesion":
            regions = self.predicted_region(mask_logits)
        readout = self.read(features, regions)
        valid = torch.ones(readout.class_logits.shape[:2], dtype=torch.bool, device=image.device)
        if regions is not None:
            valid = regions.flatten(2).sum(-1) > EMPTY_REGION
        if region_valid is not None:
            valid = valid & region_valid
        return Prediction(mask_logits, readout.enhancement, readout.class_logits, valid)

    def as_signal(self, standardised: Tensor, features: Features, regions: Tensor | None) -> Tensor:
        """Enhancement [B, R, P] in normalised signal from what a head says of ``regions``, standardised.

        With ``head.readout = residual`` the head's value, in standard deviations of the training enhancement,
        is added to the mean signal under the region in the place of the training mean.  The region is read
        sharply, as it is in use: where a soft one comes from a predicted mask, its voxels above one half.  It
        has no gradient, so the read-out cannot reshape the mask.

        Raises
        ------
        ValueError
            The setting asks for the signal, and ``features`` lack the image.
        """
        scaled = self.enhancement_std * standardised.float()
        if self.config.head.readout == "none" or regions is None:
            return self.enhancement_mean + scaled
        if features.image is None:
            raise ValueError(
                "head.readout = residual adds to the signal under the region: encode has to give Features.image (the "
                "image, zero at absent phases), or choose head.readout=none"
            )
        return pool_regions(features.image, self._sharp(regions.detach())) + scaled

    def _sharp(self, regions: Tensor) -> Tensor:
        """1 where a region's mask probability is at least one half; the region itself where it nowhere is."""
        settings = self.config.tim
        half = 0.5**settings.gamma if settings.weighting == "power" else 0.5
        sharp = (regions >= half).to(regions.dtype)
        return torch.where(
            sharp.flatten(2).any(-1).view(*regions.shape[:2], *[1] * (regions.ndim - 2)), sharp, regions
        )

    def _check(self, image: Tensor, phase_present: Tensor | None, regions: Tensor | None) -> None:
        phases, dims = self.config.phases, self.config.spatial_dims
        if image.ndim != dims + 2 or image.shape[1] != len(phases):
            raise ValueError(
                f"image has shape {tuple(image.shape)}; this network takes [batch, {len(phases)} phases "
                f"({', '.join(phases)}), {dims} spatial dimensions]: reorder the array or change "
                "phases / spatial_dims"
            )
        if phase_present is not None:
            if phase_present.shape != image.shape[:2]:
                raise ValueError(
                    f"phase_present has shape {tuple(phase_present.shape)}; give one value a study and "
                    f"phase, {tuple(image.shape[:2])}"
                )
            check_bool(phase_present)
            if not bool(phase_present.any(1).all()):
                row = int((~phase_present.any(1)).nonzero()[0])
                raise ValueError(f"item {row} of the batch has no phase at all: leave it out of the batch")
        if regions is None:
            return
        batch, space = image.shape[0], tuple(image.shape[2:])
        if regions.ndim != image.ndim or regions.shape[0] != batch:
            raise ValueError(
                f"regions have shape {tuple(regions.shape)}; give weights [B, R, *S], here [{batch}, regions, "
                f"{', '.join(map(str, space))}], with an axis R also for one region"
            )
        if tuple(regions.shape[2:]) != space:
            raise ValueError(
                f"regions have the spatial shape {tuple(regions.shape[2:])}, the image "
                f"{space}: give regions on the image's grid"
            )


def start_at_zero(layer: nn.Linear) -> None:
    """Let a layer say nothing at first: what it is added to is the start of the training."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)


def pool_regions(maps: Tensor, regions: Tensor | None) -> Tensor:
    """Mean of feature maps under region weights.

    Parameters
    ----------
    maps : Tensor [B, F, *s]
        Feature maps, possibly coarser than the regions.
    regions : Tensor [B, R, *S] or None
        Weights 0 to 1, brought to the maps' grid by area averaging, so that a lesion smaller than a cell
        keeps its fractional weight.  None is the whole image.

    Returns
    -------
    Tensor [B, R, F], float32
        Zero for an empty region.
    """
    with torch.autocast(maps.device.type, enabled=False):
        flat = maps.flatten(2).float()
        if regions is None:
            return flat.mean(-1).unsqueeze(1)
        weights = regions.float()
        if weights.shape[2:] != maps.shape[2:]:
            weights = _area_averaged(weights, tuple(maps.shape[2:]))
        weights = weights.flatten(2)
        # normalised before the product: tiny weights stay exact and an empty region gives zeros
        share = weights / weights.sum(-1, keepdim=True).clamp_min(1e-12)
        return share @ flat.transpose(1, 2)


def _area_averaged(weights: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Share of each cell of a coarser grid that ``weights`` [B, R, *S] fill.

    Pooling rounds sizes up, so a cell is a power of two wide and the last one may reach over the border.
    """
    cells = [_cell_width(side, cells) for side, cells in zip(weights.shape[2:], shape, strict=True)]
    missing = [n * width - side for n, width, side in zip(shape, cells, weights.shape[2:], strict=True)]
    padded = nn.functional.pad(weights, [edge for extra in reversed(missing) for edge in (0, extra)])
    pool = nn.functional.avg_pool2d if len(shape) == 2 else nn.functional.avg_pool3d
    return pool(padded, cells)


def _cell_width(side: int, cells: int) -> int:
    """Smallest power of two that cuts ``side`` into ``cells``."""
    width = 1
    while side > cells:
        side, width = (side - 1) // 2 + 1, 2 * width
    return width
