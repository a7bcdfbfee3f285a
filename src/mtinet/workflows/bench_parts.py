"""Seconds that parts of a training step take, by hooks that are there only while they are measured."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from mtinet.model.mdief import Mdief
from mtinet.training.loop import Trainer


class PartTimer:
    """Adds up the seconds of MdIEF and of the discriminator while a trainer steps.

    A module's forward pass lies between its forward hooks, its backward pass between its full backward hooks.
    Autograd runs the operations of a module one after the other there: they were recorded one after the
    other, and on one device the latest recorded runs first.  The discriminator's own update, with its
    backward pass and its optimiser, is timed as a call.

    Parameters
    ----------
    trainer : Trainer
        Set up already.
    synchronise : callable
        Waits for the device, so that the clock sees finished work.
    """

    def __init__(self, trainer: Trainer, synchronise: Callable[[], None]) -> None:
        self.trainer = trainer
        self.synchronise = synchronise
        self.seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def watching(self) -> Iterator[PartTimer]:
        """Hooks in place for the length of the block."""
        handles = [
            handle
            for module in self.trainer.network.modules()
            if isinstance(module, Mdief)
            for handle in self._watch(module, "mdief")
        ]
        adversary, timed = self.trainer.adversary, ("pairs", "update", "generator_loss")
        if adversary is not None:
            for name in timed:
                setattr(adversary, name, self._timed(getattr(adversary, name), adversary.discriminator))
        try:
            yield self
        finally:
            for handle in handles:
                handle.remove()
            if adversary is not None:
                for name in timed:
                    delattr(adversary, name)

    def _watch(self, module: nn.Module, part: str, forward: bool = True) -> list[Any]:
        begun: list[float] = []

        def start(*_: Any) -> None:
            begun.append(self._now())

        def stop(*_: Any) -> None:
            self.seconds[part] += self._now() - begun.pop()

        handles: list[Any] = [
            module.register_full_backward_pre_hook(start),
            module.register_full_backward_hook(stop),
        ]
        if forward:
            handles += [module.register_forward_pre_hook(start), module.register_forward_hook(stop)]
        return handles

    def _timed(self, function: Callable[..., Any], discriminator: nn.Module) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            begun = self._now()
            # what the network's backward pass will run of the discriminator; hooks belong to a forward pass
            # from its start, so they may go before they fire.  An update runs its backward pass itself.
            outside = function.__name__ == "generator_loss"
            handles = self._watch(discriminator, "discriminator", forward=False) if outside else []
            try:
                return function(*args)
            finally:
                for handle in handles:
                    handle.remove()
                self.seconds["discriminator"] += self._now() - begun

        return call

    def _now(self) -> float:
        self.synchronise()
        return time.perf_counter()
