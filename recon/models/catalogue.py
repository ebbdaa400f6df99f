"""Networks by their settings, and baselines by name: all are called ``model(batch) -> image``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import Field
from torch import Tensor, nn

from synth.given import refuse_other_type
from synth.settings.spec import Spec

from ..data.packed_batch import Batch
from .baselines import CgSense, Grappa, RegularisedSense, Wavelet, ZeroFilled
from .unrolled_sense import Denoiser, DenoiserSpec, UnrolledSense, UnrolledSpec
from .variational import VariationalNetwork, VariationalSpec

Reconstruction = Callable[[Batch], Tensor]
ModelSpec = Annotated[VariationalSpec | UnrolledSpec | DenoiserSpec, Field(discriminator="kind")]
_NETWORKS: dict[type[Spec], Callable[[Any, int], nn.Module]] = {
    VariationalSpec: VariationalNetwork,
    UnrolledSpec: UnrolledSense,
    DenoiserSpec: Denoiser,
}


def _positive(number: str | float) -> float:
    if not 0 < float(number) < float("inf"):
        raise ValueError
    return float(number)


def _whole(number: str | float) -> int:
    if _positive(number) != int(float(number)):
        raise ValueError
    return int(float(number))


ITERATIONS, LAM, WEIGHT = 30, 4.0, 1e-3  # of baselines that are named without a number

_BASELINES: dict[str, Callable[..., Reconstruction]] = {
    "zero-filled": ZeroFilled,
    "cg-sense": lambda iterations=ITERATIONS: CgSense(_whole(iterations)),
    "regularised-sense": lambda lam=LAM: RegularisedSense(_positive(lam)),
    "wavelet": lambda lam=WEIGHT: Wavelet(_positive(lam)),
    "grappa": Grappa,
}


def make_model(spec: Spec, seed: int = 0) -> nn.Module:
    """A network that is not trained yet.

    Parameters
    ----------
    spec
        The network's settings: UnrolledSpec, VariationalSpec or DenoiserSpec.
    seed
        The seed of the initial weights.

    Returns
    -------
    A torch module, called as ``model(batch) -> image`` [batch y x].
    """
    refuse_other_type(spec, tuple(_NETWORKS), "make_model takes settings such as UnrolledSpec()")
    return _NETWORKS[type(spec)](spec, seed)


def named_baseline(name: str) -> Reconstruction | None:
    """The baseline of a name such as ``cg-sense:10`` or ``regularised-sense:4``; None if no baseline has this name."""
    kind, colon, number = name.partition(":")
    if kind not in _BASELINES:
        return None
    if colon and kind in ("zero-filled", "grappa"):
        raise ValueError(f"{name}: {kind} takes no number")
    try:
        return _BASELINES[kind](number) if colon else _BASELINES[kind]()
    except (ValueError, TypeError):
        what = "a whole number of iterations" if kind == "cg-sense" else "a number"
        raise ValueError(f"{name}: write {what} above 0 after the colon, such as {kind}:4") from None


BASELINES = tuple(_BASELINES)
SAID = {
    "zero-filled": "zero-filled: the adjoint, over the sampled share",
    "cg-sense": f"cg-sense:N: N conjugate gradients ({ITERATIONS} without a number; "
    "noise grows with N; 5 to 15 are usual)",
    "regularised-sense": f"regularised-sense:LAM: SENSE that amplifies noise by LAM at most ({LAM:g} without a number)",
    "wavelet": f"wavelet:WEIGHT: l1-wavelet by sigpy ({WEIGHT:g} without a number)",
    "grappa": "grappa: lines between are computed from their neighbours",
}  # what each baseline is, and what its number means
