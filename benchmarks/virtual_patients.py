"""Every number and picture of docs/virtual-patients.md: ``python benchmarks/virtual_patients.py``.

``--only sites,evidence`` makes some of them again.  The fit to measured curves, the cost and the difficulty
have scripts of their own (``tristan_fit.py``, ``simulate_cost.py``, ``difficulty.py``); this one puts the
first two's tables into the page, where they have been made.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial

import pandas as pd
import patient_pictures as pictures
from page import DOCS, VIRTUAL_PATIENTS, markdown, put_into
from patient_curves import draw_curves
from patient_evidence import contrast_table, evidence_table, tristan_table

from mtinet.config import DEFAULT_PHASES, SIMULATIONS
from mtinet.config.simulation import SITES
from mtinet.phantom import host
from mtinet.phantom.agents import AGENTS
from mtinet.phantom.lesions import LESION_CLASSES, SUBTYPES
from mtinet.phantom.priors import PRIORS
from mtinet.phantom.tissues import T1_TABLE


# ---------------------------------------------------------------------- tables
def agents_table() -> str:
    """Dose, injection and relaxivity."""

    def pair(values: tuple[float, float]) -> str:
        return f"{values[0]:g} / {values[1]:g}"

    rows = [
        [
            agent.name,
            agent.dose_mmol_kg,
            agent.concentration_M,
            agent.injection_ml_s,
            pair(agent.r1_plasma),
            pair(agent.r1_blood),
            pair(agent.r1_hepatocyte) if agent.hepatobiliary else "",
            ", ".join(pictures.titled(phase) for phase in agent.phases),
        ]
        for agent in AGENTS.values()
    ]
    heads = ["agent", "dose (mmol/kg)", "solution (M)", "injection (mL/s)"]
    heads += [f"r1 {where}, 1.5 / 3 T (1/mM/s)" for where in ("plasma", "blood", "hepatocytes")]
    return markdown([*heads, "phases"], rows)


def t1_table() -> str:
    """Relaxation times without agent."""
    rows = [[pictures.titled(name), t1.at_1_5T_s, t1.at_3T_s, t1.source] for name, t1 in T1_TABLE.items()]
    return markdown(["tissue", "T1 at 1.5 T (s)", "T1 at 3 T (s)", "source"], rows)


def priors_table() -> str:
    """What is drawn for every patient."""
    rows = [
        [
            f"`{row.name}`",
            row.median,
            f"{row.range[0]:.3g} to {row.range[1]:.3g}",
            row.unit,
            row.kind,
            row.source,
        ]
        for row in PRIORS
    ]
    return markdown(["parameter", "median", "range", "unit", "kind", "source"], rows)


def subtypes_table() -> str:
    """Sub-forms, their rates by size and what is seen."""
    rows = []
    for label, subtypes in SUBTYPES.items():
        large, small = sum(s.rate for s in subtypes), sum(s.small_rate for s in subtypes)
        for subtype in subtypes:
            rates = f"{subtype.rate / large:.0%}", f"{subtype.small_rate / small:.0%}"
            rows.append([label, f"`{subtype.name}`", *rates, subtype.signs, subtype.source])
    heads = ["class", "sub-form", "rate from 25 mm", "rate up to 10 mm", "what is seen", "source of the rate"]
    return markdown(heads, rows)


def hosts_table() -> str:
    """How often livers are ill."""
    usual = SIMULATIONS["demo"]()
    rows = [
        [label, f"{host.CIRRHOSIS.get(label, host.OTHERWISE_CIRRHOTIC):.0%}", f"{usual.fatty_fraction:.0%}"]
        for label in (*LESION_CLASSES, "none")
    ]
    return markdown(["class", "with cirrhosis", "with a fatty liver"], rows)


def sites_table() -> str:
    """The known scanners, and which preset uses which."""
    presets = {
        name: [site.name for site in make().sites] for name, make in SIMULATIONS.items() if name != "tiny"
    }
    rows = []
    for site in SITES.values():
        late = [f"{site.times_s[phase]:g}" for phase in DEFAULT_PHASES if phase != "pre"]
        rows.append(
            [
                site.name,
                site.habits.upper(),
                site.field_T,
                f"{site.tr_ms:g} / {site.te_ms:g} / {site.flip_deg:g}",
                " x ".join(f"{step:g}" for step in site.spacing_mm),
                " x ".join(str(n) for n in site.matrix),
                site.noise,
                site.acceleration,
                site.b1,
                site.gain,
                f"{' / '.join(late)}, {site.timing}",
                ", ".join(name for name, names in presets.items() if site.name in names),
            ]
        )
    heads = ["site", "habits", "field (T)", "TR / TE / flip (ms, ms, deg)", "voxel (mm)", "matrix", "noise"]
    heads += ["acceleration", "B1 error", "gain", "times (s), timing", "presets"]
    return markdown(heads, rows)


def csv_table(name: str, script: str) -> str:
    """A table that another script has written; a sentence where it has not yet."""
    path = DOCS / name
    if not path.is_file():
        return f"Not measured yet: `python benchmarks/{script}`."
    return frame_table(pd.read_csv(path))


def frame_table(frame: pd.DataFrame) -> str:
    """A data frame as a table of the page."""
    heads = [str(column).replace("_", " ") for column in frame.columns]
    return markdown(heads, frame.astype(object).itertuples(index=False))


# ---------------------------------------------------------------------- the page
TABLES: dict[str, Callable[[], str]] = {
    "agents": agents_table,
    "t1": t1_table,
    "priors": priors_table,
    "subtypes": subtypes_table,
    "conditions": hosts_table,
    "scanners": sites_table,
    "contrasts": contrast_table,
    "evidence": evidence_table,
    "tristan": tristan_table,
    "cost": partial(csv_table, "simulate-cost.csv", "simulate_cost.py"),
}
"""What stands between the page's markers, by their name."""

PICTURES: dict[str, Callable[[], None]] = {
    **{
        f"lesions-{label}": partial(pictures.lesions, label, [subtype.name for subtype in subtypes])
        for label, subtypes in SUBTYPES.items()
    },
    "curves": draw_curves,
    "anatomy": pictures.anatomy,
    "hosts": pictures.hosts,
    "mimics": pictures.mimics,
    "sites": pictures.sites,
}
"""What makes each ``docs/images/patients-*.png``."""


def chosen(given: str | None) -> Sequence[str]:
    """Names of tables and pictures to make; ``lesions`` stands for all classes."""
    known = [*TABLES, *PICTURES]
    if given is None:
        return known
    names = [
        n for name in given.split(",") for n in ([k for k in known if k.split("-")[0] == name] or [name])
    ]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise SystemExit(f"unknown: {', '.join(unknown)}; valid: {', '.join(known)}")
    return names


def main() -> None:
    """Make tables and pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", help="names separated by commas: " + ", ".join([*TABLES, *PICTURES]))
    for name in chosen(parser.parse_args().only):
        if name in TABLES:
            put_into(VIRTUAL_PATIENTS, name, TABLES[name]())
        else:
            PICTURES[name]()


if __name__ == "__main__":
    main()
