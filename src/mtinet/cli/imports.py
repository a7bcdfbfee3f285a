"""Commands that make a cohort from files as they are: ``mtinet import ...``."""

from __future__ import annotations

import typer

from mtinet.cli.base import app

import_app = typer.Typer(
    no_args_is_help=True,
    help="Make a cohort from files as they are: DICOM, NIfTI, nnU-Net, public data sets; merge cohorts.",
)
app.add_typer(import_app, name="import")
