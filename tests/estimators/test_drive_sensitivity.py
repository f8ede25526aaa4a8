"""Direct effects of instruments in `drive`: the union starts at the table, covers the box, and ends where it must."""

import itertools
import logging

import numpy as np
import pytest
from scipy import optimize, special

import causalsat as cs
from causalsat.errors import OptionError
from causalsat.estimators.drive_equation import problem_of
from causalsat.estimators.drive_fit import solve_drive
from causalsat.estimators.drive_law import limit_law
from causalsat.estimators.drive_sensitivity import _units, sensitivity
from causalsat.estimators.drive_sensitivity_ends import DriveEnds, shifted
from causalsat.estimators.drive_sensitivity_sets import corner_ends, direct_moments
from causalsat.estimators.k_class import comparator
from causalsat.inference.intervals import interval
from causalsat.inference.iv_sets import ar_test, confidence_sets
from causalsat.inference.options import Sandwich
from causalsat.simulate.iv import iv

pytestmark = pytest.mark.filterwarnings("ignore::causalsat.errors.CausalsatWarning")
LOG = logging.getLogger(__name__)
CLASSICAL, ROBUST = Sandwich("classical"), Sandwich("hc1")
LAW = cs.DriveOptions(n_law=2000)


def _fitted(q=3, turned=(), **given):
    data, _ = iv(n=600, q=q, seed=3, concentration=400.0, clusters=given.pop("clusters", 0))
    for name in turned:
        data[name] = -data[name]
    names = [f"z{k + 1}" for k in range(q)]
    return cs.drive(data, outcome="y", treatment="x", instruments=names, n_boot=0, **given)


def _uneven(pi, n, covariance, seed=0, **given):
    """x = Z pi + v, y = x + u with correlated errors: first-stage coefficients of unequal size."""
    rng, pi = np.random.default_rng(seed), np.array(pi)
    Z, v = rng.normal(size=(n, pi.size)), rng.normal(size=n)
    x = Z @ pi + v
    data = {"y": x + 0.6 * v + 0.8 * rng.normal(size=n), "x": x}
    data |= {f"z{k + 1}": Z[:, k] for k in range(pi.size)}
    names = [name for name in data if name[0] == "z"]
    return cs.drive(
        data, outcome="y", treatment="x", instruments=names, n_boot=0, covariance=covariance, options=LAW, **given
    )


def _grid(size, levels, units):
    return size * np.array(list(itertools.product(np.linspace(-1.0, 1.0, levels), repeat=units.size))) * units


def _least_ratio(rows, b, half):
    """Least homoskedastic statistic at one effect over a box of direct effects: a bounded least-squares problem."""
    moments = rows.moments
    if not half.any():
        left = moments.w - moments.B[:, 0] * b
        inside = float(left @ left)
    else:
        inside = 2.0 * float(
            optimize.lsq_linear(
                moments.L.T, moments.w - moments.B[:, 0] * b, bounds=(-half, half), method="bvls", tol=1e-14
            ).cost
        )
    return rows.d1 * inside / (moments.yMy - 2.0 * moments.XMy[0] * b + moments.XMX[0, 0] * b * b)


@pytest.mark.parametrize("cluster", [None, "cluster"])
def test_a_box_of_size_zero_is_the_table(cluster):
    fitted = _fitted(clusters=40, cluster=cluster)
    found = fitted.sensitivity(direct=0.0, prior={"z1": (0.0, 0.0)})
    rows = {"tsls": "wald", "drive": "limit", "ar": "robust"}
    union = found.to_frame().set_index("method")
    for method, kind in rows.items():
        row = fitted.table.row(method=method, interval=kind)
        assert [union.loc[method, "low"], union.loc[method, "high"]] == pytest.approx(
            [row["conf_low"], row["conf_high"]], rel=1e-12
        )
    tsls = fitted.table.row(method="tsls", interval="wald")
    assert found.prior["low"][0] == pytest.approx(tsls["conf_low"], rel=1e-12)
    assert found.prior["high"][0] == pytest.approx(tsls["conf_high"], rel=1e-12)


@pytest.mark.parametrize("q", [7, 11])
def test_many_instruments_of_either_sign_reach_the_corners_of_the_box(q):
    fitted = _fitted(q=q, turned=("z2", "z5"))
    rows, choices = fitted.equations[0].rows, fitted.choices
    moments = direct_moments(rows, choices.covariance)
    assert (np.sign(moments.move[0]) == [-1 if k in (1, 4) else 1 for k in range(q)]).all()
    half = 0.05 * _units(rows)
    corners = half * np.array(list(itertools.product((-1.0, 1.0), repeat=q)))
    b, error = moments.tsls(corners)
    for k in (0, 5, 2**q - 3):
        at = comparator("tsls", shifted(rows, corners[k]), choices.covariance)
        assert [b[k, 0], error[k, 0]] == pytest.approx([at.b[0], at.covariance.std_error[0]], rel=1e-9)
    low, high = corner_ends(moments, half, 1.96, 0)
    assert low == pytest.approx((b - 1.96 * error).min(), rel=1e-9)
    assert high == pytest.approx((b + 1.96 * error).max(), rel=1e-9)


