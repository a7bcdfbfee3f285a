"""Liver lesions on multi-phase contrast-enhanced MRI: segmented, quantified and classified in one model.

>>> import mtinet
>>> predictor = mtinet.load("runs/first")  # doctest: +SKIP
>>> result = predictor("studies/0001")  # doctest: +SKIP
>>> mtinet.save(result, "out")  # doctest: +SKIP

Research use only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from mtinet.cohort import Cohort as Cohort
    from mtinet.cohort import Study as Study
    from mtinet.inference.predictor import Predictor
    from mtinet.results import Result as Result
    from mtinet.workflows.save import save as save

    __version__: str

__all__ = ["Cohort", "Result", "Study", "__version__", "load", "save"]

_PLACES = {
    "Cohort": "mtinet.cohort",
    "Study": "mtinet.cohort",
    "Result": "mtinet.results",
    "save": "mtinet.workflows.save",
}


def load(model: Path | str, device: str = "auto", backend: str = "torch") -> Predictor:
    """Load a trained model; calling it with a study gives a :class:`Result`.

    Parameters
    ----------
    model : Path or str
        Run folder, or ``reference``: the small model that comes with the package, trained on virtual patients.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:1``.
    backend : str
        Who computes the network: ``torch``, ``onnxruntime`` (extra ``onnx``) or ``openvino`` (extra ``openvino``).
    """
    from mtinet.inference.predictor import Predictor

    return Predictor.load(model, device, backend)


def __getattr__(name: str) -> Any:
    # lazily: `import mtinet` must not load torch
    if name == "__version__":
        from importlib.metadata import version

        return version("mtinet")
    if name in _PLACES:
        from importlib import import_module

        return getattr(import_module(_PLACES[name]), name)
    raise AttributeError(f"module 'mtinet' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
