"""The record of a training: a line of JSON per step and per validation, which a resumed training continues."""

from __future__ import annotations

import io
import json
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from synth.storage.objects import ObjectPlace
from synth.storage.place import Place
from synth.storage.whole import named, read_document, write_whole


class MetricsLog:
    """Appends to ``metrics.jsonl`` of a folder; lines after step `resumed` are of a run that was lost, and are removed.

    Without a folder nothing is written: only one of several processes keeps the record. With `tensorboard`, the same
    numbers go to TensorBoard, too; raises ValueError if it is not installed.

    Each line is in the file when it is written. An object in a store cannot grow: there, `flush` writes all lines anew.
    """

    def __init__(self, folder: Place | None, resumed: int, *, tensorboard: bool = False) -> None:
        self._file: TextIO | None = None
        self._board: Any = None
        if folder is None:
            return
        self._path = path = folder / "metrics.jsonl"
        if tensorboard and isinstance(folder, ObjectPlace):
            raise ValueError(
                f"training.tensorboard = true writes files that grow, which {folder} cannot hold; leave it out, or "
                "train into a local folder"
            )
        kept = "".join(json.dumps(line) + "\n" for line in lines_of(path) if line["step"] <= resumed)
        write_whole(path, kept.encode())
        if isinstance(path, Path):
            self._file = path.open("a", buffering=1, encoding="utf-8")  # each line is there to be read at once
        else:
            self._file = io.StringIO()
            self._file.write(kept)
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                raise ValueError("training.tensorboard = true needs TensorBoard: pip install tensorboard") from None
            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=resumed + 1)

    def write(self, step: int, **numbers: float) -> None:
        """Add a line."""
        if self._file is not None:
            with self._named():
                self._file.write(json.dumps({"step": step, **numbers}) + "\n")
        if self._board is not None:
            for name, value in numbers.items():
                self._board.add_scalar(name, value, step)

    def flush(self) -> None:
        """Hand all lines to the operating system, or to the store, so that they outlive this process."""
        if isinstance(self._file, io.StringIO):
            write_whole(self._path, self._file.getvalue().encode())
        elif self._file is not None:
            with self._named():
                self._file.flush()

    def _named(self) -> AbstractContextManager[None]:
        return named(self._path) if isinstance(self._path, Path) else nullcontext()

    def __enter__(self) -> MetricsLog:
        """Return the log, which is open already."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        if self._file is not None:
            with self._named():
                self._file.close()
        if self._board is not None:
            self._board.close()


def lines_of(path: Place) -> list[dict[str, Any]]:
    """The lines of a record before the first damaged line; the last line may have been cut short."""
    found = []
    for text in read_document(path).decode(errors="replace").splitlines() if path.exists() else []:
        try:
            line = json.loads(text)
        except ValueError:
            break
        if not (isinstance(line, dict) and isinstance(line.get("step"), int)):
            break
        found.append(line)
    return found
