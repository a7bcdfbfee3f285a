"""An experiment is data: rows of settings and variations, which become cells, one a training run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from mtinet.config import Config, SettingsError, resolve, resolve_settings
from mtinet.config.variation import LearningVariation, ScoringVariation
from mtinet.errors import UserError
from mtinet.experiments.tuned import OPTIMISATION, TRIALS, optimisation

EnhancementMethod = Literal["head", "read_out", "training_mean", "oracle_mask", "none"]
"""Whose enhancement a row stands for, as in the tables of an evaluation; ``none`` = it learns none."""

ClassMethod = str
CLASS_METHODS = ("network", "oracle_mask", "logistic_regression", "gradient_boosting", "majority", "none")
"""Whose class a row stands for: the network's, read under the reference mask or by a baseline; ``none`` = it learns
none."""


@dataclass(frozen=True)
class Axis:
    """The number that the rows of an experiment vary, for its curves.

    Attributes
    ----------
    of : {"config", "learning", "scoring", "run"}
        Where the number is a setting; ``run``: what the manifests of the runs say, and their mean.
    setting : str
        Its name, with dots.
    label : str
        What it is, with its unit.
    """

    of: Literal["config", "learning", "scoring", "run"]
    setting: str
    label: str


@dataclass(frozen=True)
class Row:
    """One line of an experiment's table.

    Attributes
    ----------
    name : str
        Stable and short, for ``--rows`` and file names.
    title : str
        As the tables print it.
    changes : tuple of str
        Settings as for ``--set``; they are applied last, after the user's own.
    learning : LearningVariation
        What is done to the training data.
    scorings : tuple of ScoringVariation
        Variations under which the held-out studies are scored too; without any they are always scored.  One
        that asks several networks together holds for the first seeds alone, of which there are enough.
    enhancement, classes : str
        Whose enhancement and class the row stands for.  Rows that differ only in these share their runs:
        a segmentation network is one row with its read-out signal and logistic regression, another with
        gradient boosting.
    curve : str
        Rows of one curve are joined along the experiment's axis; empty = the row's own title.
    trials : str
        Whose trials decide the optimisation (:mod:`mtinet.experiments.tuned`); empty = those of the network,
        :data:`~mtinet.experiments.tuned.NOBODY` = the preset's own counts.
    """

    name: str
    title: str
    changes: tuple[str, ...] = ()
    learning: LearningVariation = field(default_factory=LearningVariation)
    scorings: tuple[ScoringVariation, ...] = ()
    enhancement: EnhancementMethod = "head"
    classes: ClassMethod = "network"
    curve: str = ""
    trials: str = ""

    def __post_init__(self) -> None:
        # a wrong name would be noticed when the trainings are done
        changes: object = self.changes
        if isinstance(changes, str):
            raise ValueError(f"row {self.name}: changes is a tuple of settings; write ({changes!r},)")
        for what, name, known in (
            ("enhancement", self.enhancement, get_args(EnhancementMethod)),
            ("classes", self.classes, CLASS_METHODS),
        ):
            if name not in known:
                raise ValueError(f"row {self.name}: {what} is one of {', '.join(known)}, not {name}")


@dataclass(frozen=True)
class Experiment:
    """Rows that answer a question together.

    Attributes
    ----------
    name, title : str
    question : str
        What it answers, in a sentence.
    reference : str
        Name of the row that the others are compared with.
    rows : tuple of Row
    division : {"folds", "sites"}
        ``sites``: every row has a run a site of the cohort, which learns from the other sites, in the place
        of a run a fold.
    folds : tuple of int
        Which of ``of_folds`` patient-grouped folds are run by default.
    of_folds : int
    seeds : int
        Trainings a row and fold by default; their seeds count up from ``training.seed``.
    preset : str
        Settings to start from by default.
    reading : str
        How the table is to be read, for its caption; empty where nothing has to be said.
    axis : Axis or None
        The number that the rows vary.
    described : tuple of str
        Endpoints that are described beside the usual ones (:data:`mtinet.evaluation.compared.ENDPOINTS`).
    """

    name: str
    title: str
    question: str
    reference: str
    rows: tuple[Row, ...]
    division: Literal["folds", "sites"] = "folds"
    folds: tuple[int, ...] = (0, 1)
    of_folds: int = 5
    seeds: int = 1
    preset: str = "small"
    reading: str = ""
    axis: Axis | None = None
    described: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = [row.name for row in self.rows]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice or self.reference not in names:
            raise ValueError(f"experiment {self.name}: rows twice: {twice}; reference: {self.reference}")

    def row(self, name: str) -> Row:
        """The row of that name."""
        return next(row for row in self.rows if row.name == name)

    def select(self, names: Iterable[str]) -> tuple[Row, ...]:
        """The rows of these names and the reference, in the experiment's order.

        Raises
        ------
        UserError
            There is no such row; the message lists those that there are.
        """
        wanted = {*names, self.reference}
        unknown = sorted(wanted - {row.name for row in self.rows})
        if unknown:
            raise UserError(
                f"experiment {self.name} has no row {', '.join(unknown)}; it has "
                f"{', '.join(row.name for row in self.rows)}"
            )
        return tuple(row for row in self.rows if row.name in wanted)


@dataclass(frozen=True)
class Cell:
    """One training run and how it is scored.

    ``config.training.seed`` is ``seed``.  With ``learning.held_out_site`` the site takes the place of the
    fold; ``fold`` and ``folds`` then count the sites.
    """

    config: Config
    learning: LearningVariation
    scorings: tuple[ScoringVariation, ...]
    seed: int
    fold: int
    folds: int

    @property
    def networks(self) -> int:
        """Trainings that one of its scorings asks together, at most."""
        return max((scoring.networks for scoring in self.scorings), default=1)


@dataclass(frozen=True)
class Choice:
    """What of an experiment is done, and with which settings; None takes the experiment's default.

    Attributes
    ----------
    preset : str, optional
    file : Path, optional
        YAML file that changes the preset.
    assignments : tuple of str
        Settings for all rows, as for ``--set``; a row's own changes are applied after them.
    seeds : int, optional
    folds : tuple of int, optional
    rows : tuple of str, optional
        Names; the reference is always done.
    """

    preset: str | None = None
    file: Path | None = None
    assignments: tuple[str, ...] = ()
    seeds: int | None = None
    folds: tuple[int, ...] | None = None
    rows: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Plan:
    """The cells of an experiment by row, in the experiment's order.

    A row that under the chosen settings is the reference itself, or an earlier row, is left out.

    Attributes
    ----------
    experiment : Experiment
    rows : dict
        Cells by the row's name.
    """

    experiment: Experiment
    rows: dict[str, tuple[Cell, ...]]

    @property
    def cells(self) -> tuple[Cell, ...]:
        """All cells in the order in which they are run: fold by fold and seed by seed, so that whole
        comparisons are finished first; last those that are scored together with runs of other seeds.
        """
        cells = [cell for row in self.rows.values() for cell in row]
        return tuple(sorted(cells, key=lambda cell: (cell.networks > 1, cell.seed, cell.fold)))


def plan(experiment: Experiment, choice: Choice | None = None, sites: Sequence[str] = ()) -> Plan:
    """The cells of an experiment.

    Parameters
    ----------
    experiment : Experiment
    choice : Choice, optional
    sites : sequence of str
        Sites of the cohort, for an experiment that divides by them.

    Raises
    ------
    UserError
        Settings, rows, folds or sites do not fit; the message names the row.
    ValueError
        The experiment describes an endpoint that there is not.
    """
    _check_described(experiment)
    choice = choice or Choice()
    rows = experiment.rows if choice.rows is None else experiment.select(choice.rows)
    seeds = experiment.seeds if choice.seeds is None else choice.seeds
    parts = _parts(experiment, choice, sites)
    reference = experiment.row(experiment.reference)
    taken = [_what_decides(experiment, reference, choice)]
    planned: dict[str, tuple[Cell, ...]] = {}
    for row in rows:
        decides = _what_decides(experiment, row, choice)
        if row is not reference and decides in taken:
            continue
        taken.append(decides)
        config = row_config(experiment, row, choice)
        planned[row.name] = tuple(_cell(config, row, n, seeds, *part) for n in range(seeds) for part in parts)
    return Plan(experiment, planned)


def _check_described(experiment: Experiment) -> None:
    # not where the experiment is defined: a command that lists experiments loads no pandas
    from mtinet.evaluation.compared import ENDPOINTS

    known = [endpoint.name for endpoint in ENDPOINTS]
    if unknown := set(experiment.described) - set(known):
        raise ValueError(
            f"experiment {experiment.name}: described are some of {', '.join(known)}, not {', '.join(unknown)}"
        )


def row_config(experiment: Experiment, row: Row, choice: Choice | None = None) -> Config:
    """Settings of a row: preset, its network's optimisation, file, the user's assignments, the row's own changes.

    A user who sets anything of the optimisation gets it on top of the preset's own, not of what the trials chose.

    Raises
    ------
    SettingsError
        They do not go together; the message names the row.
    """
    choice = choice or Choice()
    preset = experiment.preset if choice.preset is None else choice.preset
    changes = (*choice.assignments, *row.changes)
    try:
        tried = row.trials or resolve(preset, choice.file, changes).model
        trials = () if _sets_optimisation(preset, choice) else optimisation(preset, tried)
        return resolve_settings(resolve(preset, None, trials), choice.file, changes)
    except SettingsError as error:
        raise SettingsError(f"row {row.name} of experiment {experiment.name}: {error}") from None


def _sets_optimisation(preset: str, choice: Choice) -> bool:
    if any(given.partition("=")[0].strip() in OPTIMISATION for given in choice.assignments):
        return True
    if choice.file is None:
        return False
    # what a file sets is the same on whatever it is laid
    one, other = (
        resolve_settings(resolve(preset, None, TRIALS[trial]), choice.file, ()).training
        for trial in ("adamw-0.001", "sgd-0.01")
    )
    names = [name.rpartition(".")[2] for name in OPTIMISATION]
    return any(getattr(one, name) == getattr(other, name) for name in names)


def _what_decides(experiment: Experiment, row: Row, choice: Choice) -> tuple[object, ...]:
    return row_config(experiment, row, choice), row.learning, row.scorings, row.enhancement, row.classes


def _parts(experiment: Experiment, choice: Choice, sites: Sequence[str]) -> list[tuple[int, int, str | None]]:
    """(fold, folds, site held out) of every part that is held out."""
    if experiment.division == "sites":
        names = sorted(set(sites))
        if len(names) < 2:
            raise UserError(
                f"experiment {experiment.name} holds out one site after the other, and the cohort has "
                f"{len(names)}: use a cohort of several sites, or merge some (mtinet import merge)"
            )
        wanted = range(len(names)) if choice.folds is None else choice.folds
        _check_folds(wanted, len(names))
        return [(number, len(names), names[number]) for number in wanted]
    wanted = experiment.folds if choice.folds is None else choice.folds
    _check_folds(wanted, experiment.of_folds)
    return [(fold, experiment.of_folds, None) for fold in wanted]


def _check_folds(wanted: Sequence[int], folds: int) -> None:
    if not wanted or len(set(wanted)) < len(wanted):
        raise UserError("name at least one fold, and each once, for example --folds 0,1")
    wrong = [fold for fold in wanted if not 0 <= fold < folds]
    if wrong:
        raise UserError(f"there is no fold {wrong[0]}; valid: 0 to {folds - 1}")


def _cell(config: Config, row: Row, number: int, seeds: int, fold: int, folds: int, site: str | None) -> Cell:
    """``number`` counts the row's seeds; several of them are asked together where there are as many from it on."""
    seed = config.training.seed + number
    training = config.training.model_copy(update={"seed": seed})
    learning = row.learning
    if site is not None:
        learning = learning.model_copy(update={"held_out_site": site})
    scorings = tuple(scoring for scoring in row.scorings if number + scoring.networks <= seeds)
    return Cell(config.model_copy(update={"training": training}), learning, scorings, seed, fold, folds)
