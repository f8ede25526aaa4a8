"""Uncertainty of `image_ate` rows: each on its own rows, over several deals, with reasons where a number would mislead.

Expected values are computed here from scores, cluster sums and kernels written out, or from calls on a part of the data.
"""

import warnings

import numpy as np
import pytest

import causalsat as cs
from causalsat.errors import (
    CausalsatWarning,
    DataError,
    OptionError,
    PostTreatmentImageryError,
    WeakOverlapWarning,
)
from causalsat.study.blocks import spatial_blocks
from tests.estimators.test_image_ate import BASE, SITES, N, ate, study
from tests.inference.conley_reference import dense

pytestmark = pytest.mark.filterwarnings(
    "ignore::causalsat.errors.PenaltyEdgeWarning", "ignore::causalsat.errors.WeakOverlapWarning"
)
PAIR = {"adjust": ("none", "image"), "reference": "none"}
KEY = ("treatment", "adjust", "method", "estimand", "term")
NUMBERS = ("estimate", "std_error", "p_value", "conf_low", "conf_high")


def keyed(table) -> dict[tuple[str, ...], int]:
    """Position of each row by what identifies it."""
    return {tuple(str(table[name][i]) for name in KEY): i for i in range(len(table))}


def part_of(value, i: int) -> float:
    """Element of a fact that `meta` gives once for all rows, or row by row."""
    return float(value[i]) if isinstance(value, list) else float(value)


