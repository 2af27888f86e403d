"""Networks for sets, graphs and mixtures: where the order of things does not matter, or things are sent apart."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zoo import Case


class DeepSets(nn.Module):
    """Zaheer et al. 2017."""

    def __init__(self) -> None:
        super().__init__()
        self.phi = nn.Sequential(nn.Linear(3, 5), nn.ELU(), nn.Linear(5, 4))
        self.rho = nn.Sequential(nn.Linear(4, 5), nn.ELU(), nn.Linear(5, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.rho(self.phi(x).sum(1))


class PointNet(nn.Module):
    """Qi et al. 2017: one network for each point by convolutions of width one, the largest of all."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv1d(3, 4, 1), nn.BatchNorm1d(4), nn.ReLU(), nn.Conv1d(4, 5, 1))
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.max(self.features(x.transpose(1, 2)), 2, keepdim=True)[0].view(-1, 5))


class MultiheadBlock(nn.Module):
    """Set transformer's block, Lee et al. 2019, with heads laid along the batch as its authors do."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc_q, self.fc_k, self.fc_v, self.fc_o = (nn.Linear(width, width) for _ in range(4))

    def forward(self, q: Tensor, k: Tensor) -> Tensor:
        q, k, v = self.fc_q(q), self.fc_k(k), self.fc_v(k)
        q_, k_, v_ = (torch.cat(t.split(2, 2), 0) for t in (q, k, v))
        a = torch.softmax(q_.bmm(k_.transpose(1, 2)) / 2, 2)
        o = torch.cat((q_ + a.bmm(v_)).split(q.size(0), 0), 2)
        return o + torch.relu(self.fc_o(o))


class SetTransformer(nn.Module):
    """Induced points, then pooling by a seed."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.up, self.down, self.pool = nn.Linear(3, 4), *(MultiheadBlock(4) for _ in range(3))
        self.points, self.seed = nn.Parameter(torch.randn(1, 2, 4)), nn.Parameter(torch.randn(1, 1, 4))
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        h = self.up(self.points.repeat(x.size(0), 1, 1), x)
        x = self.down(x, h)
        return self.head(self.pool(self.seed.repeat(x.size(0), 1, 1), x).squeeze(1))


class DenseGraph(nn.Module):
    """Graph convolutions of Kipf and Welling 2017: the last columns of a node are its row of the adjacency."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head = nn.Linear(3, 4, bias=False), nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        nodes, links = x[..., :3], (x[..., 3:] > 0).to(x.dtype)
        a = torch.maximum(links, links.transpose(1, 2)) + torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
        d = a.sum(-1).rsqrt()
        a = d.unsqueeze(-1) * a * d.unsqueeze(-2)
        return self.head(torch.relu(a @ self.two(torch.relu(a @ self.one(nodes)))).mean(1))


class Messages(nn.Module):
    """Message passing on one graph for all examples: nodes are gathered by edges, messages scattered and added."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("edges", torch.tensor([[0, 1, 1, 2, 3], [1, 0, 2, 3, 0]]))
        self.message = nn.Sequential(nn.Linear(6, 4), nn.ReLU())
        self.update, self.head = nn.GRUCell(4, 3), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        source, target = self.edges
        m = self.message(torch.cat([x[:, source], x[:, target]], -1))
        total = torch.zeros(x.shape[0], x.shape[1], 4, dtype=x.dtype, device=x.device).index_add(1, target, m)
        h = self.update(total.flatten(0, 1), x.flatten(0, 1)).view_as(x)
        return self.head(h.mean(1))


class GraphAttention(nn.Module):
    """Veličković et al. 2018, on a graph of all nodes, with scatter."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.a = nn.Linear(3, 4, bias=False), nn.Parameter(torch.randn(8))
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.w(x)
        n = h.shape[1]
        pairs = torch.cat([h.unsqueeze(2).expand(-1, n, n, -1), h.unsqueeze(1).expand(-1, n, n, -1)], -1)
        weights = nn.functional.leaky_relu(pairs @ self.a, 0.2).softmax(-1)
        out = torch.zeros_like(h).scatter_add(1, torch.arange(n).view(1, n, 1).expand_as(h), weights @ h)
        return self.head(nn.functional.elu(out).mean(1))


class SoftMixture(nn.Module):
    """Jacobs et al. 1991: all experts, weighted by a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList([nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 3)) for _ in range(3)])
        self.gate = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.gate(x).softmax(-1)
        return torch.einsum("be,bec->bc", weights, torch.stack([e(x) for e in self.experts], 1))


