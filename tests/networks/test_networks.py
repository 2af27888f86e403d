"""Built-in networks against sizes and functions written out; networks from files, and all that can be wrong there."""

from __future__ import annotations

import math
import os
import pickle
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from joblib.externals.loky.backend.reduction import dumps
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap

from novacula.core.errors import InputError
from novacula.core.forward import Forward
from novacula.networks import BUILT_IN, cnn, linear, make, mlp, resnet, seeded

SHAPES = [(5,), (2, 9), (1, 8, 8), (3, 9, 12), (1, 28, 28), (3, 32, 32), (4, 50, 41)]


def size(net: nn.Module) -> int:
    return sum(w.numel() for w in net.parameters())


def refused(text: str) -> Any:
    return pytest.raises(InputError, match=re.escape(text))


class TestBuiltIn:
    @pytest.mark.parametrize("name", BUILT_IN)
    @pytest.mark.parametrize("shape", SHAPES)
    def test_outputs_one_row_an_example(self, name: str, shape: tuple[int, ...]) -> None:
        if name in {"cnn", "resnet"} and len(shape) != 3:
            with refused("images of shape (channels, height, width)"):
                make(name, shape, 7)
            return
        x = torch.rand(3, *shape, generator=torch.Generator().manual_seed(0))
        net = make(name, shape, 7)
        f = net(x)
        assert f.shape == (3, 7)
        assert Forward(net).check(x) == 7
        torch.testing.assert_close(net(x[1:2]), f[1:2])  # no example sees another

    def test_sizes(self) -> None:
        assert size(mlp((1, 8, 8), 10)) == 64 * 128 + 128 + 128 * 10 + 10
        assert size(mlp((5,), 3, width=7, depth=3)) == 6 * 7 + 2 * 8 * 7 + 8 * 3
        assert size(linear((2, 3), 4)) == 7 * 4
        by_hand = (25 * 1 * 16 + 16) + (9 * 16 * 32 + 32) + (9 * 32 * 32 + 32) + (32 * 16 * 128 + 128) + (128 * 10 + 10)
        assert size(cnn((1, 28, 28), 10)) == by_hand == 81_258

    @pytest.mark.parametrize("shape", [s for s in SHAPES if len(s) == 3])
    def test_cnn_stays_below_a_hundred_thousand(self, shape: tuple[int, ...]) -> None:
        assert size(cnn(shape, 100)) <= 100_000

    @pytest.mark.parametrize("blocks, expected", [(1, 77_850), (2, 175_066), (3, 272_282)])
    def test_resnet_size(self, blocks: int, expected: int) -> None:
        def block(c: int, w: int) -> int:
            return 2 * c + 9 * c * w + 2 * w + 9 * w * w + (c * w if c != w else 0)

        stages = sum(block(c, w) + (blocks - 1) * block(w, w) for c, w in ((16, 16), (16, 32), (32, 64)))
        by_hand = 9 * 3 * 16 + stages + 2 * 64 + 64 * 10 + 10
        assert size(resnet((3, 32, 32), 10, blocks=blocks)) == by_hand == expected

    @pytest.mark.parametrize(
        "activation, function",
        [
            ("gelu", lambda z: z * 0.5 * (1 + torch.erf(z / math.sqrt(2)))),
            ("tanh", torch.tanh),
            ("relu", lambda z: z.clamp(min=0)),
        ],
    )
    def test_mlp_is_its_formula(self, activation: Any, function: Any) -> None:
        net = mlp((2, 3), 4, width=5, depth=2, activation=activation).double()
        x = torch.randn(7, 2, 3, dtype=torch.float64)
        h = x.reshape(7, 6)
        w = [p.detach() for p in net.parameters()]
        for i in (0, 2):
            h = function(h @ w[i].T + w[i + 1])
        torch.testing.assert_close(net(x), h @ w[4].T + w[5])

    def test_residual_block_is_its_formula(self) -> None:
        """With the last convolution of each branch at zero, only the shortcuts are left."""
        net = resnet((2, 6, 8), 3, width=8).double()
        blocks: list[Any] = list(net)[1:4]
        for block in blocks:
            nn.init.zeros_(block.branch[-1].weight)
        x = torch.randn(2, 2, 6, 8, dtype=torch.float64)
        layers: list[Any] = list(net)
        h = layers[0](x)
        h = torch.einsum("nchw,kc->nkhw", h[:, :, ::2, ::2], blocks[1].shortcut.weight[:, :, 0, 0])
        h = torch.einsum("nchw,kc->nkhw", h[:, :, ::2, ::2], blocks[2].shortcut.weight[:, :, 0, 0])
        groups = h.reshape(2, 8, -1)
        h = (groups - groups.mean(-1, keepdim=True)) / (groups.var(-1, keepdim=True, unbiased=False) + 1e-5).sqrt()
        h = nn.functional.gelu(h.reshape(2, 32, -1)).mean(-1)
        torch.testing.assert_close(net(x), h @ layers[-1].weight.T + layers[-1].bias)

    @pytest.mark.parametrize("name", BUILT_IN)
    def test_per_example_gradients(self, name: str) -> None:
        """Vmapped Jacobians (what the curvature needs) against one example at a time."""
        net = make(name, (2, 9, 8), 3, **({"width": 4} if name in {"cnn", "resnet"} else {})).double()
        params = {k: w.detach() for k, w in net.named_parameters()}
        x = torch.rand(3, 2, 9, 8, dtype=torch.float64)

        def f(w: dict[str, Tensor], one: Tensor) -> Tensor:
            return functional_call(net, w, (one[None],))[0]

        together = vmap(jacrev(f), in_dims=(None, 0))(params, x)
        for i in range(3):
            for k, j in jacrev(f)(params, x[i]).items():
                torch.testing.assert_close(together[k][i], j)

    def test_errors(self) -> None:
        with refused("width as a whole number of 1 or more; got 0"):
            mlp((3,), 2, width=0)
        with refused("outputs as a whole number of 1 or more"):
            cnn((1, 8, 8), 0)
        with refused("depth as a whole number of 0 or more"):
            mlp((3,), 2, depth=-1)
        with refused("an activation among gelu, tanh, relu; got 'sine'"):
            mlp((3,), 2, activation="sine")  # type: ignore[arg-type]
        with refused("the shape of one input"):
            linear((), 2)
        with refused("the shape of one input"):
            resnet((1, 0, 8), 2)


