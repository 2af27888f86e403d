"""The prior over functions against definitions, exhaustive counts and closed forms."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch
from torch import nn

import novacula as nv
from novacula.functions.counting import Table
from novacula.functions.samplers import network
from novacula.functions.samplers.weights import Normals, rounded
from novacula.functions.strings import pack, unpack


def phrases(s: str) -> int:
    """Lempel and Ziv's definition: a phrase ends where it is no piece of what stands before its last symbol."""
    i = count = 0
    while i < len(s):
        j = i + 1
        while j <= len(s) and s[i:j] in s[: j - 1]:
            j += 1
        count, i = count + 1, j
    return count


@pytest.mark.parametrize(("length", "symbols"), [(1, 2), (3, 2), (63, 2), (64, 2), (65, 2), (130, 2), (90, 3), (70, 5)])
def test_lz76_is_the_definition(length: int, symbols: int):
    rng = np.random.default_rng(length)
    strings = rng.integers(0, symbols, (60, length)) * (rng.random((60, length)) < rng.random((60, 1)))
    texts = ["".join(map(str, row)) for row in strings]
    assert nv.functions.lz76(strings).tolist() == [phrases(t) for t in texts]
    assert nv.functions.lz76(texts).tolist() == [phrases(t) for t in texts]


def test_lz_bits_read_both_ways_and_know_constants():
    text = "0001101001000101"
    both = (phrases(text) + phrases(text[::-1])) / 2
    assert nv.functions.lz_bits([text, "1" * 16]).tolist() == [4 * both, 4.0]
    mean, sd = nv.functions.lz_spread([text, "1" * 16], 8)
    assert sd[0] > 0
    assert (mean[1], sd[1]) == (4.0, 0.0)


def test_counts_are_those_of_a_dictionary():
    rng = np.random.default_rng(0)
    rows = (rng.exponential(6, (5_000, 1)).astype(np.int64) ** 3 >> (8 * np.arange(3)) & 255).astype(np.uint8)
    table = Table(3, 10_000)
    for part in np.split(rows, 10):
        table.add(part)
        table.settle()
    found = {k.tobytes(): int(c) for k, c in zip(table.keys, table.counts, strict=True)}
    assert found == Counter(r.tobytes() for r in rows)
    small = Table(3, 20)
    for part in np.split(rows, 100):
        small.add(part)
        small.settle()
    kept = {k.tobytes(): int(c) for k, c in zip(small.keys, small.counts, strict=True)}
    assert small.undercount > 0
    assert len(kept) <= 20
    assert all(c <= found[k] <= c + small.undercount for k, c in kept.items())
    assert all(k in kept for k, c in found.items() if c > small.undercount)


def test_packing_can_be_undone():
    labels = np.random.default_rng(1).integers(0, 5, (7, 11)).astype(np.uint8)
    assert (unpack(pack(labels, 3), 11, 3) == labels).all()
    assert (unpack(pack(labels > 2, 1), 11, 1) == (labels > 2)).all()


def test_a_sample_is_the_networks_one_by_one():
    net = nn.Sequential(nn.Flatten(), nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4), nn.GELU(), nn.Linear(4, 3))
    x = torch.randn(6, 3, generator=torch.Generator().manual_seed(1))
    sampler = network.Networks(net, nv.Gaussian(0.5))
    own = sampler.forward.params()
    params = nv.Gaussian(0.5).bind(own).sample(own, 20, torch.Generator().manual_seed(2))
    f = sampler.evaluation(x)(params)
    for i in range(20):
        with torch.no_grad():
            for k, w in net.named_parameters():
                w.copy_(params[k][i])
            torch.testing.assert_close(f[i].T, net(x))
            assert (sampler.labels(f)[i].long() == net(x).argmax(1)).all()


