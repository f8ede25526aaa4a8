"""Options of `drive` that contradict each other or have no use are refused; roles without a use drop no rows."""

import numpy as np
import pandas as pd
import pytest

import causalsat as cs
from causalsat.config import load_config
from causalsat.errors import OptionError, UnusedWarning
from causalsat.estimators.drive_options import FLAGS, DriveOptions
from causalsat.simulate.iv import iv

ROLES = {"outcome": "y", "treatment": "x", "instruments": ["z1", "z2", "z3", "z4"]}


@pytest.fixture(scope="module")
def data():
    frame = pd.DataFrame(iv(n=400, q=4, concentration=200.0, seed=3)[0])
    rng = np.random.default_rng(0)
    region = np.array(["a", "b", "c", "d", "e"], dtype=object)[np.arange(400) % 5]
    region[rng.permutation(400)[:50]] = None
    return frame.assign(region=region, g=np.arange(400) // 5, h=np.arange(400) % 40)


def point(frame, **given):
    return cs.drive(frame, **ROLES, **({"n_boot": 0, "compare": ("tsls",), "sets": ()} | given))


def test_environments_without_a_use_drop_no_rows(data):
    with pytest.warns(UnusedWarning, match=r"folds=Folds.*rho='theory' uses none"):
        found = point(data, folds=cs.Folds(by="region"))
    plain = point(data)
    assert found.meta["n_input"] == 400 and set(found.table["n_obs"]) == {400}
    assert np.array_equal(found.table["estimate"], plain.table["estimate"])
    assert any("uses none" in text for text in found.meta["warnings"])
    with pytest.warns(cs.errors.DroppedRowsWarning):
        used = point(data, rho="cv", folds=cs.Folds(by="region"))
    assert set(used.table["n_obs"]) == {350}


def test_the_column_of_image_folds_drops_no_rows_without_images(data):
    fine = DriveOptions(nuisance_folds=cs.Folds(5, by="region"))
    assert set(point(data, options=fine).table["n_obs"]) == {400}


@pytest.mark.parametrize(("given", "words"), [
    ({"n_boot": 500, "inference": cs.Sandwich("hc1")}, r"n_boot=500 .* inference=Sandwich\(...\) makes none"),
    ({"n_boot": 500, "cluster": ["g", "h"]}, "n_boot=500 .* two cluster columns have none"),
    ({"n_boot": 0, "inference": cs.Bootstrap(199)}, "contradicts"),
    ({"embedding_control": "pca"}, 'embedding_control="pca" .* embeddings= is not given'),
    ({"embedding_key": "region"}, "embedding_key='region' .* embeddings= is not given"),
    ({"options": DriveOptions(n_components=3)}, "n_components=3.*makes none"),
    ({"options": DriveOptions(kappa=0.9)}, r'kappa=0.9\) belongs to the comparator "kclass"'),
    ({"options": DriveOptions(ridge=0.1), "compare": "tsls"}, r"ridge=0.1\).*compare=\['tsls'\]"),
    ({"joint": "no"}, "joint='no' must be True or False"),
    ({"joint": 1}, "joint=1 must be True or False"),
])  # fmt: skip
def test_what_would_be_ignored_is_refused(data, given, words):
    with pytest.raises(OptionError, match=words):
        cs.drive(data, **ROLES, **given)


@pytest.mark.parametrize("given", [
    {"inference": cs.Sandwich("hc1")}, {"inference": cs.Sandwich("hc1"), "n_boot": 0},
])  # fmt: skip
def test_the_default_number_of_draws_contradicts_nothing(data, given):
    assert cs.drive(data, **ROLES, **given).meta["n_boot"] == 0


@pytest.mark.parametrize("name", FLAGS)
@pytest.mark.parametrize("value", ["no", 3, 0, None])
def test_switches_are_true_or_false(name, value):
    with pytest.raises(OptionError, match=f"DriveOptions.{name}={value!r} must be True or False"):
        DriveOptions(**{name: value})
    assert getattr(DriveOptions(**{name: np.False_}), name) is False


def test_every_switch_of_the_options_is_checked():
    from dataclasses import fields

    assert {f.name for f in fields(DriveOptions) if isinstance(f.default, bool)} == set(FLAGS)


@pytest.mark.parametrize(("line", "words"), [
    ('joint = "no"', "joint='no'"),
    ('n_boot = 500\ninference = {type = "sandwich", kind = "hc1"}', "n_boot=500"),
    ("options = {n_components = 3}", "n_components=3"),
    ('embedding_control = "pca"', "embeddings= is not given"),
])  # fmt: skip
def test_a_study_file_is_held_to_the_same(data, tmp_path, line, words):
    from causalsat.run import run_study

    data.to_csv(tmp_path / "table.csv", index=False)
    block = 'outcome = "y"\ntreatment = "x"\ninstruments = ["z1", "z2", "z3", "z4"]'
    (tmp_path / "study.toml").write_text(f'[study]\ntable = "table.csv"\n[drive]\n{block}\n{line}\n')
    load_config(tmp_path / "study.toml")
    with pytest.raises(OptionError, match=words):
        run_study(tmp_path / "study.toml", out=tmp_path / "out")


@pytest.mark.parametrize("setting", ['one_se = "no"', "many_instruments = 3"])
def test_switches_of_a_study_file_are_checked_when_it_is_read(tmp_path, setting):
    block = 'outcome = "y"\ntreatment = "x"\ninstruments = "z1"'
    (tmp_path / "study.toml").write_text(
        f'[study]\ntable = "table.csv"\n[drive]\n{block}\noptions = {{{setting}}}\n'
    )  # fmt: skip
    with pytest.raises(OptionError, match="must be True or False"):
        load_config(tmp_path / "study.toml")


def test_a_row_without_draws_says_so_at_another_level(data):
    result = cs.drive(data, **ROLES, n_boot=199, sets=())
    table = result.table.interval(0.9, "basic")
    told = table.meta["unavailable"]
    for i, (method, kind) in enumerate(zip(table["method"], table["interval"], strict=True)):
        drawn = (method, kind) in (("drive", "recentred"), ("tsls", "wald"))
        assert np.isfinite(table["conf_low"][i]) == drawn
        if not drawn:
            assert "computed without draws" in told[str(i)]["conf_low"]
