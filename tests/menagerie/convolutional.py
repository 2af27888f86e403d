"""Convolutional networks for images, in the style of torchvision."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zoo import Case


def conv(inputs: int, outputs: int, size: int = 3, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)


class BasicBlock(nn.Module):
    """He et al. 2016: two convolutions and a shortcut, with ReLU in place."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv(inputs, width, stride=stride), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv(width, width), nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or inputs != width:
            self.downsample = nn.Sequential(conv(inputs, width, 1, stride), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += identity
        return self.relu(out)


class Bottleneck(nn.Module):
    """A thin 3×3 convolution between two of 1×1; grouped, it is that of ResNeXt."""

    expansion = 2

    def __init__(self, inputs: int, width: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.conv1, self.bn1 = conv(inputs, width, 1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv(width, width, 3, stride, groups), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = conv(width, outputs, 1), nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = nn.Sequential(conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out += self.downsample(x)
        return self.relu(out)


class ResNet(nn.Module):
    """A stem with max-pooling, two stages, global pooling and a linear layer."""

    def __init__(self, block: type[BasicBlock] | type[Bottleneck], classes: int, **options: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(2, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3)
        self.relu, self.maxpool = nn.ReLU(inplace=True), nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = nn.Sequential(block(3, 4, **options))
        self.layer2 = nn.Sequential(block(4 * block.expansion, 4, stride=2, **options))
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d((1, 1)), nn.Linear(4 * block.expansion, classes)
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.avgpool(self.layer2(self.layer1(x)))
        return self.fc(torch.flatten(x, 1))


class PreActivation(nn.Module):
    """A wide residual network's block: norm and ReLU come first, and drop-out between its convolutions."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem, self.bn1, self.conv1 = conv(2, 4), nn.BatchNorm2d(4), conv(4, 6)
        self.bn2, self.drop, self.conv2 = nn.BatchNorm2d(6), nn.Dropout(0.3), conv(6, 6)
        self.shortcut, self.head = conv(4, 6, 1), nn.Linear(6, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        h = torch.relu(self.bn1(x))
        out = self.conv2(self.drop(torch.relu(self.bn2(self.conv1(h)))))
        out = torch.relu(out + self.shortcut(h))
        return self.head(nn.functional.avg_pool2d(out, 6).view(-1, 6))


class VGG(nn.Module):
    """Simonyan and Zisserman 2015, with BatchNorm: a list of layers, and a head of three with drop-out."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 2
        for v in (3, "M", 4, 4, "M"):
            if v == "M":
                layers += [nn.MaxPool2d(kernel_size=2, stride=2)]
            else:
                layers += [nn.Conv2d(inputs, int(v), 3, padding=1), nn.BatchNorm2d(int(v)), nn.ReLU(inplace=True)]
                inputs = int(v)
        self.features, self.avgpool = nn.Sequential(*layers), nn.AdaptiveAvgPool2d((2, 2))
        self.classifier = nn.Sequential(
            nn.Linear(16, 6), nn.ReLU(True), nn.Dropout(), nn.Linear(6, 5), nn.ReLU(True), nn.Dropout(),
            nn.Linear(5, classes),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


class DenseLayer(nn.Module):
    """Huang et al. 2017: its input is the list of all outputs so far."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.norm1, self.relu1, self.conv1 = nn.BatchNorm2d(inputs), nn.ReLU(inplace=True), conv(inputs, 2 * growth, 1)
        self.norm2, self.relu2, self.conv2 = nn.BatchNorm2d(2 * growth), nn.ReLU(inplace=True), conv(2 * growth, growth)

    def forward(self, features: list[Tensor]) -> Tensor:
        h = self.conv1(self.relu1(self.norm1(torch.cat(features, 1))))
        return self.conv2(self.relu2(self.norm2(h)))


class DenseNet(nn.Module):
    """Two dense layers, a transition and a linear layer."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = conv(2, 4)
        self.block = nn.ModuleDict({"denselayer1": DenseLayer(4, 2), "denselayer2": DenseLayer(6, 2)})
        self.transition = nn.Sequential(nn.BatchNorm2d(8), nn.ReLU(inplace=True), conv(8, 4, 1), nn.AvgPool2d(2, 2))
        self.norm, self.classifier = nn.BatchNorm2d(4), nn.Linear(4, classes)

    def forward(self, x: Tensor) -> Tensor:
        features = [self.stem(x)]
        for layer in self.block.values():
            features.append(layer(features))
        out = nn.functional.relu(self.norm(self.transition(torch.cat(features, 1))), inplace=True)
        return self.classifier(torch.flatten(nn.functional.adaptive_avg_pool2d(out, (1, 1)), 1))


class Inception(nn.Module):
    """Szegedy et al. 2015: four branches side by side."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.branch1 = self.unit(2, 3, 1)
        self.branch2 = nn.Sequential(self.unit(2, 2, 1), self.unit(2, 3, 3))
        self.branch3 = nn.Sequential(self.unit(2, 2, 1), self.unit(2, 2, 5))
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1, ceil_mode=True), self.unit(2, 2, 1))
        self.dropout, self.fc = nn.Dropout(0.2), nn.Linear(10, classes)

    @staticmethod
    def unit(inputs: int, outputs: int, size: int) -> nn.Module:
        norm = nn.BatchNorm2d(outputs, eps=0.001)
        return nn.Sequential(conv(inputs, outputs, size), norm, nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        out = torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], 1)
        return self.fc(self.dropout(torch.flatten(nn.functional.adaptive_avg_pool2d(out, 1), 1)))


class Fire(nn.Module):
    """Iandola et al. 2016: squeeze, then expand by two kinds of convolution."""

    def __init__(self, inputs: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze, self.activation = nn.Conv2d(inputs, squeeze, 1), nn.ReLU(inplace=True)
        self.expand1x1, self.expand3x3 = nn.Conv2d(squeeze, expand, 1), nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(self.squeeze(x))
        return torch.cat([self.activation(self.expand1x1(x)), self.activation(self.expand3x3(x))], 1)


class SqueezeNet(nn.Module):
    """A network whose last layer is a convolution, followed by ReLU and pooling."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(2, 4, 3, stride=2), nn.ReLU(inplace=True), Fire(4, 2, 3), nn.MaxPool2d(2), Fire(6, 3, 2)
        )
        self.classifier = nn.Sequential(
            nn.Dropout(0.5), nn.Conv2d(4, classes, 1), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d((1, 1))
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.flatten(self.classifier(self.features(x)), 1)


class AllConvolutional(nn.Module):
    """Springenberg et al. 2015: strided convolutions for pooling, and averaged maps for a head."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(2, 4, 3, stride=2, padding=1), nn.LeakyReLU(0.1), nn.Conv2d(4, 4, 3), nn.LeakyReLU(0.1),
            nn.Conv2d(4, classes, 1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x).mean((2, 3))


class UNet(nn.Module):
    """Ronneberger et al. 2015: down, up by a transposed convolution, skips; its map of logits is averaged."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.down1, self.down2, self.bottom = self.twice(2, 3), self.twice(3, 4), self.twice(4, 5)
        self.up2, self.left2 = nn.ConvTranspose2d(5, 4, 2, stride=2), self.twice(8, 4)
        self.up1, self.left1 = nn.Upsample(scale_factor=2, mode="bilinear"), self.twice(7, 3)
        self.out = nn.Conv2d(3, classes, 1)

    @staticmethod
    def twice(inputs: int, outputs: int) -> nn.Module:
        one = [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
        two = [nn.Conv2d(outputs, outputs, 3, padding=1), nn.ReLU(inplace=True)]
        return nn.Sequential(*one, *two)

    def forward(self, x: Tensor) -> Tensor:
        one = self.down1(x)
        two = self.down2(nn.functional.max_pool2d(one, 2))
        three = self.bottom(nn.functional.max_pool2d(two, 2))
        two = self.left2(torch.cat([two, self.up2(three)], 1))
        return self.out(self.left1(torch.cat([one, self.up1(two)], 1))).mean((2, 3))


class PixelShuffler(nn.Module):
    """Shi et al. 2016: channels become pixels; then strided again."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.one, self.shuffle = nn.Conv2d(2, 8, 3, padding=1), nn.PixelShuffle(2)
        self.two, self.unshuffle = nn.Conv2d(2, 2, 3, padding=1), nn.PixelUnshuffle(2)
        self.head = nn.Linear(8, outputs)

    def forward(self, x: Tensor) -> Tensor:
        h = self.unshuffle(torch.tanh(self.two(self.shuffle(torch.tanh(self.one(x))))))
        return self.head(h.amax((2, 3)))


class SpatialTransformer(nn.Module):
    """Jaderberg et al. 2015: a network that turns its own input, by `affine_grid` and `grid_sample`."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.localization = nn.Sequential(nn.Conv2d(2, 3, 3), nn.MaxPool2d(2), nn.ReLU(True))
        self.theta = nn.Linear(12, 6)
        nn.init.normal_(self.theta.weight, 0, 0.05)
        self.theta.bias.data.copy_(torch.tensor([1, 0, 0.1, 0, 0.9, 0], dtype=torch.float))
        self.conv, self.fc = nn.Conv2d(2, 3, 3), nn.Linear(48, classes)

    def forward(self, x: Tensor) -> Tensor:
        theta = self.theta(self.localization(x).view(-1, 12)).view(-1, 2, 3)
        grid = nn.functional.affine_grid(theta, list(x.size()), align_corners=False)
        x = nn.functional.grid_sample(x, grid, align_corners=False)
        return self.fc(torch.tanh(self.conv(x)).flatten(1))


def channels_last() -> nn.Module:
    """A network that is kept, and works, in the other memory format."""
    net = nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.Linear(12, 3),
    )  # fmt: skip
    return net.to(memory_format=torch.channels_last)


SPECIMENS = (
    Case("resnet_basic", lambda: ResNet(BasicBlock, 3), (2, 8, 8), 3),
    Case("resnet_bottleneck", lambda: ResNet(Bottleneck, 3), (2, 8, 8), 3),
    Case("resnext", lambda: ResNet(Bottleneck, 3, groups=2), (2, 8, 8), 3),
    Case("wide_resnet_preact", lambda: PreActivation(3), (2, 6, 6), 3),
    Case("vgg_bn", lambda: VGG(3), (2, 8, 8), 3),
    Case("densenet", lambda: DenseNet(3), (2, 6, 6), 3),
    Case("googlenet_inception", lambda: Inception(3), (2, 5, 6), 3),
    Case("squeezenet", lambda: SqueezeNet(3), (2, 9, 9), 3),
    Case("all_convolutional", lambda: AllConvolutional(3), (2, 7, 7), 3),
    Case("unet_averaged", lambda: UNet(3), (2, 8, 8), 3),
    Case("pixel_shuffle", lambda: PixelShuffler(3), (2, 4, 4), 3),
    Case("spatial_transformer", lambda: SpatialTransformer(3), (2, 6, 6), 3),
    Case("channels_last", channels_last, (2, 5, 6), 3),
)
