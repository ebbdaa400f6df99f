"""The record of a training: a line of JSON per step and per validation, which a resumed training continues."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from synth.storage.whole import named, write_whole


class MetricsLog:
    """Appends to ``metrics.jsonl`` of a folder; lines after step `resumed` are of a run that was lost, and are removed.

    Without a folder nothing is written: only one of several processes keeps the record. With `tensorboard`, the same
    numbers go to TensorBoard, too; raises ValueError if it is not installed.
    """

    def __init__(self, folder: Path | None, resumed: int, *, tensorboard: bool = False) -> None:
        self._file: TextIO | None = None
        self._board: Any = None
        if folder is None:
            return
        self._path = path = folder / "metrics.jsonl"
        kept = [line for line in lines_of(path) if line["step"] <= resumed]
        write_whole(path, "".join(json.dumps(line) + "\n" for line in kept).encode())
        self._file = path.open("a", encoding="utf-8")
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                raise ValueError("training.tensorboard = true needs TensorBoard: pip install tensorboard") from None
            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=resumed + 1)

    def write(self, step: int, **numbers: float) -> None:
        """Add a line."""
        if self._file is not None:
            with named(self._path):
                self._file.write(json.dumps({"step": step, **numbers}) + "\n")
        if self._board is not None:
            for name, value in numbers.items():
                self._board.add_scalar(name, value, step)

    def flush(self) -> None:
        """Hand all lines to the operating system, so that they outlive this process."""
        if self._file is not None:
            with named(self._path):
                self._file.flush()

    def __enter__(self) -> MetricsLog:
        """Return the log, which is open already."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        if self._file is not None:
            with named(self._path):
                self._file.close()
        if self._board is not None:
            self._board.close()


def lines_of(path: Path) -> list[dict[str, Any]]:
    """The lines of a record before the first damaged line; the last line may have been cut short."""
    found = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []:
        try:
            line = json.loads(text)
        except ValueError:
            break
        if not (isinstance(line, dict) and isinstance(line.get("step"), int)):
            break
        found.append(line)
    return found
