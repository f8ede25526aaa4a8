"""The instrumental-variable simulator against large samples, closed forms and a generic minimiser."""

import numpy as np
import pytest
from scipy.optimize import minimize

from causalsat.errors import OptionError
from causalsat.simulate.iv import drive_limit, iv


def columns(data, stem):
    names = sorted((k for k in data if k.startswith(stem) and (k == stem or k[len(stem) :].isdigit())), key=len)
    return np.column_stack([data[k] for k in names])


def net(data):
    """y, X, Z less constant and covariates."""
    y, X, Z = data["y"][:, None], columns(data, "x"), columns(data, "z")
    C = np.column_stack([np.ones(len(y)), *(data[k] for k in data if k.startswith("c") and k[1:].isdigit())])
    parts = [m - C @ np.linalg.lstsq(C, m, rcond=None)[0] for m in (y, X, Z)]
    return parts[0][:, 0], parts[1], parts[2]


def fits(data):
    y, X, Z = net(data)
    fitted = Z @ np.linalg.lstsq(Z, X, rcond=None)[0]
    return np.linalg.lstsq(X, y, rcond=None)[0], np.linalg.lstsq(fitted, y, rcond=None)[0]


LARGE = 400_000
DESIGNS = {
    "plain": {},
    "weak share": {"confounding": -0.6, "concentration": 0.02 * LARGE},
    "invalid": {"direct": (0.1, 0.0, 0.0, 0.0)},
    "two treatments": {
        "p": 2, "effect": (1.0, -0.5), "concentration": (0.4 * LARGE, 0.2 * LARGE), "direct": (0.0, 0.2, 0.0, 0.0),
    },
    "uneven errors": {"heteroskedastic": True, "covariates": (0.7, -1.0)},
    "environments": {"environments": (1.0, 2.0), "shifts": (0.0, 1.5), "heteroskedastic": True},
    "clusters": {"clusters": LARGE // 10},
}  # fmt: skip


@pytest.mark.parametrize("name", DESIGNS)
def test_limits_of_ols_and_tsls_and_strength(name):
    data, truth = iv(LARGE, seed=3, **({"concentration": 0.4 * LARGE} | DESIGNS[name]))
    ols, tsls = fits(data)
    np.testing.assert_allclose(ols, truth["ols"], atol=0.01)
    np.testing.assert_allclose(tsls, truth["tsls"], atol=0.04)
    y, X, Z = net(data)
    y, X = y / y.std(), X / X.std(axis=0)
    across = Z.T @ X / LARGE
    np.testing.assert_allclose(across.T @ np.linalg.solve(Z.T @ Z / LARGE, across), truth["A"], atol=0.01)
    assert truth["sd_y"] == pytest.approx(net(data)[0].std(), rel=0.01)


@pytest.mark.parametrize("name", ["invalid", "two treatments"])
def test_limit_of_drive_is_what_a_generic_minimiser_finds(name):
    _, truth = iv(LARGE, seed=3, **({"concentration": 0.4 * LARGE} | DESIGNS[name]))
    assert truth["j"] > 0
    A, unit = truth["A"], truth["sd_y"] / truth["sd_x"]
    centre = truth["tsls"] / unit
    for rho in (0.0, 0.2 * truth["lambda_min"], 2.0 * truth["rho_star"]):

        def objective(b, rho=rho):
            return np.sqrt(truth["j"] + (b - centre) @ A @ (b - centre)) + np.sqrt(rho * (1 + b @ b))

        found = minimize(objective, centre, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-14}).x
        np.testing.assert_allclose(truth["drive"](rho), found * unit, atol=2e-6)
    assert abs(truth["drive"](0.3)[0]) < abs(truth["tsls"][0])


def test_valid_instruments_delay_shrinkage():
    _, truth = iv(500, concentration=200.0, effect=1.0, scale="raw")
    strength = truth["A"][0, 0]
    assert strength == pytest.approx(0.4)
    assert (truth["j"], truth["rho_star"]) == (0.0, pytest.approx(0.8))
    assert truth["drive"](0.7999)[0] == truth["effect"][0] == truth["drive"](0.0)[0]
    assert truth["drive"](1.6)[0] == pytest.approx(np.sqrt(strength / (1.6 - strength)))
    # Above the threshold the limit forgets the size of the effect.
    other = iv(500, concentration=200.0, effect=3.0, scale="raw")[1]
    assert other["drive"](1.6)[0] == pytest.approx(truth["drive"](1.6)[0])
    assert iv(500, effect=-1.0, scale="raw")[1]["drive"](1.6)[0] == pytest.approx(-truth["drive"](1.6)[0])
    assert iv(effect=0.0)[1]["rho_star"] == np.inf


def test_direct_effects_along_the_first_stage_keep_the_same_wrong_limit():
    _, truth = iv(direct=0.1)
    assert truth["j"] == 0.0
    assert truth["tsls"][0] > truth["effect"][0]
    assert truth["drive"](0.9 * truth["lambda_min"])[0] == truth["tsls"][0]


def test_unit_scale_strength_is_the_partial_r2():
    _, truth = iv(500, concentration=125.0)
    assert truth["lambda_min"] == pytest.approx(0.25 / 1.25)
    assert truth["rho_star"] >= truth["lambda_min"]


def test_columns_and_seeds():
    data, _ = iv(60, q=3, p=2, covariates=(1.0,), clusters=6, environments=(1.0, 2.0, 3.0), seed=1)
    assert list(data) == ["y", "x1", "x2", "z1", "z2", "z3", "c1", "cluster", "environment"]
    assert np.unique(data["cluster"], return_counts=True)[1].tolist() == [10] * 6
    assert np.unique(data["environment"], return_counts=True)[1].tolist() == [20] * 3
    again = iv(60, q=3, p=2, covariates=(1.0,), clusters=6, environments=(1.0, 2.0, 3.0), seed=1)[0]
    assert all(np.array_equal(data[k], again[k]) for k in data)
    assert not np.array_equal(data["y"], iv(60, q=3, p=2, seed=2)[0]["y"])


def test_shared_parts_of_clusters():
    data, _ = iv(20_000, clusters=4000, intraclass=0.5, concentration=0.0, seed=2)
    z = data["z1"].reshape(4000, 5)
    assert np.corrcoef(z[:, 0], z[:, 1])[0, 1] == pytest.approx(0.5, abs=0.05)
    assert z.std() == pytest.approx(1.0, abs=0.02)


def test_no_first_stage_has_no_limits():
    _, truth = iv(concentration=0.0)
    assert np.isnan(truth["tsls"]).all() and truth["rho_star"] == 0.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"q": 1, "p": 2}, "q=1 must be at least 2"),
        ({"concentration": -1.0}, "must not be negative"),
        ({"confounding": (0.8, 0.8), "p": 2}, "correlation above one"),
        ({"direct": (0.1, 0.2)}, "must be one finite number or 4"),
        ({"environments": (1.0, 2.0), "shifts": (1.0,)}, "one finite number or 2"),
        ({"environments": (-1.0,)}, "must not be negative"),
        ({"scale": "units"}, 'Did you mean "unit"'),
    ],
)
def test_refusals(options, message):
    with pytest.raises(OptionError, match=message):
        iv(**options)


def test_a_negative_radius_is_refused():
    with pytest.raises(OptionError, match="rho"):
        drive_limit(-1.0, A=np.eye(1), b=np.ones(1), j=0.0)
