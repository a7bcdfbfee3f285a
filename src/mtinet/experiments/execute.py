"""One run of a grid: claimed, trained or resumed, scored, and left behind as a record.

A campaign is a folder::

    runs/<id>/          run folders (without checkpoints to resume from, masks and views once the record is
                        there, unless they are to be kept)
    records/<id>.json   what every finished run leaves (may lie elsewhere)
    locks/<id>.lock     held by the process that works on the run; the system drops it with its owner
"""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch

from mtinet import files
from mtinet.cohort import Cohort
from mtinet.config import Config
from mtinet.config.variation import ScoringVariation
from mtinet.errors import UserError
from mtinet.evaluation.convergence import is_at_rest
from mtinet.experiments import record as recording
from mtinet.experiments.identity import cohort_content, current_revision, run_id
from mtinet.experiments.plan import Cell
from mtinet.records import Revision, RunRecord, Scoring
from mtinet.results import Finding
from mtinet.runs import Run
from mtinet.training.loop import TrainingError
from mtinet.workflows.bench_machine import processor
from mtinet.workflows.evaluate import evaluate
from mtinet.workflows.prepare import prepare
from mtinet.workflows.train import TrainOptions, train

State = Literal["done", "skipped", "busy", "failed"]

OnStep = Callable[[int, int, Mapping[str, float]], None]
OnPrepared = Callable[[int, int], None]

TIMING = "timing"
PLAIN = ScoringVariation()


@dataclass(frozen=True)
class Campaign:
    """Where a grid is run, and on what.

    Attributes
    ----------
    cohort : Path
    folder : Path
        Of the campaign.
    content : str
        Hash of the cohort (:func:`~mtinet.experiments.identity.cohort_content`).
    revision : Revision
        Of the code that runs.
    records : Path
        Folder of the records.
    virtual : bool
        Whether the patients were simulated.
    cache : Path or None
        Where prepared studies are kept.
    keep : bool
        Whether run folders stay whole.
    """

    cohort: Path
    folder: Path
    content: str
    revision: Revision
    records: Path
    virtual: bool = False
    cache: Path | None = None
    keep: bool = False

    @classmethod
    def of(
        cls,
        cohort: Path,
        folder: Path,
        *,
        records: Path | None = None,
        cache: Path | None = None,
        keep: bool = False,
    ) -> Campaign:
        """A campaign on a cohort as it is now, with the code that runs now."""
        read = Cohort.read(cohort)
        return cls(
            cohort.resolve(),
            folder.resolve(),
            cohort_content(read),
            current_revision(),
            (folder / "records" if records is None else records).resolve(),
            read.virtual,
            None if cache is None else cache.resolve(),
            keep,
        )

    def id(self, cell: Cell) -> str:
        """Id of a cell's run."""
        return run_id(cell, self.content, self.revision)

    def run_folder(self, id: str) -> Path:
        """Where the run lies."""
        return self.folder / "runs" / id

    def record_path(self, id: str) -> Path:
        """Where its record lies."""
        return self.records / f"{id}.json"

    def find_record(self, id: str) -> tuple[RunRecord | None, list[Finding]]:
        """The record of a run; None where there is none, or where it is damaged, which is a finding."""
        path = self.record_path(id)
        if not path.is_file():
            return None, []
        try:
            record = RunRecord.read(path)
        except UserError as error:
            return None, [_damaged(id, str(error))]
        if record.id != id:
            return None, [_damaged(id, f"{path} holds the record of another run ({record.id})")]
        return record, []

    def is_done(self, cell: Cell) -> bool:
        """Whether the cell's run has a record with all the scorings asked for."""
        record, _ = self.find_record(self.id(cell))
        return record is not None and not _lacking(record, cell)

    @contextmanager
    def claim(self, id: str) -> Iterator[bool]:
        """Whether this process may work on a run for the length of the block."""
        with files.claimed(self.folder / "locks" / f"{id}.lock") as claimed:
            yield claimed


@dataclass(frozen=True)
class Outcome:
    """What became of a cell.

    Attributes
    ----------
    id : str
    state : {"done", "skipped", "busy", "failed"}
        ``busy``: another process works on it, or on a run that is asked together with it.
    findings : tuple of Finding
    """

    id: str
    state: State
    findings: tuple[Finding, ...] = ()


