"""Whole questions, answered: learn a prior, compare models."""

from novacula.study.compare import Comparison, compare
from novacula.study.empirical_bayes import EmpiricalBayes
from novacula.study.learn import LearnResult, learn

__all__ = ["Comparison", "EmpiricalBayes", "LearnResult", "compare", "learn"]
