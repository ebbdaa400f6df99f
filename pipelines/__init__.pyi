from .cluster import ClusterSpec
from .corpus.build import Built, build
from .corpus.verify import Verified, verify
from .errors import BuildError, ClusterError, CorpusExistsError, ManifestError, StageError
from .models.named_models import model_named
from .models.scan_images import Reconstructed, reconstruct_scan
from .study.run_study import StudyResult, run_study

__version__: str
__all__ = [
    "BuildError",
    "Built",
    "ClusterError",
    "ClusterSpec",
    "CorpusExistsError",
    "ManifestError",
    "Reconstructed",
    "StageError",
    "StudyResult",
    "Verified",
    "build",
    "model_named",
    "reconstruct_scan",
    "run_study",
    "verify",
]
