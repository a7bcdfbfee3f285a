"""Where a training step goes, by kind of operation: ``python benchmarks/step_profile.py OUT``.

torch's profiler over steps of MTI-Net of the preset ``small`` and of the BasicUNet of the same first width, every
term of the objective taking part, on the patients of ``mtinet bench``.  Writes the shares into
``docs/performance.md``, together with the milliseconds, which the profiler makes a little larger.  ``--set`` changes
the preset.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import torch
from page import DOCS, markdown, put_into
from torch.profiler import ProfilerActivity, profile

from mtinet.config import resolve
from mtinet.workflows.bench_cases import cases, same_width_basic_unet, virtual_patients
from mtinet.workflows.bench_measures import Contender

WARM_UP, STEPS = 4, 8
KINDS = {
    "convolution": ("conv", "mkldnn"),
    "normalisation": ("batch_norm", "group_norm", "layer_norm"),
    "pooling, upsampling": ("pool", "upsample", "grid"),
    "matrix product": ("mm", "bmm", "matmul", "dot", "linear"),
    "logarithm": ("log",),
    "optimiser": ("adam", "foreach", "lerp_", "clip", "optimizer"),
    "copy, fill, concatenate": ("copy", "cat", "fill", "zero", "empty", "clone", "index", "stack"),
}
"""Kinds of operations by parts of their names, the first that fits; the others are arithmetic pixel by pixel."""


def kind_of(name: str) -> str:
    """The kind of an operation as torch names it."""
    plain = name.lower()
    return next((kind for kind, parts in KINDS.items() if any(p in plain for p in parts)), "elementwise")


def shares(contender: Contender) -> pd.Series[float]:
    """Milliseconds of a step by kind of operation."""
    contender.train(WARM_UP)
    with profile(activities=[ProfilerActivity.CPU]) as found:
        contender.train(STEPS)
    rows = [(kind_of(e.key), e.self_cpu_time_total / 1000 / STEPS) for e in found.key_averages()]
    return pd.DataFrame(rows, columns=["kind", "ms"]).groupby("kind")["ms"].sum()


def table(names: Iterable[str], out: Path, assignments: Sequence[str]) -> pd.DataFrame:
    """Milliseconds by kind, a column a network."""
    config = resolve("small", None, assignments)
    patients = virtual_patients(out, config)
    wanted = {case.name: case for case in cases(config, ["mtinet", "basic_unet"])}
    columns = {}
    with TemporaryDirectory(prefix="mtinet-profile-") as place:
        for name in names:
            columns[name] = shares(Contender(wanted[name], patients, Path(place), "cpu", WARM_UP + STEPS + 1))
    return pd.DataFrame(columns).fillna(0.0).sort_values("mtinet", ascending=False)


def main(arguments: Sequence[str] | None = None) -> None:
    """Profile, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder for the patients")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder to write")
    parser.add_argument("--set", action="append", default=[], dest="assignments", metavar="NAME=VALUE")
    options = parser.parse_args(arguments)
    names = ["mtinet", same_width_basic_unet(resolve("small", None, options.assignments))]
    found = table(names, options.out, options.assignments)
    print(found.round(1).to_string())
    total = found.sum()
    heads = ["kind of operation", *(f"{name} (ms)" for name in names), *(f"{name} (%)" for name in names)]
    rows = [
        (
            kind,
            *(f"{found.loc[kind, n]:.0f}" for n in names),
            *(f"{100 * found.loc[kind, n] / total[n]:.0f}" for n in names),
        )
        for kind in found.index
    ]
    rows.append(("all", *(f"{total[name]:.0f}" for name in names), *("100" for _ in names)))
    if (options.docs / "performance.md").is_file():
        threads = f"{torch.get_num_threads()} threads, torch {torch.__version__}.\n\n"
        put_into(options.docs / "performance.md", "profile", threads + markdown(heads, rows))


if __name__ == "__main__":
    main()
