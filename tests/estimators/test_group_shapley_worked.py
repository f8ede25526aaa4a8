"""A worked decomposition: two periods with their own rows, one resample for all coalitions, contributions known."""

from dataclasses import dataclass

import numpy as np
import pytest
from scipy.stats import binom

from causalsat.errors import OptionError
from causalsat.estimators.group_shapley import group_shapley, swap_value
from causalsat.inference.options import Bootstrap
from causalsat.inference.resampling import resampling_weights
from causalsat.inference.sampling import Sampling
from causalsat.simulate.two_periods import FIRST, GROUPS, SECOND, mean_effect, two_periods

DRAWS, RUNS, LEVEL = 199, 60, 0.9


@dataclass
class Study:
    """Rows of one period; row 0 of everything is the estimate, row r the r-th resample of this period's clusters."""

    rows: dict[str, np.ndarray]
    number: int
    scheme: str = "cluster"

    def __post_init__(self):
        self.kept = {}

    def weights(self, seed):
        if seed not in self.kept:
            sampling = Sampling(len(self.rows["y"]), cluster=self.rows["cluster"])
            # Periods are independent samples: a stream of resamples for each.
            stream = 2 * seed + self.number
            counts = resampling_weights(Bootstrap(n=DRAWS, scheme=self.scheme), sampling, seed=stream)
            self.kept[seed] = np.concatenate([np.ones((1, counts.shape[1])), counts])
        return self.kept[seed]

    def regress(self, name, columns, seed):
        """(1 + draws, columns) weighted least squares."""
        weights, design = self.weights(seed), np.column_stack(columns)
        gram = np.einsum("bn,ni,nj->bij", weights, design, design, optimize=True)
        return np.linalg.solve(gram, (weights @ (design * self.rows[name][:, None]))[..., None])[..., 0]


def evaluate(mix, dose, model, seed):
    weights, x = mix.weights(seed), mix.rows["x"]
    share = weights / weights.sum(axis=1, keepdims=True)
    xd, xm, given = dose.rows["x"], model.rows["x"], model.rows["dose"]
    level, slope = dose.regress("dose", [np.ones_like(xd), xd], seed).T
    _, gain, _, tilt = model.regress("y", [np.ones_like(xm), given, xm, xm * given], seed).T
    linear = (gain * slope + tilt * level) * (share @ x)
    effect = gain * level + linear + tilt * slope * (share @ x**2)
    return effect[0], effect[1:]


def decompose(seed, scheme="cluster", **options):
    first, second, truth = two_periods(n=(600, 500), clusters=60, seed=seed)
    a, b = Study(first, 0, scheme), Study(second, 1, scheme)
    value = swap_value(dict.fromkeys(GROUPS, a), dict.fromkeys(GROUPS, b), evaluate)
    return group_shapley(value, value.groups, seed=seed, level=LEVEL, shares=False, **options), truth


@pytest.fixture(scope="module")
def runs():
    return [decompose(seed) for seed in range(RUNS)]


def columns(runs, name):
    return np.array([table[name] for table, _ in runs])


def target(truth):
    return np.array([*(truth[name] for name in GROUPS), truth["value_b"] - truth["value_a"]])


def test_the_simulator_knows_its_contributions():
    """Closed form of the mean effect against a large sample, and the contributions against Shapley's weights."""
    first, second, truth = two_periods(n=200_000, clusters=200_000, seed=3)
    for rows, law, name in ((first, FIRST, "value_a"), (second, SECOND, "value_b")):
        sampled = ((law.gain + law.tilt * rows["x"]) * (law.level + law.slope * rows["x"])).mean()
        assert sampled == pytest.approx(truth[name], abs=0.02)
    exact = swap_value(dict.fromkeys(GROUPS, FIRST), dict.fromkeys(GROUPS, SECOND), mean_effect)
    np.testing.assert_allclose(group_shapley(exact, GROUPS, shares=False)["estimate"], target(truth), atol=1e-14)


def test_the_simulator_refuses_what_it_cannot_draw():
    with pytest.raises(OptionError, match="n=0 must be at least 1"):
        two_periods(n=0)
    with pytest.raises(OptionError, match="intraclass=2"):
        two_periods(intraclass=2)


def test_one_decomposition(runs):
    table, truth = runs[0]
    assert table["group"].tolist() == [*GROUPS, "(total)"]
    np.testing.assert_allclose(table["estimate"][:3].sum(), table["estimate"][3], atol=1e-12)
    np.testing.assert_allclose(table.draws[:, :3].sum(axis=1), table.draws[:, 3], atol=1e-12)
    assert (table["conf_low"] < table["conf_high"]).all()
    assert (np.abs(table["estimate"] - target(truth)) < 4.0 * table["std_error"]).all()


def test_intervals_cover_the_truth(runs):
    inside = (columns(runs, "conf_low") <= target(runs[0][1])) & (target(runs[0][1]) <= columns(runs, "conf_high"))
    assert (inside.sum(axis=0) >= binom.ppf(0.001, RUNS, LEVEL)).all(), inside.mean(axis=0)


def test_joint_bands_cover_all_contributions_together(runs):
    held = 0
    for table, truth in runs:
        bands = table.joint()
        held += bool(((bands["band_low"] <= target(truth)) & (target(truth) <= bands["band_high"])).all())
    assert held >= binom.ppf(0.001, RUNS, LEVEL)


def test_estimates_are_centred_and_standard_errors_match_their_spread(runs):
    estimates = columns(runs, "estimate")
    spread = estimates.std(axis=0, ddof=1)
    assert (np.abs(estimates.mean(axis=0) - target(runs[0][1])) < 4.0 * spread / np.sqrt(RUNS)).all()
    ratio = columns(runs, "std_error").mean(axis=0) / spread
    assert ((ratio > 0.75) & (ratio < 1.3)).all(), ratio


def test_another_resample_in_every_coalition_gives_wrong_standard_errors(runs):
    """What the shared replicate number is for: without it the noise of the coalitions no longer cancels."""
    table, _ = runs[0]
    first, second, _ = two_periods(n=(600, 500), clusters=60, seed=0)
    value = swap_value(dict.fromkeys(GROUPS, Study(first, 0)), dict.fromkeys(GROUPS, Study(second, 1)), evaluate)
    apart = group_shapley(
        lambda coalition: value(coalition, 1 + sum(2 ** GROUPS.index(name) for name in coalition)),
        GROUPS,
        level=LEVEL,
        shares=False,
    )
    np.testing.assert_allclose(apart["estimate"], table["estimate"], atol=1e-12)
    ratio = apart["std_error"] / table["std_error"]
    assert ratio[1] > 1.2 and ratio[2] < 0.85, ratio


def test_rows_resampled_one_by_one_ignore_the_clusters(runs):
    alone = np.array([decompose(seed, scheme="iid")[0]["std_error"] for seed in range(5)]).mean(axis=0)
    together = columns(runs, "std_error")[:5].mean(axis=0)
    assert (alone < together).all()
