"""What a worker process of a local cluster loads when it starts."""

from __future__ import annotations

import signal
from typing import Any

from . import build  # noqa: F401 (imports are part of the start, not of the first shard)


def dask_setup(worker: Any) -> None:
    """Ignore Ctrl-C, which a terminal sends to all processes: the driver ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
