"""Folders of images as people have them: modes, sizes, nested folders, lists of files; each held against its rule."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import novacula as nv
from files import refused
from novacula.data.load import load_splits
from novacula.data.new import load_new
from novacula.data.raw import Like

G = np.random.default_rng(0)
COLOUR = G.integers(0, 256, (6, 9, 3), dtype=np.uint8)
ALPHA = G.integers(0, 256, (6, 9), dtype=np.uint8)
GREY = np.repeat(COLOUR[..., :1], 3, axis=2)


def folder(root: Path, images: dict[str, Image.Image]) -> Path:
    for name, image in images.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    return root


def plain(side: int = 4, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side), dtype=np.uint8))


def over_white(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[..., None] / 255
    return (share * colour + (1 - share) * 255) / 255


class TestModes:
    palette = Image.fromarray(COLOUR).quantize(8)
    see_through = Image.fromarray(COLOUR).quantize(8)

    @pytest.mark.parametrize(
        ("name", "image", "expected", "channels", "atol"),
        [
            ("a.png", Image.fromarray(GREY[..., 0]), GREY / 255, 1, 1e-6),
            ("a.png", Image.fromarray(COLOUR), COLOUR / 255, 3, 1e-6),
            ("a.png", Image.fromarray(GREY[..., 0] > 127), GREY > 127, 1, 1e-6),
            ("a.png", palette, np.asarray(palette.convert("RGB")) / 255, 3, 1e-6),
            ("a.png", Image.fromarray(np.dstack([COLOUR, ALPHA])), over_white(COLOUR, ALPHA), 3, 1 / 255),
            ("a.png", Image.fromarray(np.dstack([GREY[..., 0], ALPHA])), over_white(GREY, ALPHA), 1, 1 / 255),
            ("a.tif", Image.fromarray(255 - COLOUR).convert("CMYK"), 1 - COLOUR / 255, 3, 1 / 255),
            ("a.png", Image.fromarray(GREY[..., 0].astype(np.uint16) * 16), GREY.astype(float) * 16 / 65535, 1, 1e-6),
            ("a.tif", Image.fromarray(GREY[..., 0].astype(np.int32) * 200), GREY.astype(float) * 200 / 65535, 1, 1e-6),
        ],
    )
    def test_each(
        self, tmp_path: Path, name: str, image: Image.Image, expected: np.ndarray, channels: int, atol: float
    ) -> None:
        folder(tmp_path, {f"u/{name}": image, f"v/{name}": image})
        data = nv.load(tmp_path)
        assert data.x_shape == (channels, 6, 9)
        for x in data.x:
            np.testing.assert_allclose(x.movedim(0, -1).numpy(), expected[..., :channels], atol=atol)

    def test_colours_under_transparency_do_not_show(self, tmp_path: Path) -> None:
        clear = Image.fromarray(np.dstack([COLOUR, np.zeros_like(ALPHA)]))
        named = Image.fromarray(np.zeros((6, 9), np.uint8), "L").convert("P")
        named.info["transparency"] = 0
        data = nv.load(folder(tmp_path, {"u/a.png": clear, "u/b.png": named, "v/a.png": Image.fromarray(COLOUR)}))
        assert bool((data.x[:2] == 1).all())
        assert "2 images with transparency laid over white" in data.meaning

    def test_mixed_modes_are_said(self, tmp_path: Path) -> None:
        deep = Image.fromarray(GREY[..., 0].astype(np.uint16) * 257)
        data = nv.load(folder(tmp_path, {"u/a.png": Image.fromarray(COLOUR), "v/a.png": deep, "v/b.png": deep}))
        assert "modes of images: 2 I;16, 1 RGB" in data.meaning
        np.testing.assert_allclose(data.x[0].movedim(0, -1), COLOUR / 255, atol=1e-6)
        np.testing.assert_allclose(data.x[1].movedim(0, -1), GREY / 255, atol=1e-6)

    def test_values_beyond_16_bits_are_refused(self, tmp_path: Path) -> None:
        wide = Image.fromarray(np.full((6, 9), 70_000, np.int32))
        with refused("values from 70000 to 70000 in"):
            nv.load(folder(tmp_path, {"u/a.tif": wide, "v/a.tif": wide}))


class TestSizes:
    def test_mixed_sizes_are_refused_with_a_way(self, tmp_path: Path) -> None:
        folder(tmp_path, {"u/a.png": plain(8), "u/b.png": plain(6), "v/a.png": plain(8)})
        with refused("--size 8 (size=8 in Python)"):
            nv.load(tmp_path)
        with refused("a size of 1 or more"):
            nv.load(tmp_path, size=0)
        np.savez(tmp_path / "a.npz", images=np.zeros((4, 5, 5), np.uint8), labels=[0, 1, 0, 1])
        with refused("files of images to bring to a size"):
            nv.load(tmp_path / "a.npz", size=4)

    @pytest.mark.parametrize(("width", "height"), [(9, 6), (6, 9), (12, 12), (4, 4), (4, 30), (37, 5), (5, 4), (3, 3)])
    def test_the_centre_of_the_shorter_side(self, tmp_path: Path, width: int, height: int) -> None:
        """A ramp stays a ramp: what is cut out is the middle, at the scale of the shorter side."""
        ramp = np.linspace(0, 255, width)[None] + 0 * np.arange(height)[:, None]
        image = Image.fromarray(ramp.round().astype(np.uint8))
        data = nv.load(
            folder(tmp_path, {"u/a.png": image, "v/a.png": image.transpose(Image.Transpose.ROTATE_90)}), size=4
        )
        assert data.x_shape == (1, 4, 4)
        scale = min(width, height) / 4
        centres = (width - 1) / 2 + scale * (np.arange(4) - 1.5)  # in pixels of the original
        expected = np.interp(centres, np.arange(width), ramp[0]) / 255
        # Rounding of the longer side and of the cut moves pixels by less than one; the edge of a ramp is flattened.
        slope = scale * 255 / max(width - 1, 1) / 255
        np.testing.assert_allclose(data.x[0, 0], np.tile(expected, (4, 1)), atol=slope + 2 / 255)
        assert torch.allclose(data.x[1, 0], data.x[0, 0].rot90(), atol=slope + 2 / 255)

    def test_images_of_the_size_are_left_alone(self, tmp_path: Path) -> None:
        folder(tmp_path, {"u/a.png": plain(8), "v/a.png": plain(8, 1)})
        assert torch.equal(nv.load(tmp_path, size=8).x, nv.load(tmp_path).x)

    def test_new_images_are_brought_to_the_size_of_the_run(self, tmp_path: Path) -> None:
        data = nv.load(folder(tmp_path / "a", {"u/a.png": plain(9), "v/a.png": plain(7)}), size=5)
        like = Like(data.x_shape, data.task, data.classes, size=data.about.size)
        found = load_new(tmp_path / "a", like)
        assert torch.equal(found.x, data.x)
        assert found.names == ("u/a.png", "v/a.png")
        alone = load_new(tmp_path / "a" / "u" / "a.png", like)
        assert torch.equal(alone.x, data.x[:1])

    def test_the_size_is_said(self, tmp_path: Path) -> None:
        data = nv.load(folder(tmp_path, {"u/a.png": plain(9), "v/a.png": plain(7)}), size=5)
        said = "images (7 to 9 pixels wide and 7 to 9 high) brought to 5 × 5: the shorter side scaled, then the centre"
        assert said in data.meaning


def image_folder(root: Path) -> list[tuple[str, int]]:
    """What torchvision's `ImageFolder` lists, by its documented rules."""
    classes = sorted(e.name for e in os.scandir(root) if e.is_dir())
    found = []
    for k, name in enumerate(classes):
        for where, _, files in sorted(os.walk(root / name, followlinks=True)):
            found += [
                (os.path.join(where, f), k) for f in sorted(files) if f.lower().endswith((".png", ".jpeg", ".jpg"))
            ]
    return found


