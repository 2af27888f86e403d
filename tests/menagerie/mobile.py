"""Convolutional networks with depthwise layers, gates and other things made for phones."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zoo import Case


class ConvNormActivation(nn.Sequential):
    """As torchvision's, with layers in place."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int = 3,
        stride: int = 1,
        groups: int = 1,
        activation: type[nn.Module] | None = nn.ReLU6,
    ) -> None:
        layers: list[nn.Module] = [
            nn.Conv2d(inputs, outputs, size, stride, (size - 1) // 2, groups=groups, bias=False),
            nn.BatchNorm2d(outputs),
        ]
        super().__init__(*layers, *([activation(inplace=True)] if activation else []))  # type: ignore[call-arg]


class SqueezeExcitation(nn.Module):
    """Hu et al. 2018, of 1×1 convolutions, as torchvision has it."""

    def __init__(self, channels: int, squeeze: int, activation: nn.Module, scale: nn.Module) -> None:
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1, self.fc2 = nn.Conv2d(channels, squeeze, 1), nn.Conv2d(squeeze, channels, 1)
        self.activation, self.scale_activation = activation, scale

    def forward(self, x: Tensor) -> Tensor:
        return self.scale_activation(self.fc2(self.activation(self.fc1(self.avgpool(x))))) * x


class InvertedResidual(nn.Module):
    """Sandler et al. 2018: wide, depthwise, narrow."""

    def __init__(self, inputs: int, outputs: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden = inputs * expand
        self.use_res_connect = stride == 1 and inputs == outputs
        self.conv = nn.Sequential(
            ConvNormActivation(inputs, hidden, 1),
            ConvNormActivation(hidden, hidden, 3, stride, groups=hidden),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.use_res_connect else self.conv(x)


class MobileNetV2(nn.Module):
    """A stem, two inverted residuals, one of them with a shortcut, and a head with drop-out."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            ConvNormActivation(2, 3, stride=2), InvertedResidual(3, 4, 1, 2), InvertedResidual(4, 4, 1, 2)
        )
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(4, classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).mean([2, 3]))


class MobileNetV3(nn.Module):
    """Howard et al. 2019: squeeze-and-excitation with hard sigmoids, hard swish."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = ConvNormActivation(2, 4, stride=2, activation=nn.Hardswish)
        self.block = nn.Sequential(
            ConvNormActivation(4, 6, 1, activation=nn.Hardswish),
            ConvNormActivation(6, 6, 5, groups=6, activation=nn.Hardswish),
            SqueezeExcitation(6, 2, nn.ReLU(), nn.Hardsigmoid()),
            ConvNormActivation(6, 4, 1, activation=None),
        )
        self.classifier = nn.Sequential(
            nn.Linear(4, 5), nn.Hardswish(inplace=True), nn.Dropout(p=0.2, inplace=True), nn.Linear(5, classes)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.block(x)
        return self.classifier(torch.flatten(nn.functional.adaptive_avg_pool2d(x, 1), 1))


class StochasticDepth(nn.Module):
    """Huang et al. 2016: a branch is left out at random while training."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        keep = torch.rand(x.shape[0], *[1] * (x.ndim - 1), device=x.device) > self.p
        return x * keep / (1 - self.p)


class EfficientNet(nn.Module):
    """Tan and Le 2019: MBConv with SiLU, squeeze-and-excitation and stochastic depth."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = ConvNormActivation(2, 4, stride=2, activation=nn.SiLU)
        self.block = nn.Sequential(
            ConvNormActivation(4, 8, 1, activation=nn.SiLU),
            ConvNormActivation(8, 8, 3, groups=8, activation=nn.SiLU),
            SqueezeExcitation(8, 1, nn.SiLU(inplace=True), nn.Sigmoid()),
            ConvNormActivation(8, 4, 1, activation=None),
        )
        self.stochastic_depth = StochasticDepth(0.2)
        self.classifier = nn.Sequential(nn.Dropout(0.2, inplace=True), nn.Linear(4, classes))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.stochastic_depth(self.block(x))
        return self.classifier(torch.flatten(nn.functional.adaptive_avg_pool2d(x, 1), 1))


class ShuffleUnit(nn.Module):
    """Ma et al. 2018: half of the channels pass, the other half are worked on, and both are shuffled."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.branch = nn.Sequential(
            nn.Conv2d(half, half, 1, bias=False), nn.BatchNorm2d(half), nn.ReLU(inplace=True),
            nn.Conv2d(half, half, 3, padding=1, groups=half, bias=False), nn.BatchNorm2d(half),
            nn.Conv2d(half, half, 1, bias=False), nn.BatchNorm2d(half), nn.ReLU(inplace=True),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        one, two = x.chunk(2, dim=1)
        out = torch.cat((one, self.branch(two)), dim=1)
        n, c, h, w = out.size()
        return out.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, c, h, w)


class ShuffleNet(nn.Module):
    """Two units on a stem."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv1 = ConvNormActivation(2, 6, stride=2, activation=nn.ReLU)
        self.stage, self.fc = nn.Sequential(ShuffleUnit(6), ShuffleUnit(6)), nn.Linear(6, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.stage(self.conv1(x)).mean([2, 3]))


class RegNet(nn.Module):
    """Radosavovic et al. 2020: a grouped bottleneck with squeeze-and-excitation."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = ConvNormActivation(2, 4, activation=nn.ReLU)
        self.proj = ConvNormActivation(4, 6, 1, 2, activation=None)
        self.f = nn.Sequential(
            ConvNormActivation(4, 6, 1, activation=nn.ReLU),
            ConvNormActivation(6, 6, 3, 2, groups=2, activation=nn.ReLU),
            SqueezeExcitation(6, 1, nn.ReLU(), nn.Sigmoid()),
            ConvNormActivation(6, 6, 1, activation=None),
        )
        self.activation, self.fc = nn.ReLU(inplace=True), nn.Linear(6, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = self.activation(self.proj(x) + self.f(x))
        return self.fc(x.mean((2, 3)))


class GhostNet(nn.Module):
    """Han et al. 2020: half of the maps are cheap depthwise copies of the other half, cut to size."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.primary = ConvNormActivation(2, 4, 1, activation=nn.ReLU)
        self.cheap = ConvNormActivation(4, 4, 3, groups=4, activation=nn.ReLU)
        self.fc = nn.Linear(7, classes)

    def forward(self, x: Tensor) -> Tensor:
        one = self.primary(x)
        return self.fc(torch.cat([one, self.cheap(one)], 1)[:, :7].mean((2, 3)))


class LayerNorm2d(nn.LayerNorm):
    """As torchvision's: channels are moved to the end and back."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)
        x = nn.functional.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


class ConvNeXt(nn.Module):
    """Liu et al. 2022: depthwise, LayerNorm, two linear layers on channels, a scale of the branch."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(2, 4, 2, stride=2), LayerNorm2d(4, eps=1e-6))
        self.dwconv, self.norm = nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.LayerNorm(4, eps=1e-6)
        self.pwconv1, self.act, self.pwconv2 = nn.Linear(4, 6), nn.GELU(), nn.Linear(6, 4)
        self.gamma = nn.Parameter(0.5 * torch.ones(4))
        self.head_norm, self.head = nn.LayerNorm(4), nn.Linear(4, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        h = self.norm(self.dwconv(x).permute(0, 2, 3, 1))
        h = self.gamma * self.pwconv2(self.act(self.pwconv1(h)))
        x = x + h.permute(0, 3, 1, 2)
        return self.head(self.head_norm(x.mean([-2, -1])))


class EfficientChannelAttention(nn.Module):
    """Wang et al. 2020: a convolution over channels makes their gates."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv, self.head = nn.Conv2d(2, 5, 3), nn.Conv1d(1, 1, 3, padding=1, bias=False), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        y = self.conv(x.mean((2, 3), keepdim=True).squeeze(-1).transpose(-1, -2)).transpose(-1, -2).unsqueeze(-1)
        return self.head((x * y.sigmoid().expand_as(x)).mean((2, 3)))


class BlockAttention(nn.Module):
    """CBAM, Woo et al. 2018: gates of channels by one small network used twice, and then of places."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3)
        self.mlp = nn.Sequential(nn.Flatten(), nn.Linear(4, 2), nn.ReLU(), nn.Linear(2, 4))
        self.spatial, self.head = nn.Conv2d(2, 1, 3, padding=1, bias=False), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        mean, most = (
            pool(x, (1, 1)) for pool in (nn.functional.adaptive_avg_pool2d, nn.functional.adaptive_max_pool2d)
        )
        x = x * torch.sigmoid(self.mlp(mean) + self.mlp(most))[:, :, None, None]
        pooled = torch.cat((x.max(1)[0].unsqueeze(1), x.mean(1).unsqueeze(1)), dim=1)
        return self.head((x * torch.sigmoid(self.spatial(pooled))).mean((2, 3)))


SPECIMENS = (
    Case("mobilenet_v2", lambda: MobileNetV2(3), (2, 6, 6), 3),
    Case("mobilenet_v3", lambda: MobileNetV3(3), (2, 6, 6), 3),
    Case("efficientnet_mbconv", lambda: EfficientNet(3), (2, 6, 6), 3),
    Case("shufflenet_v2", lambda: ShuffleNet(3), (2, 6, 6), 3),
    Case("regnet", lambda: RegNet(3), (2, 4, 6), 3),
    Case("ghostnet", lambda: GhostNet(3), (2, 4, 5), 3),
    Case("convnext", lambda: ConvNeXt(3), (2, 6, 6), 3),
    Case("eca", EfficientChannelAttention, (2, 5, 5), 3),
    Case("cbam", BlockAttention, (2, 6, 5), 3),
)
