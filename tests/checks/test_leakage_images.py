"""Guards: treatment among the covariates, images shared by arms, copies, overlaps, dates."""

import numpy as np
import pytest

from causalsat.checks.images import (
    identical_images_check,
    image_dates_check,
    near_duplicates_check,
    overlapping_images_check,
    single_arm_images_check,
)
from causalsat.checks.leakage import leakage_check
from causalsat.errors import (
    DuplicateImageWarning,
    PostTreatmentImageryError,
    SingleArmImagesWarning,
    TreatmentLeakError,
    UndatedImageryWarning,
    WeakOverlapWarning,
)

N = 200
RNG = np.random.default_rng(0)
D = np.tile([0.0, 1.0], N // 2)
X = RNG.standard_normal(N)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (D, r'"bad" equals "programme" on all 200 rows'),
        (3 - 2 * D, r'"bad" is "programme" times -2 plus 3'),
        (10 * D + RNG.random(N), "separates the arms .* above every control"),
        (-10 * D + RNG.random(N), "below every control"),
        (X * D, r'"bad" equals "x" times \(programme\) on all 200 rows'),
        (X * (1 - D), r'"bad" equals "x" times \(1 - programme\)'),
        (D * (RNG.random(N) < 0.3), r"is 0 for all 100 controls and differs from it in \d+ of 100 treated rows"),
        (7 - (1 - D) * (RNG.random(N) < 0.3), "is 7 for all 100 treated"),
    ],
)
def test_leaks_are_refused_by_name(column, message):
    with pytest.raises(TreatmentLeakError, match=message) as caught:
        leakage_check(D, {"x": X, "bad": column}, treatment="programme")
    assert '"x" ' not in str(caught.value).split("covariates=")[0].replace('equals "x" ', "")
    assert "1 of 2 covariates" in str(caught.value)


def test_missing_values_do_not_hide_a_leak():
    holes = X.copy()
    holes[:7] = np.nan
    with pytest.raises(TreatmentLeakError, match='"made" equals "x"'):
        leakage_check(D, {"x": holes, "made": holes * D})


def test_what_is_allowed():
    made = X * D
    leakage_check(D, {"x": X, "made": made}, allow=["made"])
    with pytest.raises(TreatmentLeakError, match="equals"):
        leakage_check(D, {"x": D}, allow=["x"])
    rare = np.zeros(N)
    rare[[1, 3, 5, 7]] = 1.0  # 4% of the treated
    binary = (RNG.random(N) < 0.5).astype(float)
    leakage_check(D, {"x": X, "rare": rare, "binary": binary, "constant": np.ones(N), "weak": D + X})


def test_a_region_without_treated_rows_lacks_support_and_is_no_leak():
    region = np.random.default_rng(3).integers(0, 4, N)
    region[(region == 3) & (D == 1)] = 0
    dummies = {f"region[{c}]": (region == j).astype(float) for j, c in enumerate("abcd") if j}
    with pytest.warns(WeakOverlapWarning, match=r'levels "region\[d\]" hold .*Eligibility\(by='):
        leakage_check(D, {"x": X, **dummies}, treatment="programme")
    leakage_check(D, {"x": X, **dummies}, allow=["region[d]"])
    with pytest.raises(TreatmentLeakError, match="is 0 for all 100 treated"):
        leakage_check(D, {"x": X, "region d": dummies["region[d]"]})
    one_region = np.where(D == 1, 0.0, (region == 3).astype(float))
    with pytest.warns(WeakOverlapWarning, match=r"region\[d\]"):
        leakage_check(D, {"region[d]": one_region})


def test_dummies_of_a_column_made_from_the_treatment_stay_errors():
    kind = RNG.integers(1, 4, N) * (D == 1)
    with pytest.raises(TreatmentLeakError, match=r'"kind\[2\]" is 0 for all 100 controls'):
        leakage_check(D, {"x": X, **{f"kind[{j}]": (kind == j).astype(float) for j in (1, 2, 3)}})
    with pytest.raises(TreatmentLeakError, match="equals"):
        leakage_check(D, {"status[yes]": D})


def test_uganda_covariates_made_from_the_treatment(real_data):
    import pandas as pd

    people = pd.read_csv(real_data("uganda/people.csv"))
    columns = {f"x{j}": people[f"x{j}"].to_numpy(float) for j in range(1, 7)}
    d = people["treated"].to_numpy(float)
    with pytest.raises(TreatmentLeakError) as caught:
        leakage_check(d, columns, treatment="treated")
    for made, twin in (("x2", "x1"), ("x4", "x3"), ("x6", "x5")):
        assert f'"{made}" equals "{twin}" times (treated)' in str(caught.value)
    assert "3 of 6 covariates" in str(caught.value)
    leakage_check(d, {name: columns[name] for name in ("x1", "x3", "x5")}, treatment="treated")


