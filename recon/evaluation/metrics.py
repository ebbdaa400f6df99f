"""Metrics of a reconstruction against its reference; the name of each metric states its data range.

Images are complex [y x] (or [slice y x] for the metrics of a volume). The range is always the reference's, never the
reconstruction's. Of images with several map sets, [set y x], metrics are those of the root of the sum of squares over
the sets; `nrmse_complex` alone is over the complex images of all sets.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from synth.physics import rss
from synth.stages.object_mask import object_of

Image = NDArray[np.complexfloating]
SIGMA, WINDOW = 1.5, 11  # of Wang's SSIM
MAP_SETS = 2  # at most, as in `coils.espirit_sets`


def nrmse_complex(image: Image, reference: Image) -> float:
    """||x - r|| / ||r|| of complex images: Knoll 2019's and the VN authors' RMSE."""
    return float(np.linalg.norm(image - reference) / np.linalg.norm(reference))


def nrmse_magnitude(image: Image, reference: Image) -> float:
    """|| |x| - |r| || / ||r||."""
    return float(np.linalg.norm(np.abs(image) - np.abs(reference)) / np.linalg.norm(reference))


def psnr_magnitude_slice_max(image: Image, reference: Image) -> float:
    """20 log10(max |r| / rms(|x| - |r|)) in dB, with the reference's own maximum."""
    error = np.sqrt(np.mean((np.abs(image).astype(np.float64) - np.abs(reference)) ** 2))
    return float(20 * np.log10(np.abs(reference).max() / error)) if error != 0 else float("inf")


def psnr_magnitude_object_max(image: Image, reference: Image) -> float:
    """PSNR in dB over the object alone, which is the pixels whose reference is above 5 % of its maximum."""
    r, x = np.abs(reference).astype(np.float64), np.abs(image).astype(np.float64)
    inside = object_of(r)
    error = np.sqrt(np.mean((x - r)[inside] ** 2))
    return float(20 * np.log10(r.max() / error)) if error != 0 else float("inf")


def ssim_windowed_slice_range(image: Image, reference: Image) -> float:
    """Wang's SSIM of magnitudes with Gaussian windows (sigma 1.5), in the range max |r| - min |r| of the slice.

    As the authors of the variational network compute it: scikit-image with ``gaussian_weights=True,
    use_sample_covariance=False``.
    """
    from skimage.metrics import structural_similarity

    r, x = np.abs(reference).astype(np.float64), np.abs(image).astype(np.float64)
    return float(
        structural_similarity(
            r, x, data_range=float(r.max() - r.min()), gaussian_weights=True, sigma=SIGMA, use_sample_covariance=False
        )
    )


def ssim_global_slice_max(image: Image, reference: Image) -> float:
    """Knoll 2019's formula as printed: SSIM of the whole magnitude images as one window, in the range max |r|.

    (2 m_x m_r + c1) (2 s_xr + c2) / ((m_x^2 + m_r^2 + c1) (s_x^2 + s_r^2 + c2)), c1 = (0.01 L)^2, c2 = (0.03 L)^2.
    """
    r, x = np.abs(reference).astype(np.float64), np.abs(image).astype(np.float64)
    c1, c2 = (0.01 * r.max()) ** 2, (0.03 * r.max()) ** 2
    shared = np.mean((x - x.mean()) * (r - r.mean()))
    mean = (2 * x.mean() * r.mean() + c1) / (x.mean() ** 2 + r.mean() ** 2 + c1)
    return float(mean * (2 * shared + c2) / (x.var() + r.var() + c2))


def fastmri_volume(images: Image, references: Image) -> dict[str, float]:
    """FastMRI's NMSE, PSNR and SSIM of a volume [slice y x] of magnitudes (fastmri.evaluate).

    The data range is the volume's maximum. NMSE is ||x - r||^2 / ||r||^2 of the volume; SSIM is the mean over slices
    with uniform windows of 7 x 7.
    """
    from skimage.metrics import structural_similarity

    x, r = np.abs(images).astype(np.float64), np.abs(references).astype(np.float64)
    peak = float(r.max())
    error = float(np.mean((x - r) ** 2))
    ssim = [structural_similarity(b, a, data_range=peak) for a, b in zip(x, r, strict=True)]
    return {
        "fastmri_nmse": float(np.sum((x - r) ** 2) / np.sum(r**2)),
        "fastmri_psnr": float(10 * np.log10(peak**2 / error)) if error != 0 else float("inf"),
        "fastmri_ssim": float(np.mean(ssim)),
    }


SLICE_METRICS = (
    nrmse_complex,  # first: the only one that needs phases
    nrmse_magnitude,
    psnr_magnitude_slice_max,
    psnr_magnitude_object_max,
    ssim_windowed_slice_range,
    ssim_global_slice_max,
)


def slice_metrics(image: Image, reference: Image) -> dict[str, float]:
    """Every metric of a slice, by name; each name states its data range.

    Parameters
    ----------
    image
        The reconstruction [y x], complex, or real where only magnitudes are known; [set y x] with several map sets.
    reference
        The reference, of the same shape, which gives every data range.

    Returns
    -------
    NRMSE of complex images (not for magnitudes) and of magnitudes, PSNR in dB, SSIM in windows and of the whole slice;
    all NaN where the reference is zero everywhere, which is the scale of all of them.

    Raises
    ------
    ValueError
        The shapes differ, or are not [y x] or [set y x] with at most two sets, such as that of a batch.
    """
    image, reference = np.asarray(image), np.asarray(reference)
    if image.shape != reference.shape or image.ndim not in (2, 3) or (image.ndim == 3 and len(image) > MAP_SETS):
        raise ValueError(
            f"the image is {list(image.shape)} and the reference {list(reference.shape)}; give one slice of each, "
            f"[y x], or [set y x] with {MAP_SETS} map sets; of a batch, one after another"
        )
    shown = over_sets(image), over_sets(reference)
    known = SLICE_METRICS if np.iscomplexobj(image) else SLICE_METRICS[1:]
    if not reference.any():
        return {metric.__name__: float("nan") for metric in known}
    given = {metric: (image, reference) if metric is nrmse_complex else shown for metric in known}
    return {metric.__name__: metric(*images) for metric, images in given.items()}


def over_sets(image: Image) -> Image:
    """The image [y x] that is shown of an image [set y x]: the root of the sum of squares over the sets.

    An image [y x] is returned as it is.
    """
    return rss(image) if image.ndim == 3 else image
