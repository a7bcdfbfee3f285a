"""MTI-Net against the field: segmentation networks with read-outs, hard sharing, single tasks, trivial answers.

All rows have the same data, folds, patches, augmentation and steps.  Every network learns its mask by Dice
and cross-entropy, which is what MONAI's and nnU-Net's own recipes recommend.
"""

from __future__ import annotations

from mtinet.experiments.plan import EnhancementMethod, Experiment, Row
from mtinet.experiments.tuned import TRIALS

NETWORKS = {
    "basic_unet": "BasicUNet",
    "dynunet": "DynUNet",
    "swinunetr": "SwinUNETR",
    "attention_unet": "AttentionUnet",
}

MASK_ONLY = ("objective.regression=0", "objective.classification=0")
NO_INTERACTION = ("tim.enabled=false", "tdd.enabled=false")

PLAIN_READING = (
    "encoder.shared=false",
    *("decoder.skips=none", "head.levels=last", "head.pooling=global", "head.readout=none"),
    "tim.against=prediction",
)
"""What the paper says of the architecture, and the plainest choice where it is silent (docs/fidelity.md)."""


def _with_read_out(network: str, suffix: str, what: str, classes: str) -> Row:
    return Row(
        f"{network}{suffix}",
        f"{NETWORKS[network]}, signal under the mask, {what}",
        (f"model={network}", *MASK_ONLY),
        enhancement="read_out",
        classes=classes,
    )


def _single(task: str, methods: tuple[EnhancementMethod, str], note: str) -> Row:
    left_out = {"segmentation", "regression", "classification"} - {task}
    # without a mask of its own the head learns under the reference mask alone; there the signal is the answer
    # by definition, so the head has to find the enhancement by itself
    under_the_reference = ("head.pooling=lesion", "head.predicted_share=0", "head.readout=none")
    pooled = () if task == "segmentation" else under_the_reference
    changes = tuple(f"objective.{other}=0" for other in sorted(left_out))
    return Row(
        f"mtinet-{task}",
        f"MTI-Net for {task} alone{note}",
        (*NO_INTERACTION, *changes, *pooled),
        enhancement=methods[0],
        classes=methods[1],
    )


BASELINES = Experiment(
    name="baselines",
    title="MTI-Net and what it is compared with",
    question="Is MTI-Net ahead of each network and read-out on each task, at an equal budget?",
    reference="mtinet",
    rows=(
        Row("mtinet", "MTI-Net"),
        Row("mtinet-paper", "MTI-Net, plain reading of the paper", PLAIN_READING, trials="mtinet-paper"),
        Row(
            "mtinet-read-out",
            "MTI-Net's mask, signal under it, logistic regression",
            enhancement="read_out",
            classes="logistic_regression",
        ),
        *(_with_read_out(name, "", "logistic regression", "logistic_regression") for name in NETWORKS),
        *(_with_read_out(name, "-boosting", "gradient boosting", "gradient_boosting") for name in NETWORKS),
        *(
            Row(
                f"hard-sharing-{weighting}",
                f"BasicUNet, hard sharing, {title}",
                ("model=basic_unet", f"objective.weighting={weighting}"),
            )
            for weighting, title in (
                ("fixed", "fixed weights"),
                ("uncertainty", "uncertainty weighting"),
                ("pcgrad", "PCGrad"),
            )
        ),
        Row(
            "unet-cnn",
            "BasicUNet, then a CNN on the lesion that shares nothing with it",
            ("model=unet_cnn", "head.pooling=lesion"),
        ),
        _single("segmentation", ("read_out", "logistic_regression"), ", logistic regression"),
        _single("regression", ("oracle_mask", "none"), ", under the reference mask"),
        _single("classification", ("none", "oracle_mask"), ", under the reference mask"),
        Row(
            "trivial",
            "Training mean and majority class (mask of BasicUNet)",
            ("model=basic_unet", *MASK_ONLY),
            enhancement="training_mean",
            classes="majority",
        ),
    ),
    reading="MTI-Net for regression or classification alone has no mask: it is read under the reference mask, "
    "which is in its favour; its enhancement is the head's alone, because the signal under the reference mask is "
    "the truth by definition.  Read-out classifiers learn from the signals under the reference masks of the "
    "training patients and are asked about those under predicted masks; where the mask is MTI-Net's own, the "
    "difference is what its heads add to it.  The plain reading of the paper pools over the image: over patches "
    "in training, over whole slices in use.",
    described=("nsd", "hd95_mm"),
)

TUNING = Experiment(
    name="tuning",
    title="The same optimisation trials for every network",
    question="Which optimiser and learning rate suit each network?  For a development cohort, never the "
    "locked one.",
    reference="mtinet-adamw-0.004",
    rows=(
        *(Row(f"mtinet-{trial}", f"MTI-Net, {trial}", changes) for trial, changes in TRIALS.items()),
        *(
            Row(
                f"mtinet-paper-{trial}",
                f"MTI-Net, plain reading of the paper, {trial}",
                (*PLAIN_READING, *changes),
            )
            for trial, changes in TRIALS.items()
        ),
        *(
            Row(
                f"{network}-{trial}",
                f"{title}, {trial}",
                (f"model={network}", *MASK_ONLY, *changes),
                enhancement="read_out",
                classes="logistic_regression",
            )
            for network, title in NETWORKS.items()
            for trial, changes in TRIALS.items()
        ),
    ),
    folds=(0,),
)

EXPERIMENTS: tuple[Experiment, ...] = (BASELINES, TUNING)
