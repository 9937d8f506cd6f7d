"""Random completions, which a seed reproduces."""

from __future__ import annotations

import errno
import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .request import Request
    from .ring import ScriptedRing

__all__ = ["RandomScheduler"]


class RandomScheduler:
    """Completes running requests at random; the same seed gives the same run.

    Args:
        seed: of everything random.
        answer: the completion of a request, as (res, flags) or as received bytes; None: not yet.
        progress: the chance of each running request to complete at an enter.
        trouble: the chance that the following enter fails or is short, and of each other failure.
    """

    def __init__(
        self,
        seed: int,
        answer: Callable[[Request, random.Random], tuple[int, int] | bytes | None],
        *,
        progress: float = 0.3,
        trouble: float = 0.1,
    ) -> None:
        self.rng: random.Random = random.Random(seed)
        self.answer: Callable[[Request, random.Random], tuple[int, int] | bytes | None] = answer
        self.progress: float = progress
        self.trouble: float = trouble

    def __call__(self, ring: ScriptedRing) -> None:
        rng = self.rng
        ring.target_first = rng.random() < 0.5
        for request in self._chosen(ring.running):
            answer = self.answer(request, rng)
            if isinstance(answer, bytes):
                ring.complete(request, data=answer, posted=rng.random() < 0.5)
            elif answer is not None:
                ring.complete(request, *answer, posted=rng.random() < 0.5)
        ring.shuffle(rng)
        if rng.random() < self.trouble:
            ring.enter_results.append(rng.choice((-errno.EINTR, -errno.EAGAIN, -errno.EBUSY, 0, 1)))

    def _chosen(self, running: Iterable[Request]) -> list[Request]:
        chosen = []
        for request in running:
            if request.truthful:
                continue
            interrupted = request.interrupted and request.on_cancel != "cancel"
            if interrupted or self.rng.random() < self.progress:
                chosen.append(request)
            elif self.rng.random() < self.trouble:
                request.on_cancel = self.rng.choice(("cancel", "running", "uncancellable"))
        self.rng.shuffle(chosen)
        return chosen
