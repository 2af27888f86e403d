"""Whole questions, answered: learn a prior, cross-fit, calibrate, find augmentations, compare models and controls."""

from novacula.runs.loading import SavedRun, load_posterior, load_run
from novacula.runs.result import LearnResult
from novacula.runs.saving import describe
from novacula.study.augmentation.advice import Advice
from novacula.study.augmentation.advise import augment
from novacula.study.calibrating.calibrate import calibrate
from novacula.study.calibrating.loading import LoadedCalibration, load_calibrated
from novacula.study.calibrating.result import Calibrated
from novacula.study.comparing.compare import compare
from novacula.study.comparing.race import race
from novacula.study.comparing.result import Comparison
from novacula.study.comparing.settings import SettingGap, gap
from novacula.study.comparing.stacking import Mixed, Stack, stack
from novacula.study.comparing.standings import Race
from novacula.study.comparing.vary import Varied, vary
from novacula.study.controls.compute import against, controls
from novacula.study.controls.control import Control
from novacula.study.cross_fit.result import CrossFit
from novacula.study.cross_fit.train import cross_fit
from novacula.study.curve import Curves, Worth, curve
from novacula.study.extents import ExtentInfluence, extent_influence
from novacula.study.learning.empirical_bayes import EmpiricalBayes
from novacula.study.learning.from_draws import Sampled, learn_from_draws
from novacula.study.learning.learn import default_method, learn
from novacula.study.path_dependence.crossed import Crossed, crossed_runs
from novacula.study.path_dependence.instability import Instability, instability
from novacula.study.path_dependence.result import PathDependence
from novacula.study.path_dependence.study import path_dependence
from novacula.study.probes import Effort, Probed, probes
from novacula.study.relaxation import Relaxation, relaxation
from novacula.study.restoring import Restored, restore
from novacula.study.sampling.compare import sgd_vs_bayes
from novacula.study.sampling.joint import JointAccuracy, joint_accuracy
from novacula.study.sampling.result import SgdVsBayes
from novacula.study.sbc import sbc
from novacula.study.support import Support, support
from novacula.study.symmetry import Symmetries, symmetry
from novacula.study.temperature.calibrated_rate import CalibratedRate, calibrated_rate
from novacula.study.temperature.choose import TemperatureChoice, choose_temperature
from novacula.study.temperature.cold_posterior import ColdPosterior, cold_posterior
from novacula.study.temperature.safe_bayes import SafeBayes, safe_bayes

__all__ = [
    "Advice",
    "Calibrated",
    "CalibratedRate",
    "ColdPosterior",
    "Comparison",
    "Control",
    "CrossFit",
    "Crossed",
    "Curves",
    "Effort",
    "EmpiricalBayes",
    "ExtentInfluence",
    "Instability",
    "JointAccuracy",
    "LearnResult",
    "LoadedCalibration",
    "Mixed",
    "PathDependence",
    "Probed",
    "Race",
    "Relaxation",
    "Restored",
    "SafeBayes",
    "Sampled",
    "SavedRun",
    "SettingGap",
    "SgdVsBayes",
    "Stack",
    "Support",
    "Symmetries",
    "TemperatureChoice",
    "Varied",
    "Worth",
    "against",
    "augment",
    "calibrate",
    "calibrated_rate",
    "choose_temperature",
    "cold_posterior",
    "compare",
    "controls",
    "cross_fit",
    "crossed_runs",
    "curve",
    "default_method",
    "describe",
    "extent_influence",
    "gap",
    "instability",
    "joint_accuracy",
    "learn",
    "learn_from_draws",
    "load_calibrated",
    "load_posterior",
    "load_run",
    "path_dependence",
    "probes",
    "race",
    "relaxation",
    "restore",
    "safe_bayes",
    "sbc",
    "sgd_vs_bayes",
    "stack",
    "support",
    "symmetry",
    "vary",
]
