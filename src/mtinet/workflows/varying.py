"""Variations of the data where training and evaluation meet them: who learns, what is seen, what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mtinet.cohort import Cohort
from mtinet.config import Config
from mtinet.config.variation import LearningVariation, ScoringVariation
from mtinet.data.folds import Split, fewer_patients, read_split, split_by_site, split_cohort
from mtinet.data.harmonisation import Harmonisation, fit
from mtinet.data.prepared import PreparedStudy
from mtinet.errors import UserError
from mtinet.inference.panel import Opinions, Panel
from mtinet.inference.reader import Reader
from mtinet.results import Finding
from mtinet.runs import Run
from mtinet.workflows.claims import Claims, NetworkClaims, ShuffledClaims


# ---------------------------------------------------------------------- training
def divide(
    cohort: Cohort, learning: LearningVariation, fold: int | None, folds: int, file: Path | None, seed: int
) -> Split:
    """Who trains and who is held out.

    The folds are the cohort's, not the seed's: runs of other seeds hold out the same patients.

    Parameters
    ----------
    cohort : Cohort
    learning : LearningVariation
    fold : int or None
    folds : int
    file : Path or None
        A fixed division, in the place of the fold.
    seed : int
        Of the order in which patients join a smaller training set.

    Raises
    ------
    SplitError, UserError
    """
    if learning.held_out_site is not None:
        if file is not None:
            raise UserError("a division from a file and a site to hold out exclude each other; give one")
        split = split_by_site(cohort, learning.held_out_site, folds)
    elif file is not None:
        split = read_split(file, cohort)
    else:
        split = split_cohort(cohort, fold, folds)
    if learning.patients is None:
        return split
    return fewer_patients(split, cohort, learning.patients, seed)


def harmonisation_of(run: Run, training: Sequence[PreparedStudy], *, write: bool) -> Harmonisation | None:
    """The harmonisation that the run's variation asks for, fitted to its training studies.

    Parameters
    ----------
    run : Run
    training : sequence of PreparedStudy
    write : bool
        Keep it in the run folder, where prediction finds it: one process of several does.
    """
    kind = run.learning.harmonisation
    if kind == "none":
        return None
    if run.has_document("harmonisation"):
        return Harmonisation.from_dict(run.document("harmonisation"))
    fitted = fit(kind, training)
    if write:
        run.write_document("harmonisation", fitted.to_dict())
        sites = sorted({study.site for study in training if not fitted.knows(study.site)})
        run.add_findings([_not_harmonised(site) for site in sites])
    return fitted


def _not_harmonised(site: str) -> Finding:
    return Finding(
        "site-not-harmonised",
        "train",
        "warning",
        f"site {site!r} has too few complete training studies to be compared with another site",
        "Its studies train as they are; add some, or use harmonisation nyul, which needs one study alone.",
    )


# ---------------------------------------------------------------------- evaluation
def refuse_unfit(variation: ScoringVariation, config: Config, predictions: Path | None) -> None:
    """Refuse a variation that the run cannot be scored under.

    Raises
    ------
    UserError
    """
    if variation == ScoringVariation():
        return
    if predictions is not None:
        raise UserError(
            "a variation changes what the run's network sees or who is asked, and the predictions of another "
            "program are made already: score them without it"
        )
    unknown = [phase for phase in variation.phases or () if phase not in config.phases]
    if unknown or variation.phases == ():
        raise UserError(
            f"the run has no phase {', '.join(unknown) or 'to show'}; it has {', '.join(config.phases)}"
        )


def with_a_phase(
    prepared: Sequence[PreparedStudy], variation: ScoringVariation
) -> tuple[list[PreparedStudy], list[Finding]]:
    """The studies that have one of the phases to be shown, and a finding for each left out."""
    shown = variation.phases
    if shown is None:
        return list(prepared), []

    def sees(study: PreparedStudy) -> bool:
        return any(there and phase in shown for phase, there in zip(study.phases, study.present, strict=True))

    return [study for study in prepared if sees(study)], [
        Finding(
            "no-phase-shown",
            "evaluate",
            "note",
            f"the study has none of {', '.join(shown)}, so it is not scored under this variation",
            "Nothing to do.",
            study.study_id,
        )
        for study in prepared
        if not sees(study)
    ]


def network_claims(runs: Sequence[Run], variation: ScoringVariation) -> Claims:
    """The claims of the first run's network, or of as many as the variation asks, on phases in its order.

    Raises
    ------
    UserError
        There are not as many runs as the variation asks, or they were trained without the dropout to thin.
    """
    if len(runs) != variation.networks:
        raise UserError(f"the variation asks {variation.networks} networks, and {len(runs)} are given")
    reader = Reader.of_run(runs[0])
    if variation.asks_several:
        others = map(Reader.of_run, runs[1:])
        reader = Panel([reader, *others], Opinions(variation.flips, variation.dropout))
    claims = NetworkClaims(reader, runs[0].classes)
    if variation.order == "true":
        return claims
    return ShuffledClaims(claims, runs[0].config.training.seed)
