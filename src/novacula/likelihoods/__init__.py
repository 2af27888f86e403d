"""Likelihoods ``p(y | f)`` of labels given network outputs, one log-density for each example.

| likelihood | labels ``y`` | outputs ``f`` |
| --- | --- | --- |
| `Categorical` | classes ``(N,)``, int64, or their probabilities ``(N, C)`` | C logits |
| `Dirichlet` | the same | C logits, observed with Gaussian noise; not normalised over labels |
| `Bernoulli` | 0 or 1, ``(N, C)`` | C logits |
| `Normal` | reals ``(N, D)`` | D means; the noise is learned |
| `HeteroscedasticNormal` | reals ``(N, D)`` | D means, then D log standard deviations |
| `Gibbs` | anything a loss takes | anything a loss takes; not normalised |
| `ZeroOne` | classes ``(N,)``, int64 | C scores; for counting, not normalised |

Each also gives the root of the Fisher information in output space (`factor`), from which every curvature is built, and
checks labels (`validate`). `default_likelihood` chooses one from the labels' dtype.
"""

from novacula.data.meaning.labels import Task
from novacula.likelihoods.base import Likelihood
from novacula.likelihoods.bernoulli import Bernoulli
from novacula.likelihoods.categorical import Categorical
from novacula.likelihoods.choose import default_likelihood
from novacula.likelihoods.dirichlet import Dirichlet
from novacula.likelihoods.gibbs import Gibbs
from novacula.likelihoods.heteroscedastic import HeteroscedasticNormal
from novacula.likelihoods.normal import Normal
from novacula.likelihoods.zero_one import ZeroOne

__all__ = [
    "Bernoulli",
    "Categorical",
    "Dirichlet",
    "Gibbs",
    "HeteroscedasticNormal",
    "Likelihood",
    "Normal",
    "Task",
    "ZeroOne",
    "default_likelihood",
]
