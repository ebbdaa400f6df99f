"""The optimiser of a training."""

from __future__ import annotations

import torch
from torch import nn

from ..models.variational import VariationalNetwork
from .ipalm import Ipalm
from .settings import AdamSpec, Training

LAM_LIKE = ("lam", "powers", "thresholds", "memory")  # parameters of our networks whose names end so learn at rate_lam


def optimiser_of(model: nn.Module, settings: Training) -> torch.optim.Optimizer:
    """Adam, with the rates of its groups of parameters, or iPALM; a network of a user's own has one group."""
    how = settings.optimiser
    if isinstance(how, AdamSpec):
        ours = settings.model is not None
        learnt = [(name, p) for name, p in model.named_parameters() if p.requires_grad or ours]
        lam = [p for name, p in learnt if ours and name.endswith(LAM_LIKE)]
        others = [p for name, p in learnt if not (ours and name.endswith(LAM_LIKE))]
        groups = [{"params": others, "lr": how.rate}, {"params": lam, "lr": how.rate_lam}]
        on_gpu = all(p.is_cuda for p in model.parameters())
        return torch.optim.Adam([g for g in groups if g["params"]], fused=on_gpu)  # one kernel for all parameters
    assert isinstance(model, VariationalNetwork)  # `Training` has checked it
    return Ipalm(model.blocks(), model.project, how.momentum, how.lipschitz)
