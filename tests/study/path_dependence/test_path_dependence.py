"""Runs compared: numbers by hand, planted causes, symmetric copies, files, other settings, refusals."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import novacula as nv
from novacula import InputError
from novacula.paths import symmetries
from novacula.study import crossed_runs, gap, path_dependence

State = dict[str, Tensor]


def blobs(n: int = 120, seed: int = 0) -> nv.Data:
    rng = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % 3
    return nv.Data(torch.randn(n, 4, generator=rng) + 1.5 * torch.eye(3, 4)[y], y)


def linear(seeds: range, spread: float = 0.5) -> list[State]:
    """Linear classifiers around a good one."""
    found = []
    for seed in seeds:
        rng = torch.Generator().manual_seed(seed)
        found.append({"weight": torch.eye(3, 4) + spread * torch.randn(3, 4, generator=rng), "bias": torch.zeros(3)})
    return found


def deep(seed: int) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(4, 9), nn.BatchNorm1d(9), nn.ReLU(), nn.Linear(9, 3))


def trained(data: nv.Data) -> nn.Sequential:
    net = deep(0)
    optimiser = torch.optim.Adam(net.parameters(), lr=0.05)
    for _ in range(100):
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(data.x), data.y).backward()
        optimiser.step()
    return net.eval()


def test_numbers_are_those_made_by_hand() -> None:
    data, runs = blobs(), linear(range(4))
    found = path_dependence(runs, nn.Linear(4, 3), data, pairs=0)
    p = torch.stack([(data.x @ r["weight"].T).double().softmax(1) for r in runs]).numpy()
    pairs = [(i, j) for i in range(4) for j in range(4) if i != j]
    said = p.argmax(2)
    differ = np.mean([(said[i] != said[j]).mean() for i, j in pairs])
    error = (said != data.y.numpy()).mean()
    wanted = {
        "disagreement": differ,
        "total_variation": np.mean([np.abs(p[i] - p[j]).sum(1).mean() / 2 for i, j in pairs]),
        "error": error,
        "loss": -np.log(p[:, range(data.n), data.y]).mean(),
        "share": differ / error,
    }
    for name, value in wanted.items():
        assert found.measured[name].value == pytest.approx(value, rel=1e-6)
        low, high = found.measured[name].interval or (1.0, 0.0)
        assert low < value < high
    assert found.stability is not None
    assert found.stability.mean() == pytest.approx(1 - differ)
    assert found.measured["excess/shuffled"].value == pytest.approx(
        found.measured["outside/shuffled"].value - differ, rel=1e-6
    )
    assert json.dumps(found.to_dict(), allow_nan=False)
    assert found.words[0].startswith(f"The path matters {found.matters}")


def test_measurements_and_several_labels() -> None:
    data, runs = blobs(), linear(range(3))
    f = torch.stack([(data.x @ r["weight"].T).double() for r in runs]).numpy()
    measured = nv.Data(data.x, torch.eye(3)[data.y] + 1)
    found = path_dependence(runs, nv.Target(nn.Linear(4, 3), likelihood=nv.Normal()), measured, pairs=0)
    sd = torch.eye(3)[data.y].numpy().std(0)
    apart = [np.sqrt((((f[i] - f[j]) / sd) ** 2).mean()) for i, j in ((0, 1), (0, 2), (1, 2))]
    assert found.measured["difference"].value == pytest.approx(np.mean(apart), rel=1e-5)
    labels = nv.Data(data.x, torch.eye(3)[data.y], task="multilabel")
    found = path_dependence(runs, nv.Target(nn.Linear(4, 3), likelihood=nv.Bernoulli()), labels, pairs=0)
    differ = [((f[i] > 0) != (f[j] > 0)).mean() for i, j in ((0, 1), (0, 2), (1, 2))]
    assert found.measured["disagreement"].value == pytest.approx(np.mean(differ))
    p = 1 / (1 + np.exp(-f))
    wanted = np.mean([np.abs(p[i] - p[j]).mean() for i, j in ((0, 1), (0, 2), (1, 2))])
    assert found.measured["total_variation"].value == pytest.approx(wanted, rel=1e-6)


def test_runs_that_are_one_function_are_found_to_be_in_one_basin() -> None:
    """Copies of one network with its units in other orders: only the weights differ, and matching finds them again."""
    data = blobs()
    net = trained(data)
    group = symmetries(net, data.x[:4])
    orders = dataclasses.replace(group, groups=tuple(g for g in group.groups if g.kind == "permutation"))
    runs = [orders.random(s).apply(net.state_dict()) for s in range(3)]
    found = path_dependence(runs, net, data, train=blobs(seed=1))
    assert found.matters == "hardly"
    assert found.measured["disagreement"].value == 0
    assert found.measured["barrier/as trained"].value > 0.05
    assert found.measured["barrier/matched"].value < 1e-4
    assert "barrier/repaired" in found.measured
    assert found.curves["matched"].shape == (3, 11)


def planted(weights: int, order: int) -> State:
    """A linear run that depends ten times as much on its first weights as on the order."""
    a, b = (torch.Generator().manual_seed(9 + 100 * k + s) for k, s in ((0, weights), (1, order)))
    return {
        "weight": torch.eye(3, 4) + torch.randn(3, 4, generator=a) + 0.1 * torch.randn(3, 4, generator=b),
        "bias": torch.zeros(3),
    }


def test_planted_causes_are_found() -> None:
    made = crossed_runs(planted, {"weights": 4, "order": 3})
    assert made.causes["weights"] == (0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3)
    assert made.causes["order"][:4] == (0, 1, 2, 0)
    found = path_dependence(made.runs, nn.Linear(4, 3), blobs(), causes=made.causes, pairs=0)
    parts = {name: part.value for name, part in found.components.items()}
    assert parts["weights"] > 20 * abs(parts["order"])
    assert any("weights" in text for text in found.words)


def test_two_settings_are_compared() -> None:
    data, net = blobs(), nn.Linear(4, 3)
    steady, wild = linear(range(5), 0.1), linear(range(10, 15), 1.5)
    found = path_dependence(steady, net, data, pairs=0, against=wild)
    assert found.against is not None
    assert found.gap is not None
    assert found.gap == gap(found.pairs["loss"].diagonal(), found.against.pairs["loss"].diagonal(), alpha=0.1)
    same = path_dependence(steady, net, data, pairs=0, against=linear(range(20, 25), 0.1)).between
    assert same is not None
    assert (same.interval or (1.0,))[0] < 0
    moved = [{**w, "bias": torch.tensor([3.0, 0.0, 0.0])} for w in steady]
    other = path_dependence(steady, net, data, pairs=0, against=moved[:4])
    assert other.gap is None
    assert other.between is not None
    assert (other.between.interval or (0.0,))[0] > 0.1
    assert "the setting changes the function" in other.words[-1]


def test_files_hold_the_same_runs(tmp_path: Path) -> None:
    runs, files = linear(range(3)), []
    for i, run in enumerate(runs):
        files.append(tmp_path / f"run-{i}{'.safetensors' if i else '.pt'}")
        (save_file if i else torch.save)(run, files[-1])  # type: ignore[operator]
    data, net = blobs(), nn.Linear(4, 3)
    one, two = (path_dependence(r, net, data, pairs=0) for r in (runs, files))
    assert one.measured == two.measured
    assert two.names[0] == str(files[0])


def test_a_layer_can_be_named() -> None:
    data, runs = blobs(), [deep(s).state_dict() for s in range(2)]
    found = path_dependence(runs, deep(0), data, layer="2", pairs=1)
    inside = [deep(s).eval()[:3](data.x).detach() for s in range(2)]
    wanted = nv.paths.similarity(*inside)
    assert found.about["layer"] == "2"
    assert found.measured["similarity"].value == pytest.approx(wanted.value, rel=1e-5)
    assert found.about["p_value"] == wanted.p_value
    with pytest.raises(InputError, match="layer of the network"):
        path_dependence(runs, deep(0), blobs(), layer="nowhere")


class Branching(nn.Linear):
    """A network that cannot be exported: it looks at the values of its inputs."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) if float(input.detach().sum()) < 1e9 else input[:, :3]


