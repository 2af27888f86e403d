"""Networks for sequences: recurrent, convolutional and attentive ones, and those that read symbols."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from torch.nn.utils.rnn import pack_padded_sequence

from zoo import Case


class Recurrent(nn.Module):
    """A recurrent layer's last state, or states averaged, then linear."""

    def __init__(self, kind: type[nn.RNNBase], average: bool = False, **options: object) -> None:
        super().__init__()
        self.body = kind(3, 4, batch_first=True, **options)  # type: ignore[arg-type]
        self.average, self.head = average, nn.Linear(8 if options.get("bidirectional") else 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        states = self.body(x)[0]
        return self.head(states.mean(1) if self.average else states[:, -1])


class Packed(nn.Module):
    """Sequences of several lengths, packed; a step whose first number is below -0.5 is the first of the padding."""

    def __init__(self) -> None:
        super().__init__()
        self.gru, self.head = nn.GRU(3, 4, batch_first=True), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        lengths = 1 + (x[:, 1:, 0] > -0.5).cumprod(1).sum(1)
        packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        return self.head(self.gru(packed)[1][-1])


class Cells(nn.Module):
    """An `nn.LSTMCell` in a loop of the person's own."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.LSTMCell(3, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = c = x.new_zeros(len(x), 4)
        for step in x.unbind(1):
            h, c = self.cell(step, (h, c))
        return self.head(h)


class MinimalGate(nn.Module):
    """A gated unit written with linear layers, applied at each step."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.new, self.head = nn.Linear(7, 4), nn.Linear(7, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros(x.shape[0], 4, dtype=x.dtype, device=x.device)
        for t in range(x.shape[1]):
            both = torch.cat([x[:, t], h], 1)
            z = torch.sigmoid(self.gate(both))
            h = (1 - z) * h + z * torch.tanh(self.new(both))
        return self.head(h)


class TemporalBlock(nn.Module):
    """TCN, Bai et al. 2018: causal dilated convolutions of normalised weights, cut at the end."""

    def __init__(self, inputs: int, outputs: int, dilation: int) -> None:
        super().__init__()
        self.padding = 2 * dilation
        self.conv1 = weight_norm(nn.Conv1d(inputs, outputs, 3, padding=self.padding, dilation=dilation))
        self.relu, self.dropout = nn.ReLU(), nn.Dropout(0.2)
        self.downsample = nn.Conv1d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        out = self.dropout(self.relu(self.conv1(x)[:, :, : -self.padding].contiguous()))
        return self.relu(out + self.downsample(x))


class TemporalNetwork(nn.Module):
    """Two blocks, and the last step."""

    def __init__(self) -> None:
        super().__init__()
        self.network, self.linear = nn.Sequential(TemporalBlock(2, 3, 1), TemporalBlock(3, 4, 2)), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.network(x)[:, :, -1])


class WaveNet(nn.Module):
    """Van den Oord et al. 2016: gated dilated convolutions, and a sum of what each level gives."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Conv1d(2, 3, 1)
        self.filters = nn.ModuleList([nn.Conv1d(3, 3, 2, dilation=d) for d in (1, 2)])
        self.gates = nn.ModuleList([nn.Conv1d(3, 3, 2, dilation=d) for d in (1, 2)])
        self.skips = nn.ModuleList([nn.Conv1d(3, 4, 1) for _ in range(2)])
        self.residuals = nn.ModuleList([nn.Conv1d(3, 3, 1) for _ in range(2)])
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x, total = self.enter(x), 0
        for level, (f, g, s, r) in enumerate(zip(self.filters, self.gates, self.skips, self.residuals, strict=True)):
            x = nn.functional.pad(x, (2**level, 0))
            h = torch.tanh(f(x)) * torch.sigmoid(g(x))
            total = total + s(h)
            x = r(h) + x[:, :, 2**level :]
        return self.head(torch.relu(total).mean(2))


class CausalLanguageModel(nn.Module):
    """Karpathy's nanoGPT, of one block: causal attention by `scaled_dot_product_attention`, embedding = head."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocabulary, 4), nn.Embedding(6, 4)
        self.ln_1, self.ln_f = nn.LayerNorm(4, bias=False), nn.LayerNorm(4, bias=False)
        self.c_attn, self.c_proj = nn.Linear(4, 12, bias=False), nn.Linear(4, 4, bias=False)
        self.mlp = nn.Sequential(nn.Linear(4, 6, bias=False), nn.GELU(), nn.Linear(6, 4, bias=False))
        self.lm_head = nn.Linear(4, vocabulary, bias=False)
        self.wte.weight = self.lm_head.weight

    def forward(self, idx: Tensor) -> Tensor:
        x = self.wte(idx) + self.wpe(torch.arange(idx.shape[1], device=idx.device))
        q, k, v = self.c_attn(self.ln_1(x)).split(4, dim=2)
        q, k, v = (t.view(*t.shape[:2], 2, 2).transpose(1, 2) for t in (q, k, v))
        y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
        x = x + self.c_proj(y)
        x = x + self.mlp(self.ln_f(x))
        return self.lm_head(x[:, -1])


