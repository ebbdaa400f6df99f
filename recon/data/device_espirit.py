"""ESPIRiT's coil maps of many slices at once, on a GPU: the maps of `synth.calibration.espirit`, in its steps.

The steps are described there. Every one is made for all slices together; the host is asked once, for the slices whose
phase has a vortex. Maps agree with those of the CPU to the precision of single numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from synth.calibration.espirit import ITERATIONS, LEAST, NOISE_ALONE, SPACING, positions_of, refuse_numbers, spline
from synth.calibration.espirit_maps import EspiritMaps
from synth.calibration.map_phase import AIR, ROUNDS, TINY, referenced
from synth.calibration.patches import MARGIN, noise_edge, reference_block
from synth.physics import centre_block

SLICES = 8  # at once: 15 coils of 320x368 take about 60 MB a slice


@dataclass(frozen=True, eq=False)
class DeviceMaps:
    """Coil maps of slices.

    Attributes
    ----------
    maps
        [slice set coil y x], as those of `synth.calibration.espirit_maps.EspiritMaps`.
    eigenvalues
        [slice set y x].
    notes
        What limits the maps of each slice.
    """

    maps: Tensor
    eigenvalues: Tensor
    notes: tuple[tuple[str, ...], ...]

    def of_slice(self, number: int) -> EspiritMaps:
        """The maps of a slice, copied to the host."""
        return EspiritMaps(self.maps[number].cpu().numpy(), self.eigenvalues[number].cpu().numpy(), self.notes[number])


@torch.no_grad()
def device_espirit(
    kspace: Tensor,
    shape: tuple[int, int] | None = None,
    *,
    reference: tuple[int, int] = (24, 24),
    kernel: int = 6,
    threshold: float = 0.02,
    sets: int = 1,
    sigma: float = 0.0,
) -> DeviceMaps:
    """Coil maps of every slice of k-space [slice coil y x], on the device where it lies.

    The parameters are those of `synth.calibration.espirit.espirit`, whose `extend` is made on the host alone.

    Parameters
    ----------
    kspace
        Complex [slice coil y x], preferably whitened; outside of the reference it may be zero.
    shape
        y, x of the maps; by default those of the k-space.
    reference
        y, x of the fully sampled block at k-space's centre.
    kernel
        Side of the patches, in samples.
    threshold
        Singular vectors of the patches are kept if their singular value is above this fraction of the largest one.
    sets
        Number of map sets.
    sigma
        Standard deviation of each part of the noise in k-space; 0 where it is not known.

    Returns
    -------
    Maps [slice set coil y x], eigenvalues [slice set y x], and each slice's notes.

    Raises
    ------
    ValueError
        The reference is too small for the kernel, or not fully sampled; or there are fewer coils than sets.
    """
    if kspace.ndim != 4:
        raise ValueError(
            f"k-space has the shape {list(kspace.shape)}; give [slice coil y x], for one slice kspace[None]"
        )
    if sets > kspace.shape[1]:
        raise ValueError(f"{sets} map sets need {sets} coils or more, and k-space has {kspace.shape[1]}; ask for 1 set")
    refuse_numbers(kernel, threshold, sigma)
    size = min(reference[0], kspace.shape[2]), min(reference[1], kspace.shape[3])
    centre = tuple(centre_block(n, r) for n, r in zip(kspace.shape[2:], size, strict=True))
    blocks = kspace[(slice(None), slice(None), *centre)].to(torch.complex64)
    for block in blocks.any(dim=1).cpu().numpy():
        reference_block(block[None], size, kernel)  # refuses what is too small or not fully sampled
    how = _Steps(shape or (kspace.shape[2], kspace.shape[3]), kernel, threshold, sets, sigma, kspace.device)
    found = [how.maps_of(part) for part in blocks.split(SLICES)]
    maps, eigenvalues, left, alone = (torch.cat(parts) for parts in zip(*found, strict=True))
    notes = []
    for vortices, nothing in zip(left.tolist(), alone.tolist(), strict=True):
        told = [f"the phase of map set {k} has {n} vortices in the object: maps are wrong there"
                for k, n in enumerate(vortices) if n]  # fmt: skip
        notes.append((NOISE_ALONE,) if nothing else tuple(told))
    return DeviceMaps(maps, eigenvalues, tuple(notes))


class _Steps:
    """The steps for slices of one shape; tables are made once."""

    def __init__(
        self, shape: tuple[int, int], kernel: int, threshold: float, sets: int, sigma: float, device: torch.device
    ) -> None:
        self.kernel, self.threshold, self.sets, self.sigma, self.device = kernel, threshold, sets, sigma, device
        grids = [tuple(max(n // s, least) for n in shape) for s, least in zip(SPACING, LEAST, strict=True)]
        self.places = [positions_of(shape, grid) for grid in grids]
        self.to_fine = [self._table(spline(a, b, around=True)) for a, b in zip(*grids, strict=True)]
        self.to_pixels = [self._table(spline(a, n, around=True)) for a, n in zip(grids[1], shape, strict=True)]

    def maps_of(self, blocks: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Maps [slice set coil y x], eigenvalues [slice set y x], vortices [slice set], and slices of noise alone."""
        projection, alone = self._projection(blocks)
        lags = self._lags(projection, blocks.shape[1])
        coarse, fine = (self._matrices(lags, place) for place in self.places)
        values, vectors = _eigh(coarse)
        inside = self._object(blocks)
        maps: list[Tensor] = []
        eigenvalues, left = [], []
        others: list[Tensor] = []
        for k in range(self.sets):
            start, vortices = _start(values[..., -1 - k], vectors[..., -1 - k], inside)
            refined, value = _refined(fine, _normalised(_interpolated(start, self.to_fine)), others)
            others.append(refined)
            maps.append(_orthonormal(_interpolated(refined, self.to_pixels), maps))
            eigenvalues.append(_interpolated(value[..., None], self.to_pixels)[..., 0].clamp_min(0))
            left.append(vortices)
        signal = ~alone
        return (
            torch.stack(maps, 1).movedim(-1, 2) * signal[:, None, None, None, None],
            torch.stack(eigenvalues, 1) * signal[:, None, None, None],
            torch.stack(left, 1),
            alone,
        )

    def _table(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to(self.device)

    def _projection(self, blocks: Tensor) -> tuple[Tensor, Tensor]:
        """The projection on the signal's space of patches [slice value value], and slices without any."""
        count, size = len(blocks), self.kernel
        windows = blocks.unfold(2, size, 1).unfold(3, size, 1)  # [slice coil y x dy dx]
        patches = windows.permute(0, 2, 3, 1, 4, 5).reshape(count, -1, blocks.shape[1] * size**2)
        scale = patches.abs().amax((1, 2)).clamp_min(1e-30)
        patches = patches / scale[:, None, None]
        wide = patches.shape[1] < patches.shape[2]
        gram = patches.conj() @ patches.mT if wide else patches.mT @ patches.conj()
        squares, vectors = _eigh(gram)
        kept = squares > self.threshold**2 * squares[:, -1:]
        if self.sigma > 0:
            edge = MARGIN * noise_edge(*patches.shape[1:]) * self.sigma
            kept &= squares > (edge / scale[:, None]) ** 2
        basis = vectors * kept[:, None]
        if wide:  # singular vectors of the patches from those of their transpose
            basis = (patches.mT @ basis) / torch.where(kept, squares, 1).sqrt()[:, None]
        return basis @ basis.mH, ~kept.any(1)

    def _lags(self, projection: Tensor, coils: int) -> Tensor:
        """Fourier coefficients [slice coil coil dy dx] of the matrices."""
        kernel, size = self.kernel, 2 * self.kernel - 1
        parts = projection.view(-1, coils, kernel, kernel, coils, kernel, kernel)
        lags = projection.new_zeros(len(projection), coils, coils, size, size)
        for y in range(kernel):
            for x in range(kernel):
                there = (slice(kernel - 1 - y, size - y), slice(kernel - 1 - x, size - x))
                lags[:, :, :, *there] += parts[:, :, y, x]
        return lags / kernel**2

    def _matrices(self, lags: Tensor, places: tuple[np.ndarray, np.ndarray]) -> Tensor:
        """The matrices [slice y x coil coil] at positions in fields of view."""
        d = np.arange(lags.shape[-1]) - lags.shape[-1] // 2
        along_y, along_x = (self._table(np.exp(-2j * np.pi * np.outer(p, d)).astype(np.complex64)) for p in places)
        return torch.einsum("yd,sabdx->syxab", along_y, lags @ along_x.mT).contiguous()

    def _object(self, blocks: Tensor) -> Tensor:
        """Where [slice y x] of the coarse grid the reference's image is above a tenth of its maximum."""
        height, width = blocks.shape[2:]
        window = (np.hanning(height + 2)[1:-1, None] * np.hanning(width + 2)[1:-1]).astype(np.float32)
        along_y, along_x = (
            self._table(np.exp(2j * np.pi * np.outer(p, np.arange(n) - n // 2)).astype(np.complex64))
            for p, n in zip(self.places[0], (height, width), strict=True)
        )
        image = (along_y @ (blocks * self._table(window)) @ along_x.mT).abs().square().sum(1).sqrt()
        return image > 0.1 * image.amax((1, 2), keepdim=True)


def _eigh(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues, ascending, and eigenvectors, in double precision: a GPU's single precision moves maps by 1e-3."""
    values, vectors = torch.linalg.eigh(matrices.to(torch.complex128))
    return values.float(), vectors.to(torch.complex64)


def _start(values: Tensor, vectors: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
    """Vectors [slice y x coil] with a smooth phase, and how many vortices that has in the object [slice]."""
    certainty = values.clamp(1e-3, 1) ** 8
    trusted = inside & (values > 0.85)
    known = trusted.any(2).any(1)
    trusted = trusted | ~known[:, None, None]
    weights = certainty * torch.where(trusted, 1.0, float(AIR))
    smooth = _smooth_phase(vectors, weights, _at_centre(vectors, trusted))
    left = _vortices(smooth, trusted)
    for k in torch.nonzero(left).flatten().tolist():  # the host is asked here, and tries the other ways
        one, certain, where = (t[k].cpu().numpy() for t in (vectors, certainty, trusted))
        own, vortices = referenced(one, certain, where)
        smooth[k], left[k] = torch.from_numpy(own).to(smooth), vortices
    return smooth, left * known


def _at_centre(vectors: Tensor, inside: Tensor) -> Tensor:
    """The vector [slice coil] at the position of the object that is nearest to its centre."""
    ny, nx = inside.shape[1:]
    y, x = (
        t.to(inside.device, torch.float64) for t in torch.meshgrid(torch.arange(ny), torch.arange(nx), indexing="ij")
    )
    count = inside.sum((1, 2))
    middle_y, middle_x = (((t * inside).sum((1, 2)) / count)[:, None, None] for t in (y, x))
    distance = torch.where(inside, (y - middle_y) ** 2 + (x - middle_x) ** 2, torch.inf)
    return _real_where_strongest(vectors.flatten(1, 2)[torch.arange(len(vectors)), distance.flatten(1).argmin(1)])


def _real_where_strongest(vectors: Tensor) -> Tensor:
    strongest = vectors.gather(1, vectors.abs().argmax(1, keepdim=True))
    return vectors * _phasor(strongest).conj()


def _smooth_phase(vectors: Tensor, certainty: Tensor, reference: Tensor) -> Tensor:
    z = _phasor((vectors.conj() @ reference[:, None, :, None])[..., 0])
    links = []
    for axis, step in ((1, 1), (1, -1), (2, 1), (2, -1)):
        neighbour = vectors.roll(step, axis)
        weight = certainty * certainty.roll(step, axis)
        links.append((axis, step, weight * (vectors.conj() * neighbour).sum(-1)))
    for _ in range(ROUNDS):
        total = sum(link * z.roll(step, axis) for axis, step, link in links)
        z = _phasor(total + 1e-3 * z)
    return vectors * z[..., None]


def _vortices(vectors: Tensor, inside: Tensor) -> Tensor:
    """How many blocks of 2x2 positions inside the object the phase turns around [slice]."""
    along_y = (vectors[:, :-1].conj() * vectors[:, 1:]).sum(-1).angle()
    along_x = (vectors[:, :, :-1].conj() * vectors[:, :, 1:]).sum(-1).angle()
    around = along_x[:, :-1] + along_y[:, :, 1:] - along_x[:, 1:] - along_y[:, :, :-1]
    whole = inside[:, :-1] & inside[:, 1:]
    return ((around.abs() > torch.pi) & whole[:, :, :-1] & whole[:, :, 1:]).sum((1, 2))


def _phasor(z: Tensor) -> Tensor:
    size = z.abs()
    return torch.where(size > float(TINY), z / size.clamp_min(float(TINY)), 1)


def _refined(matrices: Tensor, start: Tensor, others: list[Tensor]) -> tuple[Tensor, Tensor]:
    vector = start
    for _ in range(ITERATIONS):
        product = (matrices @ vector[..., None])[..., 0]
        for other in others:
            product = product - other * (other.conj() * product).sum(-1, keepdim=True)
        vector = _normalised(product)
    value = (vector.conj() * (matrices @ vector[..., None])[..., 0]).sum(-1).real
    return vector * _phasor((vector.conj() * start).sum(-1))[..., None], value


def _orthonormal(vectors: Tensor, others: list[Tensor]) -> Tensor:
    vectors = _normalised(vectors)
    for one in others:
        vectors = _normalised(vectors - one * (one.conj() * vectors).sum(-1, keepdim=True))
    return vectors


def _normalised(vectors: Tensor) -> Tensor:
    power = torch.view_as_real(vectors).square().sum((-2, -1))
    flat = power <= float(TINY) ** 2
    vectors, power = vectors + flat[..., None], power + flat * vectors.shape[-1]
    return vectors / power.sqrt()[..., None]


def _interpolated(values: Tensor, tables: list[Tensor]) -> Tensor:
    """[slice y x value] from one grid to another."""
    parts = torch.view_as_real(values) if values.is_complex() else values[..., None]
    along_y = torch.einsum("Yy,syxvp->sYxvp", tables[0], parts)
    made = torch.einsum("Xx,sYxvp->sYXvp", tables[1], along_y).contiguous()
    return torch.view_as_complex(made) if values.is_complex() else made[..., 0]
