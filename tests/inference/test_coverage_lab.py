"""The lab itself: its gates pass right inference, fail wrong inference on both sides, and count failures."""

import numpy as np
import pytest
from scipy import stats

from causalsat.errors import DataError, OptionError
from causalsat.inference.coverage import (
    SIZES,
    Cell,
    Outcomes,
    binomial_gate,
    each,
    report_columns,
    run_cell,
    study_seeds,
)


def normal_studies(scale=1.0, shift=0.0, fail_every=0):
    """Estimate N(0, 1), interval +- 1.96 scale: coverage is known."""

    def study(seed):
        x = np.random.default_rng(seed).normal() + shift
        if fail_every and seed % fail_every == 0:
            return (np.nan,) * 5
        return x, scale, x - 1.959964 * scale, x + 1.959964 * scale, 2 * stats.norm.sf(abs(x) / scale)

    return each(study)


def cell(**kw):
    return Cell(**({"name": "normal", "run": normal_studies(), "truth": 0.0, "R": 1000, "detects": "0.92"} | kw))


def test_right_inference_passes_every_gate():
    report = run_cell(cell())
    assert report.passed, report.text()
    assert {g.name for g in report.gates} == {
        "coverage",
        "failed",
        "reject_1",
        "reject_5",
        "reject_10",
        "bias",
        "se_ratio",
    }


@pytest.mark.parametrize("scale", [0.8, 1.3])
def test_too_narrow_and_too_wide_both_fail(scale):
    report = run_cell(cell(run=normal_studies(scale)))
    failed = {g.name for g in report.gates if not g.passed}
    assert {"coverage", "se_ratio"} <= failed
    assert run_cell(cell(run=normal_studies(scale), must_fail=True)).passed
    assert not run_cell(cell(must_fail=True)).passed


def test_derived_values_replace_nominal_ones():
    scale = 0.8
    derived = {
        "coverage": 1 - 2 * stats.norm.sf(1.959964 * scale),
        "rejection": {a: 2 * stats.norm.sf(stats.norm.isf(a / 2) * scale) for a in SIZES},
        "se_ratio": scale,
        "derivation": "standard error scaled by 0.8",
    }
    assert run_cell(cell(run=normal_studies(scale), **derived)).passed
    with pytest.raises(OptionError, match="derivation"):
        cell(coverage=0.9)


def test_bias_is_gated():
    assert not run_cell(cell(run=normal_studies(shift=0.3))).passed


def test_failures_are_misses_and_gated():
    report = run_cell(cell(run=normal_studies(fail_every=20)))
    assert report.n_failed > 10
    assert report.coverage < report.coverage_of_finished
    assert not next(g for g in report.gates if g.name == "failed").passed


def test_p_values_decide_where_there_are_no_limits():
    def no_limits(seeds):
        out = normal_studies()(seeds)
        gap = np.full(seeds.size, np.nan)
        return Outcomes(out.estimate, out.std_error, gap, gap, out.p_value)

    assert run_cell(cell(run=no_limits)).coverage == run_cell(cell()).coverage


def test_seeds_are_functions_of_cell_and_replication():
    assert (study_seeds(0, "a", 50)[:10] == study_seeds(0, "a", 10)).all()
    assert (study_seeds(0, "a", 10) != study_seeds(0, "b", 10)).all()
    assert (study_seeds(0, "a", 10) != study_seeds(1, "a", 10)).all()


def test_gate_has_its_error():
    R = 500
    gate = binomial_gate("coverage", 0, R, 0.95)
    mass = stats.binom.cdf(round(gate.high * R), R, 0.95) - stats.binom.cdf(round(gate.low * R) - 1, R, 0.95)
    assert 1 - 1e-3 <= mass < 1


def test_columns_and_refusals():
    columns = report_columns([run_cell(cell(R=100))])
    assert len({len(column) for column in columns.values()}) == 1
    assert columns["gate"][0] == "coverage"
    with pytest.raises(OptionError, match="too few"):
        cell(R=50)
    with pytest.raises(DataError, match="another length"):
        run_cell(cell(run=lambda seeds: normal_studies()(seeds[:10])))
