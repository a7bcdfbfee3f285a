"""Experiments on the data: masks, noise, sites, phases and numbers of patients, learned from or scored on."""

from __future__ import annotations

from itertools import combinations

from mtinet.config import DEFAULT_PHASES, Phase
from mtinet.config.variation import LearningVariation, ScoringVariation
from mtinet.experiments.plan import Axis, Experiment, Row

MARGINS = (-3, -2, -1, 1, 2, 3)
"""In-plane voxels by which training masks are drawn too wide or too tight."""

NOISE = (0.05, 0.1, 0.2)
"""Added noise, in normalised signal; the liver before contrast is near 0.4."""

HETEROGENEITY = (0.1, 0.2, 0.4)
"""Relative spread of the added texture."""

DISPLACEMENTS_MM = (2.5, 5.0, 10.0, 20.0)
PATIENTS = (20, 40, 80, 160)
DROPOUT = "augmentation.phase_dropout=0.25"

FUSIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "mdief": ("MdIEF", ()),
    "mdief-0.1": ("MdIEF, cutoff 0.1", ("mdief.cutoff=0.1",)),
    "mdief-0.5": ("MdIEF, cutoff 0.5", ("mdief.cutoff=0.5",)),
    "average": ("mean of both maps", ("fusion=average",)),
    "concat": ("concatenation", ("fusion=concat",)),
    "spatial": ("spatial map alone", ("fusion=spatial",)),
}
"""Title and settings of each fusion that noise is tried on."""


def _subsets(phases: tuple[Phase, ...]) -> tuple[tuple[Phase, ...], ...]:
    """Every non-empty proper subset, the largest first."""
    return tuple(kept for size in range(len(phases) - 1, 0, -1) for kept in combinations(phases, size))


SHOWN = tuple(ScoringVariation(phases=kept) for kept in _subsets(DEFAULT_PHASES))
OCCLUDED = tuple(
    ScoringVariation(phases=kept) for kept in combinations(DEFAULT_PHASES, len(DEFAULT_PHASES) - 1)
)
DAMAGED = (
    *(ScoringVariation(noise=sigma) for sigma in NOISE),
    *(ScoringVariation(heterogeneity=spread) for spread in HETEROGENEITY),
)
MISPLACED = (
    ScoringVariation(order="shuffled"),
    *(ScoringVariation(displacement_mm=distance) for distance in DISPLACEMENTS_MM),
)


# ---------------------------------------------------------------------- masks
def _margin(name: str, title: str, changes: tuple[str, ...], voxels: int) -> Row:
    drawn = "as drawn" if voxels == 0 else f"{abs(voxels)} voxel(s) too {'wide' if voxels > 0 else 'tight'}"
    return Row(
        f"{name}{voxels:+d}",
        f"{title}, masks {drawn}",
        changes,
        LearningVariation(mask_margin=voxels),
        curve=title,
    )


TIM_BIAS = Experiment(
    name="tim-bias",
    title="Training masks drawn too wide or too tight, with and without TIM",
    question="Does tying the mask to the enhancement correct a bias of the training masks, or pass it on?",
    reference="tim+0",
    rows=tuple(
        _margin(name, title, changes, voxels)
        for voxels in (0, *MARGINS)
        for name, title, changes in (
            ("tim", "with TIM", ()),
            ("plain", "without TIM", ("tim.enabled=false",)),
        )
    ),
    reading="Only training masks differ; every row is scored against the masks as drawn.  Signed differences of "
    "volume and enhancement show the bias; absolute errors hide it.",
    axis=Axis("learning", "mask_margin", "voxels by which training masks were drawn too wide"),
    described=("volume_bias_ml", "enhancement_bias"),
)


# ---------------------------------------------------------------------- noise
def _fusion(name: str, noise: float = 0.0) -> Row:
    title, changes = FUSIONS[name]
    if not noise:
        return Row(name, title, changes, scorings=DAMAGED)
    learning, same = LearningVariation(noise=noise), ScoringVariation(noise=noise)
    return Row(f"{name}-noisy", f"{title}, learned from noisy images", changes, learning, (same,))


NOISE_EXPERIMENT = Experiment(
    name="noise",
    title="Noise and texture against the fusion and its cutoff",
    question="At which signal-to-noise ratio or heterogeneity does the spectral branch cease to help?",
    reference="mdief",
    rows=(*(_fusion(name) for name in FUSIONS), *(_fusion(name, NOISE[1]) for name in FUSIONS)),
    reading=f"Rows named noisy learned from images with added noise of {NOISE[1]:g} and are scored under the "
    "same, too.",
    axis=Axis("scoring", "noise", "added noise (normalised signal)"),
)


