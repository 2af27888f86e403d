"""Whole questions, answered: learn a prior, compare models, temper the posterior."""

from novacula.study.cold_posterior import ColdPosterior, cold_posterior
from novacula.study.compare import Comparison, compare
from novacula.study.empirical_bayes import EmpiricalBayes
from novacula.study.learn import LearnResult, default_method, learn
from novacula.study.posterior import Fitted, load_posterior, load_run
from novacula.study.safe_bayes import SafeBayes, safe_bayes
from novacula.study.sampled import Sampled, learn_from_draws
from novacula.study.saving import describe
from novacula.study.sbc import sbc
from novacula.study.temperature import TemperatureChoice, choose_temperature

__all__ = [
    "ColdPosterior",
    "Comparison",
    "EmpiricalBayes",
    "Fitted",
    "LearnResult",
    "SafeBayes",
    "Sampled",
    "TemperatureChoice",
    "choose_temperature",
    "cold_posterior",
    "compare",
    "default_method",
    "describe",
    "learn",
    "learn_from_draws",
    "load_posterior",
    "load_run",
    "safe_bayes",
    "sbc",
]
