"""How much a trained model depends on the path that training took: what is compared is what networks compute."""

from novacula.paths.attacks import attack
from novacula.paths.barrier import Barrier, barrier
from novacula.paths.bend import bend
from novacula.paths.churn import Churn, churn
from novacula.paths.complexity import Complexity, complexity, ranked_within
from novacula.paths.history import DoubleDescent, Grokking, History, history
from novacula.paths.influence import Influence, influence
from novacula.paths.learning_coefficient import learning_coefficient
from novacula.paths.matching import canonical, match, match_many, widen
from novacula.paths.similarity import Similarity, similarity
from novacula.paths.spawn import Spawn
from novacula.paths.spectrum import Spectrum, spectrum
from novacula.paths.symmetries import Collapse, Symmetries, symmetries
from novacula.paths.trajectory import Trajectory, trajectory

__all__ = [
    "Barrier",
    "Churn",
    "Collapse",
    "Complexity",
    "DoubleDescent",
    "Grokking",
    "History",
    "Influence",
    "Similarity",
    "Spawn",
    "Spectrum",
    "Symmetries",
    "Trajectory",
    "attack",
    "barrier",
    "bend",
    "canonical",
    "churn",
    "complexity",
    "history",
    "influence",
    "learning_coefficient",
    "match",
    "match_many",
    "ranked_within",
    "similarity",
    "spectrum",
    "symmetries",
    "trajectory",
    "widen",
]
