"""The optimisation that each network's rows start from: what won its trials of ``tuning``."""

from __future__ import annotations

_SGD = (
    *("training.optimizer=sgd", "training.learning_rate=0.01"),
    *("training.schedule=poly", "training.weight_decay=0.00003"),
)

TUNED: dict[str, dict[str, tuple[str, ...]]] = {
    "small": {"mtinet": _SGD, "basic_unet": _SGD, "dynunet": _SGD},
}
"""By preset and network: the settings of the trial that won on the development cohort.  Without an entry the
preset's optimisation counts.  ``mtinet-paper`` is MTI-Net as published, which had trials of its own."""

DRAWS_AS = {"unet_cnn": "basic_unet"}
"""Networks that were not tried by themselves: the mask, which the trials are judged by, is another's."""


def optimisation(preset: str, network: str) -> tuple[str, ...]:
    """Settings as for ``--set``; a user's own and those of a row come after them."""
    return TUNED.get(preset, {}).get(DRAWS_AS.get(network, network), ())