def test_what_cannot_be_matched_is_compared_as_it_is_and_said() -> None:
    found = path_dependence(linear(range(2)), Branching(4, 3), blobs(), pairs=1, similarity=None)
    assert any("runs are not matched" in w for w in found.warnings)
    assert "barrier/as trained" in found.measured
    assert "barrier/matched" not in found.measured


def test_bad_input_is_refused() -> None:
    data, net, runs = blobs(), nn.Linear(4, 3), linear(range(3))
    broken = {**runs[0], "weight": runs[0]["weight"] * float("nan")}
    other = {"weight": torch.zeros(3, 5), "bias": torch.zeros(3)}
    for given, module, rows, text in (
        (runs[:1], net, data, "two runs"),
        (runs, None, data, "a network for weights"),
        (runs, net, None, "data on which"),
        ([*runs, broken], net, data, "finite weights"),
        ([*runs, other], net, data, "weights of the network"),
        ([*runs, {"nothing": torch.zeros(1)}], net, data, "weights of the network"),
        ("runs", net, data, "list of at least two"),
    ):
        with pytest.raises(InputError, match=text):
            path_dependence(given, module, rows, pairs=0)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="the level of each"):
        path_dependence(runs, net, data, causes={"weights": [0, 1]}, pairs=0)
    with pytest.raises(InputError, match="whole"):
        crossed_runs(planted, {"weights": 1})
    same = path_dependence([runs[0], runs[0], runs[1]], net, data, pairs=0)
    assert "same weights" in same.warnings[0]