class Bag(nn.Module):
    """`nn.EmbeddingBag`: the mean of words."""

    def __init__(self, **options: object) -> None:
        super().__init__()
        self.bag, self.fc = nn.EmbeddingBag(7, 4, **options), nn.Linear(4, 3)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.bag(x))


class Words(nn.Module):
    """`nn.Embedding` with options, averaged over words that are not padding."""

    def __init__(self, **options: object) -> None:
        super().__init__()
        self.embed, self.fc = nn.Embedding(7, 4, padding_idx=0, **options), nn.Linear(4, 3)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        mask = (x != 0).unsqueeze(-1)
        return self.fc((self.embed(x) * mask).sum(1) / mask.sum(1).clamp(min=1))


class TextCNN(nn.Module):
    """Kim 2014: convolutions of several widths over words, the largest over time."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 3)
        self.convs, self.dropout = nn.ModuleList([nn.Conv2d(1, 2, (k, 3)) for k in (2, 3)]), nn.Dropout(0.5)
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).unsqueeze(1)
        h = [torch.relu(c(x)).squeeze(3) for c in self.convs]
        return self.fc(self.dropout(torch.cat([nn.functional.max_pool1d(i, i.size(2)).squeeze(2) for i in h], 1)))


class Pointer(nn.Module):
    """Vinyals et al. 2015: the output is a score for each place of the input."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.w1, self.w2 = nn.GRU(3, 4, batch_first=True), nn.Linear(4, 4), nn.Linear(4, 4)
        self.v = nn.Linear(4, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        states, last = self.encoder(x)
        return self.v(torch.tanh(self.w1(states) + self.w2(last[-1]).unsqueeze(1))).squeeze(-1)


class SequenceToSequence(nn.Module):
    """`nn.Transformer`, with one learned query for the decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(1, 1, 4))
        self.transformer = nn.Transformer(4, 2, 1, 1, dim_feedforward=5, batch_first=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.transformer(x, self.query.expand(x.shape[0], -1, -1))[:, 0])


class StateSpace(nn.Module):
    """A diagonal linear state space (S4D, Gu et al. 2022): its kernel is made of complex numbers, applied by FFT."""

    def __init__(self) -> None:
        super().__init__()
        self.log_real, self.imaginary = nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.arange(4.0).view(2, 2))
        self.c, self.d = nn.Parameter(torch.randn(2, 2, 2)), nn.Parameter(torch.randn(2))
        self.head = nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        time = torch.arange(x.shape[-1], device=x.device)
        a = torch.complex(-self.log_real.exp(), self.imaginary)
        powers = torch.exp(0.3 * a.unsqueeze(-1) * time)
        kernel = (torch.view_as_complex(self.c).unsqueeze(-1) * powers).sum(1).real
        n = 2 * x.shape[-1]
        y = torch.fft.irfft(torch.fft.rfft(kernel, n=n) * torch.fft.rfft(x, n=n), n=n)[..., : x.shape[-1]]
        return self.head(nn.functional.gelu(y + self.d.unsqueeze(-1) * x).mean(-1))


SPECIMENS = (
    Case("rnn", lambda: Recurrent(nn.RNN), (4, 3), 3),
    Case("lstm_bidirectional", lambda: Recurrent(nn.LSTM, average=True, bidirectional=True), (4, 3), 3),
    Case("lstm_two_layers", lambda: Recurrent(nn.LSTM, average=True, num_layers=2, dropout=0.1), (4, 3), 3),
    Case("gru_two_layers", lambda: Recurrent(nn.GRU, num_layers=2), (4, 3), 3),
    Case("gru_packed", Packed, (4, 3), 3),
    Case("lstm_cells", Cells, (4, 3), 3),
    Case("own_gated_unit", MinimalGate, (4, 3), 3),
    Case("tcn", TemporalNetwork, (2, 7), 3),
    Case("wavenet", WaveNet, (2, 7), 3),
    Case("nano_gpt", lambda: CausalLanguageModel(7), (5,), 7, tokens=7),
    Case("embedding_bag", Bag, (4,), 3, tokens=7),
    Case("embedding_bag_max", lambda: Bag(mode="max"), (4,), 3, tokens=7),
    Case("embedding_padding", Words, (4,), 3, tokens=7),
    Case("embedding_sparse", lambda: Words(sparse=True), (4,), 3, tokens=7),
    Case("embedding_max_norm", lambda: Words(max_norm=1.0), (4,), 3, tokens=7),
    Case("text_cnn", TextCNN, (5,), 3, tokens=7),
    Case("pointer", Pointer, (4, 3), 4),
    Case("encoder_decoder", SequenceToSequence, (4, 4), 3),
    Case("state_space", StateSpace, (2, 6), 3),
)
