"""The noise of a scan: how strong in each coil, how correlated between coils, and the SNR that it leaves.

Places to learn it from, each refused where it would lie: a noise scan; the image's background, of a filtered readout
only its flat middle half; the edge of k-space. Conventions: sigma is the standard deviation of the real and of the
imaginary part, each; the covariance is Psi = E[n n^H], the mean of n n^H over samples, so its diagonal is 2 sigma^2;
the orthonormal FFT keeps both.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from .physics import ifft2c
from .scans import Scan, ScanError

Place = Literal["noise scan", "background", "k-space edge"]
PLACES: tuple[Place, ...] = get_args(Place)
BLOCK = 8  # samples along each side of the blocks whose power is looked at
CORNER = 0.85  # of the way from the centre to the edge, along both axes
LEAST_SAMPLES = 200


class CalibrationError(ValueError):
    """Noise cannot be learnt there; the message says why, and where else."""


@dataclass(frozen=True, eq=False)
class NoiseProfile:
    """The noise of a receive chain: covariance [coil coil] = E[n n^H], and how far to believe it."""

    covariance: NDArray[np.complex128]
    place: Place
    samples: int  # independent complex samples per coil
    lag_correlation: float  # of neighbouring samples, 0 where noise is white
    excess_kurtosis: float  # of whitened real and imaginary parts; 0 for a Gaussian
    source: str = ""
    notes: tuple[str, ...] = ()

    @property
    def coils(self) -> int:
        """Number of coils."""
        return len(self.covariance)

    @property
    def sigma(self) -> NDArray[np.float64]:
        """Standard deviation [coil] of the real and of the imaginary part, each."""
        return np.sqrt(np.diag(self.covariance).real / 2)

    @property
    def mean_sigma(self) -> float:
        """Root of the coils' mean sigma^2."""
        return float(np.sqrt(np.mean(self.sigma**2)))

    @property
    def correlation(self) -> NDArray[np.complex128]:
        """Correlation [coil coil] between coils, 1 on the diagonal."""
        scale = 1 / np.sqrt(np.diag(self.covariance).real)
        return self.covariance * scale * scale[:, None]

    def as_dict(self) -> dict[str, Any]:
        """What is stored as JSON; `covariance` is what `[noise] covariance` of a recipe reads."""
        return {
            "fathom_noise_profile": 1,
            "coils": self.coils,
            "sigma": self.sigma.tolist(),
            "mean_sigma": self.mean_sigma,
            "covariance": {"real": self.covariance.real.tolist(), "imag": self.covariance.imag.tolist()},
            "largest_correlation": float(np.abs(self.correlation - np.eye(self.coils)).max()),
            "place": self.place,
            "samples": self.samples,
            "lag_correlation": self.lag_correlation,
            "excess_kurtosis": self.excess_kurtosis,
            "source": self.source,
            "notes": list(self.notes),
        }

    def save(self, path: Path) -> None:
        """Write as JSON; raises FileExistsError rather than overwrite."""
        with path.open("x") as file:
            json.dump(self.as_dict(), file, indent=2)


def load_profile(path: str | Path) -> NoiseProfile:
    """Read a profile that `save` wrote; raises CalibrationError where it is none."""
    try:
        stored = json.loads(Path(path).read_text())
        covariance = np.asarray(stored["covariance"]["real"]) + 1j * np.asarray(stored["covariance"]["imag"])
        names = ("place", "samples", "lag_correlation", "excess_kurtosis", "source")
        profile = NoiseProfile(covariance, **{n: stored[n] for n in names}, notes=tuple(stored["notes"]))
        whitening_matrix(profile)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CalibrationError(f"{path}: is no noise profile ({error}); make one with `fathom calibrate`") from None
    return profile


