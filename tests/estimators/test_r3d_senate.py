"""U.S. Senate elections (public with rdrobust): standard errors of rdrobust 2.1.1, and clusters across the cutoff."""

import numpy as np
import pandas as pd
import pytest

from causalsat.estimators.r3d_fit import fit_curves
from causalsat.estimators.r3d_inference import infer
from tests.estimators.r3d_cases import arrays, chosen

RDROBUST = {  # h = 20, triangular: estimate, hc0, hc2, hc3
    1: (7.270356, 1.376093, 1.381794, 1.387524),
    2: (8.164466, 1.955487, 1.969450, 1.983549),
}
BY_STATE = {1: (1.394446, 1.438889), 2: (2.070015, 2.146300)}  # CR0 and CR3, both sides of a state joined


@pytest.fixture(scope="module")
def senate(real_data):
    rows = pd.read_csv(real_data("r3d/rdrobust_RDsenate.csv")).dropna(subset=["vote", "margin"])
    return rows.margin.to_numpy(float), rows.vote.to_numpy(float)[:, None], pd.factorize(rows.state)[0]


def errors(design, order, names):
    fit = fit_curves(design, np.full(2, 20.0), order=order)
    answers = [infer(design, fit, chosen(order=order, residuals=name, n_boot=99, tests=())) for name in names]
    return fit.tau[0], [float(a.se[0]) for a in answers], answers[0]


@pytest.mark.parametrize("order", [1, 2])
def test_standard_errors_of_rdrobust(senate, order):
    x, y, _ = senate
    tau, found, answer = errors(arrays(x, y), order, ("hc0", "hc2", "hc3"))
    np.testing.assert_allclose([tau, *found], RDROBUST[order], atol=1e-6)
    assert answer.n_window.tolist() == [346, 389]


@pytest.mark.parametrize("order", [1, 2])
def test_states_are_clusters_on_both_sides_at_once(senate, order):
    x, y, state = senate
    _, found, answer = errors(arrays(x, y, cluster=state), order, ("hc0", "hc3"))
    np.testing.assert_allclose(found, BY_STATE[order], atol=1e-6)
    assert answer.residuals == "cr0" and answer.curve.df[0] < 49