@dataclass
class _Clock:
    """Seconds between steps; scoring and checkpoints in between are left out by taking the median."""

    on_step: OnStep | None
    last: float = field(default_factory=time.perf_counter)
    seconds: list[float] = field(default_factory=list)

    def __call__(self, step: int, steps: int, numbers: Mapping[str, float]) -> None:
        now = time.perf_counter()
        self.seconds.append(now - self.last)
        self.last = now
        if self.on_step is not None:
            self.on_step(step, steps, numbers)

    def timing(self, steps: int) -> dict[str, float]:
        """Median step and whole training; of a resumed one the part before counts at the later part's pace."""
        later = self.seconds[1:] or self.seconds  # the first holds what comes before the loop
        return {
            "step_s": statistics.median(later) if later else 0.0,
            "seconds": statistics.fmean(later) * steps if later else 0.0,
        }


def execute(
    campaign: Campaign, cell: Cell, on_step: OnStep | None = None, cores: int | None = None
) -> Outcome:
    """Do a cell's run, or what is lacking of it, unless another process does.

    Parameters
    ----------
    campaign : Campaign
    cell : Cell
    on_step : callable, optional
        Called as ``on_step(step, steps, numbers)``.
    cores : int, optional
        The run's share of the machine, by which it chooses its loader processes; None = the whole.

    Returns
    -------
    Outcome
        What a run fails by is a finding, and stops no other run.
    """
    id = campaign.id(cell)
    findings: list[Finding] = []
    try:
        with campaign.claim(id) as claimed:
            if not claimed:
                return Outcome(id, "busy")
            state = _done(campaign, _on_its_share(cell, cores), id, on_step, findings)
            return Outcome(id, state, tuple(findings))
    except BrokenPipeError:
        raise  # whoever asked for the run is gone
    except UserError as error:
        return Outcome(id, "failed", (*findings, _failed(id, str(error))))
    except Exception as error:
        return Outcome(id, "failed", (*findings, _failed(id, f"{type(error).__name__}: {error}")))


def prepare_once(
    campaign: Campaign, cells: Iterable[Cell], workers: int | None, on_prepared: OnPrepared | None = None
) -> list[Finding]:
    """Prepare the cohort for every kind of preparation that the cells need, before any of them runs."""
    cohort = Cohort.read(campaign.cohort)
    kinds: dict[str, Config] = {}
    for cell in cells:
        config = cell.config
        kinds.setdefault(repr((config.phases, config.preparation)), config)
    findings: list[Finding] = []
    for config in kinds.values():
        findings += prepare(cohort, config, campaign.cache, workers, on_prepared).findings
    return list(dict.fromkeys(findings))


def prune(run: Run) -> None:
    """Remove what is heavy: checkpoints to resume from, masks and views.

    The network stays, so that a finished run can be scored under more variations.
    """
    for checkpoint in (run.path / "checkpoints").glob("step-*.safetensors"):
        checkpoint.unlink()
    for folder in run.path.glob("predictions*"):
        for heavy in ("masks", "views"):
            shutil.rmtree(folder / heavy, ignore_errors=True)


# ---------------------------------------------------------------------- parts
def _done(campaign: Campaign, cell: Cell, id: str, on_step: OnStep | None, findings: list[Finding]) -> State:
    """Do what is lacking of a claimed run; what there is to say on the way goes to ``findings``."""
    record, damaged = campaign.find_record(id)
    findings += damaged
    lacking = _wanted(cell) if record is None else _lacking(record, cell)
    if not lacking:
        return "skipped"
    _refuse_change(campaign)
    run, restarted = _trained(campaign, cell, id, on_step)
    findings += restarted
    scorings = () if record is None else record.scorings
    # first what needs no other run: it stands, whatever becomes of the others
    alone = [variation for variation in lacking if variation.networks == 1]
    together = [variation for variation in lacking if variation.networks > 1]
    for variations in filter(None, (alone, together)):
        others = _others(campaign, cell, max(variation.networks for variation in variations))
        if others is None:
            return "busy"
        scorings = (*scorings, *(_scored(campaign, run, variation, others) for variation in variations))
        _refuse_change(campaign)
        _record(campaign, cell, run, scorings).write(campaign.record_path(id))
    if not campaign.keep:
        prune(run)
    return "done"


def _refuse_change(campaign: Campaign) -> None:
    """Days lie between a campaign's first look at its cohort and its last run: a record must not name another."""
    content = cohort_content(Cohort.read(campaign.cohort))
    if content != campaign.content:
        raise UserError(
            f"{campaign.cohort} changed since this command began (content {campaign.content}, now {content}): "
            "restore it, or give the command again, which takes it as another cohort"
        )


def _wanted(cell: Cell) -> list[ScoringVariation]:
    return list(dict.fromkeys((PLAIN, *cell.scorings)))


def _lacking(record: RunRecord, cell: Cell) -> list[ScoringVariation]:
    there = {scoring.variation for scoring in record.scorings}
    return [variation for variation in _wanted(cell) if variation not in there]


