"""How much a trained model depends on the path that training took: what is compared is what networks compute."""

from novacula.paths.churn import Churn, churn
from novacula.paths.similarity import Similarity, similarity

__all__ = ["Churn", "Similarity", "churn", "similarity"]