class TestMake:
    @pytest.mark.parametrize(
        "shape, expected", [((5,), "table"), ((2, 30), "mlp"), ((1, 8, 8), "cnn"), ((1, 7, 28), "mlp")]
    )
    def test_auto(self, shape: tuple[int, ...], expected: str) -> None:
        assert size(make("auto", shape, 3)) == size(make(expected, shape, 3))

    def test_weights_are_a_function_of_the_seed(self) -> None:
        state = torch.get_rng_state()
        a, b, c = (make("cnn", (1, 8, 8), 3, seed).state_dict() for seed in (0, 0, 1))
        assert all(torch.equal(a[k], b[k]) for k in a)
        assert not any(torch.equal(a[k], c[k]) for k in a)
        assert torch.equal(torch.get_rng_state(), state)

    def test_generators_return_after_an_error(self) -> None:
        state = torch.get_rng_state()
        with pytest.raises(ZeroDivisionError), seeded(3):
            divide(float(torch.rand(1)), 0)
        assert torch.equal(torch.get_rng_state(), state)

    def test_options(self) -> None:
        assert size(make("mlp", (5,), 3, width=7, depth=3)) == 6 * 7 + 2 * 8 * 7 + 8 * 3

    def test_errors(self, tmp_path: Path) -> None:
        with refused("got 'resnett'. Try: 'resnet'"):
            make("resnett", (3, 8, 8), 2)
        with refused("Try: 'auto'"):
            make("transformer9", (3,), 2)
        with refused("options of 'mlp': width, depth, activation; got 'with'. Try: width"):
            make("mlp", (3,), 2, **{"with": 3})
        with refused("options of 'linear': none"):
            make("linear", (3,), 2, width=3)
        with refused("no options for a network from a file"):
            make("a.py:net", (3,), 2, width=3)


