"""A calibrated network as a plain module: the person's network inside, and calibrated outputs.

Its tensors are buffers and its forward is plain torch, so that `torch.export` takes it wherever it takes the network.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from novacula.data.parts import joined
from novacula.data.standardise import Standardiser
from novacula.study.calibrating.head import Head
from novacula.study.calibrating.noise import Noise


class CalibratedLogits(nn.Module):
    """Logits in, logits at the calibrated temperature out.

    Args:
        networks: The network; several, whose probabilities are averaged.
        head: How outputs are read.
        temperature: T.
        scaling: How inputs were brought to standard units; the module takes them in their own.
    """

    temperature: Tensor
    x_mean: Tensor
    x_sd: Tensor

    def __init__(
        self, networks: tuple[nn.Module, ...], head: Head, temperature: float, scaling: Standardiser | None
    ) -> None:
        super().__init__()
        self.network, self.others = networks[0], nn.ModuleList(networks[1:])
        self.head, self.single, self.exclusive = head, head.single, head.task == "classification"
        self.register_buffer("temperature", torch.tensor(temperature))
        self.scaled = _register(self, scaling)

    def forward(self, x: Tensor) -> Tensor:
        """Calibrated logits, with the shape of the network's own."""
        x = joined(self.head.parts, x)
        x = (x - self.x_mean) / self.x_sd if self.scaled else x
        f = self.head.call(self.network, x) / self.temperature
        if not len(self.others):
            return f
        members = [f, *(self.head.call(other, x) / self.temperature for other in self.others)]
        if self.exclusive and not self.single:
            return torch.stack([m.log_softmax(-1) for m in members]).logsumexp(0)
        yes = torch.stack([nn.functional.logsigmoid(m) for m in members]).logsumexp(0)
        return yes - torch.stack([nn.functional.logsigmoid(-m) for m in members]).logsumexp(0)


class CalibratedMeasurements(nn.Module):
    """Means and standard deviations ``(N, D)`` of measurements.

    Args:
        networks: The network; several, whose outputs are averaged.
        head: How outputs are read.
        noise: The noise.
        scaling: How inputs and targets were brought to standard units; the module takes and gives them in their own.
    """

    level: Tensor
    slopes: Tensor
    centre: Tensor
    spread: Tensor
    x_mean: Tensor
    x_sd: Tensor
    y_mean: Tensor
    y_sd: Tensor

    def __init__(self, networks: tuple[nn.Module, ...], head: Head, noise: Noise, scaling: Standardiser | None) -> None:
        super().__init__()
        self.network, self.others = networks[0], nn.ModuleList(networks[1:])
        self.head, self.targets, self.own_noise, self.table = head, head.targets, head.own_noise, noise.table
        self.varies = noise.slopes is not None
        own = next((w for w in self.network.parameters()), torch.zeros(()))
        for name in ("level", "slopes", "centre", "spread"):
            value = getattr(noise, name)
            if value is not None:
                self.register_buffer(name, value.to(own.dtype))
        self.scaled = _register(self, scaling)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Means and standard deviations, each ``(N, D)``."""
        x = joined(self.head.parts, x)
        x = (x - self.x_mean) / self.x_sd if self.scaled else x
        outputs = [self.head.call(net, x) for net in (self.network, *self.others)]
        f = torch.stack([o.unsqueeze(-1) if o.ndim == 1 else o for o in outputs]).mean(0)
        mean = f[:, : self.targets]
        own = f[:, self.targets :] if self.own_noise else torch.zeros_like(mean)
        slopes = self.slopes if self.varies else None
        sd = Noise(self.level, slopes, self.centre, self.spread, self.table).log_sd(x, mean, own).exp()
        return (mean * self.y_sd + self.y_mean, sd * self.y_sd) if self.scaled else (mean, sd)


def _register(module: nn.Module, scaling: Standardiser | None) -> bool:
    # Single precision, as the inputs have; empty statistics are those of what was left as it is.
    if scaling is None:
        return False
    for name in ("x_mean", "x_sd", "y_mean", "y_sd"):
        value = getattr(scaling, name)
        neutral = torch.zeros(()) if name.endswith("mean") else torch.ones(())
        module.register_buffer(name, value.float() if value.numel() else neutral)
    return True
