"""What `drive` says: the radius by metric and target, few clusters, joint tests, equations without identification."""

import io

import numpy as np
import pytest

import causalsat as cs
from causalsat.errors import FewClustersWarning, OptionError
from causalsat.simulate.iv import iv

NAMES = ["z1", "z2", "z3"]


@pytest.fixture(scope="module")
def data():
    found, _ = iv(n=400, q=3, seed=5, concentration=300.0, clusters=12)
    return found


def _fit(data, **given):
    given = {"outcome": "y", "treatment": "x", "instruments": NAMES, "n_boot": 0} | given
    return cs.drive(data, **given)


@pytest.mark.parametrize(
    ("given", "said", "unsaid"),
    [
        ({}, "scale of unit standard deviations", "robust metric"),
        ({"scale": "raw"}, "on the raw scale", "unit standard deviations"),
        ({"metric": "gmm"}, "robust metric (no ball around the rows)", "Wasserstein"),
        ({"shrink_to": "ols"}, "free of units", "unit standard deviations"),
        ({"metric": "gmm", "rho": 0.0}, "DRIVE is two-step GMM here", "is TSLS"),
        ({"rho": 0.0}, "DRIVE is TSLS here", "GMM"),
    ],
)
def test_the_radius_is_read_as_its_metric_and_target_allow(data, given, said, unsaid):
    sentence = _fit(data, **given).summary().split("\n")[0]
    assert said in sentence
    assert unsaid not in sentence


def test_few_clusters_are_told_what_drive_has_not(data):
    with pytest.warns(FewClustersWarning) as caught:
        _fit(data, cluster="cluster")
    texts = [str(one.message) for one in caught]
    assert any("12 clusters are few for drive" in t and "no wild bootstrap is offered for its rows" in t for t in texts)
    assert all("Use kind" not in t for t in texts)


def test_three_cluster_columns_are_an_option_error(data):
    wide = dict(data) | {"a": data["cluster"], "b": data["cluster"]}
    with pytest.raises(OptionError, match="cluster names 3 columns"):
        _fit(wide, cluster=["cluster", "a", "b"])


def test_joint_tests_of_several_treatments_on_mroz():
    mroz = pytest.importorskip("linearmodels.datasets.mroz").load()
    working = mroz[mroz["inlf"] == 1]
    with pytest.warns(cs.errors.WeakInstrumentWarning):
        fit = cs.drive(
            working, outcome="lwage", treatment=["educ", "exper"], instruments=["age", "kidslt6", "kidsge6"], n_boot=0
        )
    joint = fit.check("joint_null")
    assert joint.passed is None
    assert joint.table["test"] == ["ar, robust", "ar, homoskedastic", "lm, homoskedastic"]
    # The Anderson-Rubin F of the OneSampleMR vignette.
    assert joint.table["statistic"][1] == pytest.approx(2.08, abs=0.005)
    assert joint.statistic == joint.table["statistic"][0]
    assert np.isfinite(joint.table["p_value"]).all()


def test_without_identification_the_path_is_a_frame_and_no_plot(data):
    pair = dict(data) | {"x2": data["x"] ** 2}
    with pytest.warns(cs.errors.AboveThresholdWarning):
        fit = _fit(
            pair, treatment=["x", "x2"], instruments="z1", rho=0.1,
            options=cs.DriveOptions(allow_underidentified=True),
        )  # fmt: skip
    assert "inf times" not in fit.summary()
    assert len(fit.path([0.1])) == 1
    with pytest.raises(OptionError, match="not identified"):
        fit.plot(kind="path")


def test_a_set_without_an_estimate_keeps_its_numbers_in_the_notes():
    data, _ = iv(n=400, q=3, seed=5, concentration=300.0)
    notes = " ".join(_fit(data).table.summary().split())
    assert "ar:homoskedastic, estimate, std_error: a set inverts a test" in notes
    assert "ar:homoskedastic, all numbers" not in notes


def test_the_strength_plot_stays_inside_its_figure(data):
    axes = _fit(data).plot(kind="strength")
    figure = axes.get_figure()
    figure.savefig(io.BytesIO())
    beside = [one for one in figure.axes if one is not axes]
    assert len(beside) == 1
    for one in figure.axes:
        box = one.get_tightbbox().transformed(figure.transFigure.inverted())
        assert box.x0 >= -1e-6
        assert box.x1 <= 1.0 + 1e-6
    assert beside[0].get_position().x0 > axes.get_position().x1


def test_another_level_is_asked_of_the_result_and_not_by_a_refused_method(data):
    fit = _fit(data)
    with pytest.raises(OptionError, match=r"result\.with_level\(0\.9\)") as caught:
        fit.table.interval(level=0.9)
    assert "normal" not in str(caught.value)
    wide, narrow = (one.table.row(method="drive", interval="limit") for one in (fit, fit.with_level(0.9)))
    assert wide["conf_low"] < narrow["conf_low"] < narrow["conf_high"] < wide["conf_high"]
