"""How much a trained model depends on the path that training took: what is compared is what networks compute."""

from novacula.paths.barrier import Barrier, barrier
from novacula.paths.churn import Churn, churn
from novacula.paths.complexity import Complexity, complexity, ranked_within
from novacula.paths.influence import Influence, influence
from novacula.paths.learning_coefficient import learning_coefficient
from novacula.paths.matching import match, match_many
from novacula.paths.similarity import Similarity, similarity
from novacula.paths.spectrum import Spectrum, spectrum
from novacula.paths.symmetries import Symmetries, symmetries
from novacula.paths.trajectory import Trajectory, trajectory

__all__ = [
    "Barrier",
    "Churn",
    "Complexity",
    "Influence",
    "Similarity",
    "Spectrum",
    "Symmetries",
    "Trajectory",
    "barrier",
    "churn",
    "complexity",
    "influence",
    "learning_coefficient",
    "match",
    "match_many",
    "ranked_within",
    "similarity",
    "spectrum",
    "symmetries",
    "trajectory",
]