class Product(nn.Module):
    """No chain of layers."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(2, 1), nn.Linear(2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.a(x) * self.b(x)


def test_any_module():
    found = nv.functions.sample(Product(), nv.functions.cube(2), 4_000, prior=nv.Gaussian())
    # f and 1 − f are alike, as one factor may change its sign: 5 standard errors, a false alarm in 10^6.
    for labels in ("0000", "0001", "0101"):
        other = "".join("10"[int(c)] for c in labels)
        a, b = (found.probability(t).value for t in (labels, other))
        assert abs(a - b) < 5 * math.sqrt((a + b) / found.n) + 1e-9


def test_linear_thresholds_in_closed_form():
    # Without a bias the two signs of one weight; with one, P(f constant on {0, 1}) = 1 − angle/π by an arc tangent.
    net = nn.Linear(1, 1)
    n = 100_000
    found = nv.functions.sample(net, torch.tensor([[0.0], [1.0]]), n, prior=nv.Gaussian())
    constant = 1 - (math.pi / 4) / math.pi
    assert abs(found.constants.value - constant) < 5 * math.sqrt(constant * (1 - constant) / n)
    control = nv.functions.sample(nv.functions.LinearThreshold(), torch.tensor([[0.0], [1.0]]), n)
    assert abs(control.constants.value - constant) < 5 * math.sqrt(constant * (1 - constant) / n)


def test_signs_are_counted_exhaustively():
    x = torch.tensor([[0.3, 1.0, -0.2], [1.0, -0.5, 0.4], [-0.7, 0.2, 0.9]])
    truth: Counter[str] = Counter()
    for w in itertools.product((-1.0, 1.0), repeat=4):
        f = x @ torch.tensor(w[:3]) / 3**0.5 + w[3]
        truth["".join(str(int(v > 0)) for v in f)] += 1
    found = nv.functions.sample(nn.Linear(3, 1), x, 20_000, prior=nv.priors.Signs(fan_in=True))
    assert {s.labels for s in found.top(16)} == set(truth)
    for text, k in truth.items():  # 5 standard errors: a false alarm in 10^6 for each
        assert abs(found.probability(text).value - k / 16) < 5 * math.sqrt(k / 16 * (1 - k / 16) / found.n)


def test_coins_have_the_counting_measure():
    found = nv.functions.sample(nv.functions.Coins(), nv.functions.cube(3), 200_000)
    assert len(found.counts) == 256
    assert abs(found.entropy - 8) < 0.01
    assert found.unseen_mass.value == 0
    assert abs(found.constants.value - 2 / 256) < 5 * math.sqrt(2 / 256 / found.n)


def test_unseen_mass_is_what_was_not_seen():
    # 4,096 equal functions, 3,000 draws: the unseen mass is known after the fact. Intervals of 95 % in 40 seeds hold it
    # in 31 or more, but for one time in 10^4.
    held = 0
    for seed in range(40):
        found = nv.functions.sample(nv.functions.Coins(), torch.arange(12.0)[:, None], 3_000, seed=seed)
        truth = 1 - len(found.counts) / 4096
        held += found.unseen_mass.low <= truth <= found.unseen_mass.high
    assert held >= 31


def test_normals_are_normal():
    out = torch.empty(400_000)
    Normals(torch.Generator().manual_seed(3)).fill(out)
    z = out.double()
    # Moments within 5 standard errors; neighbours and the two halves of a pair are not correlated.
    for power, moment, var in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs(float((z**power).mean()) - moment) < 5 * math.sqrt(var / len(z))
    half = len(z) // 2
    assert abs(float((z[:half] * z[half:]).mean())) < 5 / math.sqrt(half)
    assert abs(float((z[:half] ** 2 * z[half:] ** 2).mean()) - 1) < 5 * math.sqrt(8 / half)


def test_samples_repeat_and_go_on():
    net, x = nn.Linear(3, 1), nv.functions.cube(3)
    a, b = (nv.functions.sample(net, x, 500, prior=nv.FanIn(), seed=4) for _ in range(2))
    assert (a.counts == b.counts).all()
    assert (a.keys == b.keys).all()
    own = nv.functions.sample(net, x, 50)
    assert own.n == own.counts.sum() == 50


def test_formats():
    w = {"w": torch.tensor([[1.0, -0.3, 0.1234567]])}
    assert torch.equal(rounded(w, "float32")["w"], w["w"])
    assert torch.equal(rounded(w, "bfloat16")["w"], w["w"].bfloat16().float())
    torch.testing.assert_close(rounded(w, "int8")["w"], torch.tensor([[127.0, -38.0, 16.0]]) / 127)


def test_boolean_analysis_of_known_functions():
    x = nv.functions.cube(3).numpy().astype(int)
    parity, first, majority = x.sum(1) % 2, x[:, 0], (x.sum(1) > 1).astype(int)
    strings = np.stack([parity, first, majority, 0 * first])
    weights = nv.functions.weight_by_degree(strings)
    np.testing.assert_allclose(weights, [[0, 0, 0, 1], [0, 1, 0, 0], [0, 0.75, 0, 0.25], [1, 0, 0, 0]], atol=1e-12)
    inf = [[1, 1, 1], [1, 0, 0], [0.5, 0.5, 0.5], [0, 0, 0]]
    np.testing.assert_allclose(nv.functions.influences(strings), inf)
    np.testing.assert_allclose(nv.functions.critical_sample_ratio(strings), [1, 1, 0.75, 0])
    np.testing.assert_allclose(nv.functions.label_entropy(strings), [1, 1, 1, 0])
    # Noise by enumeration of all flips.
    rate, told = 0.2, nv.functions.noise_sensitivity(strings, 0.2)
    for f, value in zip(strings, told, strict=True):
        total = 0.0
        for i, flips in itertools.product(range(8), range(8)):
            k = flips.bit_count()
            total += rate**k * (1 - rate) ** (3 - k) * float(f[i] != f[i ^ flips]) / 8
        assert value == pytest.approx(total)
    spectrum = [sum((-1) ** int(majority[i] + (i & s).bit_count()) for i in range(8)) / 8 for s in range(8)]
    np.testing.assert_allclose(nv.functions.walsh(majority)[0], spectrum)


@pytest.mark.parametrize(
    "control",
    [
        nv.functions.GaussianProcess(1.5),
        nv.functions.NearestNeighbour(3),
        nv.functions.RandomTree(2),
    ],
)
def test_controls_favour_no_label(control: network.Sampler):
    found = nv.functions.sample(control, nv.functions.cube(4), 4_000)
    ones = float((found.labels.mean(1) * found.counts).sum() / found.n)
    assert abs(ones - 0.5) < 5 * 0.5 / math.sqrt(found.n)
    assert found.constants.value > 0.01  # coins would give 2^-15


def test_ties_are_told():
    with pytest.warns(nv.NovaculaWarning, match="decide nothing"):
        found = nv.functions.sample(nn.Linear(2, 1, bias=False), nv.functions.cube(2), 100, prior=nv.Gaussian())
    assert found.tied == 100
    assert found.probability("1111").value == 0


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: nv.functions.sample(nn.Linear(2, 1), torch.zeros(2, 2), 10), "row 1 repeats row 0"),
        (lambda: nv.functions.sample(nn.Linear(2, 1), nv.functions.cube(2), 10**12), "hours"),
        (lambda: nv.functions.sample(nn.Linear(2, 1), nv.functions.cube(2), 0), "n as a whole number"),
        (lambda: nv.functions.sample("mlp", nv.functions.cube(2), 9), "a network"),  # type: ignore[arg-type]
        (lambda: nv.functions.sample(nn.Linear(2, 1), nv.functions.cube(2), 9, format="int4"), "a format"),  # type: ignore[arg-type]
        (lambda: nv.functions.sample(lambda x, n, g: torch.zeros(n, 3), nv.functions.cube(2), 9), "labels of shape"),
        (lambda: nv.functions.cube(21), "20 dimensions"),
        (lambda: nv.functions.lz76(["01", "011"]), "one length"),
        (lambda: nv.functions.walsh([[0, 1, 1]]), "Boolean cube"),
        (lambda: nv.functions.influences([[0, 2]]), "labels 0 and 1"),
    ],
)
def test_bad_input(call, words: str):
    with pytest.raises(nv.InputError, match=words):
        call()


def test_outputs_that_are_no_numbers():
    net = nn.Linear(2, 1)
    with pytest.raises(nv.NonFiniteError):
        nv.functions.sample(net, nv.functions.cube(2) * 3e38, 10, prior=nv.Gaussian(1e-6))


def test_the_line_bounds_and_touches():
    # Points on log2 P = −1 − ½K at K = 2, 6 and 10, others below.
    k = np.array([2.0, 6.0, 10.0, 4.0, 8.0, 8.0])
    log = np.array([-2.0, -4.0, -6.0, -5.0, -9.0, -7.0])
    counts = (2**20 * 2.0**log).astype(np.int64)
    found = nv.functions.FunctionSample(counts, np.zeros((6, 1), np.uint8), 2**20, 8, 2)
    bound = nv.functions.complexity_bound(found, k)
    assert bound.slope == pytest.approx(-0.5)
    assert bound.intercept == pytest.approx(-1)
    with pytest.raises(nv.InputError, match="two complexities"):
        nv.functions.complexity_bound(found, 0 * k)
