"""Estimators of the log evidence: callables ``(target, data, start, *, seed) -> Estimate`` of one signature.

| estimator | what it gives | use |
| --- | --- | --- |
| `Laplace` | Laplace's approximation, by curvature structure | learning and comparing |
| `NTKSubset` | a loose estimate from a minibatch | learning, while the weights train |
| `ELBO` | a lower bound | last-layer and shallow networks |
| `LinearGaussian` | the exact value | linear-Gaussian models |
| `Conditional` | the evidence of the last part of the data given the first | which model generalises |
| `SMC` | the value; its error is the spread between populations of particles | small networks; checking the others |
| `WBIC` | the value to leading order in n, by chains at the temperature log n | singular likelihoods |
| `Counting` | the log-probability of zero training error, by drawing networks | above 1e-6 |
| `NNGP` | that of the infinitely wide network | the same, and regression, in closed form or nearly |
| `Splitting` | the log-probability of zero training error | how much of the prior over functions fits |
| `Annealing` | the same, by tempering a softened constraint | another way, to check `Splitting` |
| `Prequential` | forecasts by the training procedure itself | the same, without a posterior |

`ladder` runs all that tell how often networks fit, and `pac_bayes` and `compression` bound errors on new examples.
`tune` finds the prior's precisions and the noise after training, by one eigendecomposition;
`effective` counts the parameters that the data determine.
"""

from novacula.evidence.conditional import Conditional
from novacula.evidence.effective import effective
from novacula.evidence.elbo import ELBO
from novacula.evidence.fitting.annealing import Annealing
from novacula.evidence.fitting.bounds import Bounds, compression, pac_bayes
from novacula.evidence.fitting.counting import Counting
from novacula.evidence.fitting.ladder import Ladder, ladder
from novacula.evidence.fitting.nngp import NNGP
from novacula.evidence.fitting.splitting import Splitting
from novacula.evidence.laplace import Laplace, newton_step
from novacula.evidence.linear_gaussian import LinearGaussian
from novacula.evidence.ntk_subset import NTKSubset
from novacula.evidence.prequential import Prequential
from novacula.evidence.smc import SMC
from novacula.evidence.tuning.tune import Tuned, tune
from novacula.evidence.wbic import WBIC

__all__ = [
    "ELBO",
    "NNGP",
    "SMC",
    "WBIC",
    "Annealing",
    "Bounds",
    "Conditional",
    "Counting",
    "Ladder",
    "Laplace",
    "LinearGaussian",
    "NTKSubset",
    "Prequential",
    "Splitting",
    "Tuned",
    "compression",
    "effective",
    "ladder",
    "newton_step",
    "pac_bayes",
    "tune",
]
