"""Whether a network is trained, and whether its copies are like it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from novacula.core.errors import InputError, NovaculaWarning
from novacula.data.data import Data
from novacula.study.calibrating.head import Head
from novacula.study.calibrating.training import mean_loss

_SURE, _DOUBT = 3.0, 2.0
_APART, _LEAST = 3.0, 0.02


def is_trained(network: nn.Module, data: Data, head: Head, told: bool | None) -> tuple[bool, str]:
    """Whether a network predicts its rows better than the best constant, by three standard errors.

    One with fresh weights is as good as a constant or worse. From two standard errors on, a warning says what was
    decided.

    Args:
        network: The network.
        data: Its training rows.
        head: How its outputs are read.
        told: What the person says.

    Returns:
        Whether, and what was decided, in words.

    Raises:
        InputError: If a network that is said to be trained predicts no better than a constant.

    Warns:
        NovaculaWarning: If it is better by two to three standard errors, and nobody said what it is.
    """
    gain = _constant(head, data) - head.losses(head.outputs(network, data.x), data.y.cpu()).double()
    mean, stderr = float(gain.mean()), float(gain.std()) / len(gain) ** 0.5
    beside = f"{abs(mean):.3g} ± {stderr:.2g} nats a row {'better' if mean > 0 else 'worse'} than a constant"
    if told and mean <= 0:
        raise InputError(
            "a trained network, which predicts its own training rows better than a constant does",
            f"one that is {beside}",
            "check units of the inputs and the order of the classes, or train it first",
        )
    better = mean > _SURE * stderr
    if told is None and mean > _DOUBT * stderr and not better:
        text = f"the network is {beside}, and was taken for untrained: pass trained=True to have it kept as it is"
        warnings.warn(text, NovaculaWarning, stacklevel=3)
    if told or (told is None and better):
        return True, f"the network was kept as it is, trained: on its training rows it is {beside}"
    return False, f"the network was trained on all {data.n:,} rows" + (
        f": as it came it was {beside}" if told is None else ""
    )


def check_alike(network: nn.Module, copies: Sequence[nn.Module], data: Data, which: Tensor, head: Head) -> list[str]:
    """What to say where copies fit the rows that they have seen much better or worse than the network fits all."""
    own = mean_loss(network, data, head)
    seen = [data.subset((which != k).to(data.x.device)) for k in range(len(copies))]
    theirs = sum(mean_loss(net, rows, head) for net, rows in zip(copies, seen, strict=True)) / len(copies)
    # Of measurements the loss has an arbitrary zero: that of a perfect fit.
    least = head.least(data)
    a, b = max(own - least, 0.0), max(theirs - least, 0.0)
    if abs(a - b) <= _LEAST or max(a, b) <= _APART * min(a, b):
        return []
    how = "worse" if b > a else "better"
    return [
        f"the copies fit the rows that they have seen much {how} (loss {b:.3g}) than the network fits its own "
        f"({a:.3g}): they were not trained as it was, and may be surer or less sure of themselves than it is. Pass "
        "train=, the function that trained it, or calibration=, rows set aside"
    ]


def sharper(temperature: float, stderr: float) -> list[str]:
    """What was decided where copies that were not trained as a network was make it surer of itself than it is."""
    if not temperature + _DOUBT * stderr < 1:
        return []
    return [
        f"the network is made surer of itself, as copies are less sure than right (temperature {temperature:.2g}); if "
        "it was trained in another way than they, it may be too sure already: pass train=, the function that trained it"
    ]


def _constant(head: Head, data: Data) -> Tensor:
    # The losses of the best constant outputs.
    y = data.y.cpu()
    if head.task == "regression":
        if head.own_noise:
            sd = y.double().std(0, correction=0).clamp(min=1e-12)
            f = torch.cat([y.double().mean(0), sd.log()])
        else:
            f = y.double().mean(0)
    elif head.task == "multilabel":
        f = torch.logit(y.double().mean(0).clamp(1e-6, 1 - 1e-6))
    else:
        width = getattr(head.likelihood, "classes")  # noqa: B009
        f = (y.bincount(minlength=width).double() / len(y)).clamp(min=1e-9).log()
    f = f.expand(len(y), -1)
    return head.losses(f, y.double() if y.is_floating_point() else y).double()
