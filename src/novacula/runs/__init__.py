"""The life of a run: from names to data and a target, to a result, to a folder, and back.

Names are imported when they are first used: the command line's help reads `settings` and needs no torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
