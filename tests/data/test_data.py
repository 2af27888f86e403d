"""`Data`: conversion, validation, fingerprints."""

from __future__ import annotations

import hashlib
import math
import pickle
import re
import struct
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from files import refused
from novacula.core.errors import NovaculaWarning
from novacula.data.data import Data

RNG = np.random.default_rng(0)
Y3 = [0, 1, 0]


def table(n: int = 7, d: int = 3) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(n, d))


class TestInputs:
    @pytest.mark.parametrize("make", [np.asarray, lambda a: a.tolist(), pd.DataFrame, lambda a: a.astype(np.float32)])
    def test_arrays_lists_and_frames_become_the_default_dtype(self, make: Any) -> None:
        a = table()
        data = Data(make(a), np.arange(7) % 2)
        assert data.x.dtype == torch.float32
        assert torch.equal(data.x, torch.from_numpy(a.astype(np.float32)))

    def test_default_dtype_is_followed(self) -> None:
        torch.set_default_dtype(torch.float64)
        try:
            assert torch.equal(Data(table(), table(7, 1)).x, torch.from_numpy(table()))
        finally:
            torch.set_default_dtype(torch.float32)

    @pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
    def test_floating_tensors_keep_their_dtype_and_memory(self, dtype: torch.dtype) -> None:
        x = torch.randn(4, 2).to(dtype)
        data = Data(x, torch.zeros(4, 1, dtype=torch.float64))
        assert data.x.dtype == data.y.dtype == dtype
        assert data.x.data_ptr() == x.data_ptr()

    def test_dtype_argument_wins(self) -> None:
        assert Data(table(), table(7, 1), dtype=torch.float64).y.dtype == torch.float64
        assert Data(torch.randn(3, 2), Y3, dtype=torch.float64).x.dtype == torch.float64

    def test_arrays_are_copied(self) -> None:
        a = table().astype(np.float32)
        data = Data(a, np.arange(7) % 2)
        before = data.fingerprint
        a[:] = 0
        assert Data(data.x, data.y).fingerprint == before

    def test_read_only_reversed_and_big_endian_arrays(self) -> None:
        a = table()
        for view in (a[::-1][::-1], a.astype(">f8"), np.broadcast_to(a, a.shape)):
            assert torch.equal(Data(view, np.arange(7) % 2).x, torch.from_numpy(a.astype(np.float32)))

    def test_no_gradient_is_kept(self) -> None:
        assert not Data(torch.randn(3, 2, requires_grad=True), Y3).x.requires_grad

    @pytest.mark.parametrize("kind", ["numpy", "torch"])
    @pytest.mark.parametrize(
        "shape, expected",
        [((3, 5, 7), (1, 5, 7)), ((3, 5, 7, 3), (3, 5, 7)), ((3, 5, 7, 1), (1, 5, 7)), ((3, 4, 7, 3), (4, 7, 3))],
    )
    def test_bytes_become_images(self, kind: str, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
        a = np.random.default_rng(2).integers(0, 256, shape, dtype=np.uint8)
        data = Data(torch.from_numpy(a) if kind == "torch" else a, Y3)
        assert data.x_shape == expected
        moved = a[:, None] if a.ndim == 3 else np.moveaxis(a, -1, 1) if expected != shape[1:] else a
        np.testing.assert_array_equal(data.x.numpy(), moved.astype(np.float32) / np.float32(255))

    def test_layout_of_floating_arrays(self) -> None:
        a = RNG.random((3, 6, 5, 4))
        assert Data(a, Y3).x_shape == (4, 6, 5)  # channels last: the second axis cannot be channels
        assert Data(RNG.random((3, 3, 5, 3)), Y3).x_shape == (3, 5, 3)  # ambiguous: as it came
        assert Data(torch.from_numpy(a), Y3).x_shape == (6, 5, 4)  # tensors are in PyTorch's layout
        assert Data(RNG.random((3, 2, 9)), Y3).x_shape == (2, 9)  # a signal of two channels

    def test_tokens_stay_whole(self) -> None:
        data = Data([[1, 2, 5], [0, 3, 4]], [0, 1], tokens=True)
        assert data.x.dtype == torch.int64
        assert data.x.tolist() == [[1, 2, 5], [0, 3, 4]]
        assert Data([[1, 2], [3, 4]], [0, 1]).x.dtype == torch.float32

    def test_nullable_and_mixed_frames(self) -> None:
        frame = pd.DataFrame({"a": pd.array([1, 2, 3], dtype="Int64"), "b": [0.5, 1.5, 2.5], "c": [True, False, True]})
        data = Data(frame, pd.Series([1.0, 2.0, 4.0], name="t"))
        assert data.x.tolist() == [[1, 0.5, 1], [2, 1.5, 0], [3, 2.5, 1]]
        assert data.columns == ("a", "b", "c")
        assert data.y.tolist() == [[1.0], [2.0], [4.0]]

    def test_frames_with_an_index_of_their_own(self) -> None:
        frame = pd.DataFrame({"a": [1.0, 2.0]}, index=[7, 3])
        assert Data(frame, frame["a"]).x.tolist() == [[1.0], [2.0]]

    def test_object_array_of_numbers(self) -> None:
        assert Data(np.array([[1, 2.5], [3, 4]], dtype=object), [0, 1]).x.tolist() == [[1, 2.5], [3, 4]]

    def test_lists_of_tensors(self) -> None:
        rows = [torch.tensor([1.5, -2.0]), torch.tensor([3.0, 4.0], requires_grad=True)]
        assert Data(rows, [0, 1]).x.tolist() == [[1.5, -2.0], [3.0, 4.0]]

    def test_wide_and_unsigned_numbers(self) -> None:
        pairs = np.array([[60_000, 1], [2, 3]], dtype=np.uint16)
        assert Data(pairs, Y3[:2], tokens=True).x.tolist() == [[60_000, 1], [2, 3]]
        wide = np.array([[0.1, 2.0], [3.0, 4.0]], dtype=np.longdouble)
        assert Data(wide, Y3[:2], dtype=torch.float64).x.tolist() == [[0.1, 2.0], [3.0, 4.0]]
        with refused("inputs that fit 64 bits; got whole numbers up to 1.18e+21. Try: rescale them"):
            Data(np.array([[2**70, 1], [2, 3]], dtype=object), Y3[:2])
        with refused("inputs that fit 64 bits; got int too large to convert to float"):
            Data(np.array([[10**400, 0.5], [2, 3]], dtype=object), Y3[:2])
        with refused("numbers as inputs; got str '1' in row 0, column 0"):
            Data(np.array([["1", 4], [2, 3]], dtype=object), Y3[:2])

    def test_warns_of_lost_digits(self) -> None:
        x = np.stack([1.7e9 + np.arange(5.0), np.arange(5.0)], axis=1)
        with pytest.warns(NovaculaWarning, match="column 'time' vary by less than torch.float32"):
            Data(x, [*Y3, 0, 1], columns=["time", "z"])
        Data(x, [*Y3, 0, 1], dtype=torch.float64)
        Data(np.full((3, 1), 0.1), Y3)  # a constant has no digits to lose

    def test_warns_of_unscaled_images(self) -> None:
        with pytest.warns(NovaculaWarning, match="whole numbers up to 200"):
            Data(np.full((3, 1, 2, 2), 200.0), Y3)


class TestInputErrors:
    @pytest.mark.parametrize(
        "x, message",
        [
            ([[1.0, 2], [3, math.nan], [5, 6]], "NaN in row 1, column 1"),
            ([[1.0, 2], [3, 4], [math.inf, math.nan]], "infinity in row 2, column 0"),
            (
                torch.tensor([[1.0, 2], [-math.inf, 4], [math.nan, 0]]),
                "minus infinity in row 1, column 0 (and in 1 more row)",
            ),
            ([[1.0, 2], [3, 4], [5]], "rows of equal length"),
            ([[1, "red"], [3, "blue"], [4, "red"]], "'red' in row 0, column 1"),
            (np.array([[1, None], [3, 4], [5, 6]], dtype=object), "a missing value (None) in row 0, column 1"),
            (np.array([[1, {}], [3, 4], [5, 6]], dtype=object), "dict '{}' in row 0, column 1"),
            (np.zeros((3, 0)), "shape (3, 0)"),
            (np.zeros((0, 3)), "no rows"),
            (np.zeros((0, 3), dtype=object), "no rows"),
            (np.zeros((3, 0), dtype=object), "numbers as inputs; got an empty array of dtype object"),
            ([], "no rows"),
            (np.zeros((1, 3)), "inputs with at least two rows; got one row"),
            ([1.0, 2.0, 3.0], "x.reshape(-1, 1)"),
            (5.0, "a single value of type float"),
            (object(), "an object of type object"),
            (np.zeros((3, 2), dtype=complex), "real inputs"),
            (np.zeros((3, 2), dtype="datetime64[D]"), "datetime64"),
            (np.ma.masked_greater(np.arange(6.0).reshape(3, 2), 3.5), "a masked value in row 2, column 0"),
            (np.full((3, 2), 2**63, dtype=np.uint64), "fit 64 bits"),
            (
                np.array([[1e39, 1.0], [0, 1], [0, 1]]),
                "within the range of torch.float32; got 1e+39 in row 0, column 0",
            ),
            (np.full((3, 1, 2, 2), 1e39), "row 0, channel 0, pixel (0, 0)"),
        ],
    )
    def test_message(self, x: Any, message: str) -> None:
        with refused(message):
            Data(x, Y3)

    def test_pixels_and_positions_are_named(self) -> None:
        images = torch.zeros(3, 2, 4, 5)
        images[1, 1, 2, 3] = math.nan
        with refused("NaN in row 1, channel 1, pixel (2, 3)"):
            Data(images, Y3)
        with refused("NaN in row 1, channel 0, position 6"):
            Data(torch.where(torch.arange(3 * 2 * 7).reshape(3, 2, 7) == 20, math.nan, 0.0), Y3)

    def test_frame_columns_are_named(self) -> None:
        frame = pd.DataFrame({"age": [1.0, 2.0, math.nan], "height": [1.0, 2, 3]})
        with refused("a missing value in row 2, column 'age'"):
            Data(frame, Y3, tokens=True)
        with refused("in column 'colour' of the frame"):
            Data(pd.DataFrame({"age": [1, 2, 3], "colour": ["red", "blue", "red"]}), Y3, tokens=True)
        with refused("'age' twice"):
            Data(frame.set_axis(["age", "age"], axis=1), Y3)
        with refused("row 1, column 1 ('b')"):
            Data([[0.0, 1.0], [2.0, math.nan]], [0, 1], columns=["a", "b"])

    def test_arguments(self) -> None:
        frame, y = pd.DataFrame(table(4), index=list("abcd")), pd.Series([1.0, 2.0, 4.0, 3.0], index=list("bcda"))
        with pytest.warns(NovaculaWarning, match="one index in different orders"):
            Data(frame, y)
        assert Data(frame, y.loc[frame.index]).y[:, 0].tolist() == [3, 1, 2, 4]
        Data(frame, y.set_axis(range(4)))  # another index says nothing of pairs
        with refused("as many labels as inputs; got 3 inputs and 4 labels"):
            Data(table(3), [0, 1, 0, 1])
        with refused("a floating dtype"):
            Data(table(3), Y3, dtype=torch.int64)
        with refused("one column name for each feature"):
            Data(table(3), Y3, columns=["a"])
        with refused("0.5 in row 0, column 1"):
            Data([[1, 0.5], [2, 3]], [0, 1], tokens=True)
        with refused("token ids from 0; got -1 in row 1, column 0"):
            Data([[1, 0], [-1, 3]], [0, 1], tokens=True)


class TestLabels:
    @pytest.mark.parametrize(
        "y, task, expected",
        [
            ([2, 0, 1], "classification", [2, 0, 1]),
            (np.array([2, 0, 1], dtype=np.uint8), "classification", [2, 0, 1]),
            ([[2], [0], [1]], "classification", [2, 0, 1]),
            ([True, False, True], "classification", [1, 0, 1]),
            ([2.0, 0.0, 1.0], "regression", [[2.0], [0.0], [1.0]]),
            ([[1, 1], [0, 0], [0, 1]], "multilabel", [[1.0, 1.0], [0.0, 0.0], [0.0, 1.0]]),
            ([[3, 1], [0, 0], [0, 1]], "regression", [[3.0, 1.0], [0.0, 0.0], [0.0, 1.0]]),
            ([[0.5, 1.0], [0, 0], [0, 1]], "regression", [[0.5, 1.0], [0.0, 0.0], [0.0, 1.0]]),
        ],
    )
    @pytest.mark.parametrize("make", [lambda y: y, np.asarray, torch.tensor])
    def test_guess(self, make: Any, y: Any, task: str, expected: Any) -> None:
        data = Data(torch.zeros(3, 2, dtype=torch.float64), make(y))
        assert data.task == task
        assert data.y.tolist() == expected
        assert data.y.dtype == (torch.int64 if task == "classification" else torch.float64)

    @pytest.mark.parametrize(
        "make",
        [list, tuple, np.array, lambda y: np.array(y, dtype=object), pd.Series, lambda y: pd.DataFrame({"a": y})],
    )
    def test_strings_are_numbered_in_sorted_order(self, make: Any) -> None:
        data = Data(table(4), make(["dog", "cat", "emu", "cat"]))
        assert (data.classes, data.y.tolist()) == (("cat", "dog", "emu"), [1, 0, 2, 0])
        assert Data(table(4), make(["b", "a", "b", "a"]), classes=["b", "a", "c"]).y.tolist() == [0, 1, 0, 1]

    def test_categories_and_bytes(self) -> None:
        assert Data(table(3), pd.Series(["b", "a", "b"], dtype="category")).y.tolist() == [1, 0, 1]
        assert Data(table(3), np.array([b"b", b"a", b"b"])).classes == ("a", "b")

    def test_many_whole_numbers_beside_a_table_are_measurements(self) -> None:
        y = torch.arange(101)
        assert Data(torch.zeros(101, 2), y).task == "regression"
        assert Data(torch.zeros(101, 2), y % 50).task == "classification"
        assert Data(torch.zeros(101, 1, 2, 2), y).task == "classification"
        assert Data(torch.zeros(101, 2), y, task="classification").task == "classification"

    def test_task_argument(self) -> None:
        assert Data(table(3), [2, 0, 1], task="regression").y.tolist() == [[2.0], [0.0], [1.0]]
        assert Data(table(3), [1.0, 0.0, 1.0], task="classification").y.tolist() == [1, 0, 1]
        assert Data(table(3), [1, 0, 1], task="multilabel").y.tolist() == [[1.0], [0.0], [1.0]]
        assert Data(table(3), [1.0, 0.0, 1.0], classes=["no", "yes"]).task == "classification"

    def test_one_hot_rows_are_questioned(self) -> None:
        with pytest.warns(NovaculaWarning, match="one-hot"):
            Data(table(3), [[1, 0], [0, 1], [0, 1]])

    @pytest.mark.parametrize(
        "y, options, message",
        [
            ([0.5, math.nan, 1.0], {}, "finite labels; got NaN in row 1"),
            ([[0.5, 1], [1, -math.inf], [1, 1]], {}, "minus infinity in row 1, column 1"),
            (["a", None, "b"], {}, "None in row 1"),
            (["a", 3, "b"], {}, "3 in row 1"),
            (["a", "b", "a"], {"task": "regression"}, "numbers as labels for regression"),
            (["a", "b", "z"], {"classes": ["a", "b"]}, "'z' in row 2"),
            ([0, 1, 2], {"classes": ["a", "b"]}, "labels in 0..1; got label 2 in row 2"),
            ([0, -1, 1], {"classes": ["a", "b"]}, "label -1 in row 1"),
            ([0, 1, 1], {"classes": ["a", "a"]}, "class names that differ"),
            ([0, 1, 1], {"task": "ranking"}, "a task among classification"),
            ([0.0, 1.5, 1], {"task": "classification"}, "1.5 in row 1"),
            ([0, 2, 1], {"task": "multilabel"}, "labels of 0 and 1 for multilabel; got 2 in row 1"),
            ([[0, 1], [1, 1], [1, 1]], {"task": "classification"}, "argmax"),
            ([[0, 1], [1, 1], [1, 1]], {"classes": ["a", "b", "c"]}, "2 class names, one a column; got 3 names"),
            (np.zeros((3, 2, 2)), {}, "labels of shape (N,) or (N, D)"),
            (np.zeros((3, 0)), {}, "labels of shape (N,) or (N, D)"),
            ([1], {}, "labels with at least two rows; got one row"),
            (["a"], {}, "labels with at least two rows; got one row"),
            (np.array([1e39, 0, 0]), {}, "labels within the range of torch.float32; got 1e+39 in row 0"),
        ],
    )
    def test_errors(self, y: Any, options: dict[str, Any], message: str) -> None:
        with refused(message):
            Data(table(3), y, **options)


class TestFingerprint:
    def test_definition(self) -> None:
        """The digest is that of dtype, shape and little-endian contents, written out here by hand."""
        data = Data(torch.tensor([[0.5, -1.0], [2.0, 0.25]]), [1, 0])
        content = b"torch.float32(2, 2)" + struct.pack("<4f", 0.5, -1.0, 2.0, 0.25)
        content += b"torch.int64(2,)" + struct.pack("<2q", 1, 0)
        assert data.fingerprint == hashlib.blake2b(content, digest_size=8).hexdigest()

    def test_layout_and_names_do_not_matter(self) -> None:
        x, y = torch.randn(4, 3), torch.tensor([0, 1, 1, 0])
        plain = Data(x, y).fingerprint
        assert Data(x.t().contiguous().t(), y, name="b", columns=["a", "b", "c"]).fingerprint == plain
        assert pickle.loads(pickle.dumps(Data(x, y))).fingerprint == plain

    def test_contents_shape_dtype_and_labels_matter(self) -> None:
        x, y = torch.randn(4, 4), torch.tensor([0, 1, 1, 0])
        other = x.clone()
        other[3, 2] = torch.nextafter(other[3, 2], torch.tensor(math.inf))
        variants = [
            Data(x, y),
            Data(other, y),
            Data(x.reshape(4, 2, 2), y),
            Data(x.double(), y),
            Data(x, 1 - y),
            Data(x, y.float(), task="regression"),
            Data(x.flip(0), y),
        ]
        assert len({d.fingerprint for d in variants}) == len(variants)

    def test_it_is_sixteen_digits_and_cached(self) -> None:
        data = Data(table(3), Y3)
        assert re.fullmatch("[0-9a-f]{16}", data.fingerprint)
        assert data.fingerprint is data.fingerprint
