"""Novacula: see, score, learn and average over a network's prior.

    import novacula as nv

    data = nv.load("digits")
    target = nv.Target(network, likelihood=nv.Categorical(), prior=nv.Gaussian(), invariance=nv.Affine())
    fit = nv.learn(target, data, epochs=24, seed=0)
    fit.save("runs/digits")
    nv.report("runs/digits")

Names are imported when they are first used, so that ``import novacula`` and the command line's help need no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from novacula import core as core
    from novacula import curvature as curvature
    from novacula import diagnostics as diagnostics
    from novacula import evidence as evidence
    from novacula import inference as inference
    from novacula import invariances as invariances
    from novacula import likelihoods as likelihoods
    from novacula import networks as networks
    from novacula import prediction as prediction
    from novacula import priors as priors
    from novacula import reporting as reporting
    from novacula import study as study
    from novacula import target as target
    from novacula.core.errors import InputError as InputError
    from novacula.core.errors import NonFiniteError as NonFiniteError
    from novacula.core.errors import NovaculaWarning as NovaculaWarning
    from novacula.core.estimate import Estimate as Estimate
    from novacula.core.storage.run import Run as Run
    from novacula.data.data import Data as Data
    from novacula.data.load import load as load
    from novacula.data.standardise import Standardiser as Standardiser
    from novacula.inference import HMC as HMC
    from novacula.inference import IVON as IVON
    from novacula.inference import MAP as MAP
    from novacula.inference import NUTS as NUTS
    from novacula.inference import SGHMC as SGHMC
    from novacula.inference import SGLD as SGLD
    from novacula.inference import SMC as SMC
    from novacula.inference import SWAG as SWAG
    from novacula.inference import Dropout as Dropout
    from novacula.inference import Ensemble as Ensemble
    from novacula.inference import Laplace as Laplace
    from novacula.inference import MeanField as MeanField
    from novacula.inference import Subnetwork as Subnetwork
    from novacula.inference import infer as infer
    from novacula.invariances import Affine as Affine
    from novacula.invariances import Colour as Colour
    from novacula.invariances import Compose as Compose
    from novacula.invariances import Custom as Custom
    from novacula.invariances import Deformation as Deformation
    from novacula.invariances import Flip as Flip
    from novacula.invariances import TimeWarp as TimeWarp
    from novacula.likelihoods import Bernoulli as Bernoulli
    from novacula.likelihoods import Categorical as Categorical
    from novacula.likelihoods import Gibbs as Gibbs
    from novacula.likelihoods import HeteroscedasticNormal as HeteroscedasticNormal
    from novacula.likelihoods import Normal as Normal
    from novacula.prediction import predict as predict
    from novacula.priors import FanIn as FanIn
    from novacula.priors import Gaussian as Gaussian
    from novacula.priors import StudentT as StudentT
    from novacula.reporting import report as report
    from novacula.study import LearnResult as LearnResult
    from novacula.study import learn as learn
    from novacula.target import Copies as Copies
    from novacula.target import LogDensity as LogDensity
    from novacula.target import Target as Target

    __version__: str

_PACKAGES = frozenset(
    {
        "core",
        "curvature",
        "diagnostics",
        "evidence",
        "inference",
        "invariances",
        "likelihoods",
        "networks",
        "prediction",
        "priors",
        "reporting",
        "study",
        "target",
    }
)
# Where each name lives. The imports above say the same to type checkers; a test compares the two.
_HOMES = {
    "Affine": "novacula.invariances",
    "Bernoulli": "novacula.likelihoods",
    "Categorical": "novacula.likelihoods",
    "Colour": "novacula.invariances",
    "Compose": "novacula.invariances",
    "Copies": "novacula.target",
    "Custom": "novacula.invariances",
    "Data": "novacula.data.data",
    "Deformation": "novacula.invariances",
    "Dropout": "novacula.inference",
    "Ensemble": "novacula.inference",
    "Estimate": "novacula.core.estimate",
    "FanIn": "novacula.priors",
    "Flip": "novacula.invariances",
    "Gaussian": "novacula.priors",
    "Gibbs": "novacula.likelihoods",
    "HMC": "novacula.inference",
    "HeteroscedasticNormal": "novacula.likelihoods",
    "IVON": "novacula.inference",
    "InputError": "novacula.core.errors",
    "Laplace": "novacula.inference",
    "LearnResult": "novacula.study",
    "LogDensity": "novacula.target",
    "MAP": "novacula.inference",
    "MeanField": "novacula.inference",
    "NUTS": "novacula.inference",
    "NonFiniteError": "novacula.core.errors",
    "Normal": "novacula.likelihoods",
    "NovaculaWarning": "novacula.core.errors",
    "Run": "novacula.core.storage.run",
    "SGHMC": "novacula.inference",
    "SGLD": "novacula.inference",
    "SMC": "novacula.inference",
    "SWAG": "novacula.inference",
    "Standardiser": "novacula.data.standardise",
    "StudentT": "novacula.priors",
    "Subnetwork": "novacula.inference",
    "Target": "novacula.target",
    "TimeWarp": "novacula.invariances",
    "infer": "novacula.inference",
    "learn": "novacula.study",
    "load": "novacula.data.load",
    "predict": "novacula.prediction",
    "report": "novacula.reporting",
}

__all__ = [
    "HMC",
    "IVON",
    "MAP",
    "NUTS",
    "SGHMC",
    "SGLD",
    "SMC",
    "SWAG",
    "Affine",
    "Bernoulli",
    "Categorical",
    "Colour",
    "Compose",
    "Copies",
    "Custom",
    "Data",
    "Deformation",
    "Dropout",
    "Ensemble",
    "Estimate",
    "FanIn",
    "Flip",
    "Gaussian",
    "Gibbs",
    "HeteroscedasticNormal",
    "InputError",
    "Laplace",
    "LearnResult",
    "LogDensity",
    "MeanField",
    "NonFiniteError",
    "Normal",
    "NovaculaWarning",
    "Run",
    "Standardiser",
    "StudentT",
    "Subnetwork",
    "Target",
    "TimeWarp",
    "__version__",
    "core",
    "curvature",
    "diagnostics",
    "evidence",
    "infer",
    "inference",
    "invariances",
    "learn",
    "likelihoods",
    "load",
    "networks",
    "predict",
    "prediction",
    "priors",
    "report",
    "reporting",
    "study",
    "target",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("novacula")
    elif name in _PACKAGES:
        value = importlib.import_module(f"novacula.{name}")
    elif name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module 'novacula' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
