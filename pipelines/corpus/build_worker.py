"""What a worker process of a local cluster loads when it starts."""

from __future__ import annotations

import signal
from typing import Any

from . import build  # noqa: F401 (imports are part of the start, not of the first shard)


def dask_setup(worker: Any) -> None:
    """Leave Ctrl-C to the driver, which ends its workers; a terminal sends it to all of them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
