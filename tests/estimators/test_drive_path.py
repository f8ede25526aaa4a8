"""The path of DRIVE as a frame and as a picture, and the plot of the strength of instruments."""

import io

import numpy as np
import pandas as pd
import pytest

import causalsat as cs
from causalsat.effects.iv_plots import StrengthBar, plot_path, plot_strength
from causalsat.errors import OptionError
from causalsat.estimators.drive_path import BIAS, EFFECTIVE, SIZE, TEN, path_frame, path_picture, strength_bars
from causalsat.estimators.drive_pick import equation_at, treatment_at
from causalsat.simulate.iv import iv

OWN = ["rho", "rho_over_lambda_min", "lam", "s", "t", "above_threshold"]


def result_of(names=("x",), **given):
    data, _ = iv(n=400, q=4, p=len(names), concentration=300.0, seed=2)
    old = ["x"] if len(names) == 1 else [f"x{j + 1}" for j in range(len(names))]
    data = {dict(zip(old, names)).get(k, k): v for k, v in data.items()}
    roles = {"outcome": "y", "treatment": list(names), "instruments": ["z1", "z2", "z3", "z4"]}
    return cs.drive(data, **roles, **({"n_boot": 0, "compare": ("ols", "tsls"), "sets": ()} | given))


@pytest.fixture(scope="module")
def single():
    return result_of()


@pytest.fixture(scope="module")
def several():
    return result_of(("x1", "x2"))


@pytest.mark.parametrize("name", OWN)
def test_a_treatment_called_like_a_column_of_the_path_loses_neither(single, name):
    found = result_of((name,))
    frame, plain = found.path(), single.path()
    assert list(frame.columns) == [*OWN, f"treatment {name}"]
    pd.testing.assert_frame_equal(frame[OWN], plain[OWN])
    assert np.array_equal(frame[f"treatment {name}"], plain["x"])
    picture, other = path_picture(found.equations[0], found.choices)[0], path_picture(*_of(single))[0]
    for part in ("x", "estimate", "low", "high"):
        assert np.array_equal(getattr(picture, part), getattr(other, part), equal_nan=True)
    assert picture.name == name and picture.horizontals == other.horizontals


def _of(result):
    return result.equations[0], result.choices


def test_columns_stay_apart_whatever_the_treatments_are_called():
    frame = result_of(("t", "treatment t")).path()
    assert list(frame.columns) == [*OWN, "treatment treatment t", "treatment t"]


def test_a_frame_has_one_column_per_treatment_and_given_radii(several):
    frame = path_frame(several.equations[0], np.array([0.0, 0.01]))
    assert list(frame.columns) == [*OWN, "x1", "x2"] and len(frame) == 2
    assert frame["x2"][0] == pytest.approx(several.table.row(method="tsls", treatment="x2")["estimate"], rel=1e-12)
    with pytest.raises(OptionError, match="rhos must be"):
        path_frame(several.equations[0], np.array([-1.0]))


def test_the_picture_shows_every_treatment_or_the_one_that_is_named(several):
    pictures = path_picture(*_of(several))
    assert [p.name for p in pictures] == ["x1", "x2"]
    frame = several.path()
    for picture in pictures:
        assert np.array_equal(picture.estimate, frame[picture.name][1:])
        tsls = several.table.row(method="tsls", treatment=picture.name)["estimate"]
        ols = several.table.row(method="ols", treatment=picture.name)["estimate"]
        assert picture.horizontals == pytest.approx({"TSLS": tsls, "OLS": ols, "0": 0.0}, rel=1e-9)
        inside = np.isfinite(picture.low)
        assert inside.any() and (picture.low[inside] < picture.high[inside]).all()
    for wanted in ("x2", 1):
        (one,) = path_picture(*_of(several), wanted)
        assert one.name == "x2" and np.array_equal(one.low, pictures[1].low, equal_nan=True)
    with pytest.raises(OptionError, match=r"treatment='x3'.*0: x1, 1: x2"):
        path_picture(*_of(several), "x3")


def test_the_band_ends_where_the_interval_of_the_table_ends(single):
    (picture,) = path_picture(*_of(single))
    row = single.table.row(method="drive", interval="limit")
    at = single.rho / single.rho_report.lambda_min
    for name, end in (("low", "conf_low"), ("high", "conf_high")):
        assert np.interp(at, picture.x, getattr(picture, name)) == pytest.approx(row[end], abs=0.1 * row["std_error"])


def test_all_paths_are_drawn_with_their_names(several):
    ax = plot_path(path_picture(*_of(several)))
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert {"x1", "x2", "cap", "chosen"} <= set(labels)
    notes = [text.get_text() for text in ax.texts]
    assert notes.count("0") == 1 and {"TSLS, x1", "TSLS, x2", "OLS, x2"} <= set(notes)
    drawn = [line.get_ydata() for line in ax.lines if len(line.get_xdata()) == 121]
    assert len(drawn) == 2 and np.array_equal(drawn[1], several.path()["x2"][1:])
    ax.figure.savefig(io.BytesIO())
    one = plot_path(path_picture(*_of(several), "x2"))
    assert one.get_ylabel() == "effect of x2" and "TSLS" in [text.get_text() for text in one.texts]


