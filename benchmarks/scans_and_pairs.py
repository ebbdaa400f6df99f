"""How sharp scans and pairs are, and how smooth their phase is: what `target.truncated` and `[fat]` are for.

    python benchmarks/scans_and_pairs.py SCANS CORPUS...

For the first slice of each scan of `photos_1.SCANS`, and for two pairs of each corpus, it prints

- the power of the outermost tenth of the lines, along y and along x, over that at a tenth to a fifth of the way out, in
  dB; of a noisy reference, without the noise's power where the image is not 0;
- the share of the object's energy that is out of phase with the smooth part of the phase: that of the central 24 x 24
  of k-space under a Hann window.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from photos_1 import Sampling, images_of, samplings

from recon.data.datasets import PairDataset
from recon.data.scan_batch import batch_of
from synth.physics import centre_block, fft2c, ifft2c
from synth.stages.object_mask import object_of

SMOOTH, PAIRS = 24, 2


def sharpness(image, sigma):
    """dB of the outermost tenth of the lines along y and along x."""
    power, noise = np.abs(fft2c(image)) ** 2, sigma**2 * np.mean(image != 0)
    told = []
    for axis in (0, 1):
        line = power.mean(axis=1 - axis)
        out = np.abs(np.arange(len(line)) - len(line) // 2) / (len(line) / 2)
        edge, near = (line[(out >= a) & (out <= b)].mean() - noise for a, b in ((0.9, 1.0), (0.1, 0.2)))
        told.append(10 * np.log10(max(edge / near, 1e-9)))
    return told


def out_of_phase(image):
    """The share of the object's energy that is in quadrature to the smooth part of the phase."""
    kspace, window = fft2c(image), np.zeros(image.shape)
    middle = tuple(centre_block(n, SMOOTH) for n in image.shape)
    window[middle] = np.hanning(SMOOTH)[:, None] * np.hanning(SMOOTH)
    smooth, inside = ifft2c(kspace * window), object_of(np.abs(image))
    across = np.imag(image * np.exp(-1j * np.angle(smooth)))
    return float((across[inside] ** 2).sum() / (np.abs(image[inside]) ** 2).sum())


def told(name, image, sigma):
    y, x = sharpness(image, sigma)
    print(f"{name:40} outermost lines {y:6.1f} dB along y, {x:6.1f} along x; out of phase {out_of_phase(image):.4f}")


def main():
    for name, kspace, profile in images_of(Path(sys.argv[1])):
        if "simulated" in name or name.partition(", ")[2] not in ("", "10"):
            continue
        spec = next(spec for _, spec in samplings(kspace.shape[-1]))
        batch, reference, _ = batch_of(np.ascontiguousarray(kspace), profile, Sampling(spec))
        told(name, reference, float(batch["sigma"][0]))
    for corpus in sys.argv[2:]:
        pairs = PairDataset(corpus)
        noisy = pairs.recipe.target.reference == "noisy"
        for k in range(PAIRS):
            told(f"{Path(corpus).name}, {k}", pairs[k]["target"].numpy(), float(pairs[k]["sigma"]) if noisy else 0.0)


if __name__ == "__main__":
    main()
