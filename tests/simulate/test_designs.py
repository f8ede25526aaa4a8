"""Simulators against the population numbers of their designs."""

import math

import numpy as np
import pytest

from causalsat.errors import DataError, OptionError
from causalsat.simulate import aid_grid as grid
from causalsat.simulate import image_confounder as images
from causalsat.simulate.rct_embedding import UNIT_AUTOC, UNIT_QINI, rct_embedding, toc
from causalsat.simulate.tabular_image import POPULATION, tabular_image


def same(a, b):
    return all(np.array_equal(a[key], b[key]) for key in a)


def slope(y, w, *others):
    z = np.column_stack([np.ones_like(y), w, *others])
    return np.linalg.lstsq(z, y, rcond=None)[0][1]


def standardised(y, w, score):
    """Average over narrow strata of the score of the within-stratum difference in means."""
    code = np.round((score - score.min()) / 0.05).astype(int)
    n1, n0 = np.bincount(code, w), np.bincount(code, 1 - w)
    both = (n1 > 0) & (n0 > 0)
    gap = np.bincount(code, w * y)[both] / n1[both] - np.bincount(code, (1 - w) * y)[both] / n0[both]
    return np.average(gap, weights=(n1 + n0)[both])


def test_tabular_image_population_numbers():
    data, embeddings, truth = tabular_image(400_000, seed=1)
    y, w, c = data["y"], data["w"], truth["c"]
    x = data["x1"] + data["x2"]
    found = {
        "none": y[w == 1].mean() - y[w == 0].mean(),
        "tabular": standardised(y, w, x),
        "image": standardised(y, w, c),
        "both": slope(y, w, c, data["x1"], data["x2"]),
    }
    for name, value in found.items():
        assert value == pytest.approx(POPULATION[name], abs=0.025), name
    m = truth["propensity"]
    assert ((m < 0.05) | (m > 0.95)).mean() == pytest.approx(0.089, abs=0.002)
    assert np.corrcoef(embeddings.matrix[:, 0], c)[0, 1] == pytest.approx(1.0, abs=1e-6)
    assert abs(np.corrcoef(embeddings.matrix[:, 1], c)[0, 1]) < 0.01


def test_tabular_image_chips_hold_the_same_bands():
    data, chips, _ = tabular_image(30, seed=2, pixels=True)
    again, embeddings, _ = tabular_image(30, seed=2)
    assert chips.shape == (30, 3, 32, 32)
    assert same(data, again)
    np.testing.assert_allclose(chips.mean(axis=(2, 3)), embeddings.matrix, atol=1e-6)
    assert chips[0, 0, -1, 0] - chips[0, 0, 0, 0] == pytest.approx(0.02, abs=1e-6)
    assert not same(data, tabular_image(30, seed=3)[0])


def test_rct_embedding_truths():
    data, embeddings, truth = rct_embedding(n_sites=40_000, rows=2, d=3, seed=1)
    y, w = data["y"], data["w"]
    assert y[w == 1].mean() - y[w == 0].mean() == pytest.approx(0.4, abs=0.03)
    assert truth["tau"].mean() == pytest.approx(0.4, abs=0.03)
    assert truth["tau"].std() == pytest.approx(math.sqrt(2), abs=0.02)
    assert (truth["autoc"], truth["qini"]) == (pytest.approx(1.2773, abs=1e-4), pytest.approx(0.39894, abs=1e-5))
    ranked = np.sort(truth["tau"])[::-1]
    curve = np.cumsum(ranked) / np.arange(1, ranked.size + 1) - ranked.mean()
    q = np.arange(1, ranked.size + 1) / ranked.size
    assert curve.mean() == pytest.approx(truth["autoc"], abs=0.03)
    assert (q * curve).mean() == pytest.approx(truth["qini"], abs=0.01)
    assert np.interp([0.1, 0.5], q, curve) == pytest.approx(toc(np.array([0.1, 0.5])), abs=0.04)
    assert np.array_equal(np.unique(data["site"]), np.sort(embeddings.ids))


