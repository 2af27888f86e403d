"""The posterior that ``novacula learn`` was asked for, at what it has learned."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from novacula.cli.progress import Progress
from novacula.core.errors import InputError, NonFiniteError
from novacula.inference.loop import default_batch_size
from novacula.runs.catalogue.methods import Trained, Wanted, read_method, settings_of_name
from novacula.runs.refit import check
from novacula.study.learning.learn import default_method
from novacula.study.learning.plan import ROUNDS

if TYPE_CHECKING:
    from novacula.runs.settings import Train
    from novacula.runs.setup import Assembled
    from novacula.study import LearnResult


def asked(train: Train, assembled: Assembled) -> Wanted:
    """The posterior that is asked for; says what is wrong with the options before any work."""
    wanted = read_method(train.posterior)
    name = wanted.name
    for option, value in (("--posterior-steps", train.posterior_steps), ("--chains", train.chains)):
        if value is None:
            continue
        if wanted.is_choice:
            raise InputError(f"no {option} with --posterior {name}", str(value), f"--posterior sgld {option} {value}")
        if value < 1:
            raise InputError(f"{option} of 1 or more", str(value), f"{option} 4")
    n = assembled.train.n
    batch_size = train.batch_size or default_batch_size(n, table=assembled.train.x.ndim == 2)
    first = default_method(n, batch_size, table=assembled.train.x.ndim == 2).first
    steps = ROUNDS * first if train.epochs is None else -(-n // batch_size) * train.epochs
    trained = Trained.of(assembled.target.params(), train.lr or Trained().lr, max(1, steps))
    check(wanted, assembled.target, assembled.train, trained, train.posterior_steps, train.chains)
    return wanted


def infer(
    result: LearnResult, wanted: Wanted, train: Train, checkpoint: Path, *, resume: bool, progress: Progress
) -> LearnResult:
    """Infer the posterior."""
    name = wanted.name
    progress.say(f"inferring the posterior: {name}")
    progress.begin(f"{name}, round", "scoring")
    try:
        return result.with_posterior(
            wanted,
            steps=train.posterior_steps,
            chains=train.chains,
            checkpoint=checkpoint,
            resume=resume,
            progress=progress,
        )
    except NonFiniteError as error:
        # Settings the method has; where one diverges, its step size is the first to try.
        hint = f"--posterior {name}:lr=… with a smaller rate" if "lr" in settings_of_name(name) else error.hint
        raise NonFiniteError(f"{error.expected} from --posterior {name}", error.got, hint) from error
