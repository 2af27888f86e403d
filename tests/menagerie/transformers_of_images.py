"""Networks for images made of patches, in the style of timm."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zoo import Case


class Attention(nn.Module):
    """One packed projection for queries, keys and values, written out."""

    def __init__(self, width: int, heads: int = 2) -> None:
        super().__init__()
        self.heads, self.scale = heads, (width // heads) ** -0.5
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor, bias: Tensor | float = 0.0) -> Tensor:
        b, n, c = x.shape
        qkv = self.qkv(x).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        attention = ((q * self.scale) @ k.transpose(-2, -1) + bias).softmax(dim=-1)
        return self.proj((attention @ v).transpose(1, 2).reshape(b, n, c))


class Mlp(nn.Module):
    """Two linear layers and GELU."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.act, self.drop, self.fc2 = (
            nn.Linear(width, hidden),
            nn.GELU(),
            nn.Dropout(0.1),
            nn.Linear(hidden, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.drop(self.act(self.fc1(x))))


class Block(nn.Module):
    """Norm, attention, norm, MLP, with shortcuts; with scales of the branches, it is that of CaiT."""

    def __init__(self, width: int, scale: float | None = None) -> None:
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(width, eps=1e-6), Attention(width)
        self.norm2, self.mlp = nn.LayerNorm(width, eps=1e-6), Mlp(width, width + 1)
        self.gammas = None
        if scale is not None:
            self.gammas = nn.ParameterList([nn.Parameter(scale * torch.ones(width)) for _ in range(2)])

    def forward(self, x: Tensor) -> Tensor:
        one, two = (1.0, 1.0) if self.gammas is None else self.gammas
        x = x + one * self.attn(self.norm1(x))
        return x + two * self.mlp(self.norm2(x))


