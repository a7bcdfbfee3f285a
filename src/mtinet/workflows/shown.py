"""Which classes, phases and masks a training shows to its network: of others it answers all the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mtinet.cohort import NO_LESION, Cohort
from mtinet.config import Config
from mtinet.data.prepared import PreparedStudy
from mtinet.results import Finding
from mtinet.runs import Run


def shown_to(
    training: Sequence[PreparedStudy], config: Config, classes: Sequence[str], start: Run | None = None
) -> dict[str, list[str]]:
    """Classes and phases that any training study has, and whether one has a lesion's mask.

    Parameters
    ----------
    training : sequence of PreparedStudy
    config : Config
    classes : sequence of str
        The network's.
    start : Run, optional
        A run whose weights the training begins with.  What it was shown counts where its weights for classes, or
        for phases, are taken over (:func:`~mtinet.workflows.fine_tuning.initialise`).

    Returns
    -------
    dict
        ``classes``, ``phases`` and ``masks`` (of a training with a lesion's mask: ``lesion``).
    """
    labels = {lesion.label for study in training for lesion in study.lesions}
    labels |= {study.label for study in training}
    phases = {phase for n, phase in enumerate(config.phases) if any(s.present[n] for s in training)}
    masks = {"lesion"} if any(study.lesions for study in training) else set()
    if start is not None:
        # runs of earlier versions do not tell, and are taken to have been shown all that they know
        before = start.document("preparation").get("shown", {})
        if set(start.classes) == set(classes):
            labels |= set(before.get("classes", start.classes))
        if start.config.phases == config.phases:
            phases |= set(before.get("phases", config.phases))
        masks |= set(before.get("masks", ["lesion"]))
    return {
        "classes": [name for name in classes if name in labels - {"", NO_LESION}],
        "phases": [phase for phase in config.phases if phase in phases],
        "masks": sorted(masks),
    }


def never_shown(shown: Mapping[str, Sequence[str]], cohort: Cohort, config: Config) -> list[Finding]:
    """What the network answers for or takes, and no training study has (:func:`shown_to`)."""
    findings: list[Finding] = []
    classes = [name for name in cohort.classes if name not in shown["classes"]]
    if classes and config.objective.classification > 0:
        findings.append(
            Finding(
                "class-never-shown",
                "train",
                "warning",
                f"no training study has a lesion of {', '.join(classes)}, yet the model will give it a probability",
                "Take it out of the classes of cohort.yaml, add patients who have it, or divide with --split so that "
                "the training gets some.",
            )
        )
    phases = [phase for phase in config.phases if phase not in shown["phases"]]
    if phases:
        findings.append(
            Finding(
                "phase-never-shown",
                "train",
                "warning",
                f"no training study has the phase {', '.join(phases)}, yet the model will use it where a study has it",
                "Name the phases that the cohort has: "
                f"--set phases={','.join(phase for phase in cohort.phases if phase not in phases)}",
            )
        )
    if config.objective.segmentation > 0 and not shown["masks"]:
        findings.append(
            Finding(
                "lesion-never-shown",
                "train",
                "warning",
                "no training study has a mask with a lesion, yet the model will outline lesions: they mean nothing",
                "Add masks to some studies (column mask of cohort.csv), or begin with a model that knows lesions "
                "(--init). To learn from labels alone, set objective.segmentation=0.",
            )
        )
    unused = [phase for phase in cohort.phases if phase not in config.phases]
    if unused:
        findings.append(
            Finding(
                "phase-not-asked-for",
                "train",
                "note",
                f"the cohort's phase {', '.join(unused)} is not among the settings' phases and is not used",
                f"To use it: --set phases={','.join(cohort.phases)}",
            )
        )
    return findings
