"""`augment`: train with and without each transformation, and say which of them help on images not trained on.

Three folds; every network is blind to one. All arms are trained once on every fold, the arm without augmentation three
times; a strong extent that is far behind the mild one on the first fold goes no further. Verdicts are taken (see
`novacula.study.augmentation.verdicts`), and arms that are left undecided get a second and a third network a fold, as
far as the time goes. Harm must be confirmed by networks that were trained twice as long, since a strong transformation
takes longer to learn: where they lose less than half as much, or less than longer training gains without augmentation,
it is undecided. What is needed is then combined, the best first: a transformation stays where the mixture with
it does better than the one without.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from torch import nn

from novacula.core import execute
from novacula.core.checks.numbers import check_numbers
from novacula.core.errors import InputError
from novacula.core.rng import derive
from novacula.data.data import Data
from novacula.data.folds import folds_of
from novacula.data.given import DataLike, as_data
from novacula.likelihoods import Categorical
from novacula.networks import make
from novacula.study.augmentation.advice import Advice, advice
from novacula.study.augmentation.arms import NONE, TRIVIAL, TURNS, Arm, arms_for, combination
from novacula.study.augmentation.comparison import Comparison, Progress
from novacula.study.augmentation.plan import BASELINES, FOLDS, examples_of, images_of, keep, kept, networks_of, plan
from novacula.study.augmentation.verdicts import LEVELS, Judged, judge

_SPARE = 5
_SKILLED = 0.9
_STEADY = 2.0
_FAR = 3.0


def augment(
    data: DataLike,
    *,
    only: tuple[str, ...] = (),
    network: str | nn.Module = "auto",
    seconds: float = 480.0,
    steps: int | None = None,
    seed: int = 0,
    workers: int = -1,
    store: Path | None = None,
    progress: Progress | None = None,
) -> Advice:
    """Find out which augmentations of training images lower the loss on images that were not trained on.

    Args:
        data: Labelled images, 50 or more; of more than 4,000 (2,000 of colour) a random part is taken, and images with
            a side above 64 pixels are made smaller.
        only: The transformations to try; all that suit the images by default.
        network: A network, or its name for `novacula.networks.make`.
        seconds: The time there is; steps and examples are chosen so that the comparison fits.
        steps: Steps of each network, if the time is not to choose them: then the numbers are the same on any machine.
        seed: Seed of everything random.
        workers: Processes; -1 for one on each core.
        store: A folder that keeps the plan and each network's predictions, from which a comparison that was cut off
            goes on.
        progress: Called with (networks trained, networks in all, nothing).

    Returns:
        A verdict for each transformation, and the mixture that the folds favour.

    Raises:
        InputError: If the data are no images with classes or too few, a name is unknown, or the time is too short.

    Example:
        >>> import novacula as nv
        >>> advice = nv.augment(nv.load("digits").subset(range(90)), only=("flip",), steps=20, workers=1)
        >>> list(advice.verdicts)
        ['flip']
    """
    check_numbers(seconds=seconds, steps=steps, seed=seed)
    data = as_data(data)
    began, given = time.monotonic(), data
    data = images_of(data, seed)
    arms = arms_for(data.x, only)
    module = make(network, data.x_shape, _outputs(data), seed) if isinstance(network, str) else network
    workers = execute.cores() if workers == -1 else workers
    asked = [
        given.fingerprint,
        seed,
        seconds,
        steps,
        *(only or ["all"]),
        network if isinstance(network, str) else "own",
    ]
    made = None if store is None else kept(store, asked)
    if made is None:
        made = plan(module, data, arms, seconds, workers, steps=steps)
        if store is not None:
            keep(made, store, asked)
    arms = arms[: len(arms) - made.left_out]
    data = examples_of(made, data, seed)
    # What earlier processes took of the time is not known to the second; what they left is.
    stored = 0 if store is None else len(list(store.glob("*.npy")))
    study = Comparison(
        module=module,
        data=data,
        folds=folds_of(data, FOLDS, derive(seed, "folds")),
        plan=replace(made, workers=workers),
        seed=seed,
        store=store,
        progress=progress,
        total=networks_of(len(arms)),
        ends=began + seconds - stored * made.network_seconds / workers if steps is None else math.inf,
    )
    judged, tried, finished = _compare(study, arms)
    chosen, mixtures, combined = _combine(study, judged)
    return advice(
        study,
        given=given,
        judged=judged,
        tried=tried,
        chosen=chosen,
        mixtures=mixtures,
        converged=finished and combined and made.enough,
        took=time.monotonic() - began,
    )


def _compare(study: Comparison, arms: list[Arm]) -> tuple[dict[str, Judged], list[Arm], bool]:
    # Verdicts by the arms' keys, all arms, and whether time sufficed.
    spare = _SPARE * FOLDS * study.plan.network_seconds / study.plan.workers
    none = [(NONE, i) for i in range(BASELINES)]
    whole = study.grow([*none, *((arm, 0) for arm in arms)], folds=[0])
    arms = [arm for arm in arms if arm.key in study.tables]
    if not arms:
        got = f"time for {study.trained} networks"
        raise InputError("time for one network of an arm", got, "give more seconds, or name fewer transformations")
    left = [arm for arm in arms if not _dominated(study, arm, arms)]
    whole = whole and study.grow([*none, *((arm, 0) for arm in left)], folds=range(1, FOLDS))
    whole = whole and study.grow([(TRIVIAL, 0)])
    tried = list(arms)
    if whole and (turns := _turns(study, left)) is not None:
        whole = study.grow([(turns, 0)])
        tried += [turns] if whole else []
    judged: dict[str, Judged] = {}
    for look in range(len(LEVELS)):
        nll = study.score(NONE)["nll"]
        skilled = nll < _SKILLED * study.chance
        judged = judge(study.gains(tried), judged, nll, look, len(tried), skilled=skilled)
        again = [arm for arm in tried if arm in [*left, *tried[len(arms) :]] and _open(arm, tried, judged)]
        if look + 1 == len(LEVELS) or not again or not whole:
            break
        whole = study.grow([(NONE, BASELINES + look), *((arm, look + 1) for arm in again)], spare=spare)
    confirmed, done = _confirm(study, judged)
    return confirmed, tried, whole and done


def _dominated(study: Comparison, arm: Arm, arms: Sequence[Arm]) -> bool:
    # Whether a milder extent of the transformation was far better on the first fold: it cannot be the best one then.
    mild = [a for a in arms if a.name == arm.name and a.extent < arm.extent]
    gain = study.between(mild[0], arm) if mild else None
    return gain is not None and gain.value > _FAR * gain.stderr


def _confirm(study: Comparison, judged: dict[str, Judged]) -> tuple[dict[str, Judged], bool]:
    # Harm must remain with twice the steps; else it was that of a short training. And whether time sufficed.
    mildest: dict[str, Arm] = {}
    for key, found in judged.items():
        arm = study.arms[key]
        if found.verdict == "harmful" and (arm.name not in mildest or arm.extent < mildest[arm.name].extent):
            mildest[arm.name] = arm
    if not mildest:
        return judged, True
    checked = [NONE, *mildest.values()]
    done = study.grow([(arm.longer, 0) for arm in checked], folds=[0])
    result = dict(judged)
    for key, found in judged.items():
        if found.verdict != "harmful":
            continue
        arm = mildest[study.arms[key].name]
        if not _remains(study, arm, judged[arm.key]):
            result[key] = replace(found, verdict="undecided", unsettled=True)
    return result, done


def _remains(study: Comparison, arm: Arm, found: Judged) -> bool:
    if not {NONE.longer.key, arm.longer.key} <= study.tables.keys():
        return False
    base, longer = study.losses(NONE)[:1], study.losses(NONE.longer)
    there = ~longer[0].isnan()
    short, twice = (float(table[0][there].mean()) for table in (base, longer))
    lost = float(study.losses(arm.longer)[0][there].mean()) - min(short, twice)
    return lost > max(-found.gain.value / 2, short - twice)


def _turns(study: Comparison, arms: list[Arm]) -> Arm | None:
    # Any rotation, where the widest one so far does not hurt.
    wide = [arm for arm in arms if arm.name == "rotation"][-1:]
    return Arm("rotation", (("rotation", TURNS),)) if wide and study.gains(wide)[wide[0].key].value > 0 else None


def _open(arm: Arm, arms: Sequence[Arm], judged: Mapping[str, Judged]) -> bool:
    # Whether another network may change what is said of its transformation.
    if judged[arm.key].verdict != "undecided":
        return False
    needed = [judged[a.key].gain.value for a in arms if a.name == arm.name and judged[a.key].verdict == "needed"]
    return not needed or judged[arm.key].gain.value > max(needed)


def _combine(study: Comparison, judged: Mapping[str, Judged]) -> tuple[Arm, list[Arm], bool]:
    # The arm to recommend, the mixtures that were tried, and whether time sufficed.
    best: dict[str, Arm] = {}
    for key, found in judged.items():
        arm = study.arms[key]
        if found.verdict == "needed" and (
            arm.name not in best or found.gain.value > judged[best[arm.name].key].gain.value
        ):
            best[arm.name] = arm
    order = sorted(best.values(), key=lambda a: -judged[a.key].gain.value)
    if not order:
        return NONE, [], True
    chosen, mixtures, finished = order[0], list[Arm](), True
    for arm in order[1:]:
        mixture = combination([chosen, arm])
        if finished := study.grow([(mixture, 0)]):
            mixtures.append(mixture)
            gain = study.between(mixture, chosen)
            chosen = mixture if gain is not None and gain.value > 0 else chosen
        else:
            break
    # Never what is not clearly better than none; what is needed alone is.
    gain = study.gains([chosen])[chosen.key]
    safe = gain.value > _STEADY * gain.stderr
    return (chosen if safe or chosen in order else order[0]), mixtures, finished


def _outputs(data: Data) -> int:
    return max(Categorical().outputs(data.y), len(data.classes))
