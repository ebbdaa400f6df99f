"""A reconstruction near the measured k-space, as a linear map: J n, the image's change, and the transpose J^T v.

J is the derivative of the image in k-space. Both are real-linear maps of complex arrays, with the product Re <a, b>:
Re <v, J n> = Re <J^T v, n>. J^T v is one backward pass. J n is the derivative of J^T v in v, in the direction n
("double backward"): J^T v is linear in v, so that its graph is made once and each product is one more backward pass.
Where an operator cannot be differentiated twice, J n is computed in forward mode, and where that fails too, by the
central difference (f(y + h n) - f(y - h n)) / (2 h), with the h at which h n is as large as the noise.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from ..data.packed_batch import Batch
from ..models.called import image_by
from ..models.catalogue import Reconstruction
from ..models.cuda_graphs import without_graphs

How = Literal["double backward", "forward mode", "differences"]
Product = Callable[[Tensor], Tensor]
MOST = 0.5  # relative difference between J n and the change that noise makes: derivatives with more miss a part of it


@dataclass(frozen=True, eq=False)
class Linearised:
    """The image f(y) [batch y x], and products with J.

    ``moved`` gives f(y + n) [batch y x] for a change n [batch coil y x] of k-space, without gradients. ``push`` gives
    J n [batch y x] of k-space [batch coil y x]; ``pull`` gives J^T v [batch coil y x] of images, or is None where the
    reconstruction has no derivative. ``deviation`` [batch] is the norm of J n less the half difference of f(y + n) and
    f(y - n), over the norm of J n, for one draw n of the noise: how far f is from linear over the noise at hand.
    It is 0 where J n is such a difference.
    """

    image: Tensor
    moved: Product
    push: Product
    pull: Product | None
    how: How
    deviation: Tensor


@contextmanager
def linearised(model: Reconstruction, batch: Batch, noise: Tensor) -> Iterator[Linearised]:
    """The reconstruction near a batch's k-space, within a ``with`` block; `noise` [batch coil y x] is a draw of it.

    Derivatives that differ from the change that `noise` makes by more than `MOST` are not used: then a part of the
    reconstruction was computed outside of torch, or detached.
    """
    with torch.no_grad():
        moved = [_at(model, batch, batch["masked_kspace"] + sign * noise) for sign in (1, -1)]
    difference = (moved[0] - moved[1]) / 2
    with _still(model):
        measured = batch["masked_kspace"].detach().clone().requires_grad_()
        image = _with_graph(model, batch, measured)
        if image is not None and image.requires_grad:
            found = _differentiated(model, batch, measured, image, noise, difference)
            if found is not None:
                yield found
                return
    with torch.no_grad():
        still = _at(model, batch, batch["masked_kspace"])
    yield _by_differences(model, batch, still, noise)


def _with_graph(model: Reconstruction, batch: Batch, measured: Tensor) -> Tensor | None:
    """The image with its graph; None where the model fails with gradients, which it does not without."""
    with torch.enable_grad(), without_graphs():
        try:
            return _at(model, batch, measured)
        except Exception:  # whatever numpy, or a user's code, says to a tensor that requires gradients
            return None


def _differentiated(
    model: Reconstruction, batch: Batch, measured: Tensor, image: Tensor, noise: Tensor, difference: Tensor
) -> Linearised | None:
    """With the first way of J n that works; None where J misses a part of the reconstruction."""

    def pull(v: Tensor) -> Tensor:
        (found,) = torch.autograd.grad(image, measured, v, retain_graph=True, materialize_grads=True)
        return found

    by_differences = _by_differences(model, batch, image.detach(), noise)
    ways: list[tuple[How, Callable[[], Product]]] = [
        ("double backward", lambda: _double_backward(measured, image)),
        ("forward mode", lambda: _forward_mode(model, batch)),
        ("differences", lambda: by_differences.push),
    ]
    for how, make in ways:
        try:
            push = make()
            changed = push(noise)
        except (RuntimeError, NotImplementedError):  # an operator without this derivative
            continue
        if how == "differences" and not _adjoint(pull, difference, noise):
            return None
        deviation = _norm(changed - difference) / _norm(changed).clamp_min(1e-30)
        if bool((deviation <= MOST).all()):
            return Linearised(image.detach(), by_differences.moved, push, pull, how, deviation)
    return None


def _double_backward(measured: Tensor, image: Tensor) -> Product:
    with torch.enable_grad(), without_graphs():
        v = torch.zeros_like(image).requires_grad_()
        (pulled,) = torch.autograd.grad(image, measured, v, create_graph=True)

    def push(n: Tensor) -> Tensor:
        (found,) = torch.autograd.grad(pulled, v, n, retain_graph=True)
        return found

    return push


def _forward_mode(model: Reconstruction, batch: Batch) -> Product:
    def push(n: Tensor) -> Tensor:
        with torch.no_grad(), without_graphs(), forward_ad.dual_level(), warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of what torch itself uses at the first dual tensor
            made = _at(model, batch, forward_ad.make_dual(batch["masked_kspace"], n))
            tangent = forward_ad.unpack_dual(made).tangent
        if tangent is None:
            raise NotImplementedError("the image does not depend on k-space in forward mode")
        return tangent

    return push


def _by_differences(model: Reconstruction, batch: Batch, image: Tensor, noise: Tensor) -> Linearised:
    size = _norm(noise)

    def moved(n: Tensor) -> Tensor:
        with torch.no_grad():
            return _at(model, batch, batch["masked_kspace"] + n)

    def push(n: Tensor) -> Tensor:
        step = (size / _norm(n).clamp_min(1e-30))[:, None, None]
        return (moved(step[..., None] * n) - moved(-step[..., None] * n)) / (2 * step)

    return Linearised(image, moved, push, None, "differences", torch.zeros_like(size))


def _adjoint(pull: Product, difference: Tensor, noise: Tensor) -> bool:
    """Whether J^T belongs to the difference d that the noise n made: <J^T d, n> = <d, d>, up to `MOST`."""
    power = _norm(difference) ** 2
    found = (pull(difference).conj() * noise).real.flatten(1).sum(1)
    return bool(((found - power).abs() <= MOST * power).all())


def _at(model: Reconstruction, batch: Batch, kspace: Tensor) -> Tensor:
    return image_by(model, {**batch, "masked_kspace": kspace})


def _norm(tensor: Tensor) -> Tensor:
    return torch.linalg.vector_norm(tensor.flatten(1), dim=1)


@contextmanager
def _still(model: Reconstruction) -> Iterator[None]:
    """A network's parameters without gradients, which are not needed here."""
    network = getattr(model, "made", model)  # a user's own, where it is one
    learnt = [p for p in network.parameters() if p.requires_grad] if isinstance(network, nn.Module) else []
    for parameter in learnt:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learnt:
            parameter.requires_grad_(True)
