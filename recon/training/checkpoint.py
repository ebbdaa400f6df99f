"""Tensors and facts in one safetensors file, which is written whole or not at all and never runs code.

Its metadata hold the sha256 of the whole file, taken while 64 zeros stood in the place of the sum.
"""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from synth.storage.copies import local_copy
from synth.storage.place import Place
from synth.storage.whole import UncheckedWarning, refuse_shortage, write_whole

from ..errors import CheckpointError

SCHEMA = "2"  # raise it with every change of what is stored
EARLIER = "1"  # had no sum
BLANK = b"0" * 64
SUM = re.compile(rb'"sha256":"([0-9a-f]{64})"')
LIKE_PARAMETERS = ("exp_avg", "exp_avg_sq", "momentum_buffer")  # parts of optimisers' states
PICKLE = re.compile(rb"PK\x03\x04|\x80[\x02-\x05](?:\x95|(?!.{2}\0{4}))", re.DOTALL)
"""How a zip of pickles, as torch.save writes it, and a pickle begin.

A file of safetensors, which may be cut short, begins with its header's length in 8 bytes, of which the last four are 0.
"""


def save_tensors(path: Place, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Write tensors by name, and facts that JSON can hold."""
    kept: dict[str, Tensor] = {}
    places: set[int] = set()
    for name, tensor in tensors.items():
        kept[name] = tensor.detach().cpu().contiguous()
        if (place := kept[name].untyped_storage().data_ptr()) in places:  # parameters that a network uses twice
            kept[name] = kept[name].clone()  # safetensors files hold no shared memory
        places.add(place)
    data = save(kept, {"fathom": json.dumps(facts), "schema": SCHEMA, "sha256": BLANK.decode()})
    blank = SUM.search(data)
    assert blank is not None
    first, end = blank.span(1)
    write_whole(path, b"".join((data[:first], hashlib.sha256(data).hexdigest().encode(), data[end:])))


def load_tensors(path: Place, device: torch.device | str = "cpu") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_tensors` wrote; raises CheckpointError. A file of an earlier version, without a sum, is told."""
    try:
        with local_copy(path) as file:
            return _loaded(file, path, device)
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist; give the folder that `fathom train` made") from None
    except (SafetensorError, ValueError, RecursionError, IsADirectoryError) as error:
        refuse_shortage(error)
        if path.is_file() and PICKLE.match(_start_of(path)):
            raise CheckpointError(
                f"{path} is a pickle, which may run code when it is read; Fathom reads only safetensors files: "
                "give a model that `fathom train` made"
            ) from None
        if path.suffix != ".safetensors":
            raise CheckpointError(f"{path} is not a model; give the folder that `fathom train` made") from None
        raise CheckpointError(f"{path} is cut short or damaged ({error}); restore it, or train anew") from None


def _loaded(file: Path, path: Place, device: torch.device | str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `file` holds, which messages call `path`."""
    summed = _is_as_written(file)
    with safe_open(file, framework="pt", device=str(device)) as opened:
        metadata = opened.metadata() or {}
        if metadata.get("schema") not in (SCHEMA, EARLIER) or "fathom" not in metadata:
            raise CheckpointError(
                f"{path} has schema {metadata.get('schema', 'unknown')}, but this version of Fathom reads schema "
                f"{SCHEMA}; train anew, or use the version that wrote the file"
            )
        facts = json.loads(metadata["fathom"])
        if not isinstance(facts, dict) or (metadata["schema"] == SCHEMA and not summed):
            raise ValueError("its checksum or its facts are missing")
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    if not summed:
        _tell_once(f"{path}: an earlier version of Fathom wrote it without a checksum: damage would not be noticed")
    return tensors, facts


def has_sum(path: Place) -> bool:
    """Whether a file carries the checksum that earlier versions did not write."""
    with local_copy(path) as here, here.open("rb") as file:
        return SUM.search(file.read(int.from_bytes(file.read(8), "little"))) is not None


def _is_as_written(path: Path) -> bool:
    """True where a file agrees with its sum, False where it has none; raises ValueError where it differs."""
    with path.open("rb") as file:
        size = file.read(8)
        length = int.from_bytes(size, "little")
        header = file.read(length if length <= path.stat().st_size else 0)
        place = SUM.search(header)
        if place is None:
            return False
        first, end = place.span(1)
        found = hashlib.sha256(size + header[:first] + BLANK + header[end:])
        while part := file.read(2**20):
            found.update(part)
    if found.hexdigest().encode() != place[1]:
        raise ValueError("its checksum differs")
    return True


@lru_cache
def _tell_once(message: str) -> None:
    warnings.warn(message, UncheckedWarning, stacklevel=3)


def _start_of(path: Place) -> bytes:
    with local_copy(path) as here, here.open("rb") as file:
        return file.read(8)


def flat_state(optimiser: torch.optim.Optimizer) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """An optimiser's tensors by name, and the settings of its parameter groups."""
    state = optimiser.state_dict()
    tensors = {
        f"optimiser.{index}.{key}": torch.as_tensor(value)
        for index, values in state["state"].items()
        for key, value in values.items()
    }
    return tensors, state["param_groups"]


def restore_state(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor], groups: list[dict[str, Any]]) -> None:
    """Restore an optimiser from the result of `flat_state`."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimiser."):
            _, index, key = name.split(".")
            state.setdefault(int(index), {})[key] = tensor
    optimiser.load_state_dict({"state": state, "param_groups": groups})
    for parameter, values in optimiser.state.items():
        for key, value in values.items():
            if key in LIKE_PARAMETERS and value.shape != parameter.shape:
                raise ValueError(
                    f"the optimiser's {key} has the shape {tuple(value.shape)} for {tuple(parameter.shape)}"
                )
    for (
        parameter,
        values,
    ) in optimiser.state.items():  # as the parameter lies in memory: kernels for all at once need it
        for key, value in values.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                values[key] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
