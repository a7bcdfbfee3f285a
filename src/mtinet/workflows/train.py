"""Train: check, split, prepare, set the statistics, run the loop."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric

from mtinet import provenance
from mtinet.cohort import NO_LESION, Cohort
from mtinet.config import Config, difference
from mtinet.config.variation import LearningVariation
from mtinet.data.dataset import PatchDataset
from mtinet.data.folds import Split, read_split
from mtinet.data.prepared import PreparedStudy
from mtinet.data.variation import learned
from mtinet.errors import UnusableError, UserError
from mtinet.model.build import build_discriminator, build_network
from mtinet.model.network import MultiTaskNetwork
from mtinet.model.tdd import TaskDiscriminator
from mtinet.results import Finding
from mtinet.runs import RUN_FORMAT, Run, RunError
from mtinet.training.loop import OnFinding, Progress, Trainer
from mtinet.workflows.fine_tuning import initialise, refuse_start_that_saw, start_of
from mtinet.workflows.prepare import prepare
from mtinet.workflows.shown import never_shown, shown_to
from mtinet.workflows.unseen import training_sets
from mtinet.workflows.varying import divide, harmonisation_of

OnStep = Callable[[int, int, Mapping[str, float]], None]
OnPrepared = Callable[[int, int], None]


@dataclass(frozen=True)
class TrainOptions:
    """How to train, apart from what changes the model.

    Attributes
    ----------
    fold : int or None
        Fold to hold out; None trains on everybody.
    folds : int
    split : Path or None
        File of a fixed division (``split.json``'s format); it takes the place of the fold.
    init : Path or None
        Run whose weights are the start.
    learning : LearningVariation
        What is changed in the training data; ignored on resume, where the run's own counts.
    resume : bool
    cache : Path or None
        Where prepared studies are kept.
    workers : int or None
        Processes that prepare.
    devices : int
        Devices or processes that train.
    tensorboard : bool
    """

    fold: int | None = 0
    folds: int = 5
    split: Path | None = None
    init: Path | None = None
    learning: LearningVariation = field(default_factory=LearningVariation)
    resume: bool = False
    cache: Path | None = None
    workers: int | None = None
    devices: int = 1
    tensorboard: bool = False


def train(
    cohort_folder: Path,
    out: Path,
    config: Config,
    options: TrainOptions | None = None,
    *,
    on_prepared: OnPrepared | None = None,
    on_step: OnStep | None = None,
    on_finding: OnFinding | None = None,
) -> Run:
    """Train a network on a cohort and return the finished run.

    Parameters
    ----------
    cohort_folder : Path
    out : Path
        Run folder; it must be empty unless ``options.resume``.
    config : Config
        Ignored on resume, where the run's own settings count.
    options : TrainOptions, optional
    on_prepared, on_step : callable, optional
        Called as ``on_prepared(done, total)`` and ``on_step(step, steps, numbers)``.
    on_finding : callable, optional
        Called with what goes wrong while it trains, as soon as that shows; the run's findings keep it.

    Raises
    ------
    UserError
        Cohort, settings or run folder cannot be used; the message says how to mend it.
    """
    options = options or TrainOptions()
    cohort_folder, out = Path(cohort_folder), Path(out)  # strings too
    # first of all: with several processes the others start here and run the same lines
    fabric = _fabric(options.devices)
    cohort = Cohort.read(cohort_folder)
    run, resumes = _open_or_create(fabric, out, cohort, cohort_folder, config, options)
    if resumes and run.finished:
        return run
    with _no_folder_if_refused(run, made=fabric.is_global_zero and not resumes):
        logger = _Logger(run, options.tensorboard and fabric.is_global_zero)
        steps = run.config.training.steps

        def progress(step: int, numbers: dict[str, float]) -> None:
            logger(step, numbers)
            if on_step is not None:
                on_step(step, steps, numbers)

        trainer = _trainer(fabric, run, cohort, options, progress, on_prepared, on_finding, resumes=resumes)
    with logger:
        trainer.fit(resume=resumes)
    return run


@contextmanager
def _no_folder_if_refused(run: Run, *, made: bool) -> Iterator[None]:
    """Remove a run that is refused before its first step: it could be neither resumed nor replaced."""
    try:
        yield
    except UserError:
        if made:
            shutil.rmtree(run.path)
        raise


def _trainer(
    fabric: Fabric,
    run: Run,
    cohort: Cohort,
    options: TrainOptions,
    progress: Progress,
    on_prepared: OnPrepared | None,
    on_finding: OnFinding | None,
    *,
    resumes: bool,
) -> Trainer:
    """Prepare the studies, write what is known of them into the run, and make its networks."""
    config = run.config
    split = Split.from_dict(run.document("split"))
    split.check(cohort)
    prepared = _prepare_once(fabric, run, cohort, options, on_prepared)
    by_id = {study.study_id: study for study in prepared}
    learning, seed = run.learning, config.training.seed
    training = [learned(by_id[i], learning, seed) for i in split.train if i in by_id]
    tested = [by_id[i] for i in split.test if i in by_id]
    refuse_start_that_saw(run, cohort, tested)
    # of a study without lesion a stray voxel decides whether Dice is 0 or nothing
    held_out = [study for study in tested if study.lesions][: config.training.validate_studies]
    _refuse_untrainable(training, cohort, run.findings())
    goes_on = resumes and run.has_document("preparation")
    start = None if goes_on or run.manifest["init"] is None else start_of(run)
    shown = shown_to(training, config, cohort.classes, start)
    preparation = _preparation(training, config, shown)
    if goes_on:
        _refuse_other_studies(run.document("preparation")["keys"], preparation["keys"])
    elif fabric.is_global_zero:
        run.write_document("preparation", preparation)
    # what the run document says about the lesions is in their own signal; the network sees it harmonised
    if harmoniser := harmonisation_of(run, training, write=fabric.is_global_zero):
        training, held_out = ([harmoniser.apply(s) for s in side] for side in (training, held_out))
    network, discriminator = networks(training, config, cohort.classes)
    data = PatchDataset(training, config, cohort.classes, config.training.seed)
    trainer = Trainer(run, config, network, discriminator, data, held_out, fabric, progress, on_finding)
    if not resumes:
        trainer.tell(never_shown(shown, cohort, config))
    # a resumed training that reached no checkpoint starts where the first try did
    if run.manifest["init"] is not None and not (resumes and run.latest_checkpoint()[0] is not None):
        findings = initialise(network, start_of(run), cohort.classes)
        if not resumes:
            trainer.tell(findings)
    return trainer


def refuse_changes(
    run: Run,
    cohort: Cohort,
    config: Config,
    division: Mapping[str, int | None],
    split: Path | None = None,
    init: Path | None = None,
) -> None:
    """Refuse to resume a run with other settings, another division or another start than it has.

    Parameters
    ----------
    run : Run
    cohort : Cohort
    config : Config
    division : mapping
        ``fold`` (None = everybody trains) and ``folds``, as far as they are given.
    split, init : Path or None
        As in :class:`TrainOptions`; None is not compared.

    Raises
    ------
    RunError
        It names what differs.
    """
    changes = [f"{name} is {old}, not {new}" for name, (old, new) in difference(run.config, config).items()]
    own = run.document("split")
    changes += [f"{name} is {own[name]}, not {new}" for name, new in division.items() if own[name] != new]
    if split is not None:
        theirs = read_split(split, cohort)
        if (set(own["train"]), set(own["test"])) != (set(theirs.train), set(theirs.test)):
            changes.append(f"the division is not that of {split}")
    if init is not None and run.manifest["init"] != str(Run.find(init).path.resolve()):
        changes.append(f"the start is {run.manifest['init'] or 'fresh weights'}, not {init}")
    if changes:
        raise RunError(
            f"{run.path} is resumed as it was begun, where {'; '.join(changes)}: leave these options out, or train a "
            "new run"
        )


# ---------------------------------------------------------------------- parts
def _fabric(devices: int) -> Fabric:
    # a batch without lesion leaves the head unused: DDP has to look for such parameters
    strategy = "auto" if devices == 1 else "ddp_find_unused_parameters_true"
    fabric = Fabric(devices=devices, strategy=strategy)
    fabric.launch()
    return fabric


def _open_or_create(
    fabric: Fabric, out: Path, cohort: Cohort, folder: Path, config: Config, options: TrainOptions
) -> tuple[Run, bool]:
    """The run, made by the first process only, and whether it is an earlier one that goes on."""
    resumes = bool(fabric.broadcast(options.resume and (out / "config.yaml").is_file()))
    if fabric.is_global_zero and not resumes:
        seed = config.training.seed
        split = divide(cohort, options.learning, options.fold, options.folds, options.split, seed)
        taught = [cohort[study_id] for study_id in split.train]
        if not any(study.mask is not None or study.label not in ("", NO_LESION) for study in taught):
            raise _nothing_to_learn(len(taught), cohort)
        _create(out, cohort, folder, config, split, options)
    fabric.barrier()
    return Run.open(out), resumes


def _prepare_once(
    fabric: Fabric, run: Run, cohort: Cohort, options: TrainOptions, on_prepared: OnPrepared | None
) -> list[PreparedStudy]:
    """The first process prepares; the others then find everything in the cache."""
    with fabric.rank_zero_first():
        prepared, findings = prepare(
            cohort, run.config, options.cache, workers=options.workers, on_progress=on_prepared
        )
    if fabric.is_global_zero:
        run.replace_findings("prepare", findings)
    return prepared


def _create(
    out: Path, cohort: Cohort, folder: Path, config: Config, split: Split, options: TrainOptions
) -> Run:
    described: list[Any] = [config.model_dump(mode="json"), split.to_dict()]
    documents: dict[str, Any] = {}
    if options.learning != LearningVariation():
        documents["learning"] = options.learning.model_dump(mode="json")
        described.append(documents["learning"])
    start = None if options.init is None else Run.find(options.init)
    if start is not None:
        documents["inherited"] = training_sets(start)
    identity = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:12]
    manifest = provenance.manifest(
        format=RUN_FORMAT,
        id=identity,
        cohort=cohort.name,
        cohort_folder=str(folder.resolve()),
        cohort_hash=cohort.hash,
        licence=cohort.licence,
        virtual=cohort.virtual,
        seed=config.training.seed,
        init=None if start is None else str(start.path.resolve()),
    )
    classes = {"classes": list(cohort.classes), "codes": cohort.codes}
    documents |= {"manifest": manifest, "split": split.to_dict(), "classes": classes}
    return Run.create(out, config, documents)


def _refuse_untrainable(
    training: Sequence[PreparedStudy], cohort: Cohort, findings: Sequence[Finding]
) -> None:
    if not training:
        # said here, for the run that keeps the findings is not kept
        failed = [
            finding for finding in findings if finding.stage == "prepare" and finding.severity == "error"
        ]
        why = f" ({len(failed)} failed, the first: {failed[0].meaning})" if failed else ""
        raise UnusableError(
            f"cohort {cohort.name} has no study to train on that could be prepared{why}; correct the studies, or "
            "the settings that ask for what they lack"
        )
    # the masks that the table names may be empty
    if not any(study.lesions or study.label not in ("", NO_LESION) for study in training):
        raise _nothing_to_learn(len(training), cohort)


def _nothing_to_learn(studies: int, cohort: Cohort) -> UnusableError:
    return UnusableError(
        f"none of the {studies} training studies of cohort {cohort.name} has a lesion mask or a class; there is "
        "nothing to learn: add masks or labels"
    )


def enhancement_statistics(training: Sequence[PreparedStudy], n_phases: int) -> dict[str, Any]:
    """Mean and spread of the lesions' normalised enhancement: by phase, and over all.

    A phase seen in fewer than two lesions takes the overall values.  Without any known enhancement the
    values are 1 and 1, which leave the head's output in units of the gain.
    """
    rows = [
        [lesion.enhancement.get(phase, math.nan) for phase in study.phases]
        for study in training
        for lesion in study.lesions
    ]
    values = np.array(rows, dtype=np.float64).reshape(-1, n_phases)
    known = values[np.isfinite(values)]
    mean, spread = (float(known.mean()), float(known.std())) if known.size > 1 else (1.0, 1.0)
    spread = spread if spread > 0 else 1.0
    by_phase = []
    for column in values.T:
        seen = column[np.isfinite(column)]
        enough = seen.size > 1 and seen.std() > 0
        by_phase.append((float(seen.mean()), float(seen.std())) if enough else (mean, spread))
    return {
        "mean": mean,
        "std": spread,
        "phase_mean": [m for m, _ in by_phase],
        "phase_std": [s for _, s in by_phase],
    }


def _preparation(
    training: Sequence[PreparedStudy], config: Config, shown: Mapping[str, list[str]]
) -> dict[str, Any]:
    """How the training studies were prepared, and their lesions' curves for the read-out baselines."""
    lesions = [
        {
            "study_id": study.study_id,
            "patient_id": study.patient_id,
            "label": lesion.label,
            "diameter_mm": lesion.diameter_mm,
            **{f"true_{phase}": lesion.enhancement.get(phase) for phase in study.phases},
        }
        for study in training
        for lesion in study.lesions
    ]
    return {
        "settings": config.preparation.model_dump(mode="json"),
        "phases": list(config.phases),
        "enhancement": enhancement_statistics(training, len(config.phases)),
        "lesions": lesions,
        "shown": dict(shown),
        "patients": sorted({study.patient_id for study in training}),
        "keys": {study.study_id: study.key for study in training},
        "images": sorted({image for study in training for image in study.image_hashes}),
    }


def networks(
    training: Sequence[PreparedStudy], config: Config, classes: tuple[str, ...]
) -> tuple[MultiTaskNetwork, TaskDiscriminator | None]:
    """Fresh networks that know the training studies' statistics; no discriminator where it has no part."""
    network = build_network(config, len(classes))
    statistics = enhancement_statistics(training, len(config.phases))
    network.set_enhancement_statistics(statistics["mean"], statistics["std"])
    if not network.interacts or not config.tdd.enabled or config.objective.adversarial == 0:
        return network, None
    discriminator = build_discriminator(config, len(classes))
    discriminator.set_enhancement_statistics(
        torch.tensor(statistics["phase_mean"]), torch.tensor(statistics["phase_std"])
    )
    return network, discriminator


def _refuse_other_studies(before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """A resumed training must see the studies that it saw before, to the voxel."""
    changed = sorted(study for study in {*before, *now} if before.get(study) != now.get(study))
    if changed:
        raise RunError(
            f"the training studies are not those of the interrupted run; changed, new or gone: "
            f"{', '.join(changed[:5])}{' ...' if len(changed) > 5 else ''}; restore them, or train a new run"
        )


class _Logger:
    """Passes numbers on to TensorBoard where that was asked for."""

    def __init__(self, run: Run, enabled: bool) -> None:
        self._writer: Any = None
        if enabled:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                raise UserError(
                    "--tensorboard needs the package: pip install 'mtinet[tensorboard]'"
                ) from None
            self._writer = SummaryWriter(str(run.path / "tensorboard"))

    def __enter__(self) -> _Logger:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()

    def __call__(self, step: int, numbers: Mapping[str, float]) -> None:
        if self._writer is not None:
            for name, value in numbers.items():
                self._writer.add_scalar(name, value, step)
