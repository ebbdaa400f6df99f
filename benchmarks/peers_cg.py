"""Conjugate gradients of peers for SENSE: k-space and maps [coil y x], a mask [y x], on any device; images [y x]."""

from __future__ import annotations

import torch
import torchvision_standin


def mrpro(kspace, coil_maps, mask, iterations):
    """mrpro's operators and its solver."""
    torchvision_standin.install()
    from mrpro.algorithms.optimizers import cg
    from mrpro.operators import FastFourierOp, SensitivityOp

    coils, fourier = SensitivityOp(coil_maps[None, :, None]), FastFourierOp(dim=(-2, -1))

    def normal(x):
        return coils.adjoint(*fourier.adjoint(fourier(*coils(x))[0] * mask))

    (right,) = coils.adjoint(*fourier.adjoint(kspace[None, :, None]))
    with torch.no_grad():
        (image,) = cg(normal, right, max_iterations=iterations, tolerance=0.0)
    return image.squeeze()


def deepinv(kspace, coil_maps, mask, iterations):
    """deepinv's physics and its solver."""
    torchvision_standin.install()
    from deepinv.optim.linear import conjugate_gradient
    from deepinv.physics import MultiCoilMRI

    physics = MultiCoilMRI(mask=mask, coil_maps=coil_maps[None], img_size=mask.shape, device=mask.device)
    measured = torch.view_as_real(kspace).movedim(-1, 0)[None]
    with torch.no_grad():
        right = physics.A_adjoint(measured)
        image = conjugate_gradient(lambda x: physics.A_adjoint(physics.A(x)), right, max_iter=iterations, tol=0.0)
    return torch.complex(image[0, 0], image[0, 1])


WAYS = {"mrpro": mrpro, "deepinv": deepinv}