def test_uganda_single_arm_images(real_data):
    import pandas as pd

    people = pd.read_csv(real_data("uganda/people.csv"))
    site = np.unique(people["site"], return_inverse=True)[1]
    found = single_arm_images_check("treated", site, people["treated"].to_numpy(float))
    assert found.passed is False
    assert found.text.startswith("278 of 327 images (85.0%; 68.7% of rows) hold one arm only.")
    assert found.table["images"][2] == 49


def test_single_arm_images_warn_when_rows_are_treated_as_independent():
    image = np.repeat(np.arange(20), 10)
    d = np.repeat(np.arange(20) % 2, 10).astype(float)
    with pytest.warns(SingleArmImagesWarning, match=r"SE 0\.1 by rows, 0\.3 by image"):
        single_arm_images_check("w", image, d, independent_rows=True, std_error_rows=0.1, std_error_images=0.3)
    assert single_arm_images_check("w", image, D).passed is True


def test_identical_images():
    ids, hashes = np.array(["a", "b", "c", "d"]), np.array(["h", "i", "h", ""])
    with pytest.warns(DuplicateImageWarning, match="2 keys share byte-identical chips, in 1 groups"):
        found = identical_images_check("w", ids, hashes, np.array([0, 0, 1, 2, 3]), np.array([1.0, 1.0, 0.0, 0.0, 1.0]))
    assert found.table == {"group": [0, 0], "id": ["a", "c"], "treated_share": [1.0, 0.0]}
    assert identical_images_check("w", ids, np.array(["h", "i", "j", ""])).passed is True
    assert identical_images_check("w", ids, np.array([""] * 4)).passed is None


def test_overlapping_images():
    ids = np.array(["a", "b", "c", "d", "e"])
    found = overlapping_images_check("w", ids, np.array([[0, 1]]), np.array([0, 0, 1, 2, 3]), np.array([0.5]))
    assert found.statistic == 1.0
    assert found.table == {"first": ["a"], "second": ["b"], "share": [0.5]}
    assert "leaves 4 groups of the 5 images, the largest with 2" in found.text
    assert found.passed is False
    assert overlapping_images_check("w", ids, np.empty((0, 2)), np.arange(5)).passed is True


def test_near_duplicates_are_found_whatever_the_block_and_the_units(monkeypatch):
    rng = np.random.default_rng(1)
    matrix = 100 + rng.standard_normal((60, 16))  # a common mean must not look like a copy
    matrix[41] = matrix[3] + 1e-4 * rng.standard_normal(16)
    matrix[50] = 100 + 2 * (matrix[7] - 100)  # same direction, another image
    ids = np.array([f"i{j}" for j in range(60)])
    scales = 10.0 ** rng.integers(-3, 3, 16)
    for block in (7, 1024):
        monkeypatch.setattr("causalsat.checks.images.BLOCK", block)
        for values in (matrix, matrix * scales):
            with pytest.warns(DuplicateImageWarning, match="1 pairs .*i3/i41"):
                found = near_duplicates_check("w", ids, values)
            assert found.table == {"first": ["i3"], "second": ["i41"]}
    known = np.array(["h" if j in (3, 41) else f"h{j}" for j in range(60)])
    assert near_duplicates_check("w", ids, matrix, known).passed is True


def test_few_features_prove_nothing_unless_equal():
    rng = np.random.default_rng(2)
    line = rng.random((500, 1))
    ids = np.arange(500).astype(str)
    assert near_duplicates_check("w", ids, line).passed is None
    line[9] = line[4]
    with pytest.warns(DuplicateImageWarning, match="1 pairs .*4/9"):
        near_duplicates_check("w", ids, line)
    line[9] = np.nan
    assert near_duplicates_check("w", ids, line).passed is None


def test_dates():
    taken = np.array(["2010-01-01", "2012-05-01", "2011-01-01", "NaT"], dtype="datetime64[D]")
    treated = np.array(["2011-01-01", "2012-04-01", "NaT", "2011-01-01"], dtype="datetime64[D]")
    with (
        pytest.warns(UndatedImageryWarning, match="1 of 4 rows"),
        pytest.raises(PostTreatmentImageryError, match=r"1 of 4 rows .* latest is 30 days after"),
    ):
        image_dates_check("w", taken, treated)
    with pytest.warns(UndatedImageryWarning):
        found = image_dates_check("w", taken, treated, allow_post_treatment=True, keys=["a", "b", "c", "d"])
    assert found.passed is False
    assert found.table == {"row": [1], "days_after": [30], "id": ["b"]}
    assert image_dates_check("w", taken[[0, 2]], treated[[0, 2]]).passed is True
    with pytest.raises(PostTreatmentImageryError, match="0 days"):
        image_dates_check("w", treated[:1], treated[:1])
