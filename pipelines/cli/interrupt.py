"""What a command does at Ctrl-C."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

STOPPED = 130  # the exit status after Ctrl-C, as shells have it: 128 + SIGINT


def stopped() -> NoReturn:
    """End at once after Ctrl-C: a cluster that is half started would complain from its own exit handlers."""
    sys.stdout.flush()
    sys.stderr.write("stopped; run the same command again to go on\n")
    sys.stderr.flush()
    os._exit(STOPPED)