def test_rct_embedding_constants_are_integrals():
    from scipy import integrate, stats

    assert integrate.quad(lambda z: stats.norm.pdf(z) ** 2 / stats.norm.sf(z), -40, 35)[0] == pytest.approx(UNIT_AUTOC)
    assert integrate.quad(lambda z: stats.norm.pdf(z) ** 2, -40, 40)[0] == pytest.approx(UNIT_QINI)


def test_rct_embedding_options():
    by_site = rct_embedding(n_sites=30, assignment="site")[0]
    assert all(np.ptp(by_site["w"][by_site["site"] == s]) == 0 for s in np.unique(by_site["site"]))
    assert np.ptp(rct_embedding(effect="null")[2]["tau"]) == 0
    quadratic = rct_embedding(n_sites=2000, effect="quadratic", seed=4)[2]
    np.testing.assert_allclose(quadratic["tau"][::5], 0.4 + quadratic["u"][:, 0] ** 2 - 1 - quadratic["u"][:, 1])
    assert "autoc" not in quadratic
    with pytest.raises(OptionError, match='Did you mean "quadratic"'):
        rct_embedding(effect="quadratik")


def test_aid_grid_linear_adjustment_tells_the_story():
    found = []
    for seed in range(12):
        data, embeddings, _ = grid.aid_grid(seed=seed)
        m = embeddings.matrix[embeddings.align(data["cell"])]
        code = np.unique(data["adm2"], return_inverse=True)[1]
        district = np.stack([np.bincount(code, c) / np.bincount(code) for c in m.T], axis=1)[code]
        y, w, x = data["y"], data["funder1_sector1"], data["x"]
        both, means = (x, m), (x, m, district)
        sets = [(), (x,), both, means, (*means, data["exposure"])]
        found.append([slope(y, w, *columns) for columns in sets])
    found = np.array(found)
    error = 3.3 * found.std(axis=0, ddof=1) / np.sqrt(len(found))
    # Published to one decimal: half a unit of it, plus the Monte Carlo error of twelve grids.
    assert np.all(np.abs(found.mean(axis=0) - [9.9, 7.6, 4.4, 4.2, 4.0]) < error + 0.06)
    assert np.all(np.diff(found.mean(axis=0)) < 0)


def test_aid_grid_geometry_and_projects():
    data, embeddings, truth = grid.aid_grid(side=15, seed=3)
    assert len(data["y"]) == 3 * 225
    lonlat = embeddings.lonlat
    radians = np.radians(lonlat)
    chord = np.sin((radians[1, 0] - radians[0, 0]) / 2) * np.cos(radians[0, 1])
    assert 2 * 6371.01 * np.arcsin(chord) == pytest.approx(6.7, rel=2e-3)
    programme = data["funder2_sector3"]
    for district in np.unique(data["adm2"]):
        for period in range(3):
            assert np.ptp(programme[(data["adm2"] == district) & (data["period"] == period)]) == 0
    projects = truth["projects"]
    for i in range(0, projects["project"].size, 7):
        column = data[f"funder{projects['funder'][i]}_sector{projects['sector'][i]}"]
        here = (data["adm2"] == projects["adm2"][i]) & (data["period"] == projects["period"][i])
        assert (column[here] == 1).all()
        at = (data["longitude"][here] == projects["longitude"][i]) & (data["latitude"][here] == projects["latitude"][i])
        assert at.sum() == 1
    treated = sum(data[name].reshape(3, 225) for name in truth["effects"])
    assert projects["project"].size == int(treated.sum() / 25)
    assert same(data, grid.aid_grid(side=15, seed=3)[0])
    with pytest.raises(OptionError, match="multiple of 5"):
        grid.aid_grid(side=12)


def test_neighbour_share_is_the_slow_loop():
    layer = (np.random.default_rng(0).random((12, 12)) < 0.4).astype(float)
    i, j = np.divmod(np.arange(144), 12)
    km = 6.7 * np.hypot(i[:, None] - i[None, :], j[:, None] - j[None, :])
    near = (km <= 25) & (km > 0)
    expected = (near @ layer.ravel()) / near.sum(axis=1)
    np.testing.assert_allclose(grid.neighbour_share(layer).ravel(), expected, atol=1e-12)


