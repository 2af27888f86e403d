"""Reading datasets and loaders: what comes in is what `Data` would hold of the same arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from files import refused
from novacula.core.errors import InputError, NovaculaWarning
from novacula.data.data import Data
from novacula.inference import MAP, NUTS, SGHMC, SWAG, Ensemble, infer
from novacula.prediction import predict
from novacula.target import Target


class Pairs(Dataset):
    """A map-style dataset of chosen items."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]


class Stream(IterableDataset):
    """A dataset without indices."""

    def __iter__(self) -> Any:
        return iter([(torch.tensor([float(i), 1.0]), i % 2) for i in range(5)])


class Noisy(Dataset):
    """A dataset that augments at random."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Any:
        return torch.randn(3), index % 2


class TestDatasets:
    x, y = torch.arange(30.0).reshape(10, 3), torch.arange(10) % 3

    def expect(self, data: Data, n: int = 10) -> None:
        assert data.fingerprint == Data(self.x[:n], self.y[:n]).fingerprint

    def test_map_style(self) -> None:
        self.expect(Data.from_dataset(TensorDataset(self.x, self.y)))
        self.expect(Data.from_dataset(TensorDataset(self.x, self.y), limit=4), 4)
        self.expect(Data.from_dataset(TensorDataset(self.x, self.y), limit=400))
        self.expect(Data.from_dataset(list(zip(self.x.numpy(), self.y.tolist(), strict=True))))

    @pytest.mark.parametrize(
        "keys", [("x", "y"), ("image", "label"), ("pixel_values", "labels"), ("features", "target")]
    )
    def test_dictionaries(self, keys: tuple[str, str]) -> None:
        items = [dict(zip((*keys, "id"), (a, int(b), 7), strict=True)) for a, b in zip(self.x, self.y, strict=True)]
        self.expect(Data.from_dataset(Pairs(items)))
        self.expect(Data.from_dataset(DataLoader(Pairs(items), batch_size=4)))

    def test_loaders(self) -> None:
        loader = DataLoader(TensorDataset(self.x, self.y), batch_size=3)
        self.expect(Data.from_dataset(loader))
        self.expect(Data.from_dataset(loader, limit=7), 7)
        assert Data.from_dataset(loader, limit=3, name="three").name == "three"

    def test_strings_numbers_and_pictures(self) -> None:
        from PIL import Image

        pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 6, 3), dtype=np.uint8)
        names = ["b", "a", "b", "a"]
        items = list(zip(map(Image.fromarray, pixels), names, strict=True))
        data = Data.from_dataset(Pairs(items))
        assert data.fingerprint == Data(pixels, names).fingerprint
        assert data.classes == ("a", "b")
        assert Data.from_dataset(DataLoader(Pairs([([1.0, 2.0], "a"), ([3.0, 5.0], "b")]), collate_fn=zip_batch)).n == 2

    def test_lists_of_tensors_are_one_input(self) -> None:
        items = [([a[0], 2 * a[1], a[2]], int(b)) for a, b in zip(self.x, self.y, strict=True)]
        found = Data.from_dataset(Pairs(items))
        assert found.fingerprint == Data(self.x * torch.tensor([1, 2, 1]), self.y).fingerprint

    def test_float64_and_regression(self) -> None:
        data = Data.from_dataset(TensorDataset(self.x.double(), self.x.double()[:, 0] / 7))
        assert (data.x.dtype, data.task, tuple(data.y.shape)) == (torch.float64, "regression", (10, 1))

    def test_iterable(self) -> None:
        assert Data.from_dataset(Stream()).x[:, 0].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
        assert Data.from_dataset(Stream(), limit=2).n == 2

    def test_shuffled_loader_is_repeatable_and_touches_no_generator(self) -> None:
        own = torch.Generator().manual_seed(5)
        loader = DataLoader(TensorDataset(self.x, self.y), batch_size=4, shuffle=True, generator=own)
        unseeded = DataLoader(TensorDataset(self.x, self.y), batch_size=4, shuffle=True)
        before, state = torch.get_rng_state(), own.get_state()
        a, b = (Data.from_dataset(loader) for _ in range(2))
        assert a.fingerprint == b.fingerprint
        assert Data.from_dataset(unseeded).fingerprint == Data.from_dataset(unseeded).fingerprint
        assert torch.equal(torch.get_rng_state(), before)
        assert torch.equal(own.get_state(), state)
        assert sorted(a.x[:, 0].tolist()) == self.x[:, 0].tolist()

    def test_random_datasets_are_reported(self) -> None:
        with pytest.warns(NovaculaWarning, match="at random"):
            data = Data.from_dataset(Noisy())
        with pytest.warns(NovaculaWarning, match="at random"):
            assert data.fingerprint == Data.from_dataset(Noisy()).fingerprint

    @pytest.mark.parametrize(
        "dataset, message",
        [
            (Pairs([]), "an empty one"),
            (Pairs([(1, 2, 3)] * 2), "item 0: a tuple of 3"),
            (Pairs([torch.zeros(2)] * 2), "item 0: a Tensor"),
            (Pairs([{"a": 1, "y": 2}] * 2), "an input in every item; got item 0 with keys a, y"),
            (Pairs([{"x": 1, "b": 2}] * 2), "a label in every item; got item 0 with keys x, b"),
            (Pairs([(torch.zeros(2), 0), (torch.zeros(3), 1)]), "(2,) in item 0 and (3,) in item 1"),
            (Pairs([([0.0], [1]), ([0.0], [1, 2])]), "labels of one shape"),
            ({"train": 1, "test": 2}, "a dictionary with keys train, test"),
            ({"x": 1, "y": 2}, "call Data(d['x'], d['y'])"),
            (7, "a int"),
            (DataLoader(Pairs([])), "a loader with at least one batch"),
            (DataLoader(Pairs([(torch.zeros(2), 0), (torch.zeros(3), 1)])), "(2,) in batch 0 and (3,) in batch 1"),
            (DataLoader(TensorDataset(torch.zeros(3, 2), torch.zeros(3)), batch_size=None), "as many inputs as labels"),
        ],
    )
    def test_errors(self, dataset: Any, message: str) -> None:
        with refused(message):
            Data.from_dataset(dataset)

    def test_limit_error(self) -> None:
        with refused("limit as a whole number of 1 or more"):
            Data.from_dataset(Stream(), limit=0)


def zip_batch(items: list[Any]) -> Any:
    return tuple(map(list, zip(*items, strict=True)))


# ------------------------------------------------------------------ inputs of several parts


def encoded(mask: list[int]) -> list[dict[str, Any]]:
    return [{"input_ids": [1, 2, 3], "attention_mask": mask, "label": i % 2} for i in range(4)]


def test_a_mask_that_says_nothing_is_left_out_and_one_that_matters_is_a_part() -> None:
    assert Data.from_dataset(encoded([1, 1, 1]), tokens=True).x.tolist() == [[1, 2, 3]] * 4
    data = Data.from_dataset(encoded([1, 1, 0]))
    assert isinstance(data.inputs, dict)
    assert {k: v.tolist() for k, v in data.inputs.items()} == {
        "input_ids": [[1, 2, 3]] * 4,
        "attention_mask": [[1, 1, 0]] * 4,
    }
    assert all(v.dtype == torch.int64 for v in data.inputs.values())


class Encoder(torch.nn.Module):
    """Ids and a mask by name, a dictionary out: the manner of the transformers library."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(9, 4)
        self.read = torch.nn.Linear(4, 2)
        self.register_buffer("scale", torch.tensor(0.5))

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        seen = (self.embed(input_ids) * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True)
        return {"logits": self.scale * self.read(seen)}


