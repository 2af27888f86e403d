"""Whole questions, answered: learn a prior, compare models."""

from novacula.study.compare import Comparison, compare
from novacula.study.empirical_bayes import EmpiricalBayes
from novacula.study.learn import LearnResult, default_method, learn
from novacula.study.saving import describe

__all__ = ["Comparison", "EmpiricalBayes", "LearnResult", "compare", "default_method", "describe", "learn"]
