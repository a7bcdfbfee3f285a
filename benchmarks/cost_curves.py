"""How cost grows: ``python benchmarks/cost_curves.py``.

A training step (the real trainer, with its data path) of MTI-Net, BasicUNet of the same first width and
DynUNet against patch, phases, batch and width, and the prediction of a study against its slices.  All values
of an axis are measured in turn within each repeat; seconds are medians over repeats.  The same run measures
the machine's ceiling, multiply-adds a second of one large convolution and of one large matrix product, and
each step's own multiply-adds (forward and backward; torch's counter of convolutions and matrix products).
``--set`` changes the preset ``small``.

The studies are noise with one lesion in it: cost does not depend on what they show.  Writes
``cost-curves.csv``, ``cost-curves-manifest.json`` and ``images/cost-curves.png`` into ``docs/``, and the
table of exponents into ``docs/performance.md``.  ``--table OUT`` writes the tables of ``mtinet bench OUT`` and
``mtinet bench OUT --study``, whichever are there, into that page instead, copies them beside it, and measures
nothing.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from page import DOCS, markdown, put_into
from torch.utils.flop_counter import FlopCounterMode

from mtinet import files, provenance
from mtinet.config import PHASES, Config, Phase, resolve, resolve_settings
from mtinet.data.prepared import PreparedLesion, PreparedStudy
from mtinet.errors import UserError
from mtinet.workflows import bench_study
from mtinet.workflows.bench_cases import Case, Patients, cases, with_marks
from mtinet.workflows.bench_measures import Contender
from mtinet.workflows.bench_table import readable

COMMAND = "python benchmarks/cost_curves.py"
CLASSES = ("hemangioma", "hcc")
MODELS = ("mtinet", "basic_unet", "dynunet")
SHAPE = (24, 104, 136)
"""Slices, rows and columns of a study: site A's."""

AXES: dict[str, tuple[int, ...]] = {
    "patch": (32, 48, 64, 96, 128),
    "phases": (2, 3, 4, 5, 7),
    "batch": (4, 8, 16, 32),
    "width": (8, 12, 16, 24, 32),
    "slices": (6, 12, 24, 48),
}
QUICK: dict[str, tuple[int, ...]] = {"patch": (32, 64), "phases": (2, 3), "slices": (2, 4)}
LABELS = {"patch": "side of the patch (pixels)", "width": "channels of the first layer", "slices": "slices"}


class Sizes(NamedTuple):
    """How much is measured: preset and axes, repeats, steps of a block, side of the ceiling's operands."""

    preset: str
    axes: dict[str, tuple[int, ...]]
    repeats: int
    steps: int
    side: int


FULL, SMALLEST = Sizes("small", AXES, 5, 3, 2048), Sizes("tiny", QUICK, 1, 1, 256)


# ---------------------------------------------------------------------- what is measured
def config_at(base: Config, axis: str, value: int) -> Config:
    """The settings with one size changed; MTI-Net's widths keep their proportions."""
    dims = base.spatial_dims
    changes: dict[str, dict[str, Any]] = {
        "patch": {"sampling.patch_size": [value] * dims},
        "phases": {"phases": list(PHASES[:value])},
        "batch": {"training.batch_size": value},
        "slices": {},
        "width": {
            "encoder.channels": scaled(base.encoder.channels, value / base.encoder.channels[0]),
            "decoder.channels": scaled(base.decoder.channels, value / base.encoder.channels[0]),
            "baseline.width": value,
        },
    }
    assignments = [f"{name}={json.dumps(change)}" for name, change in changes[axis].items()]
    return resolve_settings(base, None, assignments)


def scaled(channels: Sequence[int], factor: float) -> list[int]:
    """Channels times a factor, at least one."""
    return [max(1, round(count * factor)) for count in channels]


def compared(config: Config) -> list[Case]:
    """MTI-Net with shared encoders, BasicUNet of its first width, and DynUNet."""
    first = f"basic_unet-{config.encoder.channels[0]}"
    return [case for case in cases(config, MODELS) if case.config.model != "basic_unet" or case.name == first]


