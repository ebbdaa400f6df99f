"""The noise of a receive chain: the covariance between coils, whitening with it, and the SNR after whitening.

Conventions: sigma is the standard deviation of the real part, and the same of the imaginary part; the covariance is
Psi = E[n n^H], the mean of n n^H over samples, so its diagonal is 2 sigma^2; the orthonormal FFT keeps both.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ..errors import CalibrationError
from ..given import refuse_other_type
from ..snr import snr_per_sigma
from ..storage.place import place_of
from ..storage.whole import named, open_stored, read_document

Place = Literal["noise scan", "background", "k-space edge", "samples"]
PLACES: tuple[Place, ...] = get_args(Place)
LEAST_SAMPLES = 100
LAG = 0.04  # correlation of neighbouring samples that is told


@dataclass(frozen=True, eq=False)
class NoiseProfile:
    """The noise of a receive chain, and how reliable the result is.

    Attributes
    ----------
    covariance
        Psi [coil coil] = E[n n^H], complex; its diagonal is 2 sigma^2, sigma in the unit of the k-space.
    place
        Where the noise was learnt: noise scan, background, k-space edge, or samples with signal (`from_samples`).
    samples
        Number of independent complex samples per coil from which it was learnt.
    lag_correlation
        Correlation of neighbouring samples; 0 where noise is white.
    excess_kurtosis
        Excess kurtosis of whitened real and imaginary parts; 0 for a Gaussian.
    source
        The file.
    notes
        Limits of the result, one sentence each.
    uncertainty
        Half width of the 95 % interval of `rms_sigma`, relative: 1.96 standard errors of the samples used, and half
        of the difference from a second place where there is one. NaN where it is not known.
    """

    covariance: NDArray[np.complex128]
    place: Place
    samples: int
    lag_correlation: float
    excess_kurtosis: float
    source: str = ""
    notes: tuple[str, ...] = ()
    uncertainty: float = float("nan")

    @property
    def coils(self) -> int:
        """Number of coils."""
        return len(self.covariance)

    @property
    def sigma(self) -> NDArray[np.float64]:
        """Standard deviation [coil] of the real part, and the same of the imaginary part."""
        return np.sqrt(np.diag(self.covariance).real / 2)

    @property
    def rms_sigma(self) -> float:
        """Square root of the mean of sigma^2 over coils."""
        return float(np.sqrt(np.mean(self.sigma**2)))

    mean_sigma = rms_sigma  # the older name, which was wrong: it is an rms and no mean

    @property
    def independent_coils(self) -> float:
        """Number of coils with independent noise that would give the same spread: trace(Psi)^2 / trace(Psi^2)."""
        return float(np.trace(self.covariance).real ** 2 / np.linalg.norm(self.covariance) ** 2)

    @property
    def standard_error(self) -> float:
        """Relative standard error of `rms_sigma`: 1 / (2 sqrt(n)) of n independent complex samples over all coils."""
        return float(0.5 / np.sqrt(max(self.samples, 1) * self.independent_coils))

    @property
    def told_lag(self) -> float:
        """The correlation of neighbouring samples above which it is told, and not chance."""
        return LAG + 8 * self.standard_error

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
            **dict.fromkeys(("rms_sigma", "mean_sigma"), self.rms_sigma),  # the second is the older name
            "covariance": {"real": self.covariance.real.tolist(), "imag": self.covariance.imag.tolist()},
            "largest_correlation": float(np.abs(self.correlation - np.eye(self.coils)).max()),
            "place": self.place,
            "samples": self.samples,
            "lag_correlation": self.lag_correlation,
            "excess_kurtosis": self.excess_kurtosis,
            "source": self.source,
            "notes": list(self.notes),
            **({} if np.isnan(self.uncertainty) else {"uncertainty": self.uncertainty}),
        }

    def save(self, path: str | Path) -> None:
        """Write as JSON; raises FileExistsError rather than overwrite."""
        with named(Path(path)), Path(path).open("x") as file:
            json.dump(self.as_dict(), file, indent=2)


def load_profile(path: str | Path) -> NoiseProfile:
    """Read a noise profile.

    Parameters
    ----------
    path
        The JSON file of `fathom calibrate` or `NoiseProfile.save`; or a covariance [coil coil] alone, as .npy.

    Raises
    ------
    CalibrationError
        The file holds no profile.
    """
    try:
        if str(path).endswith(".npy"):  # a covariance alone, which recipes take, too
            with open_stored(place_of(path)) as file:
                psi = np.asarray(np.load(file, allow_pickle=False), np.complex128)
            whitening_of(psi)
            return NoiseProfile(psi, "noise scan", 0, 0.0, 0.0, str(path), ("a covariance alone",))
        stored = json.loads(read_document(place_of(path)))
        covariance = np.asarray(stored["covariance"]["real"]) + 1j * np.asarray(stored["covariance"]["imag"])
        profile = NoiseProfile(
            covariance,
            **{n: stored[n] for n in ("place", "samples", "lag_correlation", "excess_kurtosis", "source")},
            notes=tuple(stored["notes"]),
            uncertainty=float(stored.get("uncertainty", np.nan)),  # earlier versions stored none
        )
        whitening_matrix(profile)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        plain = {FileNotFoundError: "does not exist", json.JSONDecodeError: "is not a noise profile"}
        what = plain.get(type(error), f"is not a noise profile ({error})")
        raise CalibrationError(f"{path}: {what}; make one with `fathom calibrate`") from None
    return profile


def profile_of_noise(noise: NDArray[np.complexfloating], place: Place = "noise scan", source: str = "") -> NoiseProfile:
    """The profile of noise samples [coil sample] that hold nothing else; raises CalibrationError for too few."""
    n = np.asarray(noise, np.complex128)
    coils, samples = n.shape
    if samples < max(2 * coils, LEAST_SAMPLES):
        raise CalibrationError(
            f"{source}: {samples} noise samples of {coils} coils are too few; need at least "
            f"{max(2 * coils, LEAST_SAMPLES)}"
        )
    covariance = n @ n.conj().T / samples
    if not np.diag(covariance).real.min() > 0:
        raise CalibrationError(f"{source}: coil {np.argmin(np.diag(covariance).real)} has no noise; is it connected?")
    lag = float(np.sum((n[:, :-1].conj() * n[:, 1:]).real) / np.sum(np.abs(n) ** 2))
    white = whitening_of(covariance) @ n
    parts = np.concatenate([white.real.ravel(), white.imag.ravel()])
    kurtosis = float(np.mean(parts**4) / np.mean(parts**2) ** 2 - 3)
    notes = []
    if abs(lag) > 0.1:
        notes.append(f"neighbouring samples correlate by {lag:.2f}, by a receiver filter or oversampling")
    if abs(kurtosis) > 6 * np.sqrt(24 / (2 * n.size)) + 0.05:
        notes.append(f"excess kurtosis {kurtosis:.2f}, so not Gaussian: is there signal or interference in the noise?")
    found = NoiseProfile(covariance, place, samples, lag, kurtosis, source, tuple(notes))
    return replace(found, uncertainty=1.96 * found.standard_error)


def pooled(profiles: Sequence[NoiseProfile]) -> NoiseProfile:
    """The mean of profiles, weighted by numbers of samples; raises CalibrationError if numbers of coils differ."""
    if len({p.coils for p in profiles}) > 1:
        named = ", ".join(f"{Path(p.source).name} has {p.coils}" for p in profiles)
        raise CalibrationError(f"scans of different coils have no common noise profile ({named}); calibrate each apart")
    if len(profiles) == 1:
        return profiles[0]
    weights = np.array([max(p.samples, 1) for p in profiles]) / sum(max(p.samples, 1) for p in profiles)
    covariance = np.average([p.covariance for p in profiles], axis=0, weights=weights)
    notes = {f"{Path(p.source).name}: {note}" for p in profiles for note in p.notes}
    for p in profiles:
        apart = float(np.linalg.norm(p.covariance - covariance) / np.linalg.norm(covariance))
        if apart > 0.1 + 2 * p.coils / max(p.samples, 1) ** 0.5:
            notes.add(
                f"{Path(p.source).name}: its covariance differs by {100 * apart:.0f} % from the mean of all (its sigma "
                f"is {p.rms_sigma:.4g}): is it the same receive chain?"
            )
    return NoiseProfile(
        covariance,
        profiles[0].place,
        sum(p.samples for p in profiles),
        float(np.average([p.lag_correlation for p in profiles], weights=weights)),
        float(np.average([p.excess_kurtosis for p in profiles], weights=weights)),
        f"{len(profiles)} scans",
        tuple(sorted(notes)),
        float(np.sqrt(np.sum(weights**2 * np.array([p.uncertainty for p in profiles]) ** 2))),
    )


def whitening_matrix(profile: NoiseProfile) -> NDArray[np.complex128]:
    """W [coil coil] with W Psi W^H = 2 I: after whitening, every coil has sigma 1, and coils do not correlate.

    W = L^-1 of the Cholesky factor of Psi / 2 = L L^H. Raises CalibrationError where Psi is not positive definite.
    """
    return whitening_of(profile.covariance)


def whitening_of(psi: NDArray[np.complex128]) -> NDArray[np.complex128]:
    """The whitening matrix W [coil coil] of a covariance [coil coil]; see `whitening_matrix`."""
    if psi.ndim != 2 or psi.shape[0] != psi.shape[1] or not np.isfinite(psi).all():
        raise CalibrationError(
            f"the noise covariance of shape {psi.shape} is not a square matrix [coil coil], or has entries that are "
            "NaN or infinite; measure it again"
        )
    if not np.allclose(psi, psi.conj().T, rtol=1e-5, atol=1e-8 * float(np.abs(psi).max())):
        raise CalibrationError("the noise covariance is not Hermitian; give E[n n^H]")
    try:
        return np.asarray(np.linalg.inv(np.linalg.cholesky(psi / 2)), np.complex128)
    except np.linalg.LinAlgError:
        raise CalibrationError("the noise covariance is not positive definite; are two coils the same?") from None


def whiten(kspace: NDArray[np.complexfloating], profile: NoiseProfile) -> NDArray[np.complex64]:
    """Mix coils such that their noise has sigma 1 in each coil and does not correlate between coils.

    Parameters
    ----------
    kspace
        K-space or images [coil ...].
    profile
        The noise of these coils.

    Returns
    -------
    W times the data, with W Psi W^H = 2 I.

    Raises
    ------
    CalibrationError
        The profile is of another number of coils, or its covariance cannot be inverted.
    """
    refuse_other_type(profile, NoiseProfile, "whiten takes a NoiseProfile, such as load_profile gives")
    if len(kspace) != profile.coils:
        raise CalibrationError(
            f"the noise profile has {profile.coils} coils, the data have {len(kspace)}; give the profile of these coils"
        )
    return np.tensordot(whitening_matrix(profile), kspace, axes=1).astype(np.complex64)


def added_covariance(profile: NoiseProfile, ratio: float) -> NDArray[np.complex128]:
    """Covariance of the noise to add so that the SNR falls by `ratio` >= 1: (ratio^2 - 1) Psi.

    Variances add: sigma^2 + (ratio^2 - 1) sigma^2 = (ratio sigma)^2. For a ratio of 4 that is sqrt(15) sigma.
    """
    if ratio < 1:
        raise CalibrationError(f"noise cannot raise the SNR: the ratio must be at least 1, got {ratio:g}")
    return (ratio**2 - 1) * profile.covariance


def snr_of(kspace: NDArray[np.complexfloating], profile: NoiseProfile) -> dict[str, float]:
    """Every named SNR of noisy k-space after whitening; the power of the noise itself is subtracted.

    Parameters
    ----------
    kspace
        Complex [coil y x], not whitened.
    profile
        Its noise.

    Returns
    -------
    ``rms``, ``knoll``, ``knoll-rms`` and ``image`` as `synth.snr` defines them. For ``image``, the power of the
    combined image is sum |image|^2 over coils, which holds for maps with sum |map|^2 = 1, and that of its noise is 2.

    Raises
    ------
    CalibrationError
        The profile does not fit the coils.
    """
    white = whiten(kspace, profile)
    power = max(float(np.mean(np.abs(white.astype(np.complex128)) ** 2)) - 2.0, 0.0)
    return {name: float(v) for name, v in snr_per_sigma(power, white.size, power * len(white), 2.0).items()}
