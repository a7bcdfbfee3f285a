"""Pictures of virtual patients for the documentation: slices, small multiples, time-intensity curves."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from page import DOCS
from PIL import Image
from scipy import ndimage

from mtinet.config import SIMULATIONS, SimulationSettings, SiteSettings
from mtinet.phantom.agents import AGENTS
from mtinet.phantom.patient import VirtualPatient, simulate_patient

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

Array = NDArray[Any]

IMAGES = DOCS / "images"
LIMIT_BYTES = 300_000
SEED = 2024
"""Of every picture; the first patients are shown, none was picked."""

CLOSE = SiteSettings(name="close", spacing_mm=(1.5, 1.5, 3.0), matrix=(228, 176, 40), noise=0.03)
"""A 3 T scanner with smaller voxels than the presets', for looking at lesions."""

_SMALL_MM, _USUAL_MM = 16.0, 38.0
_CROP_MM = 100.0
_GRAYS = 40


@dataclass(frozen=True)
class View:
    """An axial slice that all phases of a patient are shown in.

    Attributes
    ----------
    patient : VirtualPatient
    z : int
        Slice.
    window : tuple of float
        Signal shown black and white, the same for all phases.
    """

    patient: VirtualPatient
    z: int
    window: tuple[float, float]

    def show(self, axes: Any, phase: str, box: tuple[slice, slice] = (slice(None), slice(None))) -> None:
        """Draw a phase; a phase that is missing leaves the axes empty."""
        axes.set_axis_off()
        if phase not in self.patient.images:
            return
        volume = self.patient.images[phase]  # type: ignore[index]
        dx, dy, _ = volume.spacing_mm
        low, high = self.window
        axes.imshow(
            radiological(volume.array[:, :, self.z][box]),
            cmap="gray",
            vmin=low,
            vmax=high,
            aspect=dy / dx,
            interpolation="bilinear",
        )


def radiological(plane: Array) -> Array:
    """A plane [X, Y] that runs to the right and to the front, as radiologists look at it from the feet."""
    return plane[::-1, ::-1].T


def patient(site: SiteSettings, index: int = 0, **changes: Any) -> VirtualPatient:
    """A patient of one site, complete in its phases, with one lesion unless said otherwise."""
    usual = {"no_lesion_fraction": 0.0, "extra_lesions": 0.0, "missing_phase_rate": 0.0, "seed": SEED}
    settings = SimulationSettings.model_validate({**usual, **changes, "sites": (site,)})
    return simulate_patient(settings, index)


def lesion_slice(found: VirtualPatient) -> int:
    """The slice that the largest lesion fills most; without lesion the one with most liver."""
    mask = found.mask.array == 1 if found.lesions else found.liver.array > 0
    return int(mask.sum((0, 1)).argmax())


def view(found: VirtualPatient, z: int | None = None) -> View:
    """A view whose white is somewhat above the liver's brightest phase."""
    z = lesion_slice(found) if z is None else z
    liver = found.liver.array[:, :, z] > 0
    brightest = max(float(np.percentile(v.array[:, :, z][liver], 95)) for v in found.images.values())
    return View(found, z, (0.0, 1.35 * brightest))


def around_lesion(found: VirtualPatient, z: int, size_mm: float = _CROP_MM) -> tuple[slice, slice]:
    """A square about the largest lesion in a slice, moved to lie inside the image."""
    where = np.argwhere(found.mask.array[:, :, z] == 1)
    parts = []
    for centre, count, step in zip(where.mean(0), found.mask.shape[:2], found.mask.spacing_mm[:2]):
        width = min(round(size_mm / step), count)
        first = int(np.clip(round(float(centre) - width / 2), 0, count - width))
        parts.append(slice(first, first + width))
    return parts[0], parts[1]


def body(found: VirtualPatient) -> tuple[slice, slice]:
    """A rectangle in plane around what has signal in any phase, with a little air."""
    brightest = np.max([volume.array.max(2) for volume in found.images.values()], axis=0)
    where = np.argwhere(brightest > 0.25 * np.percentile(brightest, 75))
    (x0, y0), (x1, y1) = where.min(0), where.max(0) + 1
    return slice(max(x0 - 2, 0), x1 + 2), slice(max(y0 - 2, 0), y1 + 2)


