from .calibration.espirit import espirit
from .calibration.espirit_maps import EspiritMaps
from .calibration.noise_profile import NoiseProfile, load_profile, snr_of, whiten
from .calibration.scan_noise import calibrate
from .corpus.reader import Corpus, open_corpus
from .errors import (
    CalibrationError,
    CorpusError,
    FathomError,
    ImageFileError,
    RecipeError,
    ScanError,
    SettingsError,
    ShardError,
    SourceRejectedError,
    SourceUnreadableError,
    UnfinishedCorpusError,
)
from .pair import Pair
from .physics import fft2c, ifft2c, sense_adjoint, sense_forward, sense_normal
from .plan import Plan
from .recipe import Recipe, load_recipe
from .scans.open import open_scan
from .scans.scan import Scan

__all__ = [
    "CalibrationError",
    "Corpus",
    "CorpusError",
    "EspiritMaps",
    "FathomError",
    "ImageFileError",
    "NoiseProfile",
    "Pair",
    "Plan",
    "Recipe",
    "RecipeError",
    "Scan",
    "ScanError",
    "SettingsError",
    "ShardError",
    "SourceRejectedError",
    "SourceUnreadableError",
    "UnfinishedCorpusError",
    "calibrate",
    "espirit",
    "fft2c",
    "ifft2c",
    "load_profile",
    "load_recipe",
    "open_corpus",
    "open_scan",
    "sense_adjoint",
    "sense_forward",
    "sense_normal",
    "snr_of",
    "whiten",
]
