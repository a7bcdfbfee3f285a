"""Predict every study of a source: DICOM, NIfTI or a cohort, a set of files for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from pathlib import Path

from mtinet.cohort import Cohort
from mtinet.dicom.contained import zips_closed
from mtinet.errors import UserError
from mtinet.inference.ensemble import Ensemble
from mtinet.inference.panel import ALONE, Opinions
from mtinet.results import Finding
from mtinet.runs import Run
from mtinet.workflows.imports.mapping import refuse_key_inside
from mtinet.workflows.predictions.audit import Audit, alone_in
from mtinet.workflows.predictions.batch import Batch, OutputError, Predictions, unwritable
from mtinet.workflows.predictions.batch_table import write_batch_table
from mtinet.workflows.predictions.formats import (
    DEFAULT_FORMATS,
    TABLE_FILE,
    Format,
    check_instances,
    names_of,
)
from mtinet.workflows.predictions.origins import origins_of_cohort
from mtinet.workflows.predictions.places import Places
from mtinet.workflows.predictions.priors import Prior, PriorPaths
from mtinet.workflows.predictions.sources import Source, open_source
from mtinet.workflows.predictions.supplied import NOTHING, Supplied
from mtinet.workflows.predictions.who import WhoIsWho, who_is_who
from mtinet.workflows.unseen import training_patients

__all__ = ["OutputError", "PredictOptions", "Predictions", "predict"]


@dataclass(frozen=True)
class PredictOptions:
    """What the user says about a prediction.

    Attributes
    ----------
    formats : tuple of str
        What is written (:data:`~mtinet.workflows.predictions.formats.FORMATS`).
    phase_names : mapping of str to str
        Phases that the user knows better (:func:`~mtinet.workflows.predictions.sources.open_source`).
    key : Path or None
        Secret key of the pseudonyms of DICOM studies; None = that of the user, made at first use.
    images, mapping : Path or None
        DICOM files that a cohort was imported from, and its mapping file (none where it kept the original ids):
        what DICOM formats need of a cohort.
    ensemble : tuple of Path
        Other runs that are asked too.  A patient of the cohort who trained any of the runs is refused: the
        mean of models that know a patient and models that do not says nothing about new ones.
    opinions : Opinions
        Flips and dropout.
    prior : PriorPaths or None
        An earlier study of the patient whose lesions are compared with.
    backend : str
        Who computes the network (:data:`~mtinet.inference.backends.BACKENDS`).
    supplied : Supplied
        Agent and liver of studies that lack them.
    """

    formats: tuple[Format, ...] = DEFAULT_FORMATS
    phase_names: Mapping[str, str] | None = None
    key: Path | None = None
    images: Path | None = None
    mapping: Path | None = None
    ensemble: tuple[Path, ...] = ()
    opinions: Opinions = ALONE
    prior: PriorPaths | None = None
    backend: str = "torch"
    supplied: Supplied = NOTHING


@zips_closed()
def predict(
    model: Path,
    source: Path,
    out: Path,
    options: PredictOptions | None = None,
    *,
    on_progress: Callable[[int, int], None] | None = None,
    on_unforeseen: Callable[[Exception], None] | None = None,
) -> Predictions:
    """Predict the studies of a source.

    A study's files lie in ``out`` itself, or in ``out/<study_id>`` where there are several or were before; they
    appear together.  A study that fails becomes a finding and does not stop the others.  ``out/audit.jsonl`` gets a
    line a study; one that is finished is not predicted again while its inputs, the model and the version stay.
    ``out/measurements.csv`` then has the quantities of all studies with a folder.
    Which pseudonym stands for whom is written beside ``out`` (``out-mapping.csv``), never into it.  One process at a
    time works in an ``out``.

    Parameters
    ----------
    model : Path
        Run folder of a finished training, or the name of a model that comes with the package.
    source : Path
        See :func:`~mtinet.workflows.predictions.sources.open_source`.
    out : Path
    options : PredictOptions, optional
    on_progress : callable, optional
        Called as ``on_progress(done, total)`` with numbers of studies.
    on_unforeseen : callable, optional
        Called with an error of one study that nobody foresaw, for its traceback; it may hold identity.

    Raises
    ------
    OutputError
        The disk is full; what is finished stays (``error.outcome``), and the same command goes on.
    UserError
        Model, source or an option cannot be used, or another process predicts or revises into ``out``.
    """
    options = options or PredictOptions()
    options.supplied.check()
    refuse_key_inside(out, options.key)
    runs = [Run.find(path) for path in (model, *options.ensemble)]
    if options.images is None and options.mapping is not None:
        raise UserError(
            "--mapping says who is who in the DICOM files of a cohort: give them too, with --images"
        )
    origins = None
    if options.images is not None:
        origins = origins_of_cohort(source, options.images, options.mapping)
    opened = open_source(source, options.phase_names, options.key, origins)
    check_instances(options.formats, opened.has_instances)
    prior = None if options.prior is None else Prior.open(options.prior, options.key)
    if prior is not None:
        prior.check(opened.jobs)
    with alone_in(out):
        return _predicted(runs, source, opened, out, prior, options, on_progress, on_unforeseen)


def _predicted(
    runs: list[Run],
    source: Path,
    opened: Source,
    out: Path,
    prior: Prior | None,
    options: PredictOptions,
    on_progress: Callable[[int, int], None] | None,
    on_unforeseen: Callable[[Exception], None] | None,
) -> Predictions:
    """Predict the studies of a source into a folder that no other process writes into."""
    who = who_is_who(out, opened.jobs)
    audit = Audit(out)
    names = names_of(options.formats, liver=bool(options.supplied.liver_command))
    places = Places.of(out, opened, audit, names)
    predictor = Ensemble.open(runs, options.opinions, backend=options.backend)
    batch = Batch(
        predictor,
        runs[0].class_codes,
        _trained_on(runs, source),
        audit,
        options.formats,
        places.by_study,
        prior,
        options.supplied,
        on_unforeseen,
    )
    mapping = None if who is None else who.place
    table = out / TABLE_FILE if places.in_folders else None
    findings = list(opened.findings)
    try:
        findings += _before_the_first(out, who, places, audit)
        for done, job in enumerate(opened.jobs, start=1):
            batch.do(job)
            if on_progress is not None:
                on_progress(done, len(opened.jobs))
        findings += [] if table is None else _tabled(table, audit, len(batch.results))
    except OutputError as error:
        findings += [error.finding, *batch.not_done(opened.jobs)]
        told = mapping if mapping is not None and mapping.is_file() else None
        error.outcome = batch.outcome(findings, told, None)
        raise
    return batch.outcome(findings, mapping, table)


def _tabled(table: Path, audit: Audit, finished: int) -> list[Finding]:
    """Write the table of all studies, and say what it lacks."""
    try:
        return write_batch_table(table, audit)
    except OSError as error:
        raise unwritable(table, error, finished) from error


def _before_the_first(out: Path, who: WhoIsWho | None, places: Places, audit: Audit) -> list[Finding]:
    """Tell who is who, and move what is in the way, once nothing about the call can be wrong any more."""
    if who is not None:
        try:
            who.write()
        except OSError as error:
            raise unwritable(who.place, error, 0) from error
    try:
        return [] if places.moved is None else [places.moved.do(audit)]
    except OSError as error:
        raise unwritable(out, error, 0) from error


def _trained_on(runs: list[Run], source: Path) -> Set[str]:
    """Patients of a cohort who trained one run of an ensemble; a plain folder names no patient."""
    if len(runs) == 1 or not (source / "cohort.csv").is_file():
        return frozenset()
    cohort = Cohort.read(source)
    return {patient for run in runs for patient in training_patients(run, cohort)}
