"""Checks of `r3d` use the blocks and clusters of the estimate, and one of the two is used at a time."""

import numpy as np
import pandas as pd
import pytest

import causalsat as cs
from causalsat.errors import OptionError
from causalsat.estimators.r3d_preflight import preflight
from causalsat.study.blocks import spatial_blocks
from tests.estimators.r3d_verb import QUICK, ask, units

BLOCKS = cs.Bootstrap(199, "block", block_km=20.0)


@pytest.fixture(scope="module")
def places():
    """60 places of 6 units that share a covariate."""
    g = np.random.default_rng(11)
    at, place = g.uniform(-1, 1, 60), np.repeat(np.arange(60), 6)
    data = pd.DataFrame(
        {
            "x": at[place] + 0.02 * g.normal(size=360), "w": g.normal(size=60)[place], "lon": 30 + 3 * at[place],
            "lat": (0.5 * np.arange(60) % 20)[place], "group": place, "unit": np.arange(360),
        }
    )  # fmt: skip
    return data, g.normal(size=(360, 1)) + g.normal(size=(360, 60))


def test_covariates_are_tested_with_the_blocks_of_the_estimate(places):
    data, draws = places
    options = {"coords": ("lon", "lat"), "inference": BLOCKS, "bandwidth": 0.6}
    check = ask(data, draws, covariates="w", **options).check("covariates")
    # The covariate as outcome of the same call.
    own = np.repeat(data["w"].to_numpy()[:, None], 60, axis=1)
    mean = ask(data, own, **options).table.where(term="mean")
    assert check.table["jump"][0] == pytest.approx(mean["estimate"][0], rel=1e-9)
    assert check.table["std_error"][0] == pytest.approx(mean["std_error"][0], rel=1e-6)


def test_density_is_tested_with_the_blocks_of_the_estimate(places):
    data, draws = places
    result = ask(data, draws, coords=("lon", "lat"), inference=BLOCKS, bandwidth=0.6)
    codes = spatial_blocks(data[["lon", "lat"]].to_numpy(), 20.0, 0)
    clustered = ask(data.assign(block=codes), draws, cluster="block", bandwidth=0.6)
    alone = ask(data, draws, bandwidth=0.6)
    blocks, clusters, free = (r.check("density", h=0.6).statistic for r in (result, clustered, alone))
    assert blocks == pytest.approx(clusters, rel=1e-9) and abs(blocks) < 0.7 * abs(free)


def test_clusters_beside_blocks_are_refused_and_may_be_compared(places):
    data, draws = places
    options = {"cluster": "group", "coords": ("lon", "lat"), "bandwidth": 0.6}
    with pytest.raises(OptionError, match="only one of them can be used"):
        ask(data, draws, inference=BLOCKS, **options)
    given = {"outcome": draws, "running": "x", **QUICK, **options, "inference": BLOCKS}
    with pytest.raises(OptionError, match="only one of them can be used"):
        preflight(cs.r3d, data, given)
    found = ask(data, draws, **options).check("blocks", block_km=20)
    wanted = ask(data, draws, **(options | {"cluster": None, "inference": BLOCKS}))
    assert found.table["std_error"][0] == pytest.approx(
        float(np.median(wanted.table.where(term="laqte")["std_error"])), rel=1e-9
    )


def test_messages_name_what_was_given():
    data, draws = units(n=120)
    twice = pd.concat([data.assign(c=-1.0), data.assign(c=3.0)], ignore_index=True)
    twice["score"] = twice["x"] + twice["c"]
    options = {"running": "score", "cutoff": "c", "unit": "unit", "bandwidth": 0.9}
    with pytest.raises(OptionError, match="some units are used at several cutoffs"):
        ask(twice, np.vstack([draws, draws]), inference=cs.Bootstrap(199, "iid"), **options)
    with pytest.raises(OptionError, match="but cluster= is given"):
        ask(data, draws, cluster="group", inference=cs.Bootstrap(199, "iid"), bandwidth=0.9)
    with pytest.raises(OptionError, match="this role takes one"):
        ask(data, draws, cluster=["group", "unit"])


def test_n_boot_contradicts_only_numbers_that_were_written():
    data, draws = units(n=120)
    for inference in (cs.Bootstrap(scheme="wild"), cs.Bootstrap(n=1999, scheme="wild"), cs.Bootstrap(n=199)):
        wild = cs.Bootstrap(inference.n, "wild")
        assert ask(data, draws, inference=wild, n_boot=199, bandwidth=0.9).table.meta["n_boot"] == 199
    with pytest.raises(OptionError, match=r"contradicts inference=Bootstrap\(n=500\)"):
        ask(data, draws, inference=cs.Bootstrap(n=500, scheme="wild"), n_boot=199)
