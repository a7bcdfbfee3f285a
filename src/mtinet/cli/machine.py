"""Commands on settings and on this machine: config, doctor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from mtinet import config as settings
from mtinet.cli.base import File, Json, Preset, Set, app, findings_text, show

config_app = typer.Typer(no_args_is_help=True, help="Show, compare and describe settings.")
app.add_typer(config_app, name="config")


@config_app.command("show")
def config_show(preset: Preset = "small", config: File = None, set_: Set = None, json_: Json = False) -> None:
    """Print the resolved settings as YAML, which --config reads again."""
    resolved = settings.resolve(preset, config, set_ or [])
    show(resolved.model_dump(mode="json"), settings.to_yaml(resolved), json_)


@config_app.command("diff")
def config_diff(
    first: Annotated[str, typer.Argument(help="A preset, a YAML file or a run folder.")],
    second: Annotated[str, typer.Argument(help="The other one.")],
    json_: Json = False,
) -> None:
    """Print what differs between two presets, files or runs."""
    found = settings.difference(_settings_of(first), _settings_of(second))
    lines = [f"{name}: {a} -> {b}" for name, (a, b) in found.items()]
    show(found, "\n".join(lines) or "no difference", json_)


@config_app.command("schema")
def config_schema() -> None:
    """Print the JSON schema of the settings, with a description of each."""
    typer.echo(json.dumps(settings.Config.model_json_schema(), indent=2))


@app.command()
def doctor(json_: Json = False) -> None:
    """Say what this machine and installation have, and what is missing."""
    from mtinet.workflows.doctor import doctor as run

    facts, findings = run()
    lines = [f"{name}: {value}" for name, value in facts.items()]
    show(
        {"facts": facts, "findings": [f.to_dict() for f in findings]},
        "\n".join([*lines, findings_text(findings)]),
        json_,
    )
    raise typer.Exit(1 if any(f.severity == "error" for f in findings) else 0)


def _settings_of(name: str) -> settings.Config:
    if name in settings.PRESETS:
        return settings.resolve(name)
    path = Path(name)
    return settings.resolve("small", path / "config.yaml" if path.is_dir() else path)