class TopMixture(nn.Module):
    """Shazeer et al. 2017: each example goes to its two best experts, which see what is sent to them, or all."""

    def __init__(self, routed: bool) -> None:
        super().__init__()
        self.gate, self.routed = nn.Linear(4, 3), routed
        self.experts = nn.ModuleList([nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 4)) for _ in range(3)])
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        values, chosen = torch.topk(self.gate(x).softmax(-1), 2)
        values = values / values.sum(-1, keepdim=True)
        out = torch.zeros_like(x)
        for i, expert in enumerate(self.experts):
            if self.routed:
                rows, places = torch.where(chosen == i)
                out.index_add_(0, rows, expert(x[rows]) * values[rows, places].unsqueeze(-1))
            else:
                out = out + expert(x) * (values * (chosen == i)).sum(-1, keepdim=True)
        return self.head(out)


class Capsules(nn.Module):
    """Sabour et al. 2017: routing by agreement, the lengths of the last capsules as logits."""

    def __init__(self) -> None:
        super().__init__()
        self.primary, self.weight = nn.Linear(5, 8), nn.Parameter(0.5 * torch.randn(3, 4, 2, 2))

    @staticmethod
    def squash(s: Tensor) -> Tensor:
        square = (s**2).sum(-1, keepdim=True)
        return s * square.sqrt() / (1 + square)

    def forward(self, x: Tensor) -> Tensor:
        u = self.squash(self.primary(x).view(-1, 4, 2))
        predicted = torch.einsum("coij,boj->bcoi", self.weight, u)
        b = torch.zeros(x.shape[0], 3, 4, dtype=x.dtype, device=x.device)
        v = predicted.sum(2)
        for _ in range(2):
            v = self.squash((b.softmax(1).unsqueeze(-1) * predicted).sum(2))
            b = b + (predicted * v.unsqueeze(2)).sum(-1)
        return 3 * v.norm(dim=-1)


class Slots(nn.Module):
    """Slot attention, Locatello et al. 2020: things compete for slots, which a recurrent cell keeps."""

    def __init__(self) -> None:
        super().__init__()
        self.slots = nn.Parameter(torch.randn(1, 2, 4))
        self.k, self.v, self.q = nn.Linear(3, 4, bias=False), nn.Linear(3, 4, bias=False), nn.Linear(4, 4, bias=False)
        self.gru, self.head = nn.GRUCell(4, 4), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        k, v, slots = self.k(x), self.v(x), self.slots.expand(x.shape[0], -1, -1)
        for _ in range(2):
            a = torch.softmax(k @ self.q(slots).transpose(1, 2) / 2, -1) + 1e-8
            updates = (a / a.sum(1, keepdim=True)).transpose(1, 2) @ v
            slots = self.gru(updates.reshape(-1, 4), slots.reshape(-1, 4)).reshape(slots.shape)
        return self.head(slots.flatten(1))


SPECIMENS = (
    Case("deep_sets", DeepSets, (4, 3), 3),
    Case("point_net", PointNet, (5, 3), 3),
    Case("set_transformer", SetTransformer, (4, 3), 3),
    Case("graph_convolution", DenseGraph, (4, 7), 3),
    Case("message_passing", Messages, (4, 3), 3),
    Case("graph_attention", GraphAttention, (4, 3), 3),
    Case("soft_mixture", SoftMixture, (4,), 3),
    Case("top_k_mixture", lambda: TopMixture(routed=False), (4,), 3),
    Case("top_k_mixture_routed", lambda: TopMixture(routed=True), (4,), 3),
    Case("capsules", Capsules, (5,), 3),
    Case("slot_attention", Slots, (4, 3), 3),
)
