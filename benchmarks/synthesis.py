"""Pairs per second of one core, side by side: Fathom, what a user composes from other packages, and the floor.

15 coils, 320x368, noise on all of k-space, R = 4 with 24 reference lines. Two chains, the same for all:

- clean reference: coil images, FFT, noise on all of k-space, mask
- noisy reference: and the coil-combined image of the noisy, fully sampled k-space (one more inverse FFT for a peer)

Peers start from a complex image in memory and know sigma. Fathom's time is all of `pair_from_image`: crop, phase, mask,
sigma from the SNR, measured SNRs. The floor is one scipy FFT, one complex multiply, one add, one draw of complex
normals (Fathom's own, the fastest here).
"""

from __future__ import annotations

import statistics
import time

import numpy as np
import scipy.fft
import torch
import torchvision_standin

from synth.pair import pair_from_image
from synth.recipe import parse_recipe
from synth.rng import rng
from synth.sources.photos import Photo
from synth.stages.noise import complex_noise

COILS, SHAPE, SIGMA = 15, (320, 368), 0.005


def recipe(reference):
    return parse_recipe(
        {
            "name": "bench",
            "source": {"kind": "skimage"},
            "target": {"matrix": list(SHAPE), "reference": reference},
            "phase": {"kind": "sinusoidal"},
            "coils": {"kind": "loops", "count": COILS, "sets": 4},
            "noise": {"snr": [20, 80]},
            "sampling": {"kind": "regular", "acceleration": 4, "reference_lines": 24},
        },
        "bench",
    )


def photo():
    return Photo(rng(0, "photo").random((321, 481)).astype(np.float32), "0")


class Problem:
    """The same image, maps and mask for every peer."""

    def __init__(self):
        made = recipe("clean")
        pair = pair_from_image(made, photo(), 0)
        from synth.stages.coil_cache import map_cache

        self.maps = map_cache.get(made.coils, made.seed, pair.maps_index, SHAPE).copy()
        self.image, self.mask = pair.target, pair.mask.sampled
        self.t_image, self.t_maps = torch.from_numpy(self.image), torch.from_numpy(self.maps)
        self.t_mask = torch.from_numpy(self.mask)


def fathom(problem, reference):
    made, source = recipe(reference), photo()
    counter = iter(range(10**9))
    return lambda: pair_from_image(made, source, next(counter))


def floor(problem, reference):
    draw = rng(0, "floor")

    def run():
        coils = problem.image * problem.maps
        return scipy.fft.fft2(coils, norm="ortho") + complex_noise(coils.shape, SIGMA, draw)

    return run


def sigpy(problem, reference):
    from sigpy import ifft
    from sigpy.mri.linop import Sense

    operator, draw = Sense(problem.maps), np.random.default_rng(0)

    def run():
        kspace = operator * problem.image
        noise = draw.standard_normal((*kspace.shape, 2), dtype=np.float32) * np.float32(SIGMA)
        kspace = kspace + noise.view(np.complex64)[..., 0]
        target = (problem.maps.conj() * ifft(kspace, axes=(-2, -1))).sum(0) if reference == "noisy" else problem.image
        return kspace * problem.mask, target

    return run


def mrpro(problem, reference):
    torchvision_standin.install()
    from mrpro.operators import FastFourierOp, SensitivityOp

    fourier = FastFourierOp(dim=(-2, -1))
    coils = SensitivityOp(problem.t_maps[:, None])  # coils z y x

    def run():
        (images,) = coils(problem.t_image[None, None])
        (kspace,) = fourier(images)
        kspace = kspace + (2**0.5 * SIGMA) * torch.randn_like(kspace)
        target = coils.adjoint(*fourier.adjoint(kspace)) if reference == "noisy" else problem.t_image
        return kspace * problem.t_mask, target

    return run


def fastmri(problem, reference):
    import fastmri as package

    maps, image = torch.view_as_real(problem.t_maps), torch.view_as_real(problem.t_image)
    mask = problem.t_mask[None, None, :, None]

    def run():
        kspace = package.fft2c(package.complex_mul(image[None], maps))
        kspace = kspace + SIGMA * torch.randn_like(kspace)
        target = image
        if reference == "noisy":
            target = package.complex_mul(package.ifft2c(kspace), package.complex_conj(maps)).sum(0)
        return kspace * mask + 0.0, target

    return run


def monai(problem, reference):
    from monai.networks.blocks.fft_utils_t import fftn_centered_t, ifftn_centered_t

    maps, image = torch.view_as_real(problem.t_maps), torch.view_as_real(problem.t_image)
    mask = problem.t_mask[None, None, :, None]

    def multiply(a, b):
        return torch.view_as_real(torch.view_as_complex(a) * torch.view_as_complex(b))

    def run():
        kspace = fftn_centered_t(multiply(image[None], maps), spatial_dims=2, is_complex=True)
        kspace = kspace + SIGMA * torch.randn_like(kspace)
        target = image
        if reference == "noisy":
            images = ifftn_centered_t(kspace, spatial_dims=2, is_complex=True)
            target = multiply(images, torch.view_as_real(problem.t_maps.conj().resolve_conj())).sum(0)
        return kspace * mask, target

    return run


def deepinv(problem, reference):
    torchvision_standin.install()
    from deepinv.physics import GaussianNoise, MultiCoilMRI

    physics = MultiCoilMRI(mask=torch.ones(SHAPE), coil_maps=problem.t_maps[None], img_size=SHAPE)
    noise = GaussianNoise(sigma=SIGMA)
    image = torch.view_as_real(problem.t_image).movedim(-1, 0)[None].contiguous()

    def run():
        kspace = noise(physics.A(image))
        target = physics.A_adjoint(kspace) if reference == "noisy" else image
        return kspace * problem.t_mask, target

    return run


CHAINS = {f.__name__: f for f in (fathom, floor, mrpro, fastmri, monai, sigpy, deepinv)}


def measure(rounds=25):
    """Pairs per second by chain and package, interleaved so that a noisy moment touches all; medians."""
    torch.set_num_threads(1)
    problem, found = Problem(), {}
    for reference in ("clean", "noisy"):
        runs = {}
        for name, make in CHAINS.items():
            try:
                runs[name] = make(problem, reference)
                [runs[name]() for _ in range(3)]
            except ImportError as error:
                found.setdefault("absent", {})[name] = str(error)
                runs.pop(name, None)
        seconds = {name: [] for name in runs}
        for _ in range(rounds):
            for name, run in runs.items():
                start = time.perf_counter()
                run()
                seconds[name].append(time.perf_counter() - start)
        found[reference] = {name: round(1 / statistics.median(s), 2) for name, s in seconds.items()}
    return found
