"""Where each name of the package lives."""

from .arviz import to_arviz as to_arviz
from .convergence import ess as ess
from .convergence import mcse as mcse
from .convergence import rhat as rhat
from .loo import Loo as Loo
from .loo import Waic as Waic
from .loo import psis_loo as psis_loo
from .loo import waic as waic