def save(figure: Figure, name: str, gray: bool = True, dpi: int = 110) -> Path:
    """Write a picture with few levels, so that the repository stays small."""
    stream = io.BytesIO()
    figure.savefig(stream, dpi=dpi, facecolor="white")
    plt.close(figure)
    picture = Image.open(stream).convert("RGB")
    if gray:
        # equal steps over the whole scale: a palette fitted to the picture would spare the bright end
        picture = picture.convert("L").point(
            [round(round(g / 255 * _GRAYS) * 255 / _GRAYS) for g in range(256)]
        )
    else:
        picture = picture.quantize(96, dither=0)
    path = IMAGES / f"patients-{name}.png"
    path.parent.mkdir(exist_ok=True)
    picture.save(path, optimize=True)
    size = path.stat().st_size
    print(f"{path.name}: {size / 1000:.0f} kB", flush=True)
    if size > LIMIT_BYTES:
        raise SystemExit(f"{path} has {size} bytes, more than {LIMIT_BYTES}; draw it smaller")
    return path


def titled(text: str) -> str:
    """A phase's or sub-form's name in words."""
    return text.replace("_", " ")


# ---------------------------------------------------------------------- lesions
def lesions(label: str, subtypes: Sequence[str]) -> None:
    """A class: a row a sub-form, the four gadobutrol and the five gadoxetate phases of the same patient."""
    agents = ("gadobutrol", "gadoxetate")
    columns = [(agent, phase) for agent in agents for phase in AGENTS[agent].phases]
    figure, axes = plt.subplots(
        len(subtypes), len(columns), figsize=(1.25 * len(columns), 1.32 * len(subtypes) + 0.35), squeeze=False
    )
    for line, subtype in zip(axes, subtypes):
        for agent in agents:
            found = patient(CLOSE, classes=(label,), agent=agent, **sized(label, subtype))
            shown = view(found)
            box = around_lesion(found, shown.z)
            for axis, (whose, phase) in zip(line, columns):
                if whose == agent:
                    shown.show(axis, phase, box)
        line[0].text(
            -0.06,
            0.5,
            titled(subtype),
            rotation=90,
            transform=line[0].transAxes,
            ha="right",
            va="center",
            size=6.5,
        )
    for axis, (agent, phase) in zip(axes[0], columns):
        axis.set_title(f"{agent}\n{titled(phase)}", size=6.5, pad=3)
    figure.subplots_adjust(0.025, 0.005, 0.998, 1 - 0.32 / figure.get_figheight(), 0.03, 0.03)
    save(figure, label)


def usual_diameter_mm(subtype: str) -> float:
    """A size at which a sub-form is usual."""
    return _SMALL_MM if any(word in subtype for word in ("flash", "small")) else _USUAL_MM


def sized(label: str, subtype: str) -> dict[str, Any]:
    """Settings that give a sub-form alone, at a size at which it is usual."""
    diameter = usual_diameter_mm(subtype)
    return {
        "subtypes": {label: {subtype: 1.0}},
        "median_diameter_mm": diameter,
        "diameter_mm": (0.85 * diameter, 1.15 * diameter),
        "cyst_fraction": 0.0,
        "shunt_fraction": 0.0,
    }


# ---------------------------------------------------------------------- patients
def grid_of(
    name: str, rows: Mapping[str, View], phases: Sequence[str], panel: tuple[float, float] = (2.1, 1.6)
) -> None:
    """Whole slices: a row a view, a column a phase."""
    width, height = panel
    figure, axes = plt.subplots(
        len(rows), len(phases), figsize=(width * len(phases) + 0.2, height * len(rows) + 0.2), squeeze=False
    )
    for line, (title, shown) in zip(axes, rows.items()):
        for axis, phase in zip(line, phases):
            shown.show(axis, phase, body(shown.patient))
        line[0].text(
            -0.03, 0.5, title, rotation=90, transform=line[0].transAxes, ha="right", va="center", size=7
        )
    for axis, phase in zip(axes[0], phases):
        axis.set_title(titled(phase), size=7, pad=3)
    figure.subplots_adjust(0.03, 0.005, 0.998, 1 - 0.2 / figure.get_figheight(), 0.02, 0.02)
    save(figure, name)


