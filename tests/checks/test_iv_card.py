"""Card (1995) and Mroz: printed figures, and linearmodels and ivmodels run beside."""

import numpy as np
import pytest

from causalsat.checks.iv_strength import first_stage, strength_checks
from causalsat.checks.iv_validity import durbin, hansen, robust_endogeneity, sargan, validity_checks, wu_hausman
from causalsat.inference.options import Sandwich
from tests.checks.iv_studies import card, card_columns, mroz, mroz_columns

COLLEGES = ("nearc2", "nearc4")


def near(value, digits):
    """Half a unit of the last digit of ``value``."""
    return pytest.approx(value, abs=0.5 * 10.0**-digits, rel=0)


def linear(columns, **options):
    from linearmodels.iv import IV2SLS

    y, X, Z, C = columns
    return IV2SLS(y, C, X, Z).fit(**options)


def test_card_strength_as_printed():
    stage = first_stage(card(), Sandwich("hc1"))
    assert stage.partial_r2[0] == near(0.0044079, 7)
    assert stage.f_classical[0] == near(13.2558, 4)
    assert stage.cragg_donald.f == near(13.2558, 4)
    assert stage.cragg_donald.statistic == near(13.2558, 4)
    assert stage.f_effective == near(14.1387, 4)
    assert stage.kleibergen_paap.f == near(14.1387, 4)
    assert stage.kleibergen_paap.statistic == near(14.2142, 4)
    assert stage.law_classical == "F(1, 2994)"
    plain = first_stage(card(), Sandwich("hc0"))
    assert plain.f_effective == near(14.2142, 4)
    assert plain.kleibergen_paap.f == near(14.2142, 4)
    assert first_stage(card(dof="none"), Sandwich("classical")).f_classical[0] == near(13.3266, 4)
    assert stage.weak


def test_card_validity_as_printed():
    rows = card()
    exogenous = wu_hausman(rows)
    assert exogenous.statistic == near(1.167643, 6)
    assert exogenous.p_value == near(0.27997, 5)
    assert exogenous.df == (1.0, 2993.0)
    assert durbin(rows).statistic == near(1.173817, 6)
    for test in (sargan(rows), hansen(rows, Sandwich("hc1"))):
        assert np.isnan(test.statistic)
        assert "Nothing to test" in test.text


@pytest.mark.parametrize("instruments", [("nearc4",), COLLEGES])
@pytest.mark.parametrize("cov_type", ["unadjusted", "robust"])
def test_card_first_stage_is_that_of_linearmodels(instruments, cov_type):
    found = linear(card_columns(instruments), cov_type=cov_type, debiased=True).first_stage.diagnostics.iloc[0]
    kind = "classical" if cov_type == "unadjusted" else "hc1"
    # linearmodels prints an F under "unadjusted" and a Wald statistic otherwise
    per_moment = 1.0 if kind == "classical" else float(len(instruments))
    stage = first_stage(card(instruments), Sandwich(kind))
    assert stage.partial_r2[0] == pytest.approx(found["partial.rsquared"], rel=1e-9)
    assert stage.shea_r2[0] == pytest.approx(found["shea.rsquared"], rel=1e-9)
    assert stage.f_robust[0] * per_moment == pytest.approx(found["f.stat"], rel=1e-8)
    if kind == "classical":
        assert stage.p_robust[0] == pytest.approx(found["f.pval"], rel=1e-7)
    asymptotic = linear(card_columns(instruments), cov_type=cov_type, debiased=False).first_stage.diagnostics.iloc[0]
    plain = first_stage(card(instruments, dof="none"), Sandwich(kind))
    assert plain.f_robust[0] * per_moment == pytest.approx(asymptotic["f.stat"], rel=1e-8)
    if kind == "hc1":
        assert plain.p_robust[0] == pytest.approx(asymptotic["f.pval"], rel=1e-7)
    assert plain.kleibergen_paap.factor == 1.0


@pytest.mark.parametrize("instruments", [("nearc4",), COLLEGES])
def test_card_validity_is_that_of_linearmodels(instruments):
    rows, found = card(instruments), linear(card_columns(instruments), cov_type="robust")
    for ours, theirs in ((wu_hausman(rows), found.wu_hausman()), (durbin(rows), found.durbin())):
        assert ours.statistic == pytest.approx(theirs.stat, rel=1e-8)
        assert ours.p_value == pytest.approx(theirs.pval, rel=1e-7)
    robust = robust_endogeneity(card(instruments, dof="none"), Sandwich("hc1"))
    assert robust.statistic == pytest.approx(found.wooldridge_regression.stat, rel=1e-7)
    assert robust.law == "chi2(1)"
    if len(instruments) > 1:
        assert sargan(rows).statistic == pytest.approx(found.sargan.stat, rel=1e-8)
        assert sargan(rows).p_value == pytest.approx(found.sargan.pval, rel=1e-7)


