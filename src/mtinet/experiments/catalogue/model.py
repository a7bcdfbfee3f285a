"""Experiments on the model and its objective: rows that are settings and nothing else.

A row names every setting in which it differs, and says nothing of the others: they are the preset's and the
user's.  Where a preset has a row's settings by itself, the row is the reference and is left out by the plan.
"""

from __future__ import annotations

from itertools import combinations

from mtinet.experiments.plan import Axis, Experiment, Row
from mtinet.experiments.tuned import sgd

NO_TIM = "tim.enabled=false"
NO_TDD = "tdd.enabled=false"
HEAD_ALONE = "head.readout=none"
READOUT = ("head.readout=residual", "head.pooling=lesion")
NO_SKIPS = ("decoder.skips=none", "head.levels=last")

FUSIONS = {
    "concat": "concatenation",
    "average": "plain mean",
    "spatial": "spatial map alone",
    "spectral": "spectral map alone",
    "attention": "learned weights",
}

ABLATION = Experiment(
    name="ablation",
    title="What each part of MTI-Net contributes",
    question="Which of MdIEF, TIM, TDD, the encodings and the way of pooling earns its place?",
    reference="full",
    rows=(
        Row("full", "MTI-Net"),
        *(Row(f"fusion-{kind}", f"Fusion: {title}", (f"fusion={kind}",)) for kind, title in FUSIONS.items()),
        Row("no-skips", "No skip connections, deepest level alone", NO_SKIPS),
        *(
            Row(f"fusion-{kind}-no-skips", f"Fusion: {title}, no skips", (f"fusion={kind}", *NO_SKIPS))
            for kind, title in FUSIONS.items()
        ),
        Row("no-tim", "No TIM", (NO_TIM,)),
        Row("hard-tim", "TIM under the thresholded mask", ("tim.weighting=hard",)),
        Row("tim-prediction", "TIM against the prediction", ("tim.against=prediction",)),
        Row("tim-truth", "TIM against the truth", ("tim.against=truth",)),
        Row("tim-both", "TIM against both", ("tim.against=both",)),
        Row("no-tdd", "No TDD", (NO_TDD,)),
        Row("tdd-shuffled", "TDD with pairs shuffled between classes", ("tdd.pairs=shuffled",)),
        Row("no-tim-no-tdd", "Neither TIM nor TDD", (NO_TIM, NO_TDD)),
        *(
            Row(f"position-{kind}", f"Positional encoding: {kind}", (f"head.position={kind}",))
            for kind in ("none", "learned", "sinusoidal", "time")
        ),
        Row("encoder-shared", "One encoder for all phases", ("encoder.shared=true",)),
        Row("encoder-per-phase", "An encoder a phase", ("encoder.shared=false",)),
        Row("pooling-lesion", "Tokens pooled under the lesion", ("head.pooling=lesion",)),
        Row(
            "pooling-global",
            "Tokens pooled over the image, enhancement by the head alone",
            ("head.pooling=global", HEAD_ALONE),
        ),
        Row("readout-residual", "Enhancement: signal under the mask plus the head", READOUT),
        Row("readout-none", "Enhancement: the head alone", (HEAD_ALONE,)),
        *(
            Row(f"readout-none-{name}", f"Enhancement: the head alone; {title}", (HEAD_ALONE, *changes))
            for name, title, changes in (
                ("no-tim", "no TIM", (NO_TIM,)),
                ("tim-prediction", "TIM against the prediction", ("tim.against=prediction",)),
                ("no-tdd", "no TDD", (NO_TDD,)),
            )
        ),
    ),
    reading="Where the enhancement is the signal under the mask plus the head (head.readout=residual, as in the "
    "preset small), its error is first of all that of the mask: what ties the head to the signal (TIM) or judges "
    "its curves (TDD) has little left to do there, and is to be read from the rows in which the head is alone, "
    "against each other.  Pooling over the image leaves no lesion to read a signal from, so there the head is "
    "alone too.",
)

TASKS = ("segmentation", "regression", "classification")
LEARNING_RATES = ("0.0025", "0.01", "0.04")
"""Around that which the trials chose for MTI-Net, with the optimiser that they chose."""


def _synergy_row(tasks: tuple[str, ...], rate: str) -> Row:
    # tasks alone: TIM and TDD tie tasks, and not every subset can have them; no subset but those with
    # segmentation has a mask to pool under, so all learn and are read under the reference mask
    left_out = tuple(f"objective.{task}=0" for task in TASKS if task not in tasks)
    return Row(
        f"{'-'.join(tasks)}-{rate}",
        f"{', '.join(tasks)}; learning rate {rate}",
        (NO_TIM, NO_TDD, "head.pooling=lesion", "head.predicted_share=0", HEAD_ALONE, *left_out, *sgd(rate)),
        enhancement="oracle_mask",
        classes="oracle_mask",
        curve=", ".join(tasks),
    )


