"""Direct effects of instruments in `drive`: the union starts at the table, reaches the corners, hides no gap."""

import itertools

import numpy as np
import pytest

import causalsat as cs
from causalsat.estimators.drive_sensitivity import _move, _units, sensitivity, shifted
from causalsat.estimators.k_class import comparator
from causalsat.simulate.iv import iv

pytestmark = pytest.mark.filterwarnings("ignore::causalsat.errors.CausalsatWarning")


def _fitted(q=3, turned=(), **given):
    data, _ = iv(n=600, q=q, seed=3, concentration=400.0, clusters=given.pop("clusters", 0))
    for name in turned:
        data[name] = -data[name]
    names = [f"z{k + 1}" for k in range(q)]
    return cs.drive(data, outcome="y", treatment="x", instruments=names, n_boot=0, **given)


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


def test_many_instruments_of_either_sign_reach_the_corners_of_the_box():
    fitted = _fitted(q=7, turned=("z2", "z5"))
    rows, choices = fitted.equations[0].rows, fitted.choices
    assert (np.sign(_move(rows)[0]) == [1, -1, 1, 1, -1, 1, 1]).all()
    corners = []
    for signs in itertools.product((-1.0, 1.0), repeat=7):
        at = comparator("tsls", shifted(rows, 0.05 * np.array(signs) * _units(rows)), choices.covariance)
        half = 1.959963984540054 * at.covariance.std_error[0]
        corners.append((at.b[0] - half, at.b[0] + half))
    low, high = np.array(corners).T
    from causalsat.estimators.drive_sensitivity import _union

    union = _union(rows, choices, fitted.rho, np.full(7, 0.05), _units(rows))
    assert union["low"][0] == pytest.approx(low.min(), rel=1e-9)
    assert union["high"][0] == pytest.approx(high.max(), rel=1e-9)


def test_a_box_in_which_rho_passes_the_threshold_has_no_union_for_drive():
    near = 0.95 * _fitted().rho_report.rho_hat
    fitted = _fitted(rho=near)
    found = fitted.sensitivity(direct=0.3)
    union = found.to_frame().set_index("method")
    assert np.isnan(union.loc["drive", ["low", "high"]].astype(float)).all()
    assert "threshold" in union.loc["drive", "reason"]
    assert not union.loc["tsls", "reason"]
    assert "threshold" in found.summary()
    above = sensitivity(_fitted(rho=5.0 * near).equations[0], fitted.choices, 0.0, None)
    assert np.isnan(above.breakdown["drive"])
    assert np.isfinite(above.breakdown["tsls"])
