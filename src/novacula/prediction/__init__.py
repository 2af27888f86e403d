"""Predictions: a posterior's distribution over new labels, its scores, what to do with it, and the choice of it.

`predict` makes a `Predictive`, `evaluate` scores it against labels, `choose` finds the structure and temperature that
are not worse than the point estimate, on the training data alone. `Predictive.decide` finds the best actions under any
costs, `conformal` makes sets that hold the truth as often as promised, `ood` tells strange inputs from usual ones, and
`agreement` and `total_variation` compare with a reference.
"""

from novacula.prediction import conformal
from novacula.prediction.choose import Choice, Score, choose
from novacula.prediction.conformal.sets import Intervals, Sets
from novacula.prediction.decisions.costs import Costs, load_costs
from novacula.prediction.decisions.decide import Decision, PointDecision
from novacula.prediction.entropy import Entropy
from novacula.prediction.predict import predict
from novacula.prediction.predictive import Predictive
from novacula.prediction.scores.calibration import Reliability, reliability
from novacula.prediction.scores.fidelity import agreement, function_rhat, total_variation
from novacula.prediction.scores.metrics import crps, evaluate, reliability_of, risk_coverage_of
from novacula.prediction.scores.ood import Detection, detection, ood, ood_score
from novacula.prediction.scores.selective import RiskCoverage, risk_coverage

__all__ = [
    "Choice",
    "Costs",
    "Decision",
    "Detection",
    "Entropy",
    "Intervals",
    "PointDecision",
    "Predictive",
    "Reliability",
    "RiskCoverage",
    "Score",
    "Sets",
    "agreement",
    "choose",
    "conformal",
    "crps",
    "detection",
    "evaluate",
    "function_rhat",
    "load_costs",
    "ood",
    "ood_score",
    "predict",
    "reliability",
    "reliability_of",
    "risk_coverage",
    "risk_coverage_of",
    "total_variation",
]