# ---------------------------------------------------------------------- sites
def _harmonised(network: str, title: str, kind: str) -> Row:
    how = {"none": "normalisation alone", "nyul": "Nyul", "combat": "ComBat"}[kind]
    name = network if kind == "none" else f"{network}-{kind}"
    learning = LearningVariation.model_validate({"harmonisation": kind})
    return Row(name, f"{title}, {how}", (f"model={network}",), learning)


SITES = Experiment(
    name="sites",
    title="A site that nobody trained on",
    question="How much is lost at a new site, and does harmonisation give it back?",
    reference="mtinet",
    division="sites",
    rows=tuple(
        _harmonised(network, title, kind)
        for network, title in (("mtinet", "MTI-Net"), ("basic_unet", "BasicUNet"))
        for kind in ("none", "nyul", "combat")
    ),
    reading="Every site is held out once.  Harmonisation is fitted to the training sites; ComBat knows nothing of "
    "a new site, which is therefore left as it is.",
)


# ---------------------------------------------------------------------- phases
PHASES_EXPERIMENT = Experiment(
    name="phases",
    title="Phases that lack, stand in the wrong place or do not fit",
    question="What does each phase bring, and how wrong may order and registration be?",
    reference="mtinet",
    rows=(
        Row("mtinet", "MTI-Net", (), scorings=(*SHOWN, *MISPLACED)),
        Row("mtinet-dropout", "MTI-Net, phase dropout", (DROPOUT,), scorings=(*SHOWN, *MISPLACED)),
        Row("basic_unet", "BasicUNet", ("model=basic_unet",), scorings=(*SHOWN, *MISPLACED)),
        Row(
            "basic_unet-dropout",
            "BasicUNet, phase dropout",
            ("model=basic_unet", DROPOUT),
            scorings=(*SHOWN, *MISPLACED),
        ),
    ),
    reading="Enhancement is scored on the phases that are shown, so its error is comparable between methods under "
    "one variation and not between variations; without the unenhanced phase there is no relative one.",
    axis=Axis("scoring", "displacement_mm", "shift of every phase but the reference (mm)"),
)


# ---------------------------------------------------------------------- patients
def _learned_from(network: str, title: str, patients: int | None) -> Row:
    if patients is None:
        return Row(network, f"{title}, all patients", (f"model={network}",), curve=title)
    learning = LearningVariation(patients=patients)
    changes = (f"model={network}",)
    return Row(f"{network}-{patients}", f"{title}, {patients} patients", changes, learning, curve=title)


SIZE = Experiment(
    name="size",
    title="Number of patients learned from",
    question="How does each network gain from more patients?",
    reference="mtinet",
    rows=tuple(
        _learned_from(network, title, patients)
        for network, title in (("mtinet", "MTI-Net"), ("basic_unet", "BasicUNet"))
        for patients in (None, *PATIENTS)
    ),
    reading="Steps are the same for all numbers.  Smaller sets lie within larger ones; where there are fewer "
    "patients than a row asks for, it learns from all, and stands on the curve where those are.",
    axis=Axis("run", "training_patients", "patients learned from"),
)


# ---------------------------------------------------------------------- attention
ATTENTION = Experiment(
    name="attention",
    title="Attention and what a phase is worth",
    question="Does the attention that a phase gets go with what its loss does to the class?",
    reference="mtinet",
    rows=(
        Row("mtinet", "MTI-Net", (), scorings=OCCLUDED),
        Row("mtinet-dropout", "MTI-Net, phase dropout", (DROPOUT,), scorings=OCCLUDED),
    ),
    reading="A phase is hidden at test time and the fall of the probability of the true class is its effect.  A "
    "network that never saw a phase missing is surprised by the gap as well as by the loss: the row with phase "
    "dropout is not.  Attention is a share of a sum and no explanation.",
)

# ---------------------------------------------------------------------- how sure
UNCERTAINTY = Experiment(
    name="uncertainty",
    title="Asking several networks, thinned networks or mirrored images",
    question="Does a second opinion make probabilities truer and errors easier to find, and what does it cost?",
    reference="one",
    seeds=3,
    rows=(
        Row("one", "One network", scorings=(ScoringVariation(networks=3), ScoringVariation(flips=True))),
        Row(
            "mirrored",
            "One network, trained with mirrored images",
            ("augmentation.flip=0.5",),
            scorings=(ScoringVariation(flips=True),),
        ),
        Row(
            "dropout",
            "One network, trained with dropout",
            ("head.dropout=0.1", "decoder.dropout=0.1"),
            scorings=(ScoringVariation(dropout=10),),
        ),
    ),
    reading="All are scored on the same held-out patients; the mean of three networks needs three seeds.  Networks "
    "are thinned by Monte-Carlo dropout.",
)

EXPERIMENTS: tuple[Experiment, ...] = (
    *(TIM_BIAS, NOISE_EXPERIMENT, SITES, PHASES_EXPERIMENT, SIZE, ATTENTION, UNCERTAINTY),
)
