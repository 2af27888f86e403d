"""Where each name of the package lives."""

from .arviz import to_arviz as to_arviz
from .convergence import ess as ess
from .convergence import mcse as mcse
from .convergence import rhat as rhat
from .e_process import EProcess as EProcess
from .e_process import bayes_factor as bayes_factor
from .e_process import better as better
from .e_process import changed as changed
from .loo import Loo as Loo
from .loo import Waic as Waic
from .loo import psis_loo as psis_loo
from .loo import waic as waic
from .two_samples import TwoSamples as TwoSamples
from .two_samples import log_odds as log_odds
from .two_samples import two_samples as two_samples