def noise_study(phases: Sequence[Phase], shape: tuple[int, int, int], folder: Path) -> PreparedStudy:
    """A study of noise on disk, with a cylinder of lesion in the middle third of its slices."""
    rng = np.random.default_rng([len(phases), *shape])
    y, x = np.meshgrid(*(np.linspace(-1.0, 1.0, side) for side in shape[1:]), indexing="ij")
    mask = np.zeros(shape, dtype=np.uint8)
    third = max(shape[0] // 3, 1)
    mask[third : 2 * third] = np.hypot(y, x) < 1.0 / 3.0
    image = np.abs(rng.normal(0.8, 0.2, (len(phases), *shape))).astype(np.float32)
    found = np.argwhere(mask)
    ends = zip(found.min(0).tolist(), (found.max(0) + 1).tolist(), strict=True)
    box = tuple((int(low), int(high)) for low, high in ends)
    signal = {phase: float(part[mask > 0].mean()) for phase, part in zip(phases, image, strict=True)}
    lesion = PreparedLesion(1, CLASSES[1], len(found), 30.0, signal, box)
    affine = np.diag([2.5, 2.5, 5.0, 1.0])
    study = PreparedStudy(
        *("noise", "noise", "", CLASSES[1], tuple(phases), (True,) * len(phases)),
        times_s=tuple(20.0 * number for number in range(len(phases))),
        reference_phase=phases[0],
        gain=1.0,
        affine=affine,
        source_shape=(shape[2], shape[1], shape[0]),
        source_affine=affine,
        has_mask=True,
        has_liver=False,
        lesions=(lesion,),
        memory={"image": image, "mask": mask},
    )
    folder.mkdir(parents=True)
    study.write(folder)
    return PreparedStudy.open(folder)


def ceiling(side: int, repeats: int) -> dict[str, float]:
    """Multiply-adds a second of large operations: the best of the repeats, being a ceiling."""
    a, b = torch.randn(side, side), torch.randn(side, side)
    channels, pixels = max(side // 8, 8), max(side // 32, 8)
    image = torch.randn(8, channels, pixels, pixels)
    layer = torch.nn.Conv2d(channels, channels, 3, padding=1, bias=False)
    work: dict[str, tuple[Callable[[], torch.Tensor], float]] = {
        "matmul": (lambda: a @ b, float(side) ** 3),
        "conv": (lambda: layer(image), 8.0 * pixels**2 * channels**2 * 9),
    }
    found = {}
    with torch.inference_mode():
        for name, (run, count) in work.items():
            run()
            found[name] = count / min(timed(run) for _ in range(max(repeats, 3)))
    return found


def timed(run: Callable[[], Any]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def measure(axis: str, base: Config, sizes: Sizes, place: Path) -> list[dict[str, Any]]:
    """Rows of one axis: every value and network in turn, in each repeat."""
    ready: list[tuple[int, Contender]] = []
    for value in sizes.axes[axis]:
        config = config_at(base, axis, value)
        shape = (value, *SHAPE[1:]) if axis == "slices" else SHAPE
        study = noise_study(config.phases, shape, place / f"{axis}-{value}")
        patients = Patients([study], with_marks(study, place / f"{axis}-{value}-marked"), CLASSES)
        most = sizes.repeats * sizes.steps + 3
        for case in compared(config):
            contender = Contender(case, patients, place / f"runs-{axis}-{value}", "cpu", most)
            ready.append((value, contender))
    predicts = axis == "slices"
    counts = []
    for _, contender in ready:
        contender.infer() if predicts else contender.train(1)
        with FlopCounterMode(display=False) as counter:
            contender.infer() if predicts else contender.train(1)
        counts.append(counter.get_total_flops() / 2)
    seconds: list[list[float]] = [[] for _ in ready]
    for repeat in range(sizes.repeats):
        for found, (_, contender) in zip(seconds, ready, strict=True):
            found.append(contender.infer() if predicts else contender.train(sizes.steps).step_s)
        print(f"{axis}: repeat {repeat + 1} of {sizes.repeats}", file=sys.stderr, flush=True)
    return [
        {
            "axis": axis,
            "value": value,
            "network": contender.case.config.model,
            "width": contender.case.width,
            "what": "study" if predicts else "step",
            **dict(zip(("seconds_low", "seconds", "seconds_high"), np.quantile(times, (0.25, 0.5, 0.75)))),
            "multiply_adds": count,
            "gmac_s": count / statistics.median(times) / 1e9,
        }
        for (value, contender), times, count in zip(ready, seconds, counts, strict=True)
    ]


# ---------------------------------------------------------------------- what is made of it
def exponents(table: pd.DataFrame) -> pd.DataFrame:
    """Slope of log seconds against log value: 1 = cost grows in proportion, 2 = with the square."""
    rows = []
    for (axis, network), line in table.groupby(["axis", "network"], sort=False):
        slope = np.polyfit(np.log(line["value"]), np.log(line["seconds"]), 1)[0]
        ends = line.sort_values("value").iloc[[0, -1]]
        rows.append(
            {
                "against": axis,
                "network": network,
                "from": int(ends["value"].iloc[0]),
                "to": int(ends["value"].iloc[1]),
                "seconds at first": float(ends["seconds"].iloc[0]),
                "seconds at last": float(ends["seconds"].iloc[1]),
                "exponent": float(slope),
                "share of the ceiling": float(line["share_of_ceiling"].max()),
            }
        )
    return pd.DataFrame(rows)


def draw(table: pd.DataFrame, top: dict[str, float], path: Path) -> None:
    """Seconds against each axis, and the multiply-adds a second of every row against the ceilings."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import NullFormatter, ScalarFormatter

    axes = list(dict.fromkeys(table["axis"]))
    figure, grid = plt.subplots(2, 3, figsize=(11, 6.4), layout="constrained")
    panels = list(grid.flat)
    networks = list(dict.fromkeys(table["network"]))
    colours = dict(zip(networks, plt.colormaps["tab10"].colors))
    for panel, axis in zip(panels, axes):
        rows = table[table["axis"] == axis]
        for network, line in rows.groupby("network", sort=False):
            below, above = line["seconds"] - line["seconds_low"], line["seconds_high"] - line["seconds"]
            spread = [below, above]
            panel.errorbar(
                line["value"], line["seconds"], spread, marker="o", color=colours[network], label=network
            )
        panel.set(xscale="log", yscale="log", xlabel=LABELS.get(axis, axis))
        panel.set_ylabel("seconds a " + rows["what"].iloc[0])
        panel.set_xticks(sorted(set(rows["value"])))
        panel.xaxis.set_major_formatter(ScalarFormatter())
        panel.xaxis.set_minor_formatter(NullFormatter())
    last = panels[-1]
    for network, line in table.groupby("network", sort=False):
        last.plot(line["multiply_adds"] / 1e9, line["gmac_s"], "o", color=colours[network], label=network)
    for (name, value), style in zip(top.items(), itertools.cycle(("--", ":"))):
        last.axhline(value / 1e9, color="black", linestyle=style, label=f"ceiling, {name}")
    last.set(xscale="log", xlabel="GMAC of a step or study", ylabel="GMAC a second")
    last.set_ylim(bottom=0)
    last.legend(frameon=False, fontsize=8)
    panels[0].legend(frameon=False, fontsize=8)
    for panel in panels[len(axes) : -1]:
        panel.set_axis_off()
    with files.atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)
    plt.close(figure)


def cost_text(table: pd.DataFrame, top: dict[str, float]) -> str:
    """What the page says: ceilings and the table of exponents."""
    found = exponents(table)
    said = ", ".join(f"{value / 1e9:.3g} GMAC/s in one large {name}" for name, value in top.items())
    return f"Ceiling of the machine in this run: {said}.\n\n" + markdown(
        list(found.columns), found.itertuples(index=False)
    )


def bench_text(out: Path) -> str:
    """The table that ``mtinet bench`` wrote, and where it was measured."""
    table = readable(pd.read_csv(out / "bench.csv"))
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    facts = manifest["bench"]
    study = facts["study"]
    where = (
        f"{facts['processor']}, {facts['threads']} threads, torch {manifest['versions']['torch']}, "
        f"patch {facts['patch']}, batch {facts['batch']}, {facts['repeats']} repeats of {facts['steps']} "
        f"steps; the study has {study['phases']} phases of {'x'.join(map(str, study['shape']))} voxels, "
        f"lesions in {study['slices_with_lesion']} of its slices"
    )
    lines = [f"Measured on: {where}.", *(f"Warning: {line}." for line in facts["warnings"])]
    return "\n\n".join([*lines, markdown(list(table.columns), table.itertuples(index=False))])


def study_text(out: Path) -> str:
    """The table that ``mtinet bench --study`` wrote, and where it was measured."""
    table = bench_study.readable(pd.read_csv(out / bench_study.STUDY_TABLE))
    manifest = json.loads((out / bench_study.STUDY_MANIFEST).read_text(encoding="utf-8"))
    facts = manifest["study"]
    where = (
        f"{facts['processor']}, {facts['threads']} threads, torch {manifest['versions']['torch']}; "
        f"{facts['matrix']} voxels, {facts['phases']} phases, {facts['lesions']} lesions found; model "
        f"{facts['model']}; written: {', '.join(facts['formats'])}; {facts['repeats']} processes a backend with "
        f"{facts['studies']} studies each"
    )
    lines = [f"Measured on: {where}.", *(f"Warning: {line}." for line in facts["warnings"])]
    return "\n\n".join([*lines, markdown(list(table.columns), table.itertuples(index=False))])


def put_tables(out: Path, docs: Path, name: str = "bench") -> None:
    """Put the tables that ``mtinet bench`` wrote into the page, and themselves beside it.

    That of the networks goes where the page says ``name``.

    Raises
    ------
    UserError
        There is none.
    """
    kinds = {
        name: (bench_text, {"bench.csv": f"{name}.csv", "manifest.json": f"{name}-manifest.json"}),
        "study": (study_text, {name: name for name in (bench_study.STUDY_TABLE, bench_study.STUDY_MANIFEST)}),
    }
    found = [kind for kind, (_, copies) in kinds.items() if (out / next(iter(copies))).is_file()]
    if not found:
        raise UserError(f"{out} holds no bench.csv and no study.csv; run mtinet bench {out} [--study] first")
    for kind in found:
        text, copies = kinds[kind]
        put_into(docs / "performance.md", kind, text(out))
        for source, target in copies.items():
            shutil.copy(out / source, docs / target)


def main() -> None:
    """Measure every axis, write table, figure and page; or put another command's table into the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder to write")
    parser.add_argument("--quick", action="store_true", help="smallest sizes: does it run?")
    parser.add_argument("--table", type=Path, help="folder of an mtinet bench whose tables go into the page")
    parser.add_argument("--block", default="bench", help="block of the page for the table of networks")
    parser.add_argument("--set", action="append", default=[], dest="assignments", metavar="NAME=VALUE")
    options = parser.parse_args()
    page = options.docs / "performance.md"
    if options.table is not None:
        put_tables(options.table, options.docs, options.block)
        return
    if options.quick and options.docs.resolve() == DOCS.resolve():
        parser.error("--quick is not for the documentation; name another folder by --docs")
    sizes = SMALLEST if options.quick else FULL
    base = resolve(sizes.preset, None, options.assignments)
    top = ceiling(sizes.side, sizes.repeats)
    rows = []
    for axis in sizes.axes:
        with tempfile.TemporaryDirectory() as place:
            rows += measure(axis, base, sizes, Path(place))
    table = pd.DataFrame(rows)
    table["share_of_ceiling"] = table["gmac_s"] * 1e9 / max(top.values())
    files.write_text(options.docs / "cost-curves.csv", table.to_csv(index=False))
    facts = {"ceiling_mac_s": top, "threads": torch.get_num_threads(), "sizes": sizes._asdict()}
    facts["set"] = options.assignments
    files.write_json(
        options.docs / "cost-curves-manifest.json", provenance.manifest(command=COMMAND, **facts)
    )
    draw(table, top, options.docs / "images" / "cost-curves.png")
    if page.is_file():
        put_into(page, "cost", cost_text(table, top))
    print(exponents(table).to_string(index=False))


if __name__ == "__main__":
    main()
