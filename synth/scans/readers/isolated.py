"""Reads, in a separate process, data that can crash the library that reads them: see `isolated_process`."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import ScanError

SECONDS = 60.0  # and one second more for every 10 MB
PROGRAM = Path(__file__).with_name("isolated_process.py")


def read_apart(path: Path, kind: str, *arguments: str) -> dict[str, NDArray[np.generic]]:
    """Arrays that `isolated_process` writes; raises ScanError where the file is damaged."""
    command = [sys.executable, str(PROGRAM), str(path), kind, *arguments]
    limit = SECONDS + path.stat().st_size / 1e7
    try:
        done = subprocess.run(command, capture_output=True, timeout=limit, check=False, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        raise ScanError(f"{path}: reading it takes too long; is it damaged?") from None
    if done.returncode != 0:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or [f"signal {-done.returncode}"]
        raise ScanError(f"{path}: cannot be read ({last[0][:200]}); copy the file anew")
    with np.load(io.BytesIO(done.stdout), allow_pickle=False) as found:
        return dict(found)