class TestFolders:
    def test_as_torchvision_has_them(self, tmp_path: Path) -> None:
        names = ["b/2.PNG", "b/10.png", "B/x.JPEG", "a/deep/er/1.png", "a/z.png", "a/deep/0.Png", "c d/é.png"]
        folder(tmp_path, {name: plain(4, i) for i, name in enumerate(names)})
        (tmp_path / "a" / "notes.txt").write_text("not an image")
        found = image_folder(tmp_path)
        data = nv.load(tmp_path)
        assert data.classes == ("B", "a", "b", "c d")
        assert data.y.tolist() == [k for _, k in found]
        expected = [np.asarray(Image.open(path)) / 255 for path, _ in found]
        np.testing.assert_allclose(data.x[:, 0].numpy(), np.stack(expected), atol=1e-6)

    def test_hidden_files_and_folders_are_left_alone(self, tmp_path: Path) -> None:
        folder(tmp_path, {"a/1.png": plain(), "b/1.png": plain(), "a/._1.png": plain(), "a/.cache/2.png": plain()})
        folder(tmp_path, {".thumbs/1.png": plain()})
        data = nv.load(tmp_path)
        assert data.n == 2
        assert not any("left alone" in text for text in data.meaning)

    def test_photographs_of_kinds_that_are_not_read_are_counted(self, tmp_path: Path) -> None:
        folder(tmp_path, {"a/1.png": plain(), "b/1.png": plain(), "b/c/2.png": plain()})
        for name in ("a/2.HEIC", "b/c/3.heic", "a/notes.txt", "list.csv", "b/.cache"):
            (tmp_path / name).write_bytes(b"1234")
        assert "3 files of other kinds left alone (.heic, .txt)" in nv.load(tmp_path).meaning

    @pytest.mark.parametrize(("train", "test"), [("train", "test"), ("Train", "val"), ("training", "validation")])
    def test_parts(self, tmp_path: Path, train: str, test: str) -> None:
        for part, n in ((train, 3), (test, 2)):
            folder(tmp_path / part, {f"{k}/{i}.png": plain(4, i) for k in "ab" for i in range(n)})
        splits = load_splits(tmp_path)
        assert splits.test is not None
        assert (splits.train.n, splits.test.n) == (6, 4)

    def test_a_validation_part_beside_a_test_part_is_left_alone(self, tmp_path: Path) -> None:
        for part, n in (("train", 3), ("val", 2), ("test", 1)):
            folder(tmp_path / part, {f"{k}/{i}.png": plain(4, i) for k in "ab" for i in range(n)})
        splits = load_splits(tmp_path)
        assert splits.test is not None
        assert (splits.train.n, splits.test.n) == (6, 2)
        assert any("folder 'val' left alone" in text for text in splits.train.meaning)

    def test_parts_share_one_look(self, tmp_path: Path) -> None:
        folder(tmp_path / "train", {f"{k}/{i}.png": plain(4, i) for k in "ab" for i in range(2)})
        folder(tmp_path / "test", {f"a/{i}.png": Image.fromarray(COLOUR[:4, :4]) for i in range(2)})
        splits = load_splits(tmp_path)
        assert splits.test is not None
        assert splits.train.x_shape == splits.test.x_shape == (3, 4, 4)


