"""An experiment from its name to gathered records: plan, prepare once, price, run, gather."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from mtinet.cohort import Cohort
from mtinet.experiments.budget import Budget, budget
from mtinet.experiments.execute import Campaign, Outcome, prepare_once
from mtinet.experiments.gather import Gathered, gather, made_otherwise, read_folder
from mtinet.experiments.plan import Choice, Experiment, Plan, plan
from mtinet.experiments.pool import Progress, run_cells
from mtinet.experiments.ray_pool import Cluster, run_cells_on_ray
from mtinet.results import Finding

OnPrepared = Callable[[int, int], None]


@dataclass(frozen=True)
class Means:
    """How a grid is run.

    Attributes
    ----------
    workers : int
        Processes on this machine; 1 = this one.
    cluster : Cluster or None
        A Ray cluster takes the place of the processes.
    records : Path or None
        Folder of the records; None = in the campaign's.
    cache : Path or None
        Where prepared studies are kept.
    keep : bool
        Keep run folders whole.
    allow_mixed : bool
        Gather records of other code and libraries too.
    """

    workers: int = 1
    cluster: Cluster | None = None
    records: Path | None = None
    cache: Path | None = None
    keep: bool = False
    allow_mixed: bool = False


@dataclass(frozen=True)
class Grid:
    """A grid whose cohort is prepared: it can be priced, run and gathered.

    Attributes
    ----------
    campaign : Campaign
    plan : Plan
    means : Means
    findings : tuple of Finding
        Of the preparation.
    """

    campaign: Campaign
    plan: Plan
    means: Means
    findings: tuple[Finding, ...] = field(default=())

    @classmethod
    def open(
        cls,
        experiment: Experiment,
        cohort: Path,
        out: Path,
        choice: Choice | None = None,
        means: Means | None = None,
        on_prepared: OnPrepared | None = None,
    ) -> Grid:
        """Plan an experiment on a cohort and prepare what its runs need.

        Raises
        ------
        UserError
            Cohort, settings, rows or folds do not fit.
        """
        means = means or Means()
        sites = [study.site for study in Cohort.read(cohort).studies]
        planned = plan(experiment, choice, sites)
        campaign = Campaign.of(cohort, out, records=means.records, cache=means.cache, keep=means.keep)
        findings = prepare_once(campaign, planned.cells, None, on_prepared)
        return cls(campaign, planned, means, tuple(findings))

    def made_otherwise(self) -> list[Finding]:
        """Findings on runs that will be done again, because other code or another cohort's state made their records."""
        records, _ = read_folder(self.campaign.records)
        return made_otherwise(self.plan, records, self.campaign.content, self.campaign.revision)

    def budget(self, on_progress: OnPrepared | None = None) -> Budget:
        """What the runs that are not done yet will cost."""
        records, _ = read_folder(self.campaign.records)
        return budget(self.campaign, self.plan, records, self.means.workers, on_progress)

    def run(self, progress: Progress | None = None) -> list[Outcome]:
        """Do the runs; what is finished is skipped, what was interrupted goes on."""
        cells = self.plan.cells
        if self.means.cluster is not None:
            return run_cells_on_ray(self.campaign, cells, self.means.cluster, progress)
        return run_cells(self.campaign, cells, self.means.workers, progress)

    def gather(self) -> tuple[Gathered, list[Finding]]:
        """The records by row, and what was found while reading them."""
        records, findings = read_folder(self.campaign.records)
        gathered = gather(
            self.plan,
            records,
            content=self.campaign.content,
            revision=self.campaign.revision,
            allow_mixed=self.means.allow_mixed,
        )
        return gathered, findings
