from .data.adapters import as_deepinv, as_direct, as_fastmri
from .data.datasets import PairDataset, VirtualPairs
from .data.device_espirit import device_espirit
from .data.device_pairs import DevicePairs
from .data.loader import PairLoader, make_loader
from .errors import CheckpointError, ModelError, TrainingError, UnmeasurableError
from .evaluation.metrics import slice_metrics
from .evaluation.rows import evaluate
from .models.baselines import CgSense, Grappa, RegularisedSense, Wavelet, ZeroFilled
from .models.catalogue import make_model
from .models.peers import from_deepinv, from_fastmri, from_monai
from .models.unrolled_sense import Denoiser, DenoiserSpec, UnrolledSense, UnrolledSpec
from .models.variational import VariationalNetwork, VariationalSpec
from .training.loop import train
from .training.model_files import load_model
from .training.settings import Training, load_training

__all__ = [
    "CgSense",
    "CheckpointError",
    "Denoiser",
    "DenoiserSpec",
    "DevicePairs",
    "Grappa",
    "ModelError",
    "PairDataset",
    "PairLoader",
    "RegularisedSense",
    "Training",
    "TrainingError",
    "UnmeasurableError",
    "UnrolledSense",
    "UnrolledSpec",
    "VariationalNetwork",
    "VariationalSpec",
    "VirtualPairs",
    "Wavelet",
    "ZeroFilled",
    "as_deepinv",
    "as_direct",
    "as_fastmri",
    "device_espirit",
    "evaluate",
    "from_deepinv",
    "from_fastmri",
    "from_monai",
    "load_model",
    "load_training",
    "make_loader",
    "make_model",
    "slice_metrics",
    "train",
]
