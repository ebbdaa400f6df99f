"""Training pairs that are made in batches on the device that trains."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from synth.errors import RecipeError
from synth.given import refuse_other_type
from synth.physics import centring, coil_combine, coil_expand, rss
from synth.recipe import Recipe
from synth.snr import snr_per_sigma
from synth.sources.scan_slices import ScansSpec
from synth.stages.coil_loops import LoopCoils
from synth.stages.coils import LoopsSpec, draw_coils
from synth.stages.noise import covariance_factor
from synth.stages.readout import Readout

from .datasets import VirtualPairs
from .device import named_device
from .device_photos import DevicePhotos, full_precision
from .drawn_batch import Drawing, DrawnBatch
from .packed_batch import Geometry, PackedBatch
from .philox import complex_noise, key_of
from .shared_memory import Empty


class DevicePairs(VirtualPairs):
    """The pairs of a recipe for photographs, made in batches on the device that the loader gives them on.

    Photographs stay on the device after their first use, as maps do. The host draws what is small by the line's own
    code: the place of the photograph, the phase's coefficients, the number of the map set, the mask (of every kind,
    also Poisson discs) and the SNR. It reads photographs and resizes them (but for `target.zoom`), and makes maps of
    the kinds ``birdcage`` and ``library``, once per set; for ``loops`` it computes the fields on 40 x 40 nodes. The
    device does the rest: crops, zooms, outlines, phases, maps between nodes, transforms, noise of every kind, and the
    reference. Every kind of phase, coils, noise and sampling can be used; scans, lesions,
    `noise.whiten`, `coils.shading`, `coils.estimated`, `fat`, `echo_train`,
    `target.truncated` and `target.zero_filled` cannot: those are made on the host.

    A pair is a function of the recipe, its source, its index and the kind of `device`. A CPU's pairs are those of
    `VirtualPairs`, made one by one by the line. A GPU's pairs have noise from the generator in `recon.data.philox`;
    all else equals the line's but for rounding, and so do batches of other sizes.

    Parameters
    ----------
    recipe
        The recipe; `load_recipe` gives it.
    with_maps
        False leaves ``sens_maps`` out.
    oversampled
        True keeps the readout's oversampling, and pads the maps with zeros to its rows.
    device
        The device whose pairs are wanted; by default the GPU if there is one. "cuda" makes a GPU's pairs also where the
        loader's device is a CPU, which takes some ten times as long as a CPU's own pairs.
    photo_bytes
        The most bytes of photographs on a GPU.

    Raises
    ------
    RecipeError
        The recipe cannot be used, or its photographs take more than `photo_bytes`. Reading an item whose source cannot
        be used raises SourceRejectedError. If a photograph's part within the matrix is black, a GPU's pair is NaN.
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        with_maps: bool = True,
        oversampled: bool = False,
        device: str | torch.device | None = None,
        photo_bytes: int = 8 * 2**30,
    ) -> None:
        refuse_other_type(recipe, Recipe, "DevicePairs takes a Recipe, which load_recipe reads")
        if isinstance(recipe.source, ScansSpec):
            raise RecipeError("source.kind 'scans' has k-space of its own; build a corpus, and read it by PairDataset")
        if recipe.target.lesions is not None:
            raise RecipeError("target.lesions are placed by a search in each image, on the host; use VirtualPairs")
        for key, asked in (
            ("noise.whiten", recipe.noise.whiten),
            ("coils.shading", getattr(recipe.coils, "shading", 0)),
            ("coils.estimated", recipe.own_maps),
            ("fat", recipe.fat),
            ("echo_train", recipe.echo_train),
            ("target.truncated", recipe.target.truncated),
            ("target.zero_filled", recipe.target.zero_filled),
        ):
            if asked:
                raise RecipeError(f"{key} is done on the host; use VirtualPairs, or leave it out")
        super().__init__(recipe, with_maps=with_maps, oversampled=oversampled)
        self._by_the_line = named_device(device).type == "cpu"
        self._photos = DevicePhotos(self.plan, photo_bytes)
        self._drawing = Drawing(self.plan, self._photos)
        self._key = key_of(self.recipe.seed, "noise on a device")
        self._constants: dict[tuple[str, int, torch.device], tuple[Tensor, ...]] = {}

    @property
    def identity(self) -> str:
        """A hash of the pairs; a GPU's have other noise than those of `VirtualPairs`."""
        made = self.recipe.hash()
        return made if self._by_the_line else hashlib.sha256(f"on a GPU {made}".encode()).hexdigest()

    @property
    def pair_bytes(self) -> int:
        """Bytes of the largest pair, packed; raises ValueError for a GPU's pairs, which workers cannot make."""
        if not self._by_the_line:
            raise ValueError(
                "a GPU's DevicePairs are made by the process that trains; leave out the loader's `workers`"
            )
        return super().pair_bytes

    def packed(self, positions: Sequence[int], empty: Empty = np.empty) -> PackedBatch | DrawnBatch:  # type: ignore[override]
        """What is drawn on the host for positions that share a bucket, or, for a CPU, a batch of the line's pairs."""
        if self._by_the_line:
            return super().packed(positions, empty)
        geometry = self.geometries[int(self.bucket_of[positions[0]])]
        pairs = []
        for position in positions:
            pairs.append(self._drawing.pair(position, geometry))
            self._photos.prepare(pairs[-1].photo, empty)
        return DrawnBatch(
            geometry=geometry,
            photos=tuple(p.photo for p in pairs),
            maps_index=torch.tensor([p.maps_index for p in pairs]),
            pair_id=torch.tensor(list(positions)),
            left=torch.from_numpy(np.stack([p.left for p in pairs])),
            right=torch.from_numpy(np.stack([p.right for p in pairs])),
            mask=torch.from_numpy(np.stack([p.mask for p in pairs])),
            numbers=torch.tensor([p.numbers for p in pairs], dtype=torch.float32),
        )

    def unpacked(self, batch: PackedBatch | DrawnBatch) -> dict[str, Tensor]:
        """Items of a batch, on the device of that batch."""
        return super().unpacked(batch) if isinstance(batch, PackedBatch) else self._made(batch)

    @torch.no_grad()
    def _made(self, batch: DrawnBatch) -> dict[str, Tensor]:
        """Items of drawn pairs, made on the device of that batch.

        With S = F_x C x for masks of lines and S = F_x F_y C x for points, noise is added to S, because both transforms
        are unitary. Lines are then transformed along y, where rows beyond the image are cropped before and need no
        noise. Transforms are centred by factors (`synth.physics.centring`) on the image and on the mask, so that coil
        images are neither shifted nor scaled.
        """
        geometry, recipe = batch.geometry, self.recipe
        readout = Readout(geometry.matrix[0], geometry.readout)
        taken = slice(0, readout.samples) if self.oversampled else readout.image_rows
        pad = (0, 0, readout.image_rows.start - taken.start, taken.stop - readout.image_rows.stop)
        snr, acceleration, net = batch.numbers[:, :3].T
        magnitude, scale = self._photos.magnitudes(batch.photos, batch.numbers[:, 3:], geometry.matrix)
        image = _padded(torch.polar(magnitude, _phase(batch.left, batch.right)), pad)
        sets = [self._maps_on(key, image.device) for key in batch.map_keys]
        maps = _padded(sets[0][None] if len(sets) == 1 else torch.stack(sets), pad)
        before, after = self._centring(geometry, taken.stop - taken.start, image.device)
        weight = (batch.mask[:, None] if geometry.lines else batch.mask) * after
        axes = (-1,) if geometry.lines else (-2, -1)
        signal = torch.fft.fftn(coil_expand(image * before, maps), dim=axes)
        target, sigma = image, torch.zeros_like(snr)
        if recipe.noise.kind != "none":
            sigma = self._sigma(batch, signal, magnitude, maps) / snr
            noise = self._noise(batch, maps.shape[1], taken)
            if recipe.target.reference == "noisy":
                combined = coil_combine(torch.fft.ifftn(noise, dim=axes, norm="forward"), maps)
                target = image + sigma[:, None, None] * (combined * before.conj())
            torch.view_as_real(signal).addcmul_(torch.view_as_real(noise), sigma.view(-1, 1, 1, 1, 1))
            del noise
        kspace = torch.fft.fft(signal, dim=-2) if geometry.lines else signal
        target = target[:, pad[2] : pad[2] + geometry.matrix[0]].contiguous()
        item = {
            "masked_kspace": torch.mul(kspace, weight[:, None], out=signal),
            "mask": batch.mask[:, None, None, :] if geometry.lines else batch.mask[:, None],
            "target": target,
            "max_value": target.abs().amax((1, 2)),
            "scale": scale,
            "sigma": sigma,
            "acceleration": acceleration,
            "acceleration_net": net,
            "pair_id": batch.pair_id,
        }
        return {**item, "sens_maps": maps} if self.with_maps else item

    def _sigma(self, batch: DrawnBatch, signal: Tensor, magnitude: Tensor, maps: Tensor) -> Tensor:
        """Sigma times the SNR of the recipe's definition [pair]; `signal` is scaled as its transforms without norm."""
        geometry, noise, coils = batch.geometry, self.recipe.noise, signal.shape[1]
        axes = (1, 2) if geometry.lines else (1,)  # real and imaginary parts apart, because the modulus takes longer
        squares = torch.linalg.vector_norm(torch.view_as_real(signal), dim=axes).square().sum(-1) * batch.mask
        sampled = batch.mask.flatten(1).sum(1) * (coils * (geometry.readout if geometry.lines else 1))
        variance: Tensor | float = 2.0  # see `NoiseSpec.combined_variance`
        if noise.covariance != "white" and noise.definition == "image":
            seen = torch.linalg.vector_norm(self._mixed(maps, adjoint=True), dim=(1, 2, 3)).square()
            variance = 2.0 * seen / magnitude[0].numel()
        found = snr_per_sigma(
            power=squares.flatten(1).sum(1) / sampled,
            samples=sampled,  # type: ignore[arg-type]
            image_power=magnitude.square().mean((1, 2)),  # type: ignore[arg-type]
            combined_variance=variance,  # type: ignore[arg-type]
        )
        return found[noise.definition]  # type: ignore[return-value]

    def _noise(self, batch: DrawnBatch, coils: int, taken: slice) -> Tensor:
        """Noise [pair coil y x] of sigma 1 in the domain of the signal, with the recipe's covariance."""
        geometry = batch.geometry
        made = complex_noise(batch.pair_id, self._key, coils, geometry.readout, taken, geometry.matrix[1])
        return made if self.recipe.noise.covariance == "white" else self._mixed(made)

    def _mixed(self, images: Tensor, *, adjoint: bool = False) -> Tensor:
        """Coil images times the factor of the noise's covariance, or times its adjoint."""
        name, coils = self.recipe.noise.covariance, images.shape[1]
        (factor,) = self._placed(("covariance", coils, images.device), lambda: [covariance_factor(name, coils)])
        with full_precision():
            return ((factor.mH if adjoint else factor) @ images.flatten(2)).view_as(images)

    def _centring(self, geometry: Geometry, rows: int, device: torch.device) -> tuple[Tensor, ...]:
        """Factors [y x] of the image, and of k-space, that centre and scale the transforms of `unpacked`."""

        def made() -> list[np.ndarray]:
            (before_y, after_y), (before_x, after_x) = centring(rows), centring(geometry.matrix[1])
            along_y = rows**-0.5
            before, after = np.outer(before_y, before_x) * geometry.matrix[1] ** -0.5, np.outer(after_y, after_x)
            return [before, after * along_y] if geometry.lines else [before * along_y, after]

        return self._placed((f"centring {rows}", geometry.bucket, device), made)

    def _placed(
        self, key: tuple[str, int, torch.device], make: Callable[[], Sequence[np.ndarray]]
    ) -> tuple[Tensor, ...]:
        """Constants on a device, made on the host and sent at their first use."""
        if key not in self._constants:
            made = tuple(torch.from_numpy(array) for array in make())
            if key[2].type == "cuda":
                made = tuple(t.pin_memory().to(key[2], non_blocking=True) for t in made)
            self._constants[key] = made
        return self._constants[key]

    def _sent_set(self, bucket: int, index: int) -> np.ndarray:
        """Fields of loops on nodes, from which the device makes maps; maps of the other kinds."""
        loops = self._loops(index)
        return self.map_set(bucket, index) if loops is None else loops.on_nodes(self.geometries[bucket].matrix)[1]

    def _loops(self, index: int) -> LoopCoils | None:
        """The loops of a map set of which no wire passes through the field of view (see `LoopCoils.maps`), or None."""
        coils = self.recipe.coils
        if self._by_the_line or not isinstance(coils, LoopsSpec):
            return None
        drawn = draw_coils(coils, self.recipe.seed, index)
        return drawn if isinstance(drawn, LoopCoils) and drawn.nearest_wire > 1 else None

    def _received_set(self, key: tuple[int, int], sent: Tensor) -> Tensor:
        """Maps [coil y x], as `LoopCoils.maps` makes them, from fields on nodes."""
        bucket, loops = key[0], self._loops(key[1])
        if loops is None:
            return sent

        def made() -> tuple[np.ndarray, np.ndarray]:
            to_y, _, to_x = loops.on_nodes(self.geometries[bucket].matrix)
            return to_y, np.ascontiguousarray(to_x.T)

        to_y, to_x = self._placed(("nodes", bucket, sent.device), made)
        with full_precision():
            maps = to_y @ sent @ to_x
        return maps / rss(maps)


def _phase(left: Tensor, right: Tensor) -> Tensor:
    """Phase [pair y x] in rad from its factors [pair y rank] and [pair x rank]: a sum of few products."""
    radians = left.new_zeros((len(left), left.shape[1], right.shape[1]))
    for k in range(left.shape[2]):
        radians.addcmul_(left[:, :, None, k], right[:, None, :, k])
    return radians


def _padded(images: Tensor, pad: tuple[int, int, int, int]) -> Tensor:
    return torch.nn.functional.pad(images, pad) if any(pad) else images
