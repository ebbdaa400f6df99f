"""The device that a user names."""

from __future__ import annotations

import torch


def named_device(wanted: torch.device | str | None = None) -> torch.device:
    """The device of this name, by default the GPU where there is one; raises ValueError where torch knows no such."""
    try:
        return torch.device(wanted or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError:  # lists every device that torch was ever made for
        raise ValueError(f"device {wanted}: no such device; write cpu, cuda or cuda:1") from None
