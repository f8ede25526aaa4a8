"""Checks of the verb judge the rows, estimands and sampling weights of the estimate."""

import numpy as np
import pytest

import causalsat as cs
from causalsat.checks.assignment import assignment
from causalsat.checks.balance import balance_check
from causalsat.estimators.ate_checks import target_weights

pytestmark = pytest.mark.filterwarnings("ignore::causalsat.errors.PenaltyEdgeWarning")


@pytest.fixture(scope="module")
def judged():
    rng = np.random.default_rng(0)
    x = rng.standard_normal(500)
    w = (rng.random(500) < 1 / (1 + np.exp(-1.5 * x))).astype(float)
    data = {"y": x + w + rng.standard_normal(500), "w": w, "x": x, "sampled": rng.random(500) + 0.2 + (x > 0)}
    with pytest.warns(cs.errors.WeakOverlapWarning):
        result = cs.image_ate(
            data, outcome="y", treatment="w", covariates=["x"], weights="sampled", adjust="tabular", trim=0.15,
            estimand=("ate", "att"),
        )  # fmt: skip
    checks = {check.name: check for check in result.checks}
    fit = result.fits[0].sets[0, "tabular"]
    return data, checks, fit


def test_overlap_and_balance_judge_the_kept_rows_of_every_estimand(judged):
    data, checks, fit = judged
    keep, d = fit.keep, data["w"][fit.keep]
    assert 0 < keep.sum() < 475
    for estimand in ("ate", "att"):
        overlap = checks[f"overlap[w, tabular, {estimand}]"]
        assert sum(overlap.table["n_treated"]) == d.sum()
        assert f"of {int(d.sum())} treated" in overlap.text
        pair = target_weights(estimand, d, fit.nuisances.m[keep])
        expected = balance_check("w", {"x": data["x"][keep]}, d, *pair, weights=data["sampled"][keep])
        found = checks[f"balance[w, tabular, {estimand}]"]
        assert found.table["smd_after"][0] == pytest.approx(expected.table["smd_after"][0], abs=1e-10)
    assert checks["overlap[w, tabular, ate]"].statistic != checks["overlap[w, tabular, att]"].statistic
    assert "drops" in checks["trimming[w, tabular]"].text
    assert not checks["trimming[w, tabular]"].text.startswith("Keeping 0.15 <= m <= 0.85 drops 0 treated and 0")


def test_auc_uses_the_kept_rows_and_the_sampling_weights(judged):
    data, checks, fit = judged
    keep, nuisances = fit.keep, fit.nuisances
    arguments = data["w"][keep], nuisances.m_raw[keep]
    weighted = assignment(*arguments, fold=nuisances.fold[keep], weights=data["sampled"][keep]).auc
    plain = assignment(*arguments, fold=nuisances.fold[keep]).auc
    assert checks["assignment[w, tabular]"].statistic == pytest.approx(weighted, abs=1e-10)
    assert abs(weighted - plain) > 1e-4
