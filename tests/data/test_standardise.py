"""Standard units: means and deviations by hand, densities against scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from files import refused
from novacula.data.data import Data
from novacula.data.standardise import Standardiser

RNG = np.random.default_rng(0)
Y3 = [0, 1, 0]


class TestStandardiser:
    x = np.array([[1.0, 7.0, 0.0], [4.0, 7.0, 2.0], [10.0, 7.0, 10.0]])
    y = np.array([[2.0, 30.0], [8.0, 10.0], [5.0, 20.0]])
    data = Data(x, y, dtype=torch.float64, columns=["a", "b", "c"])

    def test_training_rows_get_mean_zero_and_variance_one(self) -> None:
        scale = Standardiser.fit(self.data)
        done = scale.apply(self.data)
        sd = np.array([math.sqrt(14.0), 1.0, math.sqrt(56 / 3)])  # by hand: mean squared deviations 14 and 56/3
        np.testing.assert_allclose(done.x.numpy(), (self.x - [5.0, 7.0, 4.0]) / sd, rtol=1e-14)
        np.testing.assert_allclose(done.y.numpy().mean(0), 0, atol=1e-15)
        np.testing.assert_allclose((done.y.numpy() ** 2).mean(0), 1, rtol=1e-14)
        assert scale.constant == ("x column 'b'",)
        assert done.scaling is scale
        assert done.columns == ("a", "b", "c")

    def test_other_rows_use_the_training_scale(self) -> None:
        scale = Standardiser.fit(self.data)
        test = scale.apply(Data(self.x[:2] + 1, self.y[:2], dtype=torch.float64))
        np.testing.assert_allclose(test.x.numpy()[:, 1], 1.0)
        torch.testing.assert_close(scale.restore_y(test.y), torch.from_numpy(self.y[:2]))

    def test_density_in_original_units(self) -> None:
        """A Gaussian fitted in standard units against scipy's density of the original targets."""
        from scipy.stats import norm

        scale = Standardiser.fit(self.data)
        z, mean, sigma = scale.apply(self.data).y, torch.tensor([0.3, -0.2]).double(), torch.tensor([0.5, 2.0]).double()
        nll = -torch.distributions.Normal(mean, sigma).log_prob(z).sum(1) + scale.log_y_scale
        loc, sd = scale.restore_y(mean).numpy(), scale.restore_y_scale(sigma).numpy()
        np.testing.assert_allclose(nll.numpy(), -norm(loc, sd).logpdf(self.y).sum(1), rtol=1e-13)

    def test_what_was_standardised_comes_back(self) -> None:
        scale = Standardiser.fit(self.data)
        done = scale.apply(self.data)
        torch.testing.assert_close(scale.restore_x(done.x), torch.tensor(self.x), rtol=1e-14, atol=1e-14)
        assert torch.equal(scale.inputs(self.data.x), done.x)
        # By hand, at a new point: (x − m) / s.
        new = torch.tensor([[2.0, 9.0, -1.0]], dtype=torch.float64)
        want = [-3.0 / math.sqrt(14.0), 2.0, -5.0 / math.sqrt(56 / 3)]
        assert scale.inputs(new)[0].tolist() == pytest.approx(want, rel=1e-14)
        y = torch.tensor([[11.0, 25.0]], dtype=torch.float64)  # means 5 and 20, deviations √6 and √(200/3)
        assert scale.targets(y)[0].tolist() == pytest.approx([6 / math.sqrt(6), 5 / math.sqrt(200 / 3)], rel=1e-14)

    def test_dtype_and_float32_precision(self) -> None:
        data = Data(torch.tensor([[1000.0], [1000.5], [1001.0]]), torch.tensor([1.0, 2.0, 6.0]))
        done = Standardiser.fit(data).apply(data)
        assert done.x.dtype == done.y.dtype == torch.float32
        torch.testing.assert_close(done.x[:, 0], torch.tensor([-1.0, 0.0, 1.0]) * math.sqrt(1.5))

    def test_images_classes_and_tokens_are_left_alone(self) -> None:
        for data in (Data(RNG.random((3, 1, 4, 5)), Y3), Data([[1, 2], [3, 4], [5, 6]], Y3, tokens=True)):
            scale = Standardiser.fit(data)
            done = scale.apply(data)
            assert torch.equal(done.x, data.x)
            assert torch.equal(done.y, data.y)
            assert torch.equal(scale.inputs(data.x), data.x)
            assert torch.equal(scale.restore_x(data.x), data.x)
            assert scale.log_y_scale == 0
            assert torch.equal(scale.restore_y(done.x), done.x)
            assert torch.equal(scale.restore_y_scale(done.x), done.x)

    def test_parts_remember_the_scale(self) -> None:
        done = Standardiser.fit(self.data).apply(self.data)
        assert done.subset([0, 1]).scaling is done.scaling
        assert done.to(dtype=torch.float32).scaling is done.scaling

    def test_errors(self) -> None:
        scale = Standardiser.fit(self.data)
        done = scale.apply(self.data)
        with refused("original units"):
            scale.apply(done)
        with refused("original units"):
            Standardiser.fit(done)
        with refused("3 columns of x; got shape (3, 2)"):
            scale.apply(Data(self.x[:, :2], self.y))
        with refused("2 columns of y"):
            scale.apply(Data(self.x, self.y[:, 0]))
