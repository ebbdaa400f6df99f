"""Who runs what: the build engine, its checks, studies, and the command line. Only wiring.

The names of ``pipelines.__all__`` are for use from outside; all else may change. They are loaded when they are asked
for.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