def cluster_se(influence: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Square root of the squared cluster sums over n squared, column by column."""
    sums = np.stack([np.bincount(codes, column) for column in influence.T], axis=1)
    return np.sqrt((sums**2).sum(axis=0)) / len(influence)


def site_codes(data) -> np.ndarray:
    return np.unique(data["site"], return_inverse=True)[1]


def reasons(result, i: int) -> str:
    return str(result.meta["unavailable"].get(str(i), ""))


@pytest.fixture(scope="module")
def plain():
    data, images = study(7)
    return data, images


@pytest.fixture(scope="module")
def partly_missing(plain):
    """Two treatments; the second is missing in the first ten sites."""
    data, images = plain
    second = (np.random.default_rng(8).uniform(size=N) < 0.4).astype(float)
    second[:40] = np.nan
    whole = data | {"w2": second}
    return whole, {k: v[40:] for k, v in whole.items()}, images


@pytest.mark.parametrize(
    ("options", "df", "factor"),
    [
        ({}, np.inf, 1.0),
        ({"small_sample": "cluster"}, 89.0, 90 / 89),
        ({"inference": cs.Sandwich("crv3")}, 89.0, 89 / 90),
        ({"inference": cs.Sandwich("hc0")}, np.inf, 1.0),
    ],
)
def test_a_treatment_with_fewer_rows_has_the_uncertainty_of_a_call_on_those_rows(partly_missing, options, df, factor):
    whole, part, images = partly_missing
    joint = ate(whole, images, treatment=["w", "w2"], **PAIR, **options)
    alone = ate(part, images, treatment="w2", **PAIR, **options)
    where = keyed(joint.table)
    for key, i in keyed(alone.table).items():
        for column in NUMBERS:
            np.testing.assert_allclose(joint.table[column][where[key]], alone.table[column][i], rtol=1e-9, err_msg=key)
        assert joint.table["n_obs"][where[key]] == alone.table["n_obs"][i] == N - 40
        assert part_of(joint.meta["df"], where[key]) == part_of(alone.meta["df"], i) == df
        assert part_of(joint.meta["small_sample_factor"], where[key]) == pytest.approx(factor, rel=1e-12)
        if "inference" not in options or options["inference"].kind != "hc0":
            assert part_of(joint.meta["n_clusters"], where[key]) == alone.meta["n_clusters"] == 90
    first = keyed(joint.table)["w", "none", "difference_in_means", "ate", "effect"]
    both_sd = np.asarray(joint.table["std_error"])
    np.testing.assert_allclose(np.sqrt(np.diag(joint.table.covariance)), both_sd, rtol=1e-9)
    assert np.isfinite(joint.table.covariance[first, where["w2", "image", "aipw", "ate", "effect"]])


def test_contrast_between_treatments_on_different_rows_keeps_their_correlation(partly_missing):
    whole, _, images = partly_missing
    result = ate(whole, images, treatment=["w", "w2"], **PAIR)
    where = keyed(result.table)
    i, j = (where[w, "image", "aipw", "ate", "effect"] for w in ("w", "w2"))
    contrast = result.table.contrast(f"b{i} - b{j}")
    phi = result.table.influence
    expected = cluster_se((phi[:, i] - phi[:, j])[:, None], site_codes(whole))[0]
    assert contrast["std_error"][0] == pytest.approx(expected, rel=1e-9)


@pytest.fixture(scope="module")
def three_deals(plain):
    data, images = plain
    return data, images, ate(data, images, folds=cs.Folds(n=5, repeats=3), estimand=("ate", "att"), **PAIR)


def test_three_deals_follow_the_median_formula_with_its_between_deal_term(three_deals):
    data, images, result = three_deals
    where, codes, between = keyed(result.table), site_codes(data), []
    first = ate(data, images, estimand=("ate", "att"), **PAIR)
    np.testing.assert_array_equal(result.fits[0].theta, first.fits[0].theta)
    for estimand in ("ate", "att"):
        cell = [(c.adjust, c.estimand) for c in result.design.cells].index(("image", estimand))
        bare = [(c.adjust, c.estimand) for c in result.design.cells].index(("none", estimand))
        theta = np.array([fit.theta[cell] for fit in result.fits])
        within = np.array([cluster_se(fit.influence[:, [cell]], codes)[0] for fit in result.fits])
        assert len(set(theta)) == 3
        expected = np.sqrt(np.median(within**2 + (theta - np.median(theta)) ** 2))
        between.append(expected / np.sqrt(np.median(within**2)))
        row = where["w", "image", "aipw", estimand, "effect"]
        assert result.table["estimate"][row] == pytest.approx(np.median(theta), rel=1e-12)
        assert result.table["std_error"][row] == pytest.approx(expected, rel=1e-9)
        gap = np.array([fit.theta[bare] - fit.theta[cell] for fit in result.fits])
        phi = [(fit.influence[:, bare] - fit.influence[:, cell])[:, None] for fit in result.fits]
        spread = [cluster_se(p, codes)[0] ** 2 + (g - np.median(gap)) ** 2 for p, g in zip(phi, gap)]
        row = where["w", "image", "aipw", estimand, "difference"]
        assert result.table["std_error"][row] == pytest.approx(np.sqrt(np.median(spread)), rel=1e-9)
    assert max(between) > 1.01
    np.testing.assert_allclose(np.sqrt(np.diag(result.table.covariance)), result.table["std_error"], rtol=1e-9)
    # The unadjusted row does not depend on the deal.
    bare = where["w", "none", "difference_in_means", "ate", "effect"]
    assert result.table["std_error"][bare] == pytest.approx(first.table["std_error"][bare], rel=1e-12)


@pytest.mark.parametrize("estimand", ["ate", "att"])
def test_sensitivity_without_confounding_gives_back_the_row_over_three_deals(three_deals, estimand):
    _, _, result = three_deals
    found = result.sensitivity("image", estimand=estimand, cf_y=0.0, cf_d=0.0).table
    row = result.table.row(adjust="image", estimand=estimand, term="effect")
    np.testing.assert_allclose(found["estimate"], row["estimate"], rtol=1e-12)
    wider = result.sensitivity("image", estimand=estimand, cf_y=0.05, cf_d=0.05).table
    assert wider["estimate"][0] < row["estimate"] < wider["estimate"][1]


BLOCKS = {"coords": ("lon", "lat"), "folds": cs.Folds(n=4, block_km=60)}


def test_rows_of_one_spatial_block_share_a_fold():
    data, images = study(17)
    result = ate(data, images, adjust=("image",), reference="none", **BLOCKS)
    lonlat = np.column_stack([data["lon"], data["lat"]])
    block, fold = spatial_blocks(lonlat, 60, 0), result.nuisances("image").nuisances.fold
    assert len(set(fold)) == 4 and len(set(block)) >= 8
    assert all(len(set(fold[block == b])) == 1 for b in set(block))
    sites_in_block = [len(set(data["site"][block == b])) for b in set(block)]
    assert max(sites_in_block) > 1
    by_site = ate(data, images, adjust=("image",), reference="none", folds=cs.Folds(n=4))
    apart = by_site.nuisances("image").nuisances.fold
    assert any(len(set(apart[block == b])) > 1 for b in set(block))


@pytest.mark.parametrize("kernel", ["bartlett", "uniform"])
def test_conley_se_is_the_kernel_sum_over_all_pairs(kernel):
    data, images = study(17)
    asked = cs.Sandwich("conley", cutoff_km=30, kernel=kernel)
    result = ate(data, images, inference=asked, coords=("lon", "lat"), **PAIR)
    phi = np.asarray(result.table.influence)
    expected = dense(phi, np.column_stack([data["lon"], data["lat"]]), 30, kernel) / N**2
    np.testing.assert_allclose(result.table.covariance, expected, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(result.table["std_error"], np.sqrt(np.diag(expected)), rtol=1e-8)
    assert result.meta["covariance"].startswith("conley") and result.meta["covariance_notes"]["cutoff_km"] == 30


def test_outcome_rows_without_a_refit_have_no_standard_error_and_no_covariance(plain):
    data, images = plain
    result = ate(data, images, method=("aipw", "outcome"), inference=cs.Sandwich("cluster"), **PAIR)
    table, where = result.table, keyed(result.table)
    unscored = [i for key, i in where.items() if key[2] == "outcome"]
    scored = [i for i in range(len(table)) if i not in unscored]
    assert len(unscored) == 3 and np.isfinite(np.asarray(table["estimate"])).all()
    for i in unscored:
        assert np.isnan([table[c][i] for c in ("std_error", "p_value", "conf_low", "conf_high")]).all()
        assert "no valid score" in reasons(result, i)
    assert np.isnan(table.covariance[unscored]).all() and np.isnan(table.covariance[:, unscored]).all()
    assert np.isfinite(table.covariance[np.ix_(scored, scored)]).all()
    i, j = where["w", "image", "aipw", "ate", "effect"], where["w", "image", "outcome", "ate", "effect"]
    contrast = table.contrast(f"b{i} - b{j}")
    assert contrast["estimate"][0] == pytest.approx(table["estimate"][i] - table["estimate"][j])
    assert np.isnan(contrast["std_error"][0]) and np.isnan(contrast["conf_low"][0])


def trimmed(data, images, **changes):
    return ate(data, images, trim=0.2, adjust=("tabular", "image"), **changes)


def test_trimmed_rows_say_so_and_sets_that_keep_other_rows_are_not_compared(plain):
    data, images = plain
    result = trimmed(data, images, estimand=("ate", "att"))
    codes = site_codes(data)
    for estimand in ("ate", "att"):
        label = f"{estimand} on 0.2 <= m <= 0.8"
        for adjust in ("tabular", "image"):
            row = result.table.row(adjust=adjust, term="effect", estimand=label)
            fit = result.nuisances(adjust)
            keep = (fit.nuisances.m >= 0.2) & (fit.nuisances.m <= 0.8)
            y, w, g0, g1, m = (
                v[keep] for v in (data["y"], data["w"], fit.nuisances.g0, fit.nuisances.g1, fit.nuisances.m)
            )
            if estimand == "ate":
                a = g1 - g0 + w * (y - g1) / m - (1 - w) * (y - g0) / (1 - m)
                theta, phi = a.mean(), a - a.mean()
            else:
                a, p = w * (y - g0) - (1 - w) * m / (1 - m) * (y - g0), w.mean()
                theta = a.mean() / p
                phi = (a - w * theta) / p
            assert row["n_obs"] == keep.sum()
            assert row["estimate"] == pytest.approx(theta, rel=1e-10)
            expected = cluster_se(phi[:, None], np.unique(codes[keep], return_inverse=True)[1])[0]
            assert row["std_error"] == pytest.approx(expected, rel=1e-9)
    where = keyed(result.table)
    for term in ("difference", "shrinkage"):
        i = where["w", "image", "aipw", "ate on 0.2 <= m <= 0.8", term]
        assert np.isnan([result.table[c][i] for c in NUMBERS]).all() and "trim keeps" in reasons(result, i)
    kept = [int(result.nuisances(a).keep.sum()) for a in ("tabular", "image")]
    assert kept[0] != kept[1]


def test_sets_that_trim_nothing_are_compared(plain):
    data, images = plain
    result = ate(data, images, trim=0.001, adjust=("tabular", "image"))
    difference = result.table.row(adjust="image", term="difference")
    assert np.isfinite([difference["estimate"], difference["std_error"]]).all()


def test_a_bootstrap_holding_a_learned_trimming_is_refused(plain):
    data, images = plain
    for wrong in ({"n_boot": 20}, {"inference": cs.Bootstrap(20, "multiplier", refit=False)}):
        with pytest.raises(OptionError, match="trim"):
            trimmed(data, images, **wrong)
    # A known propensity has nothing to learn.
    result = trimmed(data, images, n_boot=49, known_propensity=0.5)
    assert np.isfinite(result.table["std_error"][0])


@pytest.fixture(scope="module")
def rare(plain):
    """A second treatment whose treated rows stand in one site of the first half, missing in the second half."""
    data, images = plain
    second = np.zeros(N)
    second[:4], second[200:] = 1.0, np.nan
    return data | {"w3": second}, images, PAIR | {"eligibility": cs.Eligibility(min_treated=2)}


@pytest.mark.filterwarnings("ignore::causalsat.errors.CausalsatWarning")
@pytest.mark.parametrize("scheme", ["cluster", "multiplier"])
def test_failing_draws_of_one_treatment_leave_the_others_alone(rare, scheme):
    data, images, options = rare
    asked = cs.Bootstrap(99, scheme, refit=False)
    joint = ate(data, images, treatment=["w", "w3"], inference=asked, **options)
    alone = ate(data, images, treatment="w", inference=asked, **options)
    where = keyed(joint.table)
    for key, i in keyed(alone.table).items():
        np.testing.assert_array_equal(joint.table.draws[:, where[key]], alone.table.draws[:, i])
        for column in NUMBERS:
            assert joint.table[column][where[key]] == alone.table[column][i]
    failing = where["w3", "none", "difference_in_means", "ate", "effect"]
    if scheme == "cluster":
        share = np.isnan(joint.table.draws[:, failing]).mean()
        assert 0.1 < share < 0.7
        assert np.isfinite(joint.table["estimate"][failing])
        assert np.isnan([joint.table[c][failing] for c in NUMBERS[1:]]).all()
        assert "10% may fail" in reasons(joint, failing)
        assert joint.meta["n_failed"] == {"nonfinite": round(share * 99)}
    undealt = where["w3", "image", "aipw", "ate", "effect"]
    assert np.isnan(joint.table["estimate"][undealt]) and "treated rows" in reasons(joint, undealt)
    assert np.isnan(joint.table.draws[:, undealt]).all()


@pytest.mark.filterwarnings("ignore::causalsat.errors.FewClustersWarning")
def test_a_pair_of_clusters_is_two_way_by_default(plain):
    data, images = plain
    second = np.tile(np.arange(20), N // 20)
    whole = data | {"second": second}
    result = ate(whole, images, cluster=("site", "second"), **PAIR)
    assert result.meta["covariance"] == "twoway" and result.meta["n_clusters"] == 20
    phi, one = np.asarray(result.table.influence), site_codes(data)
    both = np.unique(one * 20 + second, return_inverse=True)[1]
    squares = [cluster_se(phi, codes) ** 2 for codes in (one, second, both)]
    np.testing.assert_allclose(result.table["std_error"], np.sqrt(squares[0] + squares[1] - squares[2]), rtol=1e-9)
    for wrong in ({"n_boot": 20}, {"inference": cs.Bootstrap(20, "cluster", refit=False)}, {"method": "ipw"}):
        with pytest.raises(OptionError, match="two columns"):
            ate(whole, images, cluster=("site", "second"), **PAIR, **wrong)
    with pytest.raises(OptionError, match="two columns"):
        ate(whole, images, cluster=("site", "second"), inference=cs.Sandwich("cluster"), **PAIR)


@pytest.mark.parametrize("factor", ["cluster", "crv1"])
def test_a_bootstrap_with_a_small_sample_factor_is_refused(plain, factor):
    data, images = plain
    with pytest.raises(OptionError, match="small_sample"):
        ate(data, images, n_boot=20, small_sample=factor, **PAIR)


def test_small_sample_factors_scale_the_cluster_scores(plain):
    data, images = plain
    base = ate(data, images, **PAIR)
    phi = cluster_se(np.asarray(base.table.influence), site_codes(data))
    np.testing.assert_allclose(base.table["std_error"], phi, rtol=1e-9)
    expected = {"none": 1.0, "cluster": SITES / (SITES - 1), "crv1": SITES / (SITES - 1) * (N - 1) / (N - 2)}
    for kind, factor in expected.items():
        found = ate(data, images, small_sample=kind, **PAIR)
        np.testing.assert_allclose(found.table["std_error"], phi * np.sqrt(factor), rtol=1e-9)
        assert found.meta["small_sample_factor"] == pytest.approx(factor)


def test_warnings_of_the_checks_and_the_seconds_stand_in_meta():
    data, images = study(7)
    strong = images.matrix[np.repeat(np.arange(SITES), N // SITES), 0]
    chance = np.random.default_rng(3).uniform(size=N)
    data["w"] = (chance < 1 / (1 + np.exp(-4.0 * strong))).astype(float)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always", CausalsatWarning)
        result = ate(data, images, **PAIR)
    overlap = [str(w.message) for w in seen if issubclass(w.category, WeakOverlapWarning)]
    assert overlap and all(text in result.meta["warnings"] for text in overlap)
    assert result.meta["seconds"] > 0
    assert result.meta["n_clusters"] == SITES and result.meta["df"] == np.inf
    assert result.meta["allow_post_treatment"] is False


@pytest.mark.filterwarnings("ignore::causalsat.errors.CausalsatWarning")
def test_imagery_after_treatment_is_refused_or_stands_in_meta(plain):
    data, images = plain
    taken = np.full(SITES, np.datetime64("2020-06-01"))
    dated = cs.Embeddings.from_matrix(images.matrix, ids=images.ids, image_date=taken)
    late = data | {"treated_on": np.full(N, "2020-01-01")}
    with pytest.raises(PostTreatmentImageryError):
        ate(late, dated, treatment_date="treated_on", **PAIR)
    result = ate(late, dated, treatment_date="treated_on", allow_post_treatment=True, **PAIR)
    assert result.meta["allow_post_treatment"] is True
    early = ate(data | {"treated_on": np.full(N, "2021-01-01")}, dated, treatment_date="treated_on", **PAIR)
    assert early.meta["allow_post_treatment"] is False


def test_rows_at_one_place_are_one_cluster_without_cluster_or_image(plain):
    data, _ = plain
    asked = {k: v for k, v in BASE.items() if k != "embedding_key"} | {"adjust": ("none", "tabular")}
    placed = cs.image_ate(data, coords=("lon", "lat"), **asked)
    named = cs.image_ate(data, coords=("lon", "lat"), cluster="site", **asked)
    bare = cs.image_ate(data, **asked)
    assert placed.meta["n_clusters"] == SITES and bare.meta["n_clusters"] == N
    np.testing.assert_allclose(
        placed.table["std_error"], cluster_se(np.asarray(placed.table.influence), site_codes(data)), rtol=1e-9
    )
    assert placed.table["std_error"][0] == pytest.approx(named.table["std_error"][0], rel=1e-12)
    assert placed.table["std_error"][0] != pytest.approx(bare.table["std_error"][0], rel=1e-3)
    fold = placed.nuisances("tabular").nuisances.fold
    assert all(len(set(fold[data["site"] == site])) == 1 for site in set(data["site"]))


def test_an_undealt_single_treatment_is_an_error(rare):
    data, images, options = rare
    with pytest.raises(DataError, match="treated rows"):
        ate(data, images, treatment="w3", **options)
