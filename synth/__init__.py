"""What a training pair is: image, phase, coil maps, k-space, noise, mask.

The names of ``synth.__all__`` are for use from outside; all else may change. They are loaded when they are asked for.

Conventions, the same in every file:

- Axes are ``[batch coil y x]``: y is the readout, x the phase encoding. Complex numbers have a complex dtype.
- The FFT is centred and orthonormal, always.
- ``sigma`` is the standard deviation of the real part and of the imaginary part, each: E|n|^2 = 2 sigma^2.
- An SNR has a name (``rms``, ``knoll``, ``knoll-rms``, ``image``); the formulas stand in ``synth.snr``.
- A mask is ``[x]`` (whole readout lines) or ``[y x]`` (points, where y is a second phase encoding).
- A pair is a pure function of (recipe, source, index): every draw has an address, see ``synth.rng``.
"""

import lazy_loader

from .moved import forward

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

forward("synth.espirit", {"espirit": "synth.calibration.espirit"})
forward("synth.noise_profile", dict.fromkeys(("snr_of", "whiten"), "synth.calibration.noise_profile"))
