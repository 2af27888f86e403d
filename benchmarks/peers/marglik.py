"""laplace-torch's ``marglik_training``: prior precisions by a KFAC Laplace evidence; no invariance can be learned.

References:
    Scalable Marginal Likelihood Estimation for Model Selection in Deep Learning. Immer, Bauer, Fortuin, Rätsch, Khan,
    2021, arXiv:2104.04975.
    Laplace Redux: Effortless Bayesian Deep Learning. Daxberger, Kristiadi, Immer, Eschenhagen, Bauer, Hennig, 2021,
    arXiv:2106.14806.
"""

from __future__ import annotations

import math
import sys
import time
from typing import Any

import torch
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.peers.common import Budget, Clock, Marked, logits, merged, scores, tensors, versions
from benchmarks.peers.nets import make
from benchmarks.peers.task import Task

# The function's own defaults for everything but the training itself: KFAC through ASDL, one precision a tensor, after
# every epoch one fit and ten Adam steps of .1.
DEFAULT = {"batch": 125, "lr": 0.005, "lr_hyp": 0.1, "steps": 10, "burnin": 0, "frequency": 1, "glm": 1}
SETTINGS = {
    ("digits", "tuned"): DEFAULT | {"epochs": 75, "batch": 50, "lr": 0.02},
    ("mnist10k", "tuned"): DEFAULT | {"epochs": 8, "glm": 0},
}


def run(task: Task, budget: Budget) -> dict[str, Any]:
    """Train with ``marglik_training`` and report the point estimate's scores and the GLM-probit predictive's."""
    from laplace import marglik_training

    settings = merged(SETTINGS, task.name, budget)
    x, y, x_test, y_test = tensors(task)
    torch.manual_seed(budget.seed)
    network, clock = make(task.name), Clock()
    loader = Marked(DataLoader(TensorDataset(x, y), batch_size=settings["batch"], shuffle=True), clock)
    library = sys.modules["laplace.marglik_training"]
    original = library.Laplace

    def watched(*args: Any, **kwargs: Any) -> Any:
        """While a Laplace approximation is fitted, its passes over the loader are no epochs of training."""
        posterior = original(*args, **kwargs)
        fit = posterior.fit

        def timed(*fit_args: Any, **fit_kwargs: Any) -> None:
            loader.training = False
            fit(*fit_args, **fit_kwargs)
            loader.training = True

        posterior.fit = timed
        return posterior

    library.Laplace = watched
    steps = settings["epochs"] * math.ceil(len(y) / settings["batch"])
    posterior, network, negative, _ = marglik_training(
        network, loader, likelihood="classification", hessian_structure="kron", n_epochs=settings["epochs"],
        optimizer_kwargs={"lr": settings["lr"]}, scheduler_cls=torch.optim.lr_scheduler.CosineAnnealingLR,
        scheduler_kwargs={"T_max": steps, "eta_min": 1e-6}, lr_hyp=settings["lr_hyp"], prior_structure="layerwise",
        n_epochs_burnin=settings["burnin"], n_hypersteps=settings["steps"], marglik_frequency=settings["frequency"],
    )  # fmt: skip
    clock.stop()
    library.Laplace = original
    clock.drop_idle(settings["burnin"], last=True)
    seconds = clock.summary(settings["steps"])
    extra: dict[str, Any] = {}
    if settings["glm"]:
        begin = time.process_time()
        prob = torch.cat([posterior(part, pred_type="glm", link_approx="probit") for part in x_test.split(100)])
        extra["test_glm_probit"] = scores(prob.log(), y_test)
        seconds["glm_probit_cpu"] = time.process_time() - begin
    value = -negative[settings["steps"] - 1 :: settings["steps"]][-1]
    best = -min(negative[settings["steps"] - 1 :: settings["steps"]])
    return {
        "method": "laplace-torch marglik_training, KFAC, AsdlGGN",
        "settings": settings,
        "seconds": seconds,
        "invariance": None,
        "prior": {"structure": "layerwise", "precision": posterior.prior_precision.tolist()},
        "evidence": {"value": best, "kind": "estimate", "estimator": "laplace-torch's KFAC Laplace, best epoch",
                     "per_example": best / len(y), "last": value},
        "test": scores(logits(network, x_test, None), y_test),
        "history": {"evidence": [-v for v in negative[settings["steps"] - 1 :: settings["steps"]]]},
        "versions": versions(),
        "state": {name: p.detach() for name, p in network.named_parameters()}
        | {"prior_precision": posterior.prior_precision.detach()},
    } | extra  # fmt: skip