def test_card_hansen_is_the_two_step_j_of_linearmodels():
    from linearmodels.datasets import card as shipped
    from linearmodels.iv import IVGMM

    y, X, Z, C = card_columns(COLLEGES)
    fitted = IVGMM(y, C, X, Z, weight_type="robust", center=False).fit(iter_limit=2)
    for kind in ("hc0", "hc1"):
        found = hansen(card(COLLEGES), Sandwich(kind))
        assert found.statistic == pytest.approx(fitted.j_stat.stat, rel=1e-7)
        assert found.p_value == pytest.approx(fitted.j_stat.pval, rel=1e-6)
    codes = np.unique(shipped.load()["KWW"].fillna(-1.0).to_numpy(), return_inverse=True)[1]
    grouped = IVGMM(y, C, X, Z, weight_type="clustered", center=False, clusters=codes).fit(
        iter_limit=2, cov_type="clustered", clusters=codes
    )
    ours = hansen(card(COLLEGES, cluster=codes), Sandwich("cluster"))
    assert ours.statistic == pytest.approx(grouped.j_stat.stat, rel=1e-6)
    assert hansen(card(COLLEGES), Sandwich("classical")).statistic == pytest.approx(
        sargan(card(COLLEGES)).statistic, rel=1e-10
    )


def test_rank_test_is_that_of_ivmodels():
    from ivmodels.tests import rank_test

    for columns, rows in ((card_columns(COLLEGES), card(COLLEGES)), (mroz_columns(), mroz())):
        _, X, Z, C = columns
        statistic, p_value = rank_test(Z, X, C=C[:, 1:], fit_intercept=True)
        found = first_stage(rows, Sandwich("hc1")).cragg_donald
        assert found.statistic == pytest.approx(statistic, rel=1e-7)
        assert found.p_value == pytest.approx(p_value, abs=1e-9)


def test_mroz_as_printed():
    rows = mroz()
    stage = first_stage(rows, Sandwich("hc1"))
    assert stage.sanderson_windmeijer[0] == near(6.69425, 5)
    assert stage.sanderson_windmeijer[1] == near(81.81237, 5)
    assert [test.df for test in stage.conditional] == [(2.0, 424.0)] * 2
    assert stage.cragg_donald.f == near(4.463, 3)
    assert sargan(rows).statistic == near(1.168, 3)
    assert sargan(rows).p_value == near(0.2798, 4)
    assert wu_hausman(rows).statistic == near(0.00392, 5)
    assert wu_hausman(rows).df == (2.0, 423.0)
    np.testing.assert_allclose(rows.moments.b_tsls, [0.1058361, 0.0161527], atol=5e-8, rtol=0)


def test_mroz_shea_and_first_stage_are_those_of_linearmodels():
    table = linear(mroz_columns(), cov_type="robust", debiased=True).first_stage.diagnostics
    stage = first_stage(mroz(), Sandwich("hc1"))
    np.testing.assert_allclose(stage.partial_r2, table["partial.rsquared"].to_numpy(float), rtol=1e-9)
    np.testing.assert_allclose(stage.shea_r2, table["shea.rsquared"].to_numpy(float), rtol=1e-8)
    np.testing.assert_allclose(3 * stage.f_robust, table["f.stat"].to_numpy(float), rtol=1e-8)


def test_the_sentences_of_card_and_mroz():
    names = [found.name for found in strength_checks(card(), Sandwich("hc1"))]
    assert names == ["first_stage[educ]", "effective_f", "cragg_donald", "stock_yogo", "kleibergen_paap"]
    checks = {found.name: found for found in strength_checks(mroz(), Sandwich("hc1"))}
    assert list(checks)[-1] == "sanderson_windmeijer"
    assert checks["sanderson_windmeijer"].passed is False
    assert "law F(2, 424)" in checks["sanderson_windmeijer"].text
    assert checks["effective_f"].passed is None
    assert "one treatment" in checks["effective_f"].text
    assert "13.43" in checks["stock_yogo"].text
    valid = {found.name: found for found in validity_checks(mroz(), Sandwich("hc1"))}
    assert list(valid) == ["sargan", "hansen", "wu_hausman", "durbin", "endogeneity_robust"]
    assert valid["sargan"].passed is True
    assert valid["wu_hausman"].passed is None
    effective = strength_checks(card(), Sandwich("hc1"))[1]
    assert effective.passed is False
    assert "23.11 (10 %)" in effective.text
    assert "factor 1.00534" in effective.text
    for found in [*checks.values(), *valid.values()]:
        assert len({len(column) for column in found.table.values()}) <= 1
