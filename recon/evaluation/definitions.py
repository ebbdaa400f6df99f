"""What every metric is called in reports, its exact definition, and which direction is better.

x is the reconstruction, r the reference; the functions that a definition names hold the formulas with their sources.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:  # which needs the bounds
    from .intervals import Interval

Better = Literal["more", "less", ""]


@dataclass(frozen=True)
class Definition:
    """A metric's name for readers and its definition.

    ``better`` is empty where neither direction is better. ``gamed`` says why an image of no use, such as the
    zero-filled one, looks good in the metric; it is empty where it does not. ``how`` is the format of a value, in which
    a negative zero is 0.
    """

    name: str
    says: str
    better: Better = ""
    how: str = "z.3f"
    gamed: str = ""
    unit: str = ""

    @property
    def title(self) -> str:
        """The name with the unit, for heads of columns and axes."""
        return f"{self.name}, {self.unit}" if self.unit else self.name

    def told(self, value: Interval | None) -> str:
        """A value with its interval and its unit, such as ``28.50 [25.58 … 31.42] dB``."""
        if value is None:
            return "not measured"
        if not math.isfinite(value.mean):
            return "exact"
        return f"{value.mean:{self.how}} [{value.ends(self.how)}]" + f" {self.unit}" * bool(self.unit)

    @property
    def whole(self) -> str:
        """The definition in sentences."""
        direction = {"more": "More is better.", "less": "Less is better.", "": ""}[self.better]
        return " ".join(part for part in (self.says, direction, self.gamed) if part)


_SMALL_ERROR = "Small, too, where the rest of the error is large (noise, blur): read it with the aliases."
_BLUR = "A smoother image has less noise: zero-filled and blurred images look good here."
_NO_ALIASES = (
    "Of an image that keeps its aliases, as the zero-filled one, the noise is even because nothing amplifies it: "
    "compare only images without aliases."
)

DEFINITIONS: dict[str, Definition] = {
    "psnr_magnitude_slice_max": Definition(
        "PSNR",
        "20 log10(max |r| / rms(|x| − |r|)) in dB, over all pixels, with the maximum of the slice's reference.",
        "more",
        "z.2f",
        unit="dB",
    ),
    "psnr_magnitude_object_max": Definition(
        "PSNR in the object",
        "PSNR over the pixels whose reference is above 5 % of its maximum.",
        "more",
        "z.2f",
        unit="dB",
    ),
    "ssim_windowed_slice_range": Definition(
        "SSIM",
        "Wang's SSIM of magnitudes with Gaussian windows (sigma 1.5), data range max |r| − min |r| of the slice; "
        "1 is exact.",
        "more",
    ),
    "ssim_global_slice_max": Definition(
        "SSIM, one window", "SSIM of the whole magnitude images as one window, data range max |r|; 1 is exact.", "more"
    ),
    "nrmse_complex": Definition("NRMSE", "‖x − r‖ / ‖r‖ of the complex images; 0 is exact.", "less"),
    "nrmse_magnitude": Definition("NRMSE of magnitudes", "‖|x| − |r|‖ / ‖r‖; 0 is exact.", "less"),
    "aliasing_nmse": Definition(
        "Aliases", "Energy of shifted copies of the object in the error, over the energy of the image.", "less", "z.4f"
    ),
    "aliasing_energy": Definition(
        "Share of aliases",
        "The part of the error's energy that shifted copies of the object explain.",
        "",
        gamed=_SMALL_ERROR,
    ),
    "data_consistency": Definition(
        "Data misfit",
        "Rms of the difference to the measured samples over the noise's rms. The true image gives 1: less means that "
        "noise was fitted, more that the image contradicts the data.",
    ),
    "lesion_error": Definition(
        "Lesion error",
        "Error of a lesion's contrast against the ring around it, over the true contrast: 0 is right; 1 is lost, "
        "inverted or doubled.",
        "less",
    ),
    "contrast_recovery": Definition(
        "Lesion recovery",
        "The part of a lesion that comes back: 1 is the whole lesion, more is too strong.",
        gamed="What surrounds the lesion does not count: read it with the lesion error.",
    ),
    "false_lesions": Definition(
        "False lesions",
        "Share of the places in the object, without a lesion, that show a bright or a dark one of at least half its "
        "contrast.",
        "less",
    ),
    "false_bright": Definition("False bright", "Share of places that show a bright lesion that is not there.", "less"),
    "false_dark": Definition("False dark", "Share of places that show a dark lesion that is not there.", "less"),
    "noise_gain": Definition(
        "Noise gain", "Noise reconstructed alone: its rms over that of a fully sampled image.", gamed=_BLUR
    ),
    "noise_kurtosis": Definition(
        "Noise kurtosis",
        "Noise reconstructed alone: mean |x|⁴ / (mean |x|²)². Normal noise of an even level gives 2; more means that "
        "its level varies, or that noise became structure.",
    ),
    "noise_spread": Definition(
        "Noise unevenness",
        "95th over 5th percentile of the local noise in the object; 1 is even.",
        gamed=_NO_ALIASES,
    ),
    "noise_centre": Definition(
        "Noise in the middle",
        "Rms of the local noise in the middle half of each side over that in the rest of the object; 1 is even.",
        gamed=_NO_ALIASES,
    ),
    "noise_sd": Definition(
        "Noise SD",
        "Standard deviation of the real and of the imaginary part of the image for the noise at hand, in the image's "
        "unit; mean over the object.",
        how="z.3g",
        gamed=_BLUR,
    ),
    "noise_sd_magnitude": Definition(
        "Noise SD of magnitude", "The same of the magnitude, to first order.", how="z.3g", gamed=_BLUR
    ),
    "noise_sd_error": Definition(
        "Error of noise SD", "Standard error of a pixel of the noise map, relative; more probes lower it.", how="z.2g"
    ),
    "null_share": Definition(
        "Unmeasured detail",
        "Share of the energy of the image's detail that the coils did not measure, so that it comes from the prior "
        "alone.",
        gamed="An image that adds nothing, as the zero-filled one, has none: read it with the lesion error.",
    ),
    "halves_agreement": Definition(
        "Agreement of halves",
        "Correlation of the detail of two reconstructions from independent noise of twice the variance; 1: noise "
        "changes nothing.",
        gamed=_BLUR,
    ),
}

_SHARE, _SIZE = (0.0, 1.0), (0.0, math.inf)
BOUNDS = {  # that no value of a metric crosses; estimates without the mean of their noise, as aliases, can be below 0
    **dict.fromkeys(("ssim_windowed_slice_range", "ssim_global_slice_max", "halves_agreement"), (-1.0, 1.0)),
    **dict.fromkeys(("lesion_error", "false_lesions", "false_bright", "false_dark"), _SHARE),
    **dict.fromkeys(("nrmse_complex", "nrmse_magnitude", "data_consistency", "noise_gain", "noise_kurtosis"), _SIZE),
    **dict.fromkeys(("noise_spread", "noise_centre", "noise_sd", "noise_sd_magnitude", "noise_sd_error"), _SIZE),
}


def defined(metric: str) -> Definition:
    """The definition of a metric; of an unknown one, its name alone."""
    return DEFINITIONS.get(metric, Definition(metric, ""))
