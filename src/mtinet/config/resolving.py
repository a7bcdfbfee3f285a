"""From a preset, a file and assignments to settings; errors name the setting and what is valid."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from mtinet.config.base import Settings, SettingsError
from mtinet.config.presets import PRESETS
from mtinet.config.run import Config
from mtinet.config.simulation import SIMULATIONS, SimulationSettings

T = TypeVar("T", bound=Settings)


def resolve(preset: str = "small", file: Path | None = None, assignments: Iterable[str] = ()) -> Config:
    """Settings of a run: a preset, changed by a YAML file, changed by ``key.path=value`` assignments.

    Raises
    ------
    SettingsError
        A name or value is not valid; the message names it and says what is valid.
    """
    return resolve_settings(_chosen(PRESETS, preset, "preset")(), file, assignments)


def resolve_simulation(
    preset: str = "demo",
    file: Path | None = None,
    assignments: Iterable[str] = (),
    *,
    options: Mapping[str, Any] | None = None,
    sites: Sequence[str] | None = None,
    spacing_mm: Sequence[float] | None = None,
) -> SimulationSettings:
    """Settings of a virtual cohort: preset, then file, then options, then assignments; the later wins.

    Parameters
    ----------
    preset : str
    file : Path, optional
    assignments : iterable of str
        ``key=value``, as in :func:`resolve`.
    options : mapping, optional
        Values by the setting's name.
    sites : sequence of str, optional
        Names of the sites to take (see :meth:`SimulationSettings.with_sites`).
    spacing_mm : sequence of float, optional
        Voxels of every site (see :meth:`SimulationSettings.with_spacing`).

    Raises
    ------
    SettingsError
        A name or value is not valid; the message names it and says what is valid.
    """
    settings = resolve_settings(_chosen(SIMULATIONS, preset, "simulation preset")(), file, ())
    if options:
        settings = validate(SimulationSettings, {**settings.model_dump(), **options})
    if sites is not None:
        settings = settings.with_sites(sites)
    if spacing_mm is not None:
        settings = settings.with_spacing(spacing_mm)
    return resolve_settings(settings, None, assignments)


def resolve_settings(base: T, file: Path | None, assignments: Iterable[str]) -> T:
    """``base`` changed by a YAML file, then by assignments (see :func:`resolve`)."""
    values = base.model_dump()
    if file is not None:
        _merge(values, _read_yaml(file), type(base), str(file))
    if isinstance(assignments, str):
        raise SettingsError(f"settings are several name=value: write [{assignments!r}]")
    for assignment in assignments:
        path, found, text = assignment.partition("=")
        if not found:
            raise SettingsError(f"--set {assignment}: write it as name=value, for example head.depth=2")
        change: Any = _parse_value(text)
        for key in reversed(path.strip().split(".")):
            change = {key: change}
        _merge(values, change, type(base), f"--set {assignment}")
    return validate(type(base), values)


def validate(kind: type[T], values: Mapping[str, Any]) -> T:
    """Build settings from plain values; every error names the setting and what is valid."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        lines = []
        for item in error.errors():
            name = ".".join(str(part) for part in item["loc"])
            says = _several(kind, item["loc"]) if item["type"] == "tuple_type" else item["msg"]
            lines.append(f"{name}: {says} (given: {item['input']!r})" if name else says)
        raise SettingsError("not valid: " + "; ".join(lines)) from None


def _several(kind: type[BaseModel], place: Sequence[int | str]) -> str:
    """That a setting takes several values, with its default as the example."""
    *groups, name = place
    for group in groups:
        field = kind.model_fields.get(str(group))
        if field is None or not (
            isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        ):
            return "give a list"
        kind = field.annotation
    field = kind.model_fields.get(str(name))
    if field is None or not isinstance(field.default, tuple) or not field.default:
        return "give a list"
    example = ",".join("null" if value is None else str(value) for value in field.default)
    return f"several values are needed, for example {'.'.join(map(str, place))}={example}"


def _chosen(table: Mapping[str, Callable[[], T]], name: str, what: str) -> Callable[[], T]:
    if name not in table:
        raise SettingsError(f"unknown {what} {name!r}; valid: {', '.join(table)}")
    return table[name]


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        loaded = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"cannot read the settings file {file}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise SettingsError(f"{file} is not YAML: {error}") from None
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise SettingsError(f"{file} holds {type(loaded).__name__}, not settings by name")
    return loaded


def _parse_value(text: str) -> Any:
    """JSON where it is JSON, ``a,b`` as a list, otherwise text (pydantic turns it into the field's type)."""
    text = text.strip()
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        pass
    if text.lower() in ("null", ""):
        return None
    if "," in text:
        return [_parse_value(part) for part in text.strip("()[]").split(",")]
    return text


def _merge(values: dict[str, Any], changes: Mapping[str, Any], kind: type[BaseModel], source: str) -> None:
    fields = kind.model_fields
    for name, change in changes.items():
        if name not in fields:
            close = difflib.get_close_matches(str(name), fields, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise SettingsError(f"{source}: unknown setting {name!r}; {hint}valid here: {', '.join(fields)}")
        inner = fields[name].annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            if not isinstance(change, Mapping):
                raise SettingsError(
                    f"{source}: {name!r} is a group of settings ({', '.join(inner.model_fields)}); "
                    f"write {name}.{next(iter(inner.model_fields))}=..."
                )
            _merge(values[name], change, inner, source)
        else:
            values[name] = change


def to_yaml(settings: Settings) -> str:
    """The settings as YAML text, in the order of their definition."""
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def from_yaml(kind: type[T], text: str) -> T:
    """Settings from :func:`to_yaml` text."""
    return validate(kind, yaml.safe_load(text) or {})


def difference(a: Settings, b: Settings) -> dict[str, tuple[Any, Any]]:
    """Settings whose values differ: dotted name -> (value in a, value in b)."""
    flat_a, flat_b = _flat(a.model_dump(mode="json")), _flat(b.model_dump(mode="json"))
    return {
        name: (flat_a.get(name), flat_b.get(name))
        for name in dict.fromkeys([*flat_a, *flat_b])
        if flat_a.get(name) != flat_b.get(name)
    }


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            out.update(_flat(value, f"{prefix}{name}."))
        else:
            out[prefix + name] = value
    return out
