"""How much a trained model depends on the path that training took: what is compared is what networks compute."""

from novacula.paths.barrier import Barrier, barrier
from novacula.paths.churn import Churn, churn
from novacula.paths.similarity import Similarity, similarity
from novacula.paths.symmetries import Symmetries, symmetries

__all__ = ["Barrier", "Churn", "Similarity", "Symmetries", "barrier", "churn", "similarity", "symmetries"]