def profile_of_noise(noise: NDArray[np.complexfloating], place: Place = "noise scan", source: str = "") -> NoiseProfile:
    """The profile of noise samples [coil sample] that hold nothing else; raises CalibrationError for too few."""
    n = np.asarray(noise, np.complex128)
    coils, samples = n.shape
    if samples < max(2 * coils, LEAST_SAMPLES):
        raise CalibrationError(f"{source}: {samples} noise samples of {coils} coils are too few; give more")
    covariance = n @ n.conj().T / samples
    if not np.diag(covariance).real.min() > 0:
        raise CalibrationError(f"{source}: coil {np.argmin(np.diag(covariance).real)} has no noise; is it connected?")
    lag = float(np.sum((n[:, :-1].conj() * n[:, 1:]).real) / np.sum(np.abs(n) ** 2))
    white = np.linalg.solve(np.linalg.cholesky(covariance / 2), n)
    parts = np.concatenate([white.real.ravel(), white.imag.ravel()])
    kurtosis = float(np.mean(parts**4) / np.mean(parts**2) ** 2 - 3)
    notes = []
    if abs(lag) > 0.1:
        notes.append(f"neighbouring samples correlate by {lag:.2f}: a receiver filter, or oversampling")
    if abs(kurtosis) > 6 * np.sqrt(24 / (2 * n.size)) + 0.05:
        notes.append(f"excess kurtosis {kurtosis:.2f}: not Gaussian, is there signal or interference in it?")
    return NoiseProfile(covariance, place, samples, lag, kurtosis, source, tuple(notes))


def calibrate(scan: Scan, number: int | None = None, place: Place | None = None) -> NoiseProfile:
    """The noise of a scan from `place`; None tries the noise scan, the background and the edge of k-space in turn.

    Slice `number` (default: the middle one) is looked at. Raises CalibrationError with every reason if all would lie.
    """
    number = len(scan) // 2 if number is None else number
    ways: dict[Place, Callable[[], NoiseProfile]] = {
        "noise scan": lambda: _from_noise_scan(scan),
        "background": lambda: from_background(scan, number),
        "k-space edge": lambda: from_edge(scan, number),
    }
    reasons = []
    for name, way in ways.items():
        if place in (None, name):
            try:
                return way()
            except CalibrationError as error:
                reasons.append(f"{name}: {error}")
    raise CalibrationError(f"{scan.path}: its noise cannot be learnt. " + "; ".join(reasons))


def _from_noise_scan(scan: Scan) -> NoiseProfile:
    if scan.noise is None:
        raise CalibrationError("there is none")
    return profile_of_noise(scan.noise, "noise scan", str(scan.path))