def anatomy() -> None:
    """Six patients at four levels in the portal-venous phase."""
    levels = (0.8, 0.6, 0.4, 0.2)
    site = SIMULATIONS["demo"]().sites[0]
    figure, axes = plt.subplots(len(levels), 6, figsize=(10.4, 5.1))
    for index, column in enumerate(axes.T):
        found = patient(site, index, classes=("hemangioma", "hcc"), extra_lesions=0.6)
        filled = np.flatnonzero(found.liver.array.any((0, 1)))
        for axis, level in zip(column, levels):
            z = int(np.quantile(filled, level))
            view(found, z).show(axis, "portal_venous", body(found))
        column[0].set_title(f"patient {index}: {found.label}", size=7, pad=3)
    for axis, level in zip(axes[:, 0], levels):
        axis.text(
            -0.03,
            0.5,
            f"{level:.0%} up the liver",
            rotation=90,
            transform=axis.transAxes,
            ha="right",
            va="center",
            size=7,
        )
    figure.subplots_adjust(0.03, 0.005, 0.998, 0.96, 0.02, 0.02)
    save(figure, "anatomy")


def hosts() -> None:
    """The same number as a healthy, a fatty and a cirrhotic patient."""
    kinds = {"healthy": (0.0, 0.0), "fatty": (0.0, 1.0), "cirrhotic": (1.0, 0.0)}
    site = SIMULATIONS["demo"]().sites[0]
    rows = {}
    for name, (cirrhosis, fat) in kinds.items():
        found = patient(site, 1, classes=("hcc",), cirrhosis_fraction=cirrhosis, fatty_fraction=fat)
        rows[name] = view(found)
    grid_of("hosts", rows, AGENTS["gadobutrol"].phases, (2.4, 1.85))


def sites() -> None:
    """The same patient number at every site of the multicentre preset."""
    rows = {}
    for site in SIMULATIONS["multicentre"]().sites:
        rows[f"{site.name}: {site.habits} {site.field_T:g} T"] = view(patient(site, 2, classes=("hcc",)))
    grid_of("sites", rows, AGENTS["gadobutrol"].phases, (2.1, 1.6))


def mimics() -> None:
    """What is bright, dark or ghosted and is no lesion; each row beside the same patient without it."""
    site = SIMULATIONS["demo"]().sites[0]
    plain = {"classes": ("hcc",), "no_lesion_fraction": 1.0, "cyst_fraction": 0.0, "shunt_fraction": 0.0}
    clean = site.model_copy(update={"artefacts": 0.0})
    cases = (
        ("perfusion difference", site, {**plain, "shunt_fraction": 1.0}, site, "arterial"),
        ("incidental cysts", site, {**plain, "cyst_fraction": 1.0}, site, "portal_venous"),
        ("ghosts, signal loss", site, plain, clean, "arterial"),
    )
    figure, axes = plt.subplots(len(cases), 5, figsize=(11.0, 4.75))
    for line, (title, with_site, changes, without_site, phase) in zip(axes, cases):
        shown, other = patient(with_site, 3, **changes), patient(without_site, 3, **plain)
        z = most_changed(shown, other, phase)
        first = view(shown, z)
        second, box = View(other, z, first.window), body(shown)
        for axis, drawn, when, name in (
            (line[0], first, "pre", "with"),
            (line[1], first, phase, "with"),
            (line[2], first, "delayed", "with"),
            (line[3], second, phase, "without"),
        ):
            drawn.show(axis, when, box)
            axis.set_title(f"{titled(when)}, {name}", size=7, pad=3)
        _difference(line[4], first, second, phase, box)
        line[0].text(
            -0.03, 0.5, title, rotation=90, transform=line[0].transAxes, ha="right", va="center", size=7
        )
    figure.subplots_adjust(0.03, 0.005, 0.998, 0.96, 0.02, 0.1)
    save(figure, "mimics")


def _difference(axis: Any, one: View, other: View, phase: str, box: tuple[slice, slice]) -> None:
    """Five times the difference of two views in a phase; gray = none."""
    axis.set_axis_off()
    axis.set_title(f"{titled(phase)}, difference x 5", size=7, pad=3)
    a, b = (v.patient.images[phase].array[:, :, v.z][box].astype(np.float64) for v in (one, other))  # type: ignore[index]
    reach = (one.window[1] - one.window[0]) / 2.0
    axis.imshow(radiological(5.0 * (a - b)), cmap="gray", vmin=-reach, vmax=reach, interpolation="bilinear")


def most_changed(one: VirtualPatient, other: VirtualPatient, phase: str) -> int:
    """The slice whose liver differs most between two patients that should differ in one thing."""
    a, b = one.images[phase].array, other.images[phase].array  # type: ignore[index]
    if a.shape != b.shape:
        return lesion_slice(one)
    inside = ndimage.binary_erosion(one.liver.array > 0, iterations=2)
    smooth = ndimage.gaussian_filter((a - b.astype(np.float32)) * inside, 1.5)
    return int(np.abs(smooth).max((0, 1)).argmax())
