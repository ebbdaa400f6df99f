"""Where a training is, apart from its tensors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


@dataclass
class State:
    """The state of a training, apart from its tensors."""

    step: int = 0
    seconds: float = 0.0
    best: float | None = None  # loss on the validation corpora
    waited: int = 0  # validations since the best one

    @classmethod
    def of(cls, stored: dict[str, Any], steps: int, epoch_steps: int, loader: dict[str, Any]) -> State:
        """The state in a checkpoint of a training of `steps` steps; raises TypeError or ValueError for nonsense."""
        state = cls(**stored)
        if type(state.step) is not int or not 0 <= state.step <= steps:
            raise ValueError(f"it says step {state.step!r} of {steps}")
        if state.step != loader["epoch"] * epoch_steps + loader["given"]:
            raise ValueError(f"it says step {state.step}, but epoch {loader['epoch']}, batch {loader['given']}")
        if type(state.waited) is not int or not 0 <= state.waited <= state.step:
            raise ValueError(f"it says {state.waited!r} validations without improvement")
        for name, value in (("seconds", state.seconds), ("best", state.best or 0.0)):
            if type(value) not in (int, float) or not math.isfinite(value) or state.seconds < 0:
                raise ValueError(f"it says {name} = {value!r}")
        return state
