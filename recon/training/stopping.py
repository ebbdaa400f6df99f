"""A training that is asked to stop, by Ctrl-C or SIGTERM, ends its step and saves before it stops."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopping:
    """Takes SIGINT and SIGTERM while it is entered; the second signal stops at once.

    It takes none with `active` false, or outside of the main thread, where Python allows no handler.
    """

    def __init__(self, *, active: bool) -> None:
        self._active = active and threading.current_thread() is threading.main_thread()
        self._before: dict[signal.Signals, Any] = {}
        self.asked: signal.Signals | None = None

    def __enter__(self) -> Stopping:
        """Take the signals, but not one that the caller ignores."""
        for number in SIGNALS if self._active else ():
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._take)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the signals back."""
        self._give_back()

    def _give_back(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _take(self, number: int, frame: FrameType | None) -> None:
        self.asked = signal.Signals(number)
        self._give_back()

    def stop(self) -> None:
        """Stop as the signal would have: raise KeyboardInterrupt for SIGINT, SystemExit for SIGTERM."""
        if self.asked is signal.SIGINT:
            raise KeyboardInterrupt
        sys.exit(128 + signal.SIGTERM)