def _on_its_share(cell: Cell, cores: int | None) -> Cell:
    """The cell with loader processes for so many cores; their number changes no sample."""
    training = cell.config.training
    if cores is None or training.workers >= 0:
        return cell
    training = training.model_copy(update={"workers": 0 if cores <= 2 else min(8, cores // 2)})
    return replace(cell, config=cell.config.model_copy(update={"training": training}))


def _trained(campaign: Campaign, cell: Cell, id: str, on_step: OnStep | None) -> tuple[Run, list[Finding]]:
    """The finished run: as it is there, resumed, or trained; a folder that cannot be resumed is done anew."""
    folder = campaign.run_folder(id)
    begun = folder.exists()
    try:
        return _train(campaign, cell, folder, on_step), []
    except TrainingError:
        raise
    except UserError as error:
        if not begun:
            raise
        reason = str(error)
    shutil.rmtree(folder)
    return _train(campaign, cell, folder, on_step), [_restarted(id, reason)]


def _train(campaign: Campaign, cell: Cell, folder: Path, on_step: OnStep | None) -> Run:
    clock = _Clock(on_step)
    options = TrainOptions(
        fold=cell.fold,
        folds=cell.folds,
        learning=cell.learning,
        resume=True,
        cache=campaign.cache,
        workers=1,
    )
    run = train(campaign.cohort, folder, cell.config, options, on_step=clock)
    if clock.seconds:
        timing = clock.timing(cell.config.training.steps)
        run.write_document(TIMING, {**timing, "threads": torch.get_num_threads()})
    return run


def _others(campaign: Campaign, cell: Cell, networks: int) -> list[Path] | None:
    """Runs of the next seeds that are asked together with a cell's; None while another process works on one."""
    found = []
    for number in range(1, networks):
        seed = cell.seed + number
        training = cell.config.training.model_copy(update={"seed": seed})
        other = replace(cell, config=cell.config.model_copy(update={"training": training}), seed=seed)
        id = campaign.id(other)
        with campaign.claim(id) as claimed:
            if not claimed:
                return None
            try:
                found.append(_trained(campaign, other, id, None)[0].path)
            except UserError as error:
                raise UserError(
                    f"of seed {seed}, which is asked together with it (run {id}): {error}"
                ) from None
    return found


def _scored(campaign: Campaign, run: Run, variation: ScoringVariation, others: Sequence[Path]) -> Scoring:
    # the cohort may have moved since the run was begun; its content is part of the id
    evaluation = evaluate(
        run.path,
        cohort=campaign.cohort,
        variation=variation,
        others=others[: variation.networks - 1],
        cache=campaign.cache,
        workers=1,
    )
    return recording.scoring(run, evaluation.folder, variation, evaluation.study_s)


def _record(campaign: Campaign, cell: Cell, run: Run, scorings: Sequence[Scoring]) -> RunRecord:
    moved = recording.plateau(run)
    timing = run.document(TIMING) if run.has_document(TIMING) else {"seconds": 0.0, "step_s": 0.0}
    manifest = run.manifest
    left_out = {"cohort_folder", "init", "command", "format", "id", "cohort", "cohort_hash", "seed"}
    return RunRecord(
        id=campaign.id(cell),
        config=cell.config,
        learning=cell.learning,
        seed=cell.seed,
        fold=cell.fold,
        folds=cell.folds,
        cohort=manifest["cohort"],
        cohort_hash=manifest["cohort_hash"],
        classes=run.classes,
        revision=campaign.revision,
        scorings=tuple(sorted(scorings, key=lambda item: item.variation != PLAIN)),
        course=recording.course(run),
        converged=is_at_rest(moved),
        plateau=moved,
        seconds=float(timing["seconds"]),
        step_s=float(timing["step_s"]),
        findings=tuple(sorted({f.id for f in run.findings() if f.severity != "note"})),
        manifest={
            **{k: v for k, v in manifest.items() if k not in left_out},
            "content": campaign.content,
            "virtual": campaign.virtual,
            "processor": processor(),
            "threads": timing.get("threads"),
            "training_patients": len(run.document("preparation")["patients"]),
        },
    )


# ---------------------------------------------------------------------- findings
def _damaged(id: str, reason: str) -> Finding:
    return Finding(
        "record-damaged", "experiment", "warning", reason, "Nothing to do: the run is done again.", id
    )


def _restarted(id: str, reason: str) -> Finding:
    return Finding(
        "run-restarted",
        "experiment",
        "warning",
        f"what an earlier try left could not be resumed ({reason})",
        "Nothing to do: the run was done from its start.",
        id,
    )


def _failed(id: str, reason: str) -> Finding:
    return Finding(
        "run-failed",
        "experiment",
        "error",
        reason,
        "Mend the cause and give the same command again: what is finished is not done twice.",
        id,
    )