@pytest.mark.parametrize(
    ("pi", "n", "size"), [((0.5,), 2000, 0.1), ((0.5, 0.15), 4000, 0.1), ((0.5, 0.1, 0.02), 2000, 0.15)]
)
def test_the_homoskedastic_union_ends_where_the_program_over_the_box_meets_its_critical_value(pi, n, size):
    fitted = _uneven(pi, n, CLASSICAL)
    rows, q = fitted.equations[0].rows, len(pi)
    units, critical = _units(rows), float(special.chdtri(q, 0.05))
    found = fitted.sensitivity(direct=size)
    union = found.to_frame().set_index("method").loc["ar"]
    for end, way in ((union["low"], -1.0), (union["high"], 1.0)):
        assert _least_ratio(rows, end, size * units) == pytest.approx(critical, rel=1e-5)
        assert _least_ratio(rows, end + 0.01 * way, size * units) > critical
    hulls = []
    for eta in _grid(size, {1: 21, 2: 9, 3: 5}[q], units):
        made = confidence_sets(shifted(rows, eta), ("ar",), sandwich=CLASSICAL)[0].found
        hulls += [made.hull()] if made.pieces else []
    low, high = np.min(hulls), np.max(hulls)
    assert union["low"] <= low + 1e-9
    assert union["high"] >= high - 1e-9
    assert high - low > 0.9 * (union["high"] - union["low"])
    breakdown = found.breakdown["ar"]
    assert breakdown < 0.3
    assert _least_ratio(rows, 0.0, breakdown * units) == pytest.approx(critical, rel=1e-5)
    assert _least_ratio(rows, 0.0, 0.999 * breakdown * units) > critical


@pytest.mark.parametrize("pi", [(0.5, 0.15), (0.5, 0.1, 0.02)])
def test_the_robust_union_ends_where_the_least_test_over_the_box_meets_its_critical_value(pi):
    fitted = _uneven(pi, 600, ROBUST)
    rows = fitted.equations[0].rows
    units, critical = _units(rows), float(special.chdtri(len(pi), 0.05))
    found = fitted.sensitivity(direct=0.15)
    union = found.to_frame().set_index("method").loc["ar"]

    def least(b, size):
        def statistic(s):
            return ar_test(shifted(rows, s * size * units), np.array([b]), sandwich=ROBUST).statistic

        starts = [sign * 0.5 * np.ones(len(pi)) for sign in (-1.0, 0.0, 1.0)]
        return min(
            optimize.minimize(statistic, s, method="L-BFGS-B", bounds=[(-1.0, 1.0)] * len(pi)).fun for s in starts
        )

    assert least(union["low"], 0.15) == pytest.approx(critical, rel=1e-4)
    assert least(union["high"], 0.15) == pytest.approx(critical, rel=1e-4)
    assert least(0.0, found.breakdown["ar"]) == pytest.approx(critical, rel=1e-4)


def _limit(rows, choices, rho):
    problem = problem_of(rows, choices)
    law = limit_law(problem, rho, choices.covariance, n_law=choices.fine.n_law, seed=choices.seed)
    estimate = problem.to_raw(solve_drive(problem, rho).b)
    draws = estimate + problem.to_raw(law.draws) / np.sqrt(rows.n)
    made = interval("basic", estimate, np.ones(estimate.size), level=0.95, draws=draws)
    return made.low[0], made.high[0]


@pytest.mark.parametrize(
    "given", [{}, {"scale": "raw", "covariance": CLASSICAL}, {"metric": "gmm"}, {"shrink_to": "ols"}]
)
def test_the_union_of_drive_covers_a_grid_and_is_wider_than_at_corners(given):
    fitted = _uneven((0.5, 0.1, 0.02), 1000, **({"covariance": ROBUST} | given))
    equation, choices = fitted.equations[0], fitted.choices
    rows, rho, units = equation.rows, equation.radius.rho, _units(equation.rows)
    union = fitted.sensitivity(direct=0.15).to_frame().set_index("method").loc["drive"]
    grid = np.array([_limit(shifted(rows, eta), choices, rho) for eta in _grid(0.15, 5, units)])
    corners = np.array([_limit(shifted(rows, eta), choices, rho) for eta in _grid(0.15, 2, units)])
    assert union["low"] <= grid[:, 0].min() + 1e-3
    assert union["high"] >= grid[:, 1].max() - 1e-3
    assert union["high"] < grid[:, 1].max() + 0.1
    if "shrink_to" not in given:
        assert union["high"] > corners[:, 1].max() + 0.05