class TestLists:
    @pytest.fixture
    def images(self, tmp_path: Path) -> Path:
        return folder(tmp_path / "set", {f"{k}/{i} x.png": plain(4, ord(k) + i) for k in "ab" for i in range(4)})

    def numbers(self, data: nv.Data | None) -> list[tuple[int, float]]:
        assert data is not None
        return sorted((int(y), round(float(x.mean()), 4)) for x, y in zip(data.x, data.y, strict=True))

    def pick(self, names: list[str], classes: str = "ab") -> list[tuple[int, float]]:
        means = {n: float(np.asarray(plain(4, ord(n[0]) + int(n[2]))).mean()) / 255 for n in names}
        return sorted((classes.index(n[0]), round(m, 4)) for n, m in means.items())

    def test_names_alone(self, images: Path, tmp_path: Path) -> None:
        train = ["a/0 x.png", "a/2 x.png", "b/1 x.png", "b/3 x.png"]
        (tmp_path / "train.txt").write_text("\n".join(train) + "\n")
        splits = load_splits(images, split=tmp_path / "train.txt")
        assert self.numbers(splits.train) == self.pick(train)
        others = [f"{k}/{i} x.png" for k in "ab" for i in range(4) if f"{k}/{i} x.png" not in train]
        assert self.numbers(splits.test) == self.pick(others)
        assert "the 4 others for testing" in splits.train.meaning

    @pytest.mark.parametrize("part", ["test", "val", "Validation"])
    def test_a_table_with_labels_and_parts(self, images: Path, part: str) -> None:
        rows = [
            f"{k}/{i} x.png,{'odd' if i % 2 else 'even'},{'train' if i < 3 else part}" for k in "ab" for i in range(4)
        ]
        (images / "list.csv").write_text("Filename,Label,split\n" + "\n".join(rows) + "\n")
        splits = load_splits(images, split="list.csv")
        assert splits.train.classes == ("even", "odd")
        assert splits.train.y.tolist() == [0, 1, 0] * 2
        assert splits.test is not None
        assert splits.test.y.tolist() == [1, 1]

    def test_labels_beside_names(self, images: Path) -> None:
        (images / "list.txt").write_text("a/0 x.png u\nb/0 x.png\tv\na/1 x.png v\n")
        splits = load_splits(images, split="list.txt")
        assert splits.test is None
        assert (splits.train.classes, splits.train.y.tolist()) == (("u", "v"), [0, 1, 1])

    @pytest.mark.parametrize(
        ("name", "text", "message"),
        [
            ("l.txt", "a/0 x.png\nc/9.png\n", "files that exist"),
            ("l.txt", "a/0 x.png\na/0 x.png\n", "names each file once"),
            ("l.csv", "a,b\n1,2\n", "a header with file"),
            ("l.csv", "file,label,split\na/0 x.png,u,test\n", "files to learn from"),
            (
                "l.csv",
                "file,label,split\na/0 x.png,u,train\nb/0 x.png,v,train\na/1 x.png,w,test\n",
                "'w' among the test",
            ),
        ],
    )
    def test_errors(self, images: Path, name: str, text: str, message: str) -> None:
        (images / name).write_text(text)
        with refused(message):
            load_splits(images, split=name)

    def test_no_list(self, images: Path) -> None:
        for split in ("nowhere.txt", 0):
            with refused("a list of files"):
                load_splits(images, split=split)
        with refused("the number of a published split"):
            load_splits("digits", split="train.txt")


def test_the_command_learns_and_predicts_at_a_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from novacula.cli.app import app

    monkeypatch.chdir(tmp_path)
    folder(tmp_path / "set", {f"{k}/{i}.png": plain(9 + i % 3, ord(k) + i) for k in "ab" for i in range(8)})

    def run(*args: str) -> Any:
        result = CliRunner().invoke(app, list(args))
        assert result.exit_code == 0, f"{result.stderr}\n{result.exception!r}"
        return result

    quick = ["--net", "linear", "--epochs", "1", "--folds", "0", "--invariance", "none", "--no-report"]
    said = run("learn", "set", "--size", "8", *quick, "--output", "run").stderr
    assert "brought to 8 × 8" in said
    assert "data: 13 examples to learn from, 3 for testing" in said
    plain(30).save("new.png")
    assert "1 row of new" in run("predict", "run", "new.png").stdout
