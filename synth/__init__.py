"""What a training pair is: image, phase, coil maps, k-space, noise, mask.

Conventions, the same in every file:

- Axes are ``[batch coil y x]``: y is the readout, x the phase encoding. Complex numbers have a complex dtype.
- The FFT is centred and orthonormal, always.
- ``sigma`` is the standard deviation of the real part and of the imaginary part, each: E|n|^2 = 2 sigma^2.
- An SNR has a name (``rms``, ``knoll``, ``knoll-rms``, ``image``); the formulas stand in ``synth.stages.noise``.
- A mask is ``[x]`` (whole readout lines) or ``[y x]`` (points, where y is a second phase encoding).
- A pair is a pure function of (recipe, source, index): every draw has an address, see ``synth.rng``.
"""