def test_the_breakdown_of_drive_is_where_its_interval_meets_the_null():
    fitted = _uneven((0.5, 0.15), 1000, ROBUST)
    size = fitted.sensitivity(direct=0.0).breakdown["drive"]
    for share, met in ((0.98, False), (1.02, True)):
        low = fitted.sensitivity(direct=share * size).to_frame().set_index("method").loc["drive", "low"]
        assert bool(low <= 0.0) is met


@pytest.mark.parametrize("given", [{}, {"cluster": "cluster"}, {"shrink_to": "ols"}, {"metric": "gmm"}])
def test_ends_from_moments_are_those_from_rows(given):
    fitted = _fitted(clusters=60, options=cs.DriveOptions(n_law=1999), **given)
    equation, choices = fitted.equations[0], fitted.choices
    rows, df = equation.rows, 59.0 if "cluster" in given else np.inf
    ends = DriveEnds(direct_moments(rows, choices.covariance), choices, equation.radius.rho, df)
    eta = np.array([0.03, -0.02, 0.05]) * _units(rows)
    # With metric="gmm" the moments are turned, which gives the same law other draws.
    assert ends.near(eta)[:, 0] == pytest.approx(ends.ends(eta)[:, 0], rel=2e-2 if "metric" in given else 1e-9)


def test_a_box_in_which_rho_passes_the_threshold_has_no_union_for_drive():
    near = 0.95 * _fitted().rho_report.rho_hat
    fitted = _fitted(rho=near)
    found = fitted.sensitivity(direct=0.3)
    union = found.to_frame().set_index("method")
    assert np.isnan(union.loc["drive", ["low", "high"]].astype(float)).all()
    assert "threshold" in union.loc["drive", "reason"]
    assert not union.loc["tsls", "reason"]
    assert "threshold" in found.summary()
    assert 0.0 < found.breakdown["drive"] < 0.3
    above = sensitivity(_fitted(rho=5.0 * near).equations[0], fitted.choices, 0.0, None)
    assert np.isnan(above.breakdown["drive"])
    assert np.isfinite(above.breakdown["tsls"])


def test_weak_instruments_leave_the_whole_line_and_rejected_models_are_empty_until_the_box_explains_them():
    data, _ = iv(n=400, q=3, seed=1, concentration=0.5)
    names = ["z1", "z2", "z3"]
    weak = cs.drive(data, outcome="y", treatment="x", instruments=names, n_boot=0, covariance=CLASSICAL, options=LAW)
    union = weak.sensitivity(direct=0.05).to_frame().set_index("method").loc["ar"]
    assert [union["low"], union["high"]] == [-np.inf, np.inf]
    data, _ = iv(n=2000, q=3, seed=1, concentration=400.0, direct=(0.6, 0.0, 0.0))
    wrong = cs.drive(data, outcome="y", treatment="x", instruments=names, n_boot=0, covariance=CLASSICAL, options=LAW)
    small, large = (wrong.sensitivity(direct=size).to_frame().set_index("method").loc["ar"] for size in (0.001, 0.5))
    assert np.isnan(small["low"])
    assert small["reason"].startswith("empty")
    assert np.isfinite([large["low"], large["high"]]).all()


def test_every_treatment_has_its_breakdown_and_its_sentence():
    data, _ = iv(n=800, q=3, p=2, seed=2, effect=(1.0, -0.5), concentration=(300.0, 300.0))
    fitted = cs.drive(
        data, outcome="y", treatment=["x1", "x2"], instruments=["z1", "z2", "z3"], n_boot=0, covariance=CLASSICAL,
        options=LAW,
    )  # fmt: skip
    found = fitted.sensitivity(direct=0.05)
    frame = found.to_frame().set_index(["method", "treatment"])
    assert found.treatment == "x1"
    assert found.breakdown == {m: frame.loc[(m, "x1"), "breakdown"] for m in ("tsls", "drive", "ar")}
    words = found.summary()
    for method, treatment in frame.index:
        assert f"{method} of {treatment}: 0 enters the interval" in words
    rows, units = fitted.equations[0].rows, _units(fitted.equations[0].rows)
    sets = [confidence_sets(shifted(rows, e), ("ar",), sandwich=CLASSICAL) for e in _grid(0.05, 3, units)]
    for j, name in enumerate(("x1", "x2")):
        hulls = np.array([s[j].found.hull() for s in sets if s[j].found.pieces])
        union = frame.loc[("ar", name)]
        assert union["low"] <= hulls[:, 0].min() + 1e-6
        assert union["high"] >= hulls[:, 1].max() - 1e-6
        assert union["high"] - union["low"] < 1.15 * (hulls[:, 1].max() - hulls[:, 0].min())