@pytest.fixture(scope="module")
def corpus():
    return images.image_confounder(n_images=250, size=128, seed=1)


def test_image_confounder_field(corpus):
    _, chips, _ = corpus
    assert chips.dtype == np.float32
    assert chips.std() == pytest.approx(1.0, abs=1e-3)
    np.testing.assert_allclose(chips.mean(axis=(1, 2)), 0, atol=1e-5)
    power = (np.abs(np.fft.rfft2(chips)) ** 2).mean(axis=0)
    f = np.hypot(np.fft.fftfreq(128)[:, None], np.fft.rfftfreq(128)[None, :])
    low, high = (power[(f > a) & (f < b)].mean() for a, b in ((0.045, 0.055), (0.36, 0.44)))
    assert low / high == pytest.approx(64, rel=0.1)  # amplitude 1/f, eight times the frequency


def test_image_confounder_bias_is_that_of_its_own_corpus(corpus):
    data, chips, truth = corpus
    u, m = truth["u"], truth["propensity"]
    assert (u.mean(), u.std()) == (pytest.approx(0, abs=1e-12), pytest.approx(1))
    assert 0.7 < truth["bias"] < 0.86
    rng = np.random.default_rng(5)
    w = rng.random((20_000, u.size)) < m
    gap = (w @ u) / w.sum(axis=1) - (~w @ u) / (~w).sum(axis=1)
    assert gap.mean() == pytest.approx(truth["bias"], abs=0.01)
    assert slope(data["y"], data["w"], images.filter_response(chips, 8)) == pytest.approx(1.0, abs=0.05)


def test_image_confounder_wrong_widths_hardly_see_the_confounder(corpus):
    responses = np.stack([images.filter_response(corpus[1], k) for k in images.WIDTHS])
    apart = np.corrcoef(responses) - np.eye(5)
    assert np.abs(apart).max() < 0.45
    skew = (responses**3).mean(axis=1)
    assert np.all((skew > 0.1) & (skew < 1.8))


def test_filter_response_is_the_direct_convolution():
    from scipy.signal import correlate2d

    chips = np.random.default_rng(2).standard_normal((3, 48, 48)).astype(np.float32)
    kernel = images.anti_diagonal(4)
    maps = np.stack([correlate2d(c.astype(float), kernel, mode="full")[2:50, 2:50] for c in chips])
    maps = (maps - maps.mean()) / maps.std()
    inner = maps[:, 16:-16, 16:-16]
    for pool, value in (("max", inner.max(axis=(1, 2))), ("energy", (inner**2).mean(axis=(1, 2)))):
        np.testing.assert_allclose(
            images.filter_response(chips, 4, pool=pool), (value - value.mean()) / value.std(), atol=1e-8
        )
    centre = inner[:, 8, 8]
    found = images.filter_response(chips, 4, level="pixel")
    np.testing.assert_allclose(found, (centre - centre.mean()) / centre.std(), atol=1e-8)


@pytest.mark.parametrize("width", images.WIDTHS)
def test_kernels(width):
    kernel = images.anti_diagonal(width)
    assert kernel.sum() == pytest.approx(0, abs=1e-12)
    assert np.linalg.norm(kernel) == pytest.approx(1)
    assert kernel[0, -1] > 0 > kernel[0, 0]


def test_image_confounder_options_and_refusals():
    chips = np.random.default_rng(3).standard_normal((5, 64, 64))
    base = images.image_confounder(chips=chips)[2]["u"]
    for option in ({"pool": "energy"}, {"level": "pixel"}, {"kernel_width": 2}):
        assert not np.allclose(images.image_confounder(chips=chips, **option)[2]["u"], base)
    with pytest.raises(OptionError, match="kernel_width=3"):
        images.image_confounder(chips=chips, kernel_width=3)
    with pytest.raises(DataError, match="shape"):
        images.image_confounder(chips=np.zeros((5, 64)))
    chips[2, 0, 0] = np.nan
    with pytest.raises(DataError, match="1 of 5 chips hold missing"):
        images.image_confounder(chips=chips)
