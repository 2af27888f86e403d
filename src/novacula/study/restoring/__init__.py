"""Images restored by the prior of a network: noise taken away, gaps filled, resolution raised, from one image alone."""

from novacula.study.restoring.restore import restore
from novacula.study.restoring.result import Restored

__all__ = ["Restored", "restore"]