def test_an_equation_is_found_by_number_or_treatment(several):
    with pytest.warns(match="leaves the other treatments out"):
        apart = result_of(("x1", "x2"), joint=False).equations
    assert equation_at(apart, 1) is equation_at(apart, "x2") is apart[1]
    assert equation_at(several.equations, "x2") is several.equations[0]
    for wanted in (2, -1, "x3", True, 0.0):
        with pytest.raises(OptionError, match=r"equation=.*0: x1; 1: x2"):
            equation_at(apart, wanted)
    with pytest.raises(OptionError, match='Did you mean "x1"'):
        equation_at(apart, "x11")
    assert treatment_at(("a", "b"), "b") == treatment_at(("a", "b"), np.int64(1)) == 1
    for wanted in (2, -1, "c", True):
        with pytest.raises(OptionError, match=r"treatment=.*0: a, 1: b"):
            treatment_at(("a", "b"), wanted)


# Strength


def test_critical_values_of_one_treatment(single):
    bars, points, name = strength_bars(single.equations[0])
    stage = single.first_stage
    found = {bar.name: dict(bar.marks) for bar in bars}
    stock_yogo = {BIAS: stage.stock_yogo_bias.values[10], SIZE: stage.stock_yogo_size.values[10]}
    assert found["classical F, x"] == found["Cragg-Donald F"] == stock_yogo
    assert stock_yogo[SIZE] == 24.58 and stock_yogo[BIAS] == pytest.approx(10.27, abs=0.6)
    assert found["effective F"] == {EFFECTIVE: stage.effective_critical[10]}
    assert found["robust F, x"] == found["Kleibergen-Paap F"] == {}
    assert name == "x" and list(points) == ["z1", "z2", "z3", "z4"]


def test_critical_values_of_several_treatments_and_the_scatter_of_each(several):
    bars, points, name = strength_bars(several.equations[0], "x2")
    found = {bar.name: dict(bar.marks) for bar in bars}
    assert found["conditional F, x1"] == found["conditional F, x2"] == found["Kleibergen-Paap F"] == {TEN: 10.0}
    assert found["classical F, x2"] == {}
    size = several.first_stage.stock_yogo_size.values[10]
    assert found["Cragg-Donald F"] == ({SIZE: size} if np.isfinite(size) else {})
    rows = several.equations[0].rows
    x, y = points["z2"]
    slope = np.linalg.lstsq(rows.Z, rows.X[:, 1], rcond=None)[0][1]
    assert name == "x2" and x @ y / (x @ x) == pytest.approx(slope, rel=1e-9)


def test_given_axes_are_divided_between_bars_and_scatter(several):
    from matplotlib.figure import Figure

    shown = strength_bars(several.equations[0], 1)
    grid = Figure(figsize=(14.0, 5.0), layout="constrained").subplots(1, 2)
    loose = Figure()
    for ax in (None, grid[0], loose.add_axes((0.1, 0.1, 0.8, 0.8))):
        made = plot_strength(*shown, ax=ax)
        assert ax is None or made is ax
        side = made.figure.axes[-1]
        assert side is not made and side.get_ylabel() == "x2, net of controls"
        made.figure.savefig(io.BytesIO())
        assert side.get_position().x0 > made.get_position().x1
        if ax is grid[0]:
            assert side.get_position().x1 < grid[1].get_position().x0


def test_bars_say_what_is_infinite_or_missing():
    points = {"z": (np.array([-1.0, 1.0]), np.array([-2.0, 2.0]))}
    bars = [StrengthBar("a", np.inf, (("ten", 10.0),)), StrengthBar("b", np.nan), StrengthBar("c", 4.0)]
    ax = plot_strength(bars, points)
    assert [text.get_text() for text in ax.texts] == ["infinite", "not available"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["ten"]
    assert [patch.get_width() for patch in ax.patches] == [0.0, 0.0, 4.0]


@pytest.mark.parametrize("names", [("x",), ("x1", "x2")])
def test_unequal_weights_leave_the_classical_f_without_marks(names):
    rng, roles = np.random.default_rng(5), {"outcome": "y", "instruments": ["z1", "z2", "z3", "z4"]}
    data, _ = iv(n=400, q=4, p=len(names), concentration=300.0, seed=2)
    data["w"] = np.exp(rng.standard_normal(400))
    found = cs.drive(data, treatment=list(names), weights="w", n_boot=0, compare=("tsls",), sets=(), **roles)
    stage = found.first_stage
    assert stage.unequal
    assert found.check("stock_yogo").passed is None
    marks = {bar.name: dict(bar.marks) for bar in strength_bars(found.equations[0])[0]}
    for name in (f"classical F, {names[0]}", "Cragg-Donald F", f"conditional F, {names[-1]}"):
        assert marks.get(name, {}) == {}
    if len(names) == 1:
        assert marks["effective F"] == {EFFECTIVE: stage.effective_critical[10]}
    else:
        assert marks["Kleibergen-Paap F"] == {TEN: 10.0}


def test_weak_treatments_under_unequal_weights_are_called_so_by_kleibergen_paap():
    rng = np.random.default_rng(6)
    data, _ = iv(n=300, q=4, p=2, concentration=2.0, seed=2)
    data["w"] = np.exp(rng.standard_normal(300))
    with pytest.warns(cs.errors.WeakInstrumentWarning) as caught:
        cs.drive(data, outcome="y", treatment=["x1", "x2"], instruments=["z1", "z2", "z3", "z4"], weights="w", n_boot=0)
    texts = [str(one.message) for one in caught]
    assert any("the Kleibergen-Paap F is " in text and "and should exceed ten" in text for text in texts)
    assert not any("conditional F" in text for text in texts)
