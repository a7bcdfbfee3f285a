"""Names of phases as data sets write them."""

from __future__ import annotations

import re

from mtinet.config import Phase

_KNOWN: dict[Phase, tuple[str, ...]] = {
    "pre": ("pre", "c-pre", "precontrast", "pre-contrast", "native", "unenhanced", "non-contrast", "t1-pre"),
    "arterial": ("arterial", "art", "c+a", "ap", "arterial-phase", "early-arterial", "t1-art"),
    "arterial_late": ("arterial-late", "late-arterial", "lap"),
    "portal_venous": ("portal-venous", "portal", "pv", "pvp", "venous", "c+v", "ven", "portovenous", "t1-pv"),
    "transitional": ("transitional", "tp", "transitional-phase"),
    "delayed": ("delayed", "delay", "del", "c+delay", "equilibrium", "dp", "delayed-phase", "t1-del"),
    "hepatobiliary": ("hepatobiliary", "hbp", "hb", "hepatobiliary-phase", "t1-hbp"),
}
_BY_NAME = {name: phase for phase, written in _KNOWN.items() for name in written}


def guess_phase(name: str) -> Phase | None:
    """The phase that a name stands for in common use; None where it is not one of the known words.

    Only whole names are known: ``venous`` is, ``venous 2`` is not.  Hepatobiliary names are never delayed.
    """
    return _BY_NAME.get(re.sub(r"[\s_-]+", "-", name.strip().lower()))
