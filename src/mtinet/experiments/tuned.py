"""The trials of ``tuning``, and what won them: the optimisation that each network's rows start from."""

from __future__ import annotations

OPTIMISATION = (
    *("training.optimizer", "training.learning_rate"),
    *("training.schedule", "training.weight_decay"),
)
"""The settings that a trial decides."""

_ADAMW = ("training.schedule=cosine", "training.weight_decay=0.0001")


def sgd(rate: str) -> tuple[str, ...]:
    """nnU-Net's own recipe (Isensee et al., Nat Methods 2021) at a learning rate; there it is 0.01."""
    return (
        *("training.optimizer=sgd", f"training.learning_rate={rate}"),
        *("training.schedule=poly", "training.weight_decay=0.00003"),
    )


TRIALS = {
    **{
        f"adamw-{rate}": ("training.optimizer=adamw", f"training.learning_rate={rate}", *_ADAMW)
        for rate in ("0.001", "0.004", "0.016")
    },
    "sgd-0.01": sgd("0.01"),
}
"""The same trials for every network; the last is nnU-Net's own recipe."""

TUNED: dict[str, dict[str, tuple[str, ...]]] = {
    "small": dict.fromkeys(("mtinet", "mtinet-paper", "basic_unet", "dynunet"), TRIALS["sgd-0.01"]),
}
"""By preset and network: the settings of the trial that won on the development cohort.  Without an entry the
preset's optimisation counts.  ``mtinet-paper`` is the plain reading of the paper, which had trials of its own."""

NOBODY = "nobody"
"""In the place of a network: the preset's own optimisation, as ``mtinet train`` takes it."""

DRAWS_AS = {"unet_cnn": "basic_unet"}
"""Networks that were not tried by themselves: the mask, which the trials are judged by, is another's."""


def optimisation(preset: str, network: str) -> tuple[str, ...]:
    """Settings as for ``--set``; a user's own and those of a row come after them."""
    return TUNED.get(preset, {}).get(DRAWS_AS.get(network, network), ())