@pytest.mark.parametrize(
    ("prior", "words"),
    [
        ({"z1": 0.1}, "is not a pair"),
        ({"z1": (0.0, 0.1, 0.2)}, "is not a pair"),
        ({"z1": (0.0, -0.1)}, "the standard deviation"),
        ({"z1": (0.0, float("nan"))}, "the standard deviation"),
        ({"z1": (float("inf"), 0.1)}, "the mean"),
        ({"z1": ("a", 0.1)}, "the mean"),
        ({"z9": (0.0, 0.1)}, "prior: 'z9' is not an instrument"),
        (0.1, "not a mapping"),
    ],
)
def test_a_prior_that_is_no_mean_and_standard_deviation_is_named(prior, words):
    fitted = _fitted(q=1, options=LAW)
    with pytest.raises(OptionError, match=words):
        fitted.sensitivity(prior=prior)
    with pytest.raises(OptionError, match="direct"):
        fitted.sensitivity(direct={"z1": -0.1})


def test_a_prior_of_numpy_numbers_widens_the_interval():
    fitted = _fitted(q=1, options=LAW)
    plain = fitted.sensitivity(direct=0.0, prior={}).prior["std_error"][0]
    wide = fitted.sensitivity(direct=0.0, prior={"z1": np.array([0.0, 0.1])}).prior["std_error"][0]
    assert wide > plain


@pytest.mark.parametrize("covariance", [CLASSICAL, ROBUST, Sandwich("cluster")])
def test_a_prior_without_spread_is_tsls_of_the_outcome_net_of_the_direct_effect(covariance):
    data, _ = iv(n=600, q=3, seed=3, concentration=400.0, clusters=40)
    roles = {"outcome": "y", "treatment": "x", "instruments": ["z1", "z2", "z3"], "n_boot": 0, "sets": ()}
    roles |= {"cluster": "cluster" if covariance.kind == "cluster" else None, "covariance": covariance, "options": LAW}
    fitted = cs.drive(data, **roles)
    found = fitted.sensitivity(direct=0.0, prior={"z1": (0.6, 0.0), "z2": (-0.3, 0.0)}).prior
    eta = np.array([0.6, -0.3, 0.0]) * _units(fitted.equations[0].rows)
    outcome = data["y"] - np.column_stack([data["z1"], data["z2"], data["z3"]]) @ eta
    moved = cs.drive(data | {"y": outcome}, **roles).table.row(method="tsls", interval="wald")
    at_zero = fitted.table.row(method="tsls", interval="wald")["std_error"]
    told = {name: found[name][0] for name in ("estimate", "std_error", "low", "high")}
    LOG.info("standard error at no direct effect %.4f, at the prior mean %.4f", at_zero, told["std_error"])
    assert list(told.values()) == pytest.approx(
        [moved["estimate"], moved["std_error"], moved["conf_low"], moved["conf_high"]], rel=1e-9
    )
    assert abs(at_zero / told["std_error"] - 1.0) > 0.1


def test_a_breakdown_where_the_interval_ends_to_exist_does_not_say_that_the_null_entered():
    fitted = _fitted(rho=0.99 * _fitted().rho_report.rho_hat, options=LAW)
    found = fitted.sensitivity(direct=0.0)
    union, size = found.to_frame().set_index("method"), found.breakdown["drive"]
    below = fitted.sensitivity(direct=0.999 * size).to_frame().set_index("method").loc["drive"]
    above = fitted.sensitivity(direct=1.001 * size).to_frame().set_index("method").loc["drive"]
    assert below["low"] > 0.0 or below["high"] < 0.0
    assert np.isnan(above["low"])
    assert "threshold" in union.loc["drive", "breakdown_reason"]
    assert union.loc["tsls", "breakdown_reason"] == union.loc["ar", "breakdown_reason"] == ""
    words = found.summary()
    assert "drive of x: there is no interval once each instrument" in words
    assert "drive of x: 0 enters" not in words
    assert "tsls of x: 0 enters" in words


def test_a_breakdown_at_which_the_null_enters_has_no_reason():
    found = _uneven((0.5, 0.15), 1000, ROBUST).sensitivity(direct=0.0)
    assert found.union["breakdown_reason"] == ["", "", ""]
    assert "drive of x: 0 enters" in found.summary()
