"""Estimators of the log evidence: callables ``(target, data, start, *, seed) -> Estimate`` of one signature.

| estimator | what it gives | use |
| --- | --- | --- |
| `Laplace` | Laplace's approximation, by curvature structure | learning and comparing |
| `NTKSubset` | a loose estimate from a minibatch | learning, while the weights train |
| `ELBO` | a lower bound | last-layer and shallow networks |
| `LinearGaussian` | the exact value | linear-Gaussian models |
| `Conditional` | the evidence of the last part of the data given the first | which model generalises |
| `SMC` | the value; its error is the spread between populations of particles | small networks; checking the others |
| `Splitting` | the log-probability of zero training error | how much of the prior over functions fits |
| `Prequential` | forecasts by the training procedure itself | the same, without a posterior |

`tune` finds the prior's precisions and the noise after training, by one eigendecomposition.
"""

from novacula.evidence.conditional import Conditional
from novacula.evidence.elbo import ELBO
from novacula.evidence.laplace import Laplace, newton_step
from novacula.evidence.linear_gaussian import LinearGaussian
from novacula.evidence.ntk_subset import NTKSubset
from novacula.evidence.prequential import Prequential
from novacula.evidence.smc import SMC
from novacula.evidence.splitting import Splitting
from novacula.evidence.tuning.tune import Tuned, tune

__all__ = [
    "ELBO",
    "SMC",
    "Conditional",
    "Laplace",
    "LinearGaussian",
    "NTKSubset",
    "Prequential",
    "Splitting",
    "Tuned",
    "newton_step",
    "tune",
]
