"""Inputs of several parts as one tensor, and outputs that are objects."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from novacula.core.errors import InputError
from novacula.core.forward import Forward
from novacula.core.modules.outputs import logits_of
from novacula.core.modules.parts import Parts
from novacula.core.rng import generator
from novacula.data.data import Data

N = 5
WHOLE, FLOATS = torch.arange(N * 3).reshape(N, 3) % 4, torch.randn(N, 2, 2, generator=generator(0))
VALUES: dict[str, Any] = {
    "whole numbers": {"ids": WHOLE, "mask": WHOLE > 1},
    "with fractions": {"ids": WHOLE, "image": FLOATS, "mask": WHOLE > 1},
    "doubles": {"ids": WHOLE, "image": FLOATS.double()},
    "one": {"pixel_values": FLOATS},
    "in order": (FLOATS, WHOLE),
    "one number each": {"a": FLOATS, "size": torch.arange(N), "weight": torch.arange(N) / 7},
}


@pytest.mark.parametrize("name", VALUES)
def test_parts_come_back_as_they_were(name: str) -> None:
    values = VALUES[name]
    parts = Parts.of(values)
    x = parts.join(values)
    assert x.ndim == 3
    assert x.shape[:2] == (N, 1)
    back = parts.split(x)
    given = values if isinstance(values, dict) else dict(enumerate(values))
    for (k, v), w in zip(given.items(), back.values(), strict=True):
        assert w.dtype == v.dtype, k
        assert torch.equal(w, v)
    assert Parts.read(parts.record()) == parts
    many = torch.func.vmap(lambda row: tuple(parts.split(row.unsqueeze(0)).values()))(x)
    assert all(torch.equal(m.squeeze(1), b) for m, b in zip(many, back.values(), strict=True))
    for k, v in back.items():
        if v.is_floating_point():
            moved = parts.split(parts.replaced(x, k, v + 1))
            assert all(torch.equal(moved[j], back[j] + 1 if j == k else back[j]) for j in back)
    example = parts.split(parts.example(2, x, generator(0)))
    assert all(bool((v == 1).all()) for v in example.values() if not v.is_floating_point())


@pytest.mark.parametrize("name", VALUES)
def test_data_hold_parts(name: str) -> None:
    data = Data(VALUES[name], torch.arange(N) % 2)
    given = VALUES[name] if isinstance(VALUES[name], dict) else dict(enumerate(VALUES[name]))
    assert isinstance(data.inputs, dict)
    assert all(torch.equal(data.inputs[str(k)].double(), v.double()) for k, v in given.items())
    some = data.subset([3, 1])
    assert isinstance(some.inputs, dict)
    assert all(torch.equal(v, data.inputs[k][[3, 1]]) for k, v in some.inputs.items())
    assert all(name in repr(data) for name in data.inputs)
    arrays = {k: v.numpy() for k, v in given.items()}
    if all(isinstance(k, str) for k in given):
        again = Data(arrays, torch.arange(N) % 2, dtype=data.x.dtype if data.x.is_floating_point() else None)
        assert again.fingerprint == data.fingerprint
        renamed = Data({f"{k}_": v for k, v in arrays.items()}, torch.arange(N) % 2)
        assert renamed.fingerprint != data.fingerprint


def test_lists_hold_rows_and_bytes_are_images() -> None:
    assert Data([torch.ones(2), torch.zeros(2)], [0, 1]).parts is None
    assert Data(([1.0, 2.0], [3.0, 4.0]), [0, 1]).parts is None
    image = np.full((4, 6, 6, 3), 255, dtype=np.uint8)
    data = Data({"image": image, "ids": [[1, 2]] * 4}, [0, 1, 0, 1])
    assert isinstance(data.inputs, dict)
    assert data.inputs["image"].shape == (4, 3, 6, 6)
    assert float(data.inputs["image"].max()) == 1.0
    assert data.inputs["ids"].dtype == torch.int64


BAD: dict[str, tuple[Any, str]] = {
    "no part": ({}, "one or more parts"),
    "lengths": ({"a": torch.ones(4, 2), "b": torch.ones(3, 2)}, "as many rows in every part"),
    "a dictionary inside": ({"a": {"b": torch.ones(4)}}, "parts that are arrays"),
    "not finite": ({"a": torch.ones(4, 2), "b": torch.tensor([1.0, float("nan"), 0, 0])}, "NaN in row 1"),
    "text": ({"a": torch.ones(4, 2), "text": ["a", "b", "c", "d"]}, "numbers as part 'text'"),
    "ragged": ({"input_ids": [[1, 2], [3]]}, "rows of equal length"),
    "large": ({"ids": torch.full((4, 1), 2**25), "b": torch.ones(4, 2)}, "float32 holds beside"),
}


@pytest.mark.parametrize("name", BAD)
def test_parts_that_cannot_be_used_are_refused(name: str) -> None:
    values, match = BAD[name]
    with pytest.raises(InputError, match=match):
        Data(values, torch.arange(4) % 2)


class Takes(nn.Module):
    def __init__(self, wrap: Any) -> None:
        super().__init__()
        self.read, self.wrap = nn.Linear(4, 2), wrap

    def forward(self, image: Tensor, ids: Tensor | None = None) -> Any:
        out = self.read(image.flatten(1))
        return self.wrap(out if ids is None else out * ids.sum(1, keepdim=True))


Named = namedtuple("Named", ["logits", "aux"])


class Object:
    def __init__(self, logits: Tensor) -> None:
        self.logits = logits


WRAPS: dict[str, Any] = {
    "a tensor": lambda f: f,
    "a dictionary": lambda f: {"loss": None, "logits": f},
    "an ordered one": lambda f: OrderedDict(logits=f),
    "a named tuple": lambda f: Named(f, None),
    "an object": Object,
}


@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("named", [True, False])
def test_networks_are_called_by_name_or_in_order_and_give_logits(wrap: str, named: bool) -> None:
    net = Takes(WRAPS[wrap])
    values: Any = {"ids": WHOLE, "image": FLOATS} if named else (FLOATS, WHOLE)
    parts = Parts.of(values)
    f = Forward(net, parts=parts)
    wanted = logits_of(net(FLOATS, WHOLE))
    assert torch.equal(f(f.params(), parts.join(values)), wanted)
    assert f.check(parts.join(values)) == 2
    assert torch.equal(f.over(f.module)(f.params(), parts.join(values)), wanted)
    assert torch.equal(Forward(net)(f.params(), FLOATS), logits_of(net(FLOATS)))


def test_what_has_no_logits_is_refused_as_it_is() -> None:
    for wrap, got in ((lambda f: {"loss": f}, "a dict"), (lambda f: (f, f), "a tuple"), (lambda f: None, "NoneType")):
        with pytest.raises(InputError, match=got):
            Forward(Takes(wrap)).check(FLOATS)
    with pytest.raises(InputError, match="accepts ids"):
        Forward(Takes(lambda f: f), parts=Parts.of({"ids": WHOLE})).check(Parts.of({"ids": WHOLE}).join({"ids": WHOLE}))
