"""What `drive` refuses on the table alone is what the verb refuses."""

import numpy as np
import pandas as pd
import pytest

import causalsat as cs
from causalsat.config import load_config
from causalsat.errors import CausalsatError, DataError, OptionError
from causalsat.estimators.drive_preflight import preflight
from causalsat.run import validate_study
from causalsat.simulate.iv import iv

BY = cs.DriveOptions(nuisance_folds=cs.Folds(n=5, by="nocolumn"))
FINE = {"outcome": "y", "treatment": "x", "instruments": ["z1", "z2", "z3"], "n_boot": 0, "sets": ()}


@pytest.fixture(scope="module")
def data():
    return iv(n=300, q=3, concentration=150.0, seed=7)[0]


def _answer(call):
    try:
        call()
    except CausalsatError as error:
        return type(error), str(error)
    return None


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"options": BY}, None),
        ({"embedding_key": "site"}, OptionError),
        ({"embedding_control": "pca"}, OptionError),
        ({"cluster": ["a", "b", "c"]}, OptionError),
        ({"covariates": "nocolumn"}, DataError),
        ({"rho": "cv", "folds": cs.Folds(by="nocolumn")}, DataError),
        ({"instruments": np.ones((300, 3))}, OptionError),
    ],
)
def test_the_verb_and_its_preflight_answer_alike(data, changes, expected):
    given = FINE | changes
    verb = _answer(lambda: cs.drive(data, **given))
    assert verb == _answer(lambda: preflight(cs.drive, data, given))
    assert (verb is None) if expected is None else issubclass(verb[0], expected)


def test_the_column_of_the_nuisance_folds_is_read_where_images_are_given(data):
    rng = np.random.default_rng(1)
    sites = np.arange(300) // 3
    with_site = data | {"site": sites.astype(str)}
    images = cs.Embeddings.from_matrix(rng.normal(size=(100, 4)), ids=np.arange(100).astype(str))
    given = FINE | {"options": BY, "embedding_key": "site", "embeddings": images}
    verb = _answer(lambda: cs.drive(with_site, **given))
    assert verb == _answer(lambda: preflight(cs.drive, with_site, given))
    assert issubclass(verb[0], DataError)
    assert "nocolumn" in verb[1]


@pytest.mark.parametrize("images", [False, True])
def test_a_study_file_says_whether_there_will_be_images(data, images, tmp_path):
    pd.DataFrame(data | {"site": np.arange(300)}).to_csv(tmp_path / "table.csv", index=False)
    if images:
        cs.Embeddings.from_matrix(np.ones((300, 2)), ids=np.arange(300).astype(str)).write(tmp_path / "images.parquet")
    (tmp_path / "study.toml").write_text(
        '[study]\ntable = "table.csv"\n'
        + ('embeddings = "images.parquet"\n' if images else "")
        + '[drive]\noutcome = "y"\ntreatment = "x"\ninstruments = ["z1", "z2", "z3"]\n'
        + 'embedding_key = "site"\n'
    )
    config = load_config(tmp_path / "study.toml")
    if images:
        assert validate_study(config)["table"]["rows"] == 300
        return
    with pytest.raises(OptionError, match="embeddings= is not given"):
        validate_study(config)