SYNERGY = Experiment(
    name="synergy",
    title="Every subset of the three tasks",
    question="Do the tasks help each other or compete, at the learning rate that suits each subset?",
    reference=f"{'-'.join(TASKS)}-0.01",
    rows=tuple(
        _synergy_row(tasks, rate)
        for size in (3, 2, 1)
        for tasks in combinations(TASKS, size)
        for rate in LEARNING_RATES
    ),
    reading="Enhancement and class are read under the reference mask: a subset without segmentation has no "
    "other.  There the signal is the truth by definition, so the enhancement is the head's alone in all rows.  TIM "
    "and TDD are off in all rows.",
    axis=Axis("config", "training.learning_rate", "learning rate"),
)

DEPTH = Experiment(
    name="depth",
    title="Depth of the head's Transformer",
    question="How many Transformer blocks over the phases are worth their cost?",
    reference="depth-3",
    rows=tuple(
        Row(f"depth-{n}", f"{n} block{'' if n == 1 else 's'}", (f"head.depth={n}",), curve="MTI-Net")
        for n in (0, 1, 3, 6, 12)
    ),
    reading="Where the enhancement is the signal under the mask plus the head (head.readout=residual), the depth "
    "shows in the class; with --set head.readout=none also in the enhancement.",
    axis=Axis("config", "head.depth", "Transformer blocks of the head"),
)

TERMS = ("regression", "classification", "tim", "adversarial")


def _from(share: float, terms: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"objective.{term}_from={share}" for term in terms)


WEIGHTING = Experiment(
    name="weighting",
    title="How the terms of the objective are balanced",
    question="Fixed weights, learned ones or projected gradients, and when should each term enter?",
    reference="fixed",
    rows=(
        Row("fixed", "Fixed weights", ("objective.weighting=fixed",)),
        Row("uncertainty", "Uncertainty weighting", ("objective.weighting=uncertainty",)),
        Row("pcgrad", "Projected gradients (PCGrad)", ("objective.weighting=pcgrad",)),
        Row(
            "equal",
            "All weights 1 from the first step",
            (
                "objective.segmentation=1",
                *(f"objective.{term}=1" for term in TERMS),
                *_from(0.0, TERMS),
            ),
        ),
        Row("from-start", "Every term from the first step", _from(0.0, TERMS)),
        Row("late-interaction", "TIM and TDD from 60 % on", _from(0.6, ("tim", "adversarial"))),
        Row(
            "segmentation-first",
            "The mask alone for 20 %, then class and enhancement",
            _from(0.2, ("regression", "classification")),
        ),
    ),
)

NO_SPECTRAL_NORM = "tdd.spectral_norm=false"
NO_PENALTY = "tdd.r1=0"
NO_INSTANCE_NOISE = "tdd.instance_noise=0"
NO_SMOOTHING = ("tdd.label_smoothing=0", "tdd.label_noise=0")
BARE = (NO_SPECTRAL_NORM, NO_PENALTY, NO_INSTANCE_NOISE, *NO_SMOOTHING)

STABILITY = Experiment(
    name="stability",
    title="The discriminator's loss and its stabilisers",
    question="Which settings of the adversarial part stay balanced, and which collapse or saturate?",
    reference="nonsaturating",
    rows=(
        *(Row(loss, f"Loss: {loss}", (f"tdd.loss={loss}",)) for loss in ("nonsaturating", "hinge", "lsgan")),
        *(
            Row(f"{loss}-bare", f"Loss: {loss}, no stabiliser", (f"tdd.loss={loss}", *BARE))
            for loss in ("nonsaturating", "hinge", "lsgan")
        ),
        Row("no-spectral-norm", "No spectral norm", (NO_SPECTRAL_NORM,)),
        Row("no-penalty", "No gradient penalty", (NO_PENALTY,)),
        Row("no-instance-noise", "No noise on the curves", (NO_INSTANCE_NOISE,)),
        Row("no-smoothing", "Class vectors neither smoothed nor noised", NO_SMOOTHING),
        Row("from-start", "From the first step", ("objective.adversarial_from=0",)),
        Row("heavy", "Weight 0.2", ("objective.adversarial=0.2",)),
        Row("three-steps", "Three discriminator updates a step", ("tdd.steps=3",)),
    ),
)

EXPERIMENTS: tuple[Experiment, ...] = (ABLATION, SYNERGY, DEPTH, WEIGHTING, STABILITY)
