"""A small convolutional network that sees the image around one lesion: what reads a lesion after a segmentation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class LesionCnn(nn.Module):
    """Convolutions with halving, mean and maximum over what is left, one linear layer.

    Parameters
    ----------
    dims : int
        2 or 3.
    channels, outputs : int
    widths : sequence of int
        Channels of each convolution; a side of the crop is halved after each, rounding up.
    dropout : float
        Before the last layer.
    """

    def __init__(self, dims: int, channels: int, outputs: int, widths: Sequence[int], dropout: float) -> None:
        super().__init__()
        convolution, norm, pool = (
            (nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d)
            if dims == 2
            else (nn.Conv3d, nn.BatchNorm3d, nn.MaxPool3d)
        )
        layers: list[nn.Module] = []
        for width in widths:
            layers += [convolution(channels, width, 3, padding=1), norm(width), nn.ReLU()]
            layers.append(pool(2, ceil_mode=True))
            channels = width
        self.body = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(2 * channels, outputs))

    def forward(self, crops: Tensor) -> Tensor:
        """Outputs [N, outputs] of crops [N, channels, *s]."""
        maps = self.body(crops)
        space = tuple(range(2, maps.ndim))
        out: Tensor = self.head(torch.cat([maps.mean(space), maps.amax(space)], dim=1))
        return out


def lesion_crops(image: Tensor, regions: Tensor, side: int) -> Tensor:
    """A square around the middle of each region, with the region as the last channel.

    Parameters
    ----------
    image : Tensor [B, P, *S]
    regions : Tensor [B, R, *S]
        Weights 0 to 1; an empty one is cropped around the middle of the image.
    side : int
        Voxels; along the first of three axes a quarter of it, because slices are thicker than they are wide.

    Returns
    -------
    Tensor [B, R, P + 1, *s]
        Zero where the square leaves the image.
    """
    shape = regions.shape[2:]
    sides = (side,) * len(shape) if len(shape) == 2 else (max(side // 4, 1), side, side)
    starts = _corners(regions, sides)
    around = [length for length in reversed(sides) for _ in range(2)]
    crops = []
    for pixels, weights, corners in zip(F.pad(image, around), F.pad(regions, around), starts.tolist()):
        for weight, corner in zip(weights, corners):
            # a side of padding before the image: the corner may lie outside it
            box = tuple(slice(c + s, c + 2 * s) for c, s in zip(corner, sides))
            crops.append(torch.cat([pixels[(slice(None), *box)], weight[box].unsqueeze(0)]))
    return torch.stack(crops).unflatten(0, tuple(regions.shape[:2]))


def _corners(regions: Tensor, sides: Sequence[int]) -> Tensor:
    """First voxel [B, R, dims] of each square, from the regions' centres of mass."""
    shape = regions.shape[2:]
    weight = regions.detach().float().flatten(2)
    weight = torch.where(weight.sum(-1, keepdim=True) > 0, weight, 1.0)
    places = torch.stack(
        torch.meshgrid(*(torch.arange(n, device=regions.device) for n in shape), indexing="ij"), dim=-1
    ).flatten(0, -2)
    centres = weight @ places.float() / weight.sum(-1, keepdim=True)
    half = torch.tensor([s // 2 for s in sides], device=regions.device)
    return centres.round().long() - half
