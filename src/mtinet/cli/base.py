"""The application, the options that several commands share, and how results are shown."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mtinet import config as settings
from mtinet import files

if TYPE_CHECKING:
    from mtinet.results import Finding

app = typer.Typer(
    name="mtinet",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""Segment, quantify and classify liver lesions on multi-phase contrast-enhanced MRI.

**First steps:** `mtinet demo OUT` runs everything on virtual patients.  With your own data: write a cohort
(docs/cohort.md), then `mtinet check COHORT`, `mtinet train COHORT --out RUN`, `mtinet evaluate RUN` and
`mtinet predict RUN STUDY -o OUT`.  Messages name pages of the documentation: `mtinet doctor` says where they lie.

Research use only. Not a medical device; not for diagnosis.""",
)

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Preset = Annotated[str, typer.Option(help=f"Settings to start from: {', '.join(settings.PRESETS)}.")]
File = Annotated[Path | None, typer.Option("--config", help="YAML file that changes the preset.")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="Change one setting, for example head.depth=2. Repeatable."
    ),
]
CacheOption = Annotated[
    Path | None,
    typer.Option("--cache", help="Where prepared studies are kept. Default: in the cohort folder."),
]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes. Default: one a core.")]
Folds = Annotated[int, typer.Option(min=2, help="Number of folds.")]
Formats = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="NAMES",
        help="What to write: some of nifti, json, csv, maps, picture, page, pdf, dicom-seg, dicom-sr.  "
        "Default: nifti,json,picture,page.",
    ),
]
PhaseNames = Annotated[
    str | None,
    typer.Option(
        metavar="PHASE=SERIES,...",
        help="Phases that you know better: the number or UID of a series, :k behind it for its k-th volume from "
        "0, or a NIfTI file's name; nothing behind = means that the phase was not acquired.",
    ),
]
Agent = Annotated[
    str,
    typer.Option(
        help="Contrast agent, such as gadobutrol or gadoxetate, of studies that name none (NIfTI) or none that is "
        "known (DICOM that says Gd): signs need it."
    ),
]
Key = Annotated[
    Path | None,
    typer.Option(help="Secret key of the pseudonyms. Default: ~/.config/mtinet/pseudonyms.key."),
]
PriorResult = Annotated[
    Path | None,
    typer.Option(
        "--prior", help="Result of an earlier study of the patient: lesions get their change since then."
    ),
]
PriorStudy = Annotated[
    Path | None,
    typer.Option(help="With --prior: the study that it is of; its images are registered to these."),
]
COHORT = typer.Argument(help="Cohort folder (cohort.csv and cohort.yaml).")
CohortArgument = Annotated[Path, COHORT]
NewCohort = Annotated[Path, typer.Argument(help="Cohort folder to write.")]
NewFolder = Annotated[Path, typer.Argument(help="Folder to write.")]
RunArgument = Annotated[Path, typer.Argument(help="Run folder (the --out of a training).")]


def show(value: Any, text: str, as_json: bool) -> None:
    """Print a result: as text, or as JSON whose letters every encoding of stdout has."""
    typer.echo(json.dumps(files.plain(value), indent=2, allow_nan=False) if as_json else text.rstrip("\n"))


def names(text: str | None) -> list[str] | None:
    """The names in ``a,b``; None stays None."""
    return None if text is None else [name for part in text.split(",") if (name := part.strip())]


def finding_line(finding: Finding) -> str:
    """A finding with its repair in one line."""
    case = f"{finding.case}: " if finding.case else ""
    return f"{finding.severity}: {case}{finding.meaning}. {finding.action}"


def findings_text(findings: Iterable[Finding]) -> str:
    """Findings, worst first, and how many of each."""
    order = {"error": 0, "warning": 1, "note": 2}
    ranked = sorted(findings, key=lambda f: order[f.severity])
    lines = [finding_line(finding) for finding in ranked]
    counts = ", ".join(
        f"{n} {name}{'s' if n != 1 else ''}"
        for name in order
        if (n := sum(f.severity == name for f in ranked))
    )
    return "\n".join([*lines, counts or "no findings"])


def exit_for(findings: Iterable[Finding], usable: bool, done: Collection[str] = ()) -> None:
    """Exit code 3 when nothing was usable, 1 when a finding is an error.

    Parameters
    ----------
    findings : iterable of Finding
    usable : bool
    done : collection of str
        Studies that have their result: what is wrong with their files is told, and would fail again each time.
    """
    if not usable:
        raise typer.Exit(3)
    if any(f.severity == "error" and f.case not in done for f in findings):
        raise typer.Exit(1)


def progress(title: str, total: int | None = None) -> Any:
    """A progress bar on stderr."""
    from mtinet.progress import bar

    return bar(title, total)


def stages() -> Any:
    """The progress of work in several stages on stderr; two bars at a time would write over each other."""
    from mtinet.progress import StageProgress

    return StageProgress()