HEAD = "import torch\nfrom torch import nn\n"


@pytest.fixture
def net_file(tmp_path: Path) -> Any:
    def write(body: str, name: str = "model.py") -> str:
        (tmp_path / name).write_text(HEAD + body)
        return str(tmp_path / name)

    return write


class TestFile:
    @pytest.mark.parametrize(
        "body",
        [
            "def net(x_shape, outputs): return nn.Linear(x_shape[0], outputs)",
            "def net(outputs, x_shape): return nn.Linear(x_shape[0], outputs)",
            "def net(shape, classes): return nn.Linear(shape[0], classes)",
            "def net(shape, classes, bias=True): return nn.Linear(shape[0], classes, bias)",
            "def net(*, outputs): return nn.Linear(5, outputs)",
            "def net(width=5, out=3): return nn.Linear(width, out)",
            "def net(): return nn.Linear(5, 3)",
            "net = lambda: nn.Linear(5, 3)",
            "net = nn.Linear(5, 3)",
            "class net(nn.Linear):\n    def __init__(self): super().__init__(5, 3)",
            "class net(nn.Linear):\n    def __init__(self, x_shape, outputs): super().__init__(x_shape[0], outputs)",
            "import functools\nnet = functools.partial(nn.Linear, 5, 3)",
        ],
    )
    def test_ways_to_write_one(self, net_file: Any, body: str) -> None:
        name = net_file(body) + ":net"
        state = torch.get_rng_state()
        a, b, c = (make(name, (5,), 3, seed) for seed in (0, 0, 1))
        assert a(torch.zeros(2, 5)).shape == (2, 3)
        assert a is not b
        weights = [next(net.parameters()) for net in (a, b, c)]
        assert torch.equal(weights[0], weights[1])
        assert not torch.equal(weights[0], weights[2])
        assert torch.equal(torch.get_rng_state(), state)

    def test_file_runs_in_its_own_folder_and_leaves_no_trace(self, net_file: Any, tmp_path: Path) -> None:
        (tmp_path / "novacula_test_sibling.py").write_text("WIDTH = 6")
        body = "from novacula_test_sibling import WIDTH\ntorch.manual_seed(9)\ntorch.set_default_dtype(torch.float64)\n"
        name = net_file(body + "def net(): return nn.Linear(WIDTH, 2)")
        path, state = list(sys.path), torch.get_rng_state()
        assert make(name + ":net", (6,), 2)(torch.zeros(1, 6, dtype=torch.float64)).shape == (1, 2)
        assert sys.path == path
        assert torch.equal(torch.get_rng_state(), state)
        assert torch.get_default_dtype() == torch.float32

    def test_a_changed_file_is_read_again(self, net_file: Any) -> None:
        name = net_file("def net(): return nn.Linear(5, 3)") + ":net"
        assert size(make(name, (5,), 3)) == 18
        stamp = os.stat(name[:-4])
        net_file("def net(): return nn.Linear(5, 4)")
        os.utime(name[:-4], ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
        assert size(make(name, (5,), 3)) == 24

    def test_networks_of_own_classes_can_be_pickled_and_sent(self, net_file: Any) -> None:
        body = "class Net(nn.Linear):\n    def __init__(self): super().__init__(5, 3)\n"
        body += "    def forward(self, x): return super().forward(x).tanh()\n"
        a, b = (make(net_file(body) + ":Net", (5,), 3, seed) for seed in (0, 1))
        assert type(a) is type(b)
        assert torch.equal(first_output(pickle.loads(pickle.dumps(a))), first_output(a))
        sent = dumps(a)  # as to a worker, which has never seen the file
        del sys.modules[type(a).__module__]
        assert torch.equal(first_output(pickle.loads(sent)), first_output(a))

    @pytest.mark.parametrize(
        "body, message",
        [
            ("def net(): return nn.Linear(5, 3", "SyntaxError in {}, line 3"),
            ("x = 1 / 0", "ZeroDivisionError in {}, line 3: division by zero. Try: correct that line"),
            (
                "import novacula_no_such_module",
                "Try: install novacula_no_such_module, or put novacula_no_such_module.py",
            ),
            ("import sys\nsys.exit(3)", "SystemExit in {}, line 4"),
            ("def make_net(): return nn.Linear(5, 3)\ndef nett(): pass", "a file with make_net, nett. Try: {}:nett"),
            ("def build(): return nn.Linear(5, 3)", "a file with build. Try: {}:build"),
            ("", "a file with no function of its own"),
            ("net = 3", "'net' in {} as a function or nn.Module; got a int"),
            ("def net(): return torch.zeros(3)", "an nn.Module from net in {}; got a Tensor"),
            ("def net(): return None", "got a NoneType"),
            ("def net(): return nn.ReLU", "got the class ReLU"),
            ("def net(a, b, c): return nn.ReLU()", "got net(a, b, c) in {}, line 3"),
            ("def net(x_shape, c): return nn.ReLU()", "got net(x_shape, c) in {}, line 3"),
            ("def net(a): return nn.ReLU()", "a function of (x_shape, outputs) or of nothing"),
            (
                "def inner():\n    raise ValueError('odd')\ndef net():\n    return inner()",
                "ValueError in {}, line 4: odd",
            ),
            (
                "def net(x_shape, outputs):\n    return nn.Linear('a', outputs)",
                "net(x_shape=(5,), outputs=3) to return a network; got TypeError in {}, line 4",
            ),
            ("net = type", "'net' in {} as a Python function; got no signature found for builtin"),
            (
                "from novacula.networks import cnn\nnet = lambda x_shape, outputs: cnn(x_shape, outputs)",
                "InputError in {}, line 4: expected images",
            ),
        ],
    )
    def test_errors(self, net_file: Any, body: str, message: str) -> None:
        file = net_file(body)
        modules, path = set(sys.modules), list(sys.path)
        with refused(message.format(file)):
            make(file + ":net", (5,), 3)
        assert sys.path == path
        if "line" in message and "def" not in body and "lambda" not in body:  # a file that failed is not kept
            assert not {m for m in set(sys.modules) - modules if m.startswith("novacula_network")}

    def test_name_errors(self, net_file: Any) -> None:
        file = net_file("def net(): return nn.Linear(5, 3)")
        with refused(f"file.py:function; got '{file}'. Try: {file}:make_net"):
            make(file, (5,), 3)
        with refused("a Python file that exists"):
            make("no/such.py:net", (5,), 3)
        with refused("Try: model.py"):
            make(file.replace("model", "modell") + ":net", (5,), 3)


def test_a_file_that_fails_the_second_time_leaves_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module is made anew, under its seed, at every call; a failure must not take what others hold with it."""
    file = tmp_path / "model.py"
    file.write_text("import os\nfrom torch import nn\nint(os.environ['NUMBER'])\nnet = nn.Linear(5, 3)\n")
    monkeypatch.setenv("NUMBER", "1")
    make(f"{file}:net", (5,), 3)
    (name,) = [k for k, m in sys.modules.items() if getattr(m, "__file__", None) == str(file)]
    before = sys.modules[name]
    monkeypatch.setenv("NUMBER", "one")
    with refused("got ValueError"):
        make(f"{file}:net", (5,), 3)
    assert sys.modules[name] is before


def first_output(net: nn.Module) -> Tensor:
    return net(torch.ones(1, 5)).detach()


def divide(a: float, b: float) -> float:
    return a / b
