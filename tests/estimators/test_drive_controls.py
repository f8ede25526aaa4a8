"""Images as controls of drive: out-of-fold residuals, what they repair, what is refused."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from causalsat.errors import DataError, IdentificationError, ImageSplitError, OptionError
from causalsat.estimators.drive_columns import raw_columns, without_effects
from causalsat.estimators.drive_controls import N_PENALTIES, _fold_fit, net_of_images
from causalsat.estimators.drive_design import drive_design, roles_of
from causalsat.study.folds import Folds
from causalsat.study.open import open_study


def confounded(n=1200, d=20, seed=0, strength=1.0):
    """An image confounder that moves the instrument and the outcome: z is valid only given the image."""
    rng = np.random.default_rng(seed)
    E = rng.normal(size=(n, d)).astype(np.float32)
    ground = strength * E[:, :3].sum(axis=1) / np.sqrt(3)
    c, u = rng.normal(size=(2, n))
    z = ground + rng.normal(size=n)
    x = z + 0.5 * c + u
    y = 1.0 * x + 2.0 * ground + c - u + 0.5 * rng.normal(size=n)
    return {"y": y, "x": x, "z": z, "c": c, "site": rng.integers(0, 60, n)}, E


def design(data, E, *, key=None, roles=None, **options):
    given = {"outcome": "y", "treatment": "x", "instruments": "z", "covariates": ["c"]} | (roles or {})
    study = open_study(data, roles_of(**given), embeddings=E, embedding_key=key, verb="drive")
    return drive_design(study, **options)


@pytest.mark.parametrize(("control", "components"), [("ridge", None), ("pca", 20)])
def test_the_effect_is_recovered_given_the_image(control, components):
    data, E = confounded()
    bare = design(data, None).rows.moments.b_tsls[0]
    assert bare > 1.8
    found = design(data, E, embedding_control=control, n_components=components)
    assert found.rows.moments.b_tsls[0] == pytest.approx(1.0, abs=0.12)
    # The image explains half of z, and as much of what is left of x and y as their noise allows.
    assert found.images.r2["z"] == pytest.approx(0.5, abs=0.06)
    assert 0.0 < found.images.r2["x"] < found.images.r2["z"]
    assert set(found.images.r2) == {"y", "x", "z"}
    assert found.rows.controls.shape == (1200, 0)
    assert found.covariate_effects(np.ones(1)) == {}
    assert found.images.method == control


def test_residuals_are_net_of_the_covariates():
    data, E = confounded(n=300)
    rows = design(data, E).rows
    C = np.column_stack([np.ones(300), data["c"]])
    assert np.abs(C.T @ np.column_stack([rows.y, rows.X, rows.Z])).max() < 1e-9
    assert rows.m == 2


def test_predictions_equal_a_ridge_fit_on_the_other_folds():
    sklearn = pytest.importorskip("sklearn.linear_model")
    data, E = confounded(n=240)
    study = open_study(data, roles_of(outcome="y", treatment="x", instruments="z"), embeddings=E)
    targets = np.column_stack([data["y"], data["x"], data["z"]])
    targets = targets - targets.mean(axis=0)
    raw = raw_columns(study, None)
    blocks, controls = without_effects(raw)
    found = net_of_images(study, raw, blocks, controls)
    by_hand = np.empty_like(targets)
    for k in range(5):
        train = found.fold != k
        mean, sd = E[train].mean(axis=0, dtype=float), E[train].std(axis=0, dtype=float)
        for j in range(3):
            fit = sklearn.Ridge(alpha=found.penalties[k, j]).fit((E[train] - mean) / sd, targets[train, j])
            by_hand[~train, j] = targets[~train, j] - fit.predict((E[~train] - mean) / sd)
    assert_allclose(found.residuals, by_hand - by_hand.mean(axis=0), atol=1e-6)


def test_the_penalty_minimises_generalised_cross_validation():
    from causalsat.kernels.precision import float64
    from causalsat.kernels.ridge_targets import ridge_targets

    rng = np.random.default_rng(0)
    n, d = 150, 10
    x, c = rng.normal(size=(n, d)), rng.normal(size=(n, 1))
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    t = np.column_stack([x[:, 0] + rng.normal(size=n) * 3 + c[:, 0], rng.normal(size=n)])
    with float64():
        _, chosen = ridge_targets(np.column_stack([np.ones(n), c, x]), t, np.ones(n), n_free=1, n_penalties=N_PENALTIES)
    C = np.column_stack([np.ones(n), c])
    M = np.eye(n) - C @ np.linalg.pinv(C)
    U, s, _ = np.linalg.svd(M @ x, full_matrices=False)
    grid = 10.0 ** np.linspace(-4, 4, N_PENALTIES) * np.square(s).sum() / d
    for j in range(2):
        inside = U.T @ (M @ t[:, j])
        outside = np.sum(np.square(M @ t[:, j])) - inside @ inside
        scores = [
            (outside + np.sum(np.square(inside * g / (s**2 + g)))) / n / (1 - (2 + np.sum(s**2 / (s**2 + g))) / n) ** 2
            for g in grid
        ]
        assert float(chosen[j]) == pytest.approx(grid[int(np.argmin(scores))], rel=1e-6)


def test_more_features_than_rows():
    data, E = confounded(n=200, d=600, strength=2.0)
    found = design(data, E)
    assert np.isfinite(found.rows.Z).all()
    assert found.images.penalties.shape == (5, 3)


def test_more_features_than_rows_is_the_same_ridge_as_with_all_features():
    rng = np.random.default_rng(3)
    matrix, targets = rng.normal(size=(60, 45)), rng.normal(size=(60, 2))
    w = np.where(np.arange(60) < 40, 1.0, 0.0)
    fit = _fold_fit(matrix, np.empty((60, 0)), targets, w, w == 0.0, "ridge", None)
    mean, sd = matrix[:40].mean(axis=0), matrix[:40].std(axis=0)
    x = (matrix - mean) / sd
    t = targets[:40] - targets[:40].mean(axis=0)
    for j in range(2):
        b = np.linalg.solve(x[:40].T @ x[:40] + fit.penalties[j] * np.eye(45), x[:40].T @ t[:, j])
        assert_allclose(fit.predicted[:, j], x[40:] @ b + targets[:40, j].mean(), atol=1e-9)


def test_an_instrument_that_is_a_function_of_the_image():
    data, E = confounded()
    data["z"] = E[:, :3].sum(axis=1).astype(float) + 0.01 * data["c"] ** 2
    data["x"] = data["z"] + data["x"]
    with pytest.raises(IdentificationError, match=r"instrument 'z' is a function of the image: .* 100.0 % of it"):
        design(data, E)


def test_images_never_stand_on_both_sides():
    data, E = confounded(n=400)
    data["tile"] = np.arange(400) // 4
    ids = np.arange(100)
    from causalsat.study.embeddings import Embeddings

    images = Embeddings.from_matrix(E[:100], ids=ids)
    found = design(data, images, key="tile")
    assert all(len(np.unique(found.images.fold[data["tile"] == t])) == 1 for t in ids)
    clustered = design(data, E, roles={"cluster": "site"})
    assert all(len(np.unique(clustered.images.fold[data["site"] == s])) == 1 for s in range(60))


def test_user_folds_that_split_an_image():
    data, E = confounded(n=400)
    data["tile"], data["half"] = np.arange(400) // 4, np.arange(400) % 2
    from causalsat.study.embeddings import Embeddings

    images = Embeddings.from_matrix(E[:100], ids=np.arange(100))
    with pytest.raises(ImageSplitError):
        design(data, images, key="tile", roles={"fold_group": "half"}, nuisance_folds=Folds(2, by="half"))
    with pytest.raises(OptionError, match=r"nuisance_folds=Folds\(by='half'\)"):
        design(data, images, key="tile", nuisance_folds=Folds(2, by="half"))


def test_images_within_fixed_effects():
    data, E = confounded()
    found = design(data, E, roles={"fixed_effects": "site"})
    assert found.rows.moments.b_tsls[0] == pytest.approx(1.0, abs=0.15)
    levels = np.eye(60)[data["site"]]
    assert np.abs(levels.T @ found.rows.Z).max() < 1e-9
    assert found.rows.m == 1 + 60


def test_weights_enter_the_image_fit():
    data, E = confounded(n=400)
    one = design(data | {"w": np.ones(400)}, E, roles={"weights": "w"})
    assert_allclose(one.rows.Z, design(data, E).rows.Z, atol=1e-10)
    w = np.random.default_rng(5).uniform(0.2, 3.0, 400)
    found = design(data | {"w": w}, E, roles={"weights": "w"})
    assert np.abs(found.rows.weights @ np.column_stack([found.rows.Z, data["c"][:, None] * found.rows.Z])).max() < 1e-9
    assert found.rows.moments.b_tsls[0] == pytest.approx(1.0, abs=0.25)


def test_the_same_seed_gives_the_same_bits_and_repeats_average():
    data, E = confounded(n=300)
    one, two = design(data, E, seed=3), design(data, E, seed=3)
    assert (one.rows.Z == two.rows.Z).all()
    assert (design(data, E, seed=4).rows.Z != one.rows.Z).any()
    assert design(data, E, nuisance_folds=Folds(5, repeats=2)).images.penalties.shape == (10, 3)


def test_components():
    data, E = confounded(n=400)
    # 95 % of twenty uncorrelated features.
    assert all(18 <= k <= 20 for k in design(data, E, embedding_control="pca").images.components)
    assert design(data, E, embedding_control="pca", n_components=3).images.components == (3,) * 5
    with pytest.raises(OptionError, match="n_components=21 asks for more components than the training rows have: 20"):
        design(data, E, embedding_control="pca", n_components=21)


def test_constant_features_are_left_alone():
    data, E = confounded(n=300)
    padded = np.column_stack([E, np.full(300, 7.0, np.float32)])
    assert_allclose(design(data, padded).rows.Z, design(data, E).rows.Z, atol=1e-9)


def test_images_are_needed():
    data, _ = confounded(n=100)
    study = open_study(data, roles_of(outcome="y", treatment="x", instruments="z"))
    raw = raw_columns(study, None)
    with pytest.raises(DataError, match="need embeddings"):
        net_of_images(study, raw, *without_effects(raw))
