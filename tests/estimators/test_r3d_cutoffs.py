"""Several cutoffs: streams of their own, and what units, clusters and blocks make them share."""

import numpy as np
import pandas as pd
import pytest

import causalsat as cs
from causalsat.estimators.r3d_covariance import joint_covariance
from causalsat.estimators.r3d_draws import seed_of_set
from causalsat.study.blocks import spatial_blocks
from tests.estimators.r3d_verb import ask, units

OPTIONS = {"running": "score", "cutoff": "c", "bandwidth": 0.9}


@pytest.fixture(scope="module")
def twice():
    """Units at two cutoffs whose places do not tell the cutoff."""
    data, draws = units(n=400, seed=2)
    data["c"] = np.where(np.arange(400) % 2, 3.0, -1.0)
    data["score"] = data["x"] + data["c"]
    return data, draws


def rows(result, cutoff):
    return result.table.draws[:, result.table["cutoff"] == cutoff]


def test_neighbouring_seeds_share_no_stream(twice):
    data, draws = twice
    # The same units twice over: draws would be equal wherever streams are.
    both = data.assign(c=0.0, score=data["x"])
    both = pd.concat([both, both.assign(c=5.0, score=both["x"] + 5.0)], ignore_index=True)
    found = [ask(both, np.vstack([draws, draws]), **(OPTIONS | {"seed": seed})) for seed in (0, 1, 2)]
    drawn = [rows(result, cutoff) for result in found for cutoff in ("0", "5")]
    for i, one in enumerate(drawn):
        for other in drawn[:i]:
            assert not np.isclose(one, other, rtol=1e-6).any()
            assert abs(np.corrcoef(one[:, 2], other[:, 2])[0, 1]) < 0.25
    seeds = [seed_of_set(seed, number) for seed in range(40) for number in range(40)]
    assert len(set(seeds)) == len(seeds) and min(seeds) == 0 and max(seeds) < 2**53
    assert [seed_of_set(seed, 0) for seed in (0, 7)] == [0, 7]


def test_pooled_units_keep_the_stream_of_the_run(twice):
    data, draws = twice
    result, alone = ask(data, draws, **OPTIONS), ask(data, draws, bandwidth=0.9)
    pooled = result.table.where(cutoff="pooled")
    np.testing.assert_allclose(pooled.draws, alone.table.draws, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(pooled["band_low"], alone.table["band_low"], rtol=1e-9)


def test_blocks_are_the_same_land_at_every_cutoff(twice):
    data, draws = twice
    scheme = cs.Bootstrap(199, "block", block_km=30.0)
    result = ask(data, draws, coords=("lon", "lat"), inference=scheme, seed=5, **OPTIONS)
    found = result.estimates
    pooled = found[0].design
    blocks = spatial_blocks(pooled.sampling.lonlat, 30.0, 5)
    scores = []
    for one in found:
        C = one.inference.contributions
        at = np.searchsorted(pooled.rows[np.argsort(pooled.rows)], one.design.rows)
        own = blocks[np.argsort(pooled.rows)[at]]
        summed = np.zeros((blocks.max() + 1, one.inference.merged.shape[1]))
        summed[own[C.groups.rows[C.groups.starts]]] = one.inference.merged
        assert one.inference.n_clusters == np.unique(own[C.groups.rows]).size
        scores.append(summed)
    scores = np.column_stack(scores)
    covariance = joint_covariance(found)
    np.testing.assert_allclose(covariance, scores.T @ scores, rtol=1e-9, atol=1e-14)
    # Half of the blocks' neighbours stand at the other cutoff: effects of the two cutoffs move together or apart.
    k = found[0].inference.merged.shape[1]
    assert (np.abs(covariance[k : 2 * k, 2 * k :]) > 1e-9).all()
    table = result.table
    gap = table.contrast("b8 - b14", method="normal")
    expected = covariance[k + 2, k + 2] + covariance[2 * k + 2, 2 * k + 2] - 2 * covariance[k + 2, 2 * k + 2]
    assert gap["std_error"][0] == pytest.approx(np.sqrt(expected), rel=1e-9)
    assert any("draws of each cutoff are made apart" in words for words in table.meta["findings"])


def test_cutoffs_without_shared_units_are_independent(twice):
    data, draws = twice
    covariance = joint_covariance(ask(data, draws, **OPTIONS).estimates)
    k = covariance.shape[0] // 3
    assert (covariance[k : 2 * k, 2 * k :] == 0.0).all() and (np.diagonal(covariance[:k, k : 2 * k]) > 0.0).all()