class PatchEmbed(nn.Module):
    """A strided convolution whose places become a sequence."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(2, width, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).flatten(2).transpose(1, 2)


class ViT(nn.Module):
    """Dosovitskiy et al. 2021, for images of 4×4: a token of the class, places, one block."""

    def __init__(self, classes: int, scale: float | None = None) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(4)
        self.cls_token, self.pos_embed = nn.Parameter(torch.randn(1, 1, 4)), nn.Parameter(0.5 * torch.randn(1, 5, 4))
        self.block, self.norm, self.head = Block(4, scale), nn.LayerNorm(4), nn.Linear(4, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x)
        x = torch.cat((self.cls_token.expand(x.shape[0], -1, -1), x), dim=1) + self.pos_embed
        return self.head(self.norm(self.block(x))[:, 0])


class DeiT(ViT):
    """Touvron et al. 2021: a second token, and the mean of two heads."""

    def __init__(self, classes: int) -> None:
        super().__init__(classes)
        self.dist_token, self.pos_embed = nn.Parameter(torch.randn(1, 1, 4)), nn.Parameter(torch.randn(1, 6, 4))
        self.head_dist = nn.Linear(4, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x)
        tokens = (t.expand(x.shape[0], -1, -1) for t in (self.cls_token, self.dist_token))
        x = self.norm(self.block(torch.cat((*tokens, x), dim=1) + self.pos_embed))
        return (self.head(x[:, 0]) + self.head_dist(x[:, 1])) / 2


class Swin(nn.Module):
    """Liu et al. 2021: attention in windows of 2×2 that are shifted by a roll, biases by a table of distances."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.patch_embed, self.norm1, self.norm2 = nn.Conv2d(2, 4, 2, stride=2), nn.LayerNorm(4), nn.LayerNorm(4)
        self.attn, self.mlp = nn.ModuleList([Attention(4), Attention(4)]), Mlp(4, 5)
        self.bias_table = nn.Parameter(0.2 * torch.randn(9, 2))
        places = torch.stack(torch.meshgrid(torch.arange(2), torch.arange(2), indexing="ij")).flatten(1)
        distances = (places[:, :, None] - places[:, None, :]) + 1
        self.register_buffer("index", distances[0] * 3 + distances[1])
        self.merge, self.head = nn.Linear(16, 5, bias=False), nn.Linear(5, classes)

    def windows(self, x: Tensor, shift: int) -> Tensor:
        b, h, w, c = x.shape
        x = torch.roll(x, shifts=(-shift, -shift), dims=(1, 2))
        x = x.view(b, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, c)
        bias = self.bias_table[self.index.view(-1)].view(4, 4, -1).permute(2, 0, 1).contiguous()
        x = self.attn[shift](self.norm1(x), bias.unsqueeze(0))
        x = x.view(b, h // 2, w // 2, 2, 2, c).permute(0, 1, 3, 2, 4, 5).reshape(b, h, w, c)
        return torch.roll(x, shifts=(shift, shift), dims=(1, 2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x).permute(0, 2, 3, 1)
        for shift in (0, 1):
            x = x + self.windows(x, shift)
            x = x + self.mlp(self.norm2(x))
        parts = [x[:, i::2, j::2, :] for j in (0, 1) for i in (0, 1)]
        return self.head(self.merge(torch.cat(parts, -1)).mean((1, 2)))


class Mixer(nn.Module):
    """Tolstikhin et al. 2021: one MLP across places, one across channels."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem, self.norm1, self.norm2 = PatchEmbed(5), nn.LayerNorm(5), nn.LayerNorm(5)
        self.tokens, self.channels, self.head = Mlp(4, 3), Mlp(5, 6), nn.Linear(5, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return self.head((x + self.channels(self.norm2(x))).mean(1))


class GatedMlp(nn.Module):
    """gMLP, Liu et al. 2021: half of the channels are gates, mixed over places by a convolution."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem, self.norm, self.fc1 = PatchEmbed(4), nn.LayerNorm(4), nn.Linear(4, 6)
        self.gate_norm, self.proj = nn.LayerNorm(3), nn.Conv1d(4, 4, 1)
        self.fc2, self.head = nn.Linear(3, 4), nn.Linear(4, classes)
        nn.init.ones_(self.proj.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        u, v = nn.functional.gelu(self.fc1(self.norm(x))).chunk(2, dim=-1)
        return self.head((x + self.fc2(u * self.proj(self.gate_norm(v)))).mean(1))


class PoolFormer(nn.Module):
    """Yu et al. 2022: means of neighbours in the place of attention, GroupNorm of one group."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem, self.norm1, self.norm2 = nn.Conv2d(2, 4, 2, stride=2), nn.GroupNorm(1, 4), nn.GroupNorm(1, 4)
        self.pool = nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
        self.fc1, self.act, self.fc2 = nn.Conv2d(4, 5, 1), nn.GELU(), nn.Conv2d(5, 4, 1)
        self.layer_scale_1 = nn.Parameter(0.3 * torch.ones(4), requires_grad=True)
        self.head = nn.Linear(4, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        h = self.norm1(x)
        x = x + self.layer_scale_1.unsqueeze(-1).unsqueeze(-1) * (self.pool(h) - h)
        x = x + self.fc2(self.act(self.fc1(self.norm2(x))))
        return self.head(x.mean([-2, -1]))


class Token(nn.Module):
    """Pooling by attention: a learned query looks at all places through `nn.MultiheadAttention`."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem, self.query = PatchEmbed(4), nn.Parameter(torch.randn(1, 1, 4))
        self.attention, self.head = nn.MultiheadAttention(4, 2, batch_first=True), nn.Linear(4, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(self.attention(self.query.expand(len(x), -1, -1), x, x, need_weights=False)[0].squeeze(1))


class TorchEncoder(nn.Module):
    """`nn.TransformerEncoder` of two layers with norms first, ReLU and drop-out, on sequences along the first axis."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(4, 2, 5, dropout=0.1, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(4, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x.transpose(0, 1)).mean(0))


SPECIMENS = (
    Case("vit", lambda: ViT(3), (2, 4, 4), 3),
    Case("deit_distilled", lambda: DeiT(3), (2, 4, 4), 3),
    Case("cait_layer_scale", lambda: ViT(3, scale=0.1), (2, 4, 4), 3),
    Case("swin", lambda: Swin(3), (2, 8, 8), 3),
    Case("mlp_mixer", lambda: Mixer(3), (2, 4, 4), 3),
    Case("gmlp", lambda: GatedMlp(3), (2, 4, 4), 3),
    Case("poolformer", lambda: PoolFormer(3), (2, 6, 6), 3),
    Case("attention_pool", lambda: Token(3), (2, 4, 4), 3),
    Case("transformer_encoder", lambda: TorchEncoder(3), (5, 4), 3),
)