def from_background(scan: Scan, number: int) -> NoiseProfile:
    """Noise of the image's background beside the object: blocks near its left and right edge that hold nothing else.

    Where the noise falls off at the readout's ends (a receiver filter), only the flat middle half of the rows counts.
    """
    kspace = scan.as_stored(number)
    _refuse_zeros(kspace)
    images = ifft2c(kspace)
    rows, columns = images.shape[1:]
    outer = np.abs(np.arange(columns) - columns // 2) > 0.3 * columns  # a fifth on each side
    flat, note = _flat_rows(images[..., outer])
    candidates = np.zeros((rows, columns), bool)
    candidates[np.ix_(flat, outer)] = True
    chosen = _quiet(images, candidates, "the object, its ghosts or its wrapped part reach the edge of the image")
    return _profile_where(images, chosen, "background", scan, note)


def _flat_rows(images: NDArray[np.complex64]) -> tuple[NDArray[np.bool_], tuple[str, ...]]:
    """Rows where the noise is as strong as in the middle half of the readout."""
    rows = images.shape[1]
    power = np.median(np.abs(images) ** 2, axis=(0, 2))
    place = np.abs(np.arange(rows) - rows // 2)
    middle = place < rows / 4
    floor = float(np.percentile(power[middle], 10))
    ends = float(np.median(power[place > 0.45 * rows]))
    if ends > 0.7 * floor:
        return np.ones(rows, bool), ()
    note = f"noise falls to {(ends / floor) ** 0.5:.2f} at the readout's ends: only its middle half was used"
    return middle, (note,)


def from_edge(scan: Scan, number: int) -> NoiseProfile:
    """Noise of k-space's corners; refused where they are padded, filtered, or hold signal."""
    kspace = scan.as_stored(number)
    _refuse_zeros(kspace)
    y, x = (np.abs(np.arange(n) - n // 2) / (n / 2) for n in kspace.shape[1:])
    corner = (y[:, None] > CORNER) & (x[None, :] > CORNER)
    near = (y[:, None] > CORNER - 0.15) & (x[None, :] > CORNER - 0.15) & ~corner
    far_power, near_power = (np.mean(np.abs(kspace[:, where]) ** 2, axis=1) for where in (corner, near))
    fall = float(np.mean(near_power / np.maximum(far_power, 1e-300)))
    if fall > 1.5:
        raise CalibrationError(
            f"power still falls by {fall:.1f} towards the corners of k-space: signal, or a filter; use a noise scan"
        )
    chosen = _quiet(kspace, corner, "the corners of k-space hold signal")
    return _profile_where(kspace, chosen, "k-space edge", scan, ())


def _refuse_zeros(kspace: NDArray[np.complex64]) -> None:
    zeros = float(np.mean(~kspace.any(axis=0)))
    if zeros > 0.005:
        raise CalibrationError(
            f"{100 * zeros:.0f} % of k-space is zero (padding, or undersampling), so noise there and in the image is "
            "less than what was received; strip the padding, or use a noise scan"
        )


def _quiet(values: NDArray[np.complex64], candidates: NDArray[np.bool_], otherwise: str) -> NDArray[np.bool_]:
    """The candidates [y x] whose blocks hold noise alone: those around the most frequent power.

    A block's power, averaged over m = 64 coils samples, has the relative standard deviation 1 / sqrt(m). Blocks within
    2.5 of these around the mode are kept; the rest must lie above, as signal does, not below.
    """
    coils, rows, columns = values.shape
    scale = np.mean(np.abs(values[:, candidates]) ** 2, axis=1)
    power = np.mean(np.abs(values) ** 2 / np.maximum(scale, 1e-300)[:, None, None], axis=0)
    ny, nx = rows // BLOCK, columns // BLOCK

    def blocks(a: NDArray[Any]) -> NDArray[Any]:
        return a[: ny * BLOCK, : nx * BLOCK].reshape(ny, BLOCK, nx, BLOCK).mean(axis=(1, 3))

    whole = blocks(candidates.astype(float)) > 0.99
    found = np.sort(blocks(power)[whole])
    if len(found) < 8:
        return candidates  # too few blocks to choose among: the corners of a small image
    spread = 1 / np.sqrt(BLOCK**2 * coils)
    width = max(len(found) // 5, 4)
    densest = int(np.argmin(np.log(found[width:]) - np.log(found[:-width])))
    mode = float(np.median(found[densest : densest + width]))
    for _ in range(50):
        near = np.abs(found / mode - 1) < 2.5 * spread
        if not near.any() or abs(float(found[near].mean()) / mode - 1) < 1e-6:
            break
        mode = float(found[near].mean())
    below = float(np.mean(found < mode * (1 - 2.5 * spread)))
    if near.sum() < 4 or near.mean() < 0.1 or below > 0.2:
        raise CalibrationError(f"{otherwise}; use a noise scan")
    kept = whole & (np.abs(blocks(power) / mode - 1) < 2.5 * spread)
    chosen = np.zeros((rows, columns), bool)
    chosen[: ny * BLOCK, : nx * BLOCK] = np.kron(kept, np.ones((BLOCK, BLOCK), bool))
    return chosen


def _profile_where(
    values: NDArray[np.complex64], chosen: NDArray[np.bool_], place: Place, scan: Scan, notes: tuple[str, ...]
) -> NoiseProfile:
    profile = profile_of_noise(values[:, chosen], place, str(scan.path))
    neighbours = chosen[:, 1:] & chosen[:, :-1]
    pairs = values[:, :, 1:][:, neighbours].astype(np.complex128), values[:, :, :-1][:, neighbours]
    lag = float(np.sum((pairs[0] * pairs[1].conj()).real) / np.sum(np.abs(pairs[0]) ** 2)) if neighbours.any() else 0.0
    if abs(lag) > 0.15 or profile.excess_kurtosis > 1:
        raise CalibrationError(
            f"neighbouring samples correlate by {lag:.2f}, excess kurtosis {profile.excess_kurtosis:.1f}: what is "
            "there is signal or filtered, not white noise; use a noise scan"
        )
    return NoiseProfile(
        profile.covariance, place, profile.samples, lag, profile.excess_kurtosis, profile.source, notes + profile.notes
    )


def pooled(profiles: Sequence[NoiseProfile]) -> NoiseProfile:
    """One profile of several, each weighing by its samples; raises CalibrationError where coils differ."""
    if len({p.coils for p in profiles}) > 1:
        raise CalibrationError(
            f"scans of {sorted({p.coils for p in profiles})} coils have no common noise; calibrate each kind on its own"
        )
    if len(profiles) == 1:
        return profiles[0]
    weights = np.array([max(p.samples, 1) for p in profiles], float)
    weights /= weights.sum()

    def mean(values: list[Any]) -> Any:
        return sum(w * v for w, v in zip(weights, values, strict=True))

    sigma = [p.mean_sigma for p in profiles]
    notes = {note for p in profiles for note in p.notes}
    if max(sigma) > 1.25 * min(sigma):
        notes.add(f"sigma differs between scans, {min(sigma):.3g} ... {max(sigma):.3g}: is it one receive chain?")
    return NoiseProfile(
        mean([p.covariance for p in profiles]),
        profiles[0].place,
        sum(p.samples for p in profiles),
        float(mean([p.lag_correlation for p in profiles])),
        float(mean([p.excess_kurtosis for p in profiles])),
        f"{len(profiles)} scans",
        tuple(sorted(notes)),
    )


def whitening_matrix(profile: NoiseProfile) -> NDArray[np.complex128]:
    """W [coil coil] with W Psi W^H = 2: after it every coil has sigma 1, and coils do not correlate.

    W = L^-1 of the Cholesky factor of Psi / 2 = L L^H. Raises CalibrationError where Psi is not positive definite.
    """
    psi = profile.covariance
    if psi.ndim != 2 or psi.shape[0] != psi.shape[1] or not np.isfinite(psi).all():
        raise CalibrationError(f"a covariance of {psi.shape} is none between coils, or holds what is no number")
    try:
        return np.asarray(np.linalg.inv(np.linalg.cholesky(psi / 2)), np.complex128)
    except np.linalg.LinAlgError:
        raise CalibrationError("the noise covariance is not positive definite; are two coils the same?") from None


def whiten(kspace: NDArray[np.complexfloating], profile: NoiseProfile) -> NDArray[np.complex64]:
    """K-space or images [coil ...] with unit noise: sigma 1 in every coil, uncorrelated; raises CalibrationError."""
    if len(kspace) != profile.coils:
        raise CalibrationError(f"the profile is of {profile.coils} coils, the data have {len(kspace)}")
    return np.tensordot(whitening_matrix(profile), kspace, axes=1).astype(np.complex64)


def added_covariance(profile: NoiseProfile, ratio: float) -> NDArray[np.complex128]:
    """Covariance of the noise to add so that the SNR falls by `ratio` >= 1: (ratio^2 - 1) Psi.

    Variances add: sigma^2 + (ratio^2 - 1) sigma^2 = (ratio sigma)^2. For a ratio of 4 that is sqrt(15) sigma.
    """
    if ratio < 1:
        raise CalibrationError(f"noise cannot raise the SNR: the ratio must be at least 1, got {ratio:g}")
    return (ratio**2 - 1) * profile.covariance


def profile_of_decorrelation(matrix: NDArray[np.complexfloating], source: str = "") -> NoiseProfile:
    """The profile behind a decorrelation matrix D, where D n has unit covariance: Psi = D^-1 D^-H."""
    inverse = np.linalg.inv(np.asarray(matrix, np.complex128))
    covariance = np.asarray(inverse @ inverse.conj().T, np.complex128)
    return NoiseProfile(covariance, "noise scan", 0, 0.0, 0.0, source, ("from a decorrelation matrix",))


def snr_of(kspace: NDArray[np.complexfloating], profile: NoiseProfile) -> dict[str, float]:
    """Every named SNR of noisy k-space [coil y x], after whitening; the noise's own power is taken off.

    Definitions: `synth.noise`. `image` takes sum |image|^2 over coils as the combined image, which holds for maps with
    sum |map|^2 = 1, and 2 as its noise.
    """
    from .noise import snr_per_sigma

    white = whiten(kspace, profile)
    power = max(float(np.mean(np.abs(white.astype(np.complex128)) ** 2)) - 2.0, 0.0)
    found = snr_per_sigma(power, white.size, power * len(white), 2.0)
    return {name: float(value) for name, value in found.items()}


def read_matrix(path: str | Path, variable: str | None = None) -> NDArray[np.complex128]:
    """A complex matrix [coil coil] from .npy, .npz or .mat; raises ScanError."""
    path = Path(path)
    try:
        if path.suffix == ".mat":
            import scipy.io

            stored = {k: v for k, v in scipy.io.loadmat(path).items() if not k.startswith("__")}
            found = stored[variable or next(iter(stored))]
        else:
            loaded = np.load(path, allow_pickle=False)
            found = loaded if isinstance(loaded, np.ndarray) else loaded[variable]
    except Exception as error:
        raise ScanError(f"{path}: holds no matrix that can be read ({type(error).__name__}: {error})") from None
    if found.ndim != 2 or found.shape[0] != found.shape[1] or found.dtype.kind not in "fc":
        raise ScanError(f"{path}: holds {found.dtype} {found.shape}, no matrix between coils")
    return np.asarray(found, np.complex128)
