"""Task interaction: the signal read under the predicted mask against the regressed enhancement.

Segmentation and regression answer the same question twice: the enhancement that the head regresses has to be
the mean signal under the mask that the decoder draws.  The loss ties both, and its gradient reaches both.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from mtinet.config import TimSettings
from mtinet.model.presence import shown


def mask_weights(mask_logits: Tensor, settings: TimSettings) -> Tensor:
    """Weights 0 to 1 of voxels in the signal read under a predicted mask, same shape as ``mask_logits``.

    The probability m itself will not do: of a lesion that fills 1 % of the pixels, before a background of
    0.02, two thirds of the weight are background.  ``power`` is m**gamma; ``hard`` is m > 0.5 with the
    gradient of m (straight through).
    """
    if settings.weighting == "power":
        # m**gamma through the logarithm: no overflow and a finite gradient for every logit and gamma
        return torch.exp(settings.gamma * F.logsigmoid(mask_logits))
    probability = torch.sigmoid(mask_logits)
    return (mask_logits > 0).to(probability.dtype) + probability - probability.detach()


def region_signal(
    image: Tensor,
    mask_logits: Tensor,
    phase_present: Tensor,
    settings: TimSettings,
    within: Tensor | None = None,
    liver: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Mean signal of every phase under the predicted mask, differentiable in the mask.

    Parameters
    ----------
    image : Tensor [B, P, *S]
        Normalised signal; what stands at absent phases does not matter.
    mask_logits : Tensor [B, 1, *S]
    phase_present : Tensor [B, P], bool
    settings : TimSettings
    within : Tensor [B, R, *S], optional
        Regions to read apart (weights 0 to 1); without, R = 1 and the whole mask is read.
    liver : Tensor [B, 1, *S], optional
        Mask outside which nothing is read.

    Returns
    -------
    signal : Tensor [B, R, P]
        Zero at absent phases.
    valid : Tensor [B, R], bool
        Whether the largest mask probability in the region reaches ``settings.min_confidence``.

    Raises
    ------
    ValueError
        ``phase_present`` is not bool, or ``within`` is not [B, R, *S].
    """
    if within is not None and (within.shape[:1], within.shape[2:]) != (image.shape[:1], image.shape[2:]):
        raise ValueError(
            f"within has shape {tuple(within.shape)}; give regions [B, R, *S] on the image's grid, here "
            f"[{image.shape[0]}, regions, {', '.join(map(str, image.shape[2:]))}]"
        )
    with torch.autocast(image.device.type, enabled=False):
        logits = mask_logits.float()
        window = torch.ones_like(logits) if within is None else within.float()
        if liver is not None:
            window = window * liver.float()
        weights = (mask_weights(logits, settings) * window).flatten(2)
        signal = shown(image.float(), phase_present).flatten(2)
        # the floor only keeps 0 / 0 away: small weights, of a high gamma, share what there is like large ones
        total = weights.sum(-1, keepdim=True)
        share = weights / total.clamp_min(torch.finfo(total.dtype).tiny)
        peak = (torch.sigmoid(logits.detach()) * (window > 0)).flatten(2).amax(-1)
        valid = (peak >= settings.min_confidence) & (
            total.detach().squeeze(-1) >= torch.finfo(total.dtype).tiny
        )
        return share @ signal.transpose(1, 2), valid


def tim_loss(
    signal: Tensor,
    prediction: Tensor,
    truth: Tensor | None,
    available: Tensor,
    settings: TimSettings,
) -> tuple[Tensor, Tensor]:
    """L1 between the signal under the mask and the predicted or true enhancement.

    Parameters
    ----------
    signal, prediction : Tensor [B, R, P]
        From :func:`region_signal` and from the head.
    truth : Tensor [B, R, P] or None
        Reference enhancement, NaN where unknown; needed for ``against = truth | both``.
    available : Tensor [B, R, P], bool
        Where the term counts: valid region, present phase, and a lesion that is there.
    settings : TimSettings

    Returns
    -------
    total, count : Tensor, scalars
        Sum of absolute differences (in units of the inputs) and how many there are; the caller divides, after
        adding the counts of all processes.
    """
    total, count = signal.new_zeros(()), signal.new_zeros(())
    if settings.against != "truth":
        total = total + torch.where(available, (prediction - signal).abs(), 0.0).sum()
        count = count + available.sum()
    if settings.against != "prediction":
        if truth is None:
            raise ValueError(
                f"tim.against={settings.against} needs the reference enhancement; "
                "give it, or set tim.against=prediction"
            )
        known = available & torch.isfinite(truth)
        # a NaN inside `where` would survive in the gradient, so the unknown values are replaced first
        total = total + torch.where(known, (signal - torch.where(known, truth, 0.0)).abs(), 0.0).sum()
        count = count + known.sum()
    return total, count
