"""The command line: parse, call one workflow, print, exit code.

Results go to stdout (``--json`` for programs), progress and logs to stderr.  Exit codes: 0 done, 1 some
studies failed (they are listed), 2 wrong usage, 3 nothing usable, 4 another process works there, 130 interrupted.
Each module adds its commands to the application; the order of the imports is that of ``mtinet --help``.
"""

from __future__ import annotations

import io
import sys
import traceback
from typing import Annotated, NoReturn

import typer

from mtinet import errors
from mtinet.cli.base import app, show

from mtinet.cli import data, imports, exports, ingest, model, bench, results  # isort: skip  # noqa: F401
from mtinet.cli import experiments, machine, phases, tables  # isort: skip  # noqa: F401


INTERRUPTED = 130
"""Exit code of a command that was broken off by the keyboard (128 + SIGINT)."""


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Print the traceback of an error.")] = False,
) -> None:
    context.obj = {"debug": debug}
    if version:
        from importlib.metadata import version as installed

        typer.echo(f"mtinet {installed('mtinet')}")
        raise typer.Exit


def main() -> NoReturn:
    """Run the command line; a known error prints one clear message, never a traceback without --debug."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # as stderr has it: a name that the terminal's encoding lacks is escaped, and no work is lost over it
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        app(standalone_mode=True)
    except SystemExit as end:
        if end.code == INTERRUPTED:
            typer.echo(
                "mtinet: interrupted; what is finished stays, and the same command goes on (train, crossval and "
                "experiment with --resume)",
                err=True,
            )
        raise
    except errors.UserError as error:
        caught: BaseException = error
        code, message = error.exit_code, str(error)
    except OSError as error:
        caught = error
        # of a rename, the place that was to be taken
        place = error.filename2 or error.filename or "a file"
        code, message = (
            3,
            f"{place}: {error.strerror or error}; free the disk or correct the path and its rights",
        )
    except Exception as error:
        caught = error
        code, message = (
            3,
            f"{type(error).__name__}: {error} (mtinet --debug COMMAND ... shows where; please report it)",
        )
    if "--debug" in sys.argv:
        traceback.print_exception(caught)
    if "--json" in sys.argv:
        show({"error": {"type": type(caught).__name__, "message": message, "exit_code": code}}, "", True)
    typer.secho(f"mtinet: {message}", err=True, fg=typer.colors.RED)
    sys.exit(code)
