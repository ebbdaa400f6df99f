"""Synthesis of training pairs: image, phase, coil maps, k-space, noise, mask.

The names in ``synth.__all__`` are the public interface; all other names may change. A name is imported on first use.

Conventions, the same in every file:

- Axes are ``[batch coil y x]``: y is the readout, x the phase encoding. Complex numbers have a complex dtype.
- The FFT is centred and orthonormal, always.
- ``sigma`` is the standard deviation of the noise n in the real part, and the same in the imaginary part:
  E|n|^2 = 2 sigma^2.
- There are four definitions of SNR (``rms``, ``knoll``, ``knoll-rms``, ``image``); ``synth.snr`` gives their formulas.
- A mask is ``[x]`` (whole readout lines) or ``[y x]`` (points, where y is a second phase encoding).
- A pair is a pure function of (recipe, source, index): every random number is drawn from a generator that depends on
  seed, stage and index alone, see ``synth.rng``.
"""

import lazy_loader

from .moved import forward

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

forward("synth.espirit", {"espirit": "synth.calibration.espirit"})
forward("synth.noise_profile", dict.fromkeys(("snr_of", "whiten"), "synth.calibration.noise_profile"))
