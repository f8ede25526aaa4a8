"""Coverage of weak-instrument tests at the true effect, in designs where Wald intervals fail."""

import math

import numpy as np
import pytest

from causalsat.inference.iv_rows import IvRows
from causalsat.inference.iv_sets import ar_test, clr_test, confidence_sets, lm_test
from causalsat.inference.options import Sandwich
from causalsat.inference.sampling import Sampling


def rejections(runs, seed, *, n=250, q=4, concentration=2.0, confounding=0.6, spread=None, tests):
    """Shares of runs in which each test rejects the true effect at 5 percent."""
    rng = np.random.default_rng(seed)
    Z = rng.standard_normal((n, q))
    Z -= Z.mean(axis=0)
    pi = math.sqrt(concentration / (n * q))
    count = np.zeros(len(tests))
    for _ in range(runs):
        v = rng.standard_normal(n)
        u = confounding * v + math.sqrt(1 - confounding**2) * rng.standard_normal(n)
        u = u if spread is None else u * spread(Z)
        x = pi * Z.sum(axis=1) + v
        y = x + u
        rows = IvRows(
            y - y.mean(), (x - x.mean())[:, None], Z, np.ones(n), np.ones((n, 1)), 1, 1,
            Sampling(n, cluster=np.arange(n) % 50),
        )  # fmt: skip
        count += [test(rows) < 0.05 for test in tests]
    return count / runs


def wald(rows):
    m = rows.moments
    b = float(m.b_tsls[0])
    spread = float(np.sum(rows.residuals([b]) ** 2)) / rows.d2
    return math.erfc(abs(b - 1.0) / math.sqrt(2.0 * spread / (rows.n * float(m.XPX[0, 0]))))


HOMOSKEDASTIC = (
    lambda rows: ar_test(rows, [1.0], law="f").p_value,
    lambda rows: clr_test(rows, 1.0).p_value,
    lambda rows: lm_test(rows, [1.0]).p_value,
    wald,
)


def near(share, runs, nominal=0.05, errors=3.0):
    return abs(share - nominal) <= errors * math.sqrt(nominal * (1 - nominal) / runs)


@pytest.mark.parametrize("concentration", [0.0, 2.0])
def test_weak_designs_keep_their_size(concentration):
    runs = 2000
    ar, clr, lm, naive = rejections(runs, 1, concentration=concentration, confounding=0.95, tests=HOMOSKEDASTIC)
    assert near(ar, runs)
    assert near(clr, runs)
    assert near(lm, runs)
    assert naive > 0.2


def test_robust_size_under_heteroskedasticity():
    runs = 1000
    plain, adjusted = rejections(
        runs, 2, n=400, q=2, concentration=4.0, spread=lambda Z: 0.2 + Z[:, 0] ** 2,
        tests=(
            lambda rows: ar_test(rows, [1.0]).p_value,
            lambda rows: ar_test(rows, [1.0], sandwich=Sandwich("hc1")).p_value,
        ),
    )  # fmt: skip
    assert near(adjusted, runs)
    assert plain > 0.1


@pytest.mark.calibration
@pytest.mark.parametrize("confounding", [0.6, -0.6, 0.95])
@pytest.mark.parametrize("concentration", [0.0, 2.0, 10.0, 200.0])
def test_size_over_designs(concentration, confounding):
    runs = 20_000
    ar, clr, lm, _ = rejections(
        runs, 3, n=500, concentration=concentration, confounding=confounding, tests=HOMOSKEDASTIC
    )
    assert near(ar, runs)
    # Omega is estimated with 495 degrees of freedom: chi-squared tails are a little thin.
    assert abs(clr - 0.05) < 0.008
    assert abs(lm - 0.05) < 0.008


@pytest.mark.calibration
def test_sets_cover_as_often_as_their_tests_accept():
    runs = 1000
    for method in ("ar", "clr", "lm"):

        def missed(rows, method=method):
            (row,) = confidence_sets(rows, method, ar_law="f")
            return 1.0 if row.found.contains(1.0) else 0.0

        (share,) = rejections(runs, 4, tests=(missed,))
        assert near(share, runs)


@pytest.mark.calibration
def test_robust_and_clustered_size():
    runs = 5000
    robust, clustered = rejections(
        runs, 5, n=1000, q=3, concentration=3.0, spread=lambda Z: 0.2 + Z[:, 0] ** 2,
        tests=(
            lambda rows: ar_test(rows, [1.0], sandwich=Sandwich("hc1")).p_value,
            lambda rows: ar_test(rows, [1.0], sandwich=Sandwich("cluster")).p_value,
        ),
    )  # fmt: skip
    assert abs(robust - 0.05) < 0.015
    # Fifty clusters and three instruments: a chi-squared law rejects somewhat too often, as it does for any Wald test.
    assert 0.04 < clustered < 0.11
