"""Fine-tuning: which weights of another run a training begins with, and whom those have seen."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import torch

from mtinet.cohort import Cohort
from mtinet.data.prepared import PreparedStudy
from mtinet.model.build import class_tensors, enhancement_tensors, phase_tensors
from mtinet.model.network import MultiTaskNetwork
from mtinet.results import Finding
from mtinet.runs import Run, RunError
from mtinet.workflows.unseen import seen_in

_ENCODERS = "encoder.encoders."


def start_of(run: Run) -> Run:
    """The run whose weights a fine-tuned one begins with.

    Raises
    ------
    RunError
        It is not where it was.
    """
    try:
        return Run.open(Path(run.manifest["init"]))
    except RunError as error:
        raise RunError(
            f"{run.path} has no checkpoint, so it begins again with the weights of its start run: {error}; put that "
            "back, or train a new run"
        ) from None


def refuse_start_that_saw(run: Run, cohort: Cohort, held_out: Sequence[PreparedStudy]) -> None:
    """A fine-tuned network knows what its start run learned from, and that one's start.

    Raises
    ------
    RunError
        One of the studies that the run holds out trained one of them.
    """
    inherited = run.document("inherited") if run.has_document("inherited") else []
    seen = sorted(seen_in(inherited, cohort, held_out))
    if seen:
        raise RunError(
            f"{run.manifest['init']} trained on {len(seen)} studies that this run holds out "
            f"({', '.join(seen[:5])}{' ...' if len(seen) > 5 else ''}); start from a run with the same folds, or "
            "from one that saw none of these patients (they are known by their images, and by their ids in "
            "a cohort of the same name: if these are other people, give the cohort a name of its own in cohort.yaml)"
        )


def initialise(network: MultiTaskNetwork, source: Run, classes: Sequence[str]) -> list[Finding]:
    """Take every tensor of another run's network that fits; what does not fit stays fresh and is listed.

    The same classes in another order are taken by name.  Weights of other classes, those that belong to certain
    phases where the phases or their order are others, and those that mean something else (an enhancement that is
    added to the signal read, an encoder of one phase for all) do not fit.  A shared encoder becomes that of each phase.

    Parameters
    ----------
    network : MultiTaskNetwork
        It is changed.
    source : Run
    classes : sequence of str
        The network's, in the order of its outputs.

    Raises
    ------
    RunError
        Nothing fits.
    """
    tensors, _ = source.load_model()
    own = network.state_dict()
    there, here = source.config, network.config
    if there.encoder.shared and not here.encoder.shared:
        tensors = _for_each_phase(tensors, len(here.phases))
    fitting = {name: t for name, t in tensors.items() if name in own and own[name].shape == t.shape}
    reasons = ["tensors of another shape"] if len(fitting) < len(own) else []
    theirs, ours = source.classes, tuple(classes)
    if theirs != ours and set(theirs) == set(ours):
        order = torch.tensor([theirs.index(name) for name in ours])
        for name, axis in class_tensors(network.config, len(ours)).items():
            if name in fitting:
                first = fitting[name].shape[axis] - len(ours)
                rows = torch.cat([torch.arange(first), first + order])
                fitting[name] = fitting[name].index_select(axis, rows)
    elif theirs != ours:
        fitting = _without(fitting, class_tensors(network.config, len(ours)))
        reasons.append(f"classes {', '.join(theirs)} there and {', '.join(ours)} here")
    if there.phases != here.phases:
        tied = phase_tensors(network.config, len(ours))
        if there.encoder.shared:  # one encoder for all phases knows none of them
            tied = {name for name in tied if not name.startswith(_ENCODERS)}
        fitting = _without(fitting, tied)
        reasons.append(f"phases {', '.join(there.phases)} there and {', '.join(here.phases)} here")
    if there.head.readout != here.head.readout:
        fitting = _without(fitting, enhancement_tensors(network.config, len(ours)))
        reasons.append(f"head.readout={there.head.readout} there and {here.head.readout} here")
    if here.encoder.shared and not there.encoder.shared:
        fitting = {name: tensor for name, tensor in fitting.items() if not name.startswith(_ENCODERS)}
        reasons.append("an encoder for each phase there and one for all here")
    if not fitting:
        raise RunError(
            f"no weight of {source.path} fits this network; train with the settings of that run "
            "(mtinet config diff shows the differences)"
        )
    network.load_state_dict({**own, **fitting})
    fresh = sorted(set(own) - set(fitting))
    if not fresh:
        return []
    # what is bound to classes or phases is fresh where these are others; the rest is of another network
    other_network = not {*class_tensors(here, len(ours)), *phase_tensors(here, len(ours))}.issuperset(fresh)
    return [
        Finding(
            "init-partial",
            "train",
            "warning" if other_network else "note",
            f"{len(fresh)} of {len(own)} tensors do not fit those of {source.path.name} and start fresh "
            f"({'; '.join(reasons)}): {', '.join(fresh[:5])}{' ...' if len(fresh) > 5 else ''}",
            "Train with the network of that run: give its config.yaml as --config (mtinet config diff shows the "
            "differences)."
            if other_network
            else "Nothing to do if classes or phases differ by intent.",
        )
    ]


def _for_each_phase(tensors: Mapping[str, torch.Tensor], phases: int) -> dict[str, torch.Tensor]:
    """The tensors with a copy of the shared encoder for each phase."""
    shared = {
        name.removeprefix(f"{_ENCODERS}0."): t for name, t in tensors.items() if name.startswith(_ENCODERS)
    }
    return {**tensors, **{f"{_ENCODERS}{n}.{rest}": t for n in range(phases) for rest, t in shared.items()}}


def _without(tensors: Mapping[str, torch.Tensor], names: Collection[str]) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in tensors.items() if name not in names}
