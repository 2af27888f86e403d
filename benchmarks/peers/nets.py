"""The two networks that every learner trains. Parameter names and default initialisation are the same for all."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn


def make(task: str, conv: type[nn.Conv2d] = nn.Conv2d, sample_axes: int = 0) -> nn.Sequential:
    """The network of a task, with smooth (GELU) activations so that evidence gradients are right for everyone.

    ``digits``: 64-128-10, 9,610 weights. ``mnist10k``: three strided convolutions (5-3-3, widths 16-32-32) and a
    128-unit head, 81,258 weights.

    Args:
        task: Name of the task.
        conv: The convolution to use: some peers bring their own for inputs ``(N, S, C, H, W)``.
        sample_axes: How many axes of transformed copies follow the batch axis.
    """
    flatten = nn.Flatten(1 + sample_axes)
    if task == "digits":
        layers = [("flatten", flatten), ("hidden", nn.Linear(64, 128)), ("act", nn.GELU()), ("out", nn.Linear(128, 10))]
    elif task == "mnist10k":
        layers = [
            ("conv1", conv(1, 16, 5, stride=2, padding=2)),
            ("act1", nn.GELU()),
            ("conv2", conv(16, 32, 3, stride=2, padding=1)),
            ("act2", nn.GELU()),
            ("conv3", conv(32, 32, 3, stride=2, padding=1)),
            ("act3", nn.GELU()),
            ("flatten", flatten),
            ("hidden", nn.Linear(512, 128)),
            ("act4", nn.GELU()),
            ("out", nn.Linear(128, 10)),
        ]
    else:
        raise ValueError(f"expected digits or mnist10k, got {task!r}")
    return nn.Sequential(OrderedDict(layers))