def test_attacks_carry_over_as_far_as_runs_look_at_the_same() -> None:
    """Of linear classifiers it follows the signs of weights: copies share all of it, those of other columns nothing."""
    rng = torch.Generator().manual_seed(5)
    y = torch.arange(300) % 2
    x = 0.3 * torch.randn(300, 6, generator=rng)
    x += (2 * y - 1)[:, None]
    first, second = torch.zeros(2, 6), torch.zeros(2, 6)
    first[1, :3], second[1, 3:] = 1.5, 1.5
    data = nv.Data(x, y)
    runs = [{"weight": w, "bias": torch.zeros(2)} for w in (first, second)]
    moved = nv.paths.attack(nn.Linear(6, 2), runs[0], data, size=1.2)
    room = 1.2 * x.std(0)
    torch.testing.assert_close(moved[:, :3], (x - (2 * y - 1)[:, None] * room)[:, :3])
    assert torch.equal(moved[:, 3:], x[:, 3:])
    apart = path_dependence(runs, nn.Linear(6, 2), data, pairs=0, attack=1.2)
    assert apart.measured["attack/own"].value > 0.8
    assert -0.2 < apart.measured["attack/share"].value <= 0  # random signs move all columns
    assert apart.pairs["attacked"][0, 1] == ((moved @ second.T).argmax(1) != y).double().mean()
    alike = path_dependence([runs[0], runs[0]], nn.Linear(6, 2), data, pairs=0, attack=1.2)
    assert alike.measured["attack/share"].value == pytest.approx(1)
    assert any("carries over" in said for said in alike.words)
    assert "attack/own" not in path_dependence(runs, nn.Linear(6, 2), data, pairs=0, attack=0).measured
    with pytest.raises(InputError, match="attack"):
        path_dependence(runs, nn.Linear(6, 2), data, attack=-1.0)
    words = nv.Data(torch.arange(10).reshape(5, 2), torch.arange(5) % 2, tokens=True)
    with pytest.raises(InputError, match="floating point"):
        nv.paths.attack(nn.EmbeddingBag(10, 2), {"weight": torch.zeros(10, 2)}, words)
