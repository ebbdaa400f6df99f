"""Training and testing of reconstruction networks on training pairs, and reconstruction of scans with them.

The names in ``recon.__all__`` are the public interface; everything else may change. A name is loaded when it is first
used.
"""

import lazy_loader

from synth.moved import forward

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

forward("recon.loader", dict.fromkeys(("PairDataset", "VirtualPairs"), "recon.data.datasets"))
forward("recon.batches", {"make_loader": "recon.data.loader"})
forward("recon.adapters", dict.fromkeys(("as_fastmri", "as_deepinv", "as_direct"), "recon.data.adapters"))
forward(
    "recon.baselines",
    dict.fromkeys(("ZeroFilled", "CgSense", "RegularisedSense", "Wavelet", "Grappa"), "recon.models.baselines"),
)
forward("recon.unrolled_sense", {"UnrolledSense": "recon.models.unrolled_sense"})
forward("recon.metrics", {"slice_metrics": "recon.evaluation.metrics"})
forward("recon.trained", {"load_model": "recon.training.model_files"})