class Wrapped(torch.nn.Module):
    """Parts stacked into one array by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Encoder()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(input_ids=x[:, 0], attention_mask=x[:, 1])["logits"]


def test_networks_with_dictionaries_run_as_they_are_and_when_wrapped() -> None:
    rng = torch.Generator().manual_seed(0)
    ids = torch.randint(9, (12, 5), generator=rng)
    mask = (torch.arange(5) < torch.randint(1, 6, (12, 1), generator=rng)).long()
    y = torch.randint(2, (12,), generator=rng)
    with pytest.raises(InputError, match=r"ids of tokens stay whole numbers with Data\(…, tokens=True\)"):
        infer(MAP(), Target(Encoder()), Data(ids, y), steps=1)
    data, target = Data(torch.stack([ids, mask], 1), y, tokens=True), Target(Wrapped())
    own = {k.removeprefix("model."): w for k, w in target.params().items()}
    by_name = Data({"input_ids": ids, "attention_mask": mask}, y)
    same = [infer(MAP(), Target(Encoder()), by_name, steps=9, init=own), infer(MAP(), target, data, steps=9)]
    means = [predict(p, d.x).mean() for p, d in zip(same, (by_name, data), strict=True)]
    assert torch.allclose(means[0], means[1])
    for method in (Ensemble(MAP(), members=2), SWAG(), SGHMC(keep=4), NUTS(max_depth=2, keep=4)):
        p = predict(infer(method, target, data, steps=12, batch_size=4, seed=0), data.x).mean()
        assert p.shape == (12, 2)
        assert torch.allclose(p.sum(1), torch.ones(12))


class _Parts(Dataset):
    """Six items whose inputs are what a function of the index gives."""

    def __init__(self, make: Callable[[int], Any]) -> None:
        self.make = make

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.make(index), index % 2


PARTS: list[tuple[Callable[[int], Any], dict[str, tuple[int, ...]]]] = [
    (
        lambda i: {"input_ids": torch.arange(5), "attention_mask": torch.ones(5)},
        {"input_ids": (5,), "attention_mask": (5,)},
    ),
    (lambda i: {"image": torch.ones(3, 4, 4), "table": torch.ones(2)}, {"image": (3, 4, 4), "table": (2,)}),
    (lambda i: (torch.ones(3), torch.ones(2)), {"0": (3,), "1": (2,)}),
    (lambda i: (torch.ones(3), torch.ones(3)), {"0": (3,), "1": (3,)}),
    (lambda i: (torch.ones(3, 4, 4), 1.0), {"0": (3, 4, 4), "1": ()}),
    (lambda i: [np.ones(3), np.ones(2)], {"0": (3,), "1": (2,)}),
]


@pytest.mark.parametrize("case", range(len(PARTS)))
@pytest.mark.parametrize("batch", [None, 2, 4])
def test_inputs_of_several_parts_are_read_as_such(case: int, batch: int | None) -> None:
    make, shapes = PARTS[case]
    items = _Parts(make)
    data = Data.from_dataset(items if batch is None else DataLoader(items, batch_size=batch))
    assert isinstance(data.inputs, dict)
    assert {k: tuple(v.shape[1:]) for k, v in data.inputs.items()} == shapes
    assert data.y.tolist() == [0, 1, 0, 1, 0, 1]
    values = make(3)
    given = values.values() if isinstance(values, dict) else values
    for value, part in zip(given, data.inputs.values(), strict=True):
        assert torch.equal(part[3].double(), torch.as_tensor(value).double())


@pytest.mark.parametrize("batch", [None, 2])
def test_parts_that_are_no_arrays_are_refused(batch: int | None) -> None:
    items = _Parts(lambda i: ({"a": torch.ones(2)}, torch.ones(2)))
    with pytest.raises(InputError, match="inputs that are arrays"):
        Data.from_dataset(items if batch is None else DataLoader(items, batch_size=batch))


def test_labels_of_several_parts_are_refused() -> None:
    items = [(torch.ones(3), {"boxes": torch.ones(2), "labels": torch.ones(1)}) for _ in range(4)]
    with pytest.raises(InputError, match="labels that are one array"):
        Data.from_dataset(items)
