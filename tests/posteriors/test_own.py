"""A posterior that a stranger writes, in one class: it predicts, and a run keeps it."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn

import novacula as nv
from novacula.core.errors import InputError
from novacula.core.params import Params, unstack
from novacula.core.rng import derive, generator
from novacula.core.storage.run import Run
from novacula.data.data import Data
from novacula.inference import MAP
from novacula.posteriors import BasePosterior, Draws, Mixture, Point
from novacula.posteriors.packed import Origin, packed_in
from novacula.posteriors.unpack import unpack
from novacula.runs.packing import bounded, size_of, tensors_of
from novacula.runs.refit import Inferred
from novacula.study import LearnResult, learn, load_posterior
from novacula.target import Target


@dataclass(frozen=True, eq=False)
class Box(BasePosterior):
    """Weights that are uniform in a box around a point."""

    mode: Params
    target: Target
    width: float = 0.4
    warnings: tuple[str, ...] = ("a box",)

    def sample(self, n: int, rng: torch.Generator) -> Params:
        return {k: w + self.width * (torch.rand(n, *w.shape, generator=rng) - 0.5) for k, w in self.mode.items()}


def net(seed: int = 3) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))


def classes(n: int = 40) -> Data:
    x = torch.randn(n, 5, generator=generator(1))
    return Data(x, x[:, :3].argmax(1), name="classes")


@pytest.fixture(scope="module")
def fit() -> LearnResult:
    return learn(Target(net()), classes(), epochs=2, structures=("last_layer",))


def own(fit: LearnResult) -> Box:
    return Box(fit.params, fit.target)


def test_it_predicts_as_the_mixture_of_its_samples(fit: LearnResult) -> None:
    box, x = own(fit), classes(7).x
    draws = unstack(box.sample(128, generator(derive(0, "weights"))))
    with torch.no_grad():
        each = torch.stack([fit.target.forward(w, x).softmax(1) for w in draws])
    found = nv.predict(box, x)
    torch.testing.assert_close(found.mean(), each.mean(0), atol=1e-6, rtol=0)
    assert found.warnings == ("a box",)
    assert nv.predict(box, x, samples=3).samples.shape == (3, 7, 3)
    plain = nv.predict(box, x, kind="plug-in")
    assert torch.equal(plain.mean(), nv.predict(fit.point, x).mean())


def test_it_has_its_place_in_a_mixture(fit: LearnResult) -> None:
    box, x = own(fit), classes(7).x
    other = dataclasses.replace(box, width=0.1)
    both = nv.predict(Mixture((box, other)), x)
    halves = [nv.predict(one, x, samples=64).mean() for one in (box, other)]
    torch.testing.assert_close(both.mean(), sum(halves) / 2, atol=1e-6, rtol=0)


def test_a_run_keeps_it_and_predicts_the_same(fit: LearnResult, tmp_path: Path) -> None:
    box, test = own(fit), classes(9)
    found = dataclasses.replace(fit, inferred=Inferred(box, MAP(), "", 1, 1, 40, 0.0))
    record = found.save(tmp_path / "run", test=test)
    assert record["posterior"]["draws"] == record["posterior"]["stored"] == 128
    assert record["posterior"]["warnings"] == ["a box"]
    read = load_posterior(tmp_path / "run", target=Target(net(8)))
    assert torch.equal(nv.predict(read, test.x).mean(), nv.predict(box, test.x).mean())
    assert torch.equal(torch.from_numpy(Run.read(tmp_path / "run").arrays["test/mean"]), nv.predict(box, test.x).mean())
    assert read.warnings == box.warnings
    assert nv.report(tmp_path / "run")


def test_what_is_packed_is_read_back(fit: LearnResult) -> None:
    """Points beside draws; more than ten, whose places are not in the order of their names."""
    target = fit.target
    points = [Point({k: w + i for k, w in fit.params.items()}, target) for i in range(11)]
    mixed = bounded(Mixture((*points, own(fit))))
    tensors = tensors_of(mixed)
    assert tensors is not None
    assert [p.kind for p in packed_in(tensors)] == ["point"] * 11 + ["draws"]
    read = unpack(dict(sorted(tensors.items())), Origin(target, classes(2).x, ("known",)))
    assert size_of(read) == size_of(mixed) == 21
    for before, after in zip(mixed.parts[:11], read.parts[:11], strict=True):
        assert all(torch.equal(after.mode[k], w) for k, w in before.mode.items())
    last, kept = read.parts[-1], mixed.parts[-1]
    assert isinstance(last, Draws)
    assert isinstance(kept, Draws)
    assert torch.equal(last.flat, kept.flat)
    assert last.warnings == ("known",)
    tensors["0/strange/0.weight"] = tensors.pop("0/point/0.weight")
    with pytest.raises(InputError, match="stored posteriors among point, draws, dropout"):
        unpack({k: v for k, v in tensors.items() if not k.startswith("0/point")}, Origin(target, classes(2).x, ()))


KINDS = {
    "posteriors": r"BasePosterior|\w*Posterior|Draws|Mixture|Point|DiagonalGaussian|LowRankGaussian",
    "curvature": r"Exact\w*|Kron\w*|Diagonal\w*|LastLayer\w*|MatrixFree\w*|Spectrum",
}


@pytest.mark.parametrize("package", KINDS)
def test_no_other_package_asks_for_a_class_of_it(package: str) -> None:
    root = Path(nv.__file__).parent
    question = re.compile(rf"(isinstance\([^\n]*|case |__name__ == \"|hasattr\([^\n]*)\b({KINDS[package]})\b")
    texts = {p: p.read_text() for p in root.rglob("*.py") if p.relative_to(root).parts[0] != package}
    assert len(texts) > 150
    found = [f"{p.relative_to(root)}: {m.group()}" for p, text in texts.items() for m in question.finditer(text)]
    assert not found
