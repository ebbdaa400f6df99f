"""The build engine, its checks, studies, and the command line; they only connect the parts of `synth` and `recon`.

The names in ``pipelines.__all__`` are the public interface; everything else may change. A name is loaded when it is
first used.
"""

import lazy_loader

from synth.version import __version__ as __version__

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
