"""Where each name of the package lives."""

from .loading import SavedRun as SavedRun
from .loading import load_posterior as load_posterior
from .loading import load_run as load_run
from .result import LearnResult as LearnResult
from .saving import describe as describe
