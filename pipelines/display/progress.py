"""Progress on stderr: a bar on a terminal, and a line every few seconds elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from .terminal import counted, say, shown

SECONDS_BETWEEN_LINES = 5.0
SHOWN_LOSSES = 50


class Meter:
    """Counts `total` pairs, or steps, and shows how many per second, and the time left."""

    def __init__(self, what: str, total: int, done: int = 0, unit: str = "pairs") -> None:
        self._what, self._total, self._done, self._skipped, self._unit = shown(what), total, done, done, unit
        self._start = self._told = time.perf_counter()
        self._bar: Progress | None = None

    def __enter__(self) -> Meter:
        """Start counting."""
        console = Console(stderr=True)
        if console.is_terminal:
            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
            )
            self._bar = Progress(*columns, TimeRemainingColumn(), console=console)
            self._bar.add_task(self._what, total=self._total, completed=self._done, rate="")
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop showing."""
        if self._bar is not None:
            self._bar.stop()

    def restart(self, since: float | None = None) -> None:
        """Start the clock again, now or `since`: what came before, such as the start of workers, does not count."""
        self._start = self._told = time.perf_counter() if since is None else since

    @property
    def seconds(self) -> float:
        """Time since the start."""
        return time.perf_counter() - self._start

    @property
    def rate(self) -> float:
        """Pairs per second since the start."""
        return (self._done - self._skipped) / max(self.seconds, 1e-9)

    def advance(self, count: int, note: str = "") -> None:
        """Count `count` more, and show a note."""
        self._done += count
        if self._bar is not None:
            rate = f"{self.rate:.1f} {self._unit}/s{note}"
            self._bar.update(self._bar.task_ids[0], completed=self._done, rate=rate)
        elif time.perf_counter() - self._told > SECONDS_BETWEEN_LINES:
            self._told = time.perf_counter()
            left = (self._total - self._done) / max(self.rate, 1e-9)
            left_told = f", {left:.0f} s left" if self._done > self._skipped else ""
            line = f"{self._what}: {self._done} of {self._total} {self._unit}, {self.rate:.1f}/s{left_told}{note}"
            say(line, err=True)


@contextlib.contextmanager
def steps_shown(name: str) -> Iterator[Callable[[int, int, float], None]]:
    """Yield a function that shows a training's progress; call it after each step with step, steps and loss.

    The loss that is shown is the mean of the last `SHOWN_LOSSES` steps, since one batch's says little. The first step's
    time counts, so that the time left is told from then on.
    """
    meters: list[Meter] = []
    losses: deque[float] = deque(maxlen=SHOWN_LOSSES)
    entered = time.perf_counter()

    def tell(step: int, steps: int, loss: float) -> None:
        if not meters:
            meters.append(Meter(f"train {name}", steps, done=step - 1, unit="steps").__enter__())
            meters[0].restart(entered)
        losses.append(loss)
        meters[0].advance(1, f", loss {sum(losses) / len(losses):.4g} (mean of {counted(len(losses), 'step')})")

    try:
        yield tell
    finally:
        for meter in meters:
            meter.__exit__(None, None, None)
