"""Bad tables, roles, embeddings and folds, each with the message it must get."""

import contextlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from causalsat import Embeddings, Folds
from causalsat.errors import DataError, ImageSplitError, OptionError, TreatmentLeakError, UnfinishedJobError
from causalsat.study.fold_units import fold_units
from causalsat.study.folds import deal_folds, training_sets
from causalsat.study.open import Role, open_study


@dataclass(frozen=True)
class BadInput:
    """One bad input: how to make it, which error, and what the message must say."""

    name: str
    make: Callable[[], object]
    error: type[Exception]
    match: str


def data(n: int = 60, **changes) -> dict:
    rng = np.random.default_rng(0)
    table = {
        "y": rng.normal(size=n),
        "w": (np.arange(n) % 2).astype(float),
        "x": rng.normal(size=n),
        "region": [("north", "south", "west")[i % 3] for i in range(n)],
        "site": np.arange(n) // 4,
        "lon": 30.0 + rng.random(n),
        "lat": 2.0 + rng.random(n),
    }
    return table | changes


def roles(outcome="y", treatment="w", covariates=("x",), **more) -> list[Role]:
    played = [
        Role("outcome", outcome, "numeric"),
        Role("treatment", treatment, "binary", many=True, missing="keep"),
        Role("covariates", covariates, "design", many=True),
    ]
    kinds = {"weights": "weights", "cluster": "codes", "time": "date", "unit": "codes"}
    return played + [Role(name, column, kinds[name]) for name, column in more.items()]


def table(changes=None, coords=None, embeddings=None, key=None, **given) -> Callable[[], object]:
    def make() -> object:
        frame = data(**(changes or {}))
        return open_study(frame, roles(**given), coords=coords, embeddings=embeddings, embedding_key=key)

    return make


def frame(make: Callable[[], object], **given) -> Callable[[], object]:
    return lambda: open_study(make(), roles(), **given)


def with_value(value: object, column: str = "y") -> dict:
    changed = np.array(data()[column], dtype=object if value is None else None)
    changed[3] = value
    return {column: changed}


def images(n: int = 15, ids=None, **more) -> Embeddings:
    rng = np.random.default_rng(1)
    return Embeddings.from_matrix(rng.normal(size=(n, 3)), ids=np.arange(n) if ids is None else ids, **more)


def unit_folds(folds: Folds, changes=None, embeddings=None, key=None, coords=("lon", "lat"), **given):
    def make() -> object:
        frame = data(**(changes or {}))
        played = [*roles(**given)] + ([Role("fold group", folds.by, "codes")] if folds.by else [])
        study = open_study(frame, played, coords=coords, embeddings=embeddings, embedding_key=key)
        return fold_units(study, folds=folds)

    return make


def geo(crs: str | None) -> object:
    import geopandas as gpd

    columns = pd.DataFrame(data())
    return gpd.GeoDataFrame(columns, geometry=gpd.points_from_xy(columns["lon"], columns["lat"]), crs=crs)


def unfinished_job() -> object:
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        Path("job/parts").mkdir(parents=True)
        Path("job/job.json").write_text("{}")
        images().write("job/parts/part-00000.parquet")
        return Embeddings.read("job")


def excel() -> object:
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        Path("table.xlsx").write_text("")
        return open_study("table.xlsx", roles())


def other_parquet() -> object:
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        pd.DataFrame({"a": [1.0]}).to_parquet("table.parquet")
        return Embeddings.read("table.parquet")


def chain(n: int = 15) -> Embeddings:
    """Chips of 2 km every kilometre: each overlaps the next."""
    x = 500_000.0 + 1000.0 * np.arange(n)
    box = np.column_stack([x, np.zeros(n), x + 2000.0, np.full(n, 2000.0)])
    return images(n, footprint=box, footprint_crs="EPSG:32636")


def line(n: int = 60, km: float = 0.25) -> dict:
    """Rows along the equator, so that neighbours' chips overlap across blocks."""
    return {"lon": 33.0 + np.arange(n) * km / 111.2, "lat": np.zeros(n)}


def same_place_folds() -> object:
    lonlat = np.column_stack([np.zeros(40), np.zeros(40)])
    return training_sets(np.arange(40) % 2, lonlat, 1.0)


CASES = [
    BadInput("column that is not there", table(outcome="yy"), DataError, r"outcome='yy'.*it has: y, w.*Did you mean"),
    BadInput("covariate that is not there", table(covariates=["x", "regon"]), DataError, r'Did you mean "region"'),
    BadInput(
        "two columns of one name",
        frame(lambda: pd.DataFrame(np.ones((3, 2)), columns=["y", "y"])),
        DataError,
        "more than once.*'y'",
    ),
    BadInput("no rows", frame(lambda: pd.DataFrame(data()).head(0)), DataError, "no rows"),
    BadInput("not a table", frame(lambda: 3.5), DataError, "data is a float"),
    BadInput("a matrix for a column", frame(lambda: {"y": np.ones((3, 2))}), DataError, "one-dimensional"),
    BadInput("columns of two lengths", frame(lambda: data(x=np.ones(5))), DataError, r"\['x'\] has 5.*60"),
    BadInput("file that is not there", frame(lambda: "absent.parquet"), DataError, "absent.parquet.*not a file"),
    BadInput(
        "outcome that is also a covariate", table(covariates=["x", "y"]), DataError, "both outcome and covariates"
    ),
    BadInput("treatment among the covariates", table(covariates=["x", "w"]), TreatmentLeakError, "both treatment and"),
    BadInput("covariate named twice", table(covariates=["x", "x"]), DataError, "'x' twice"),
    BadInput("clusters that are the outcome", table(cluster="y"), DataError, "both outcome and cluster"),
    BadInput("text outcome", table(outcome="region"), DataError, "not numeric.*'north'"),
    BadInput(
        "numbers written as text",
        table({"y": ["1.5"] * 60}),
        DataError,
        "look like numbers.*astype",
    ),
    BadInput("one text among numbers", table({"y": [1.0, 2.0, "3,5"] * 20}), DataError, "mixed values such as '3,5'"),
    BadInput("infinite outcome", table(with_value(np.inf)), DataError, r"infinite in 1 of 60 rows.*row 3"),
    BadInput("outcome missing throughout", table({"y": np.full(60, np.nan)}), DataError, "missing in all 60"),
    BadInput("constant outcome", table({"y": np.ones(60)}), DataError, "outcome column 'y' is constant: 1"),
    BadInput("constant covariate", table({"x": np.zeros(60)}), DataError, "covariates column 'x' is constant"),
    BadInput(
        "no row complete", table({"x": [None, 1.5] * 30, "y": [2.5, None] * 30}), DataError, "none of the 60 rows"
    ),
    BadInput(
        "R's missing integer in the outcome",
        table({"y": np.array([-2147483648, *range(59)])}),
        DataError,
        r"NA_integer_.*data\$y <- as.numeric\(data\$y\)",
    ),
    BadInput(
        "R's missing integer in clusters",
        table(with_value(-2147483648, "site"), cluster="site"),
        DataError,
        "NA_integer_",
    ),
    BadInput(
        "a dose as treatment", table(with_value(2.5, "w")), DataError, r"holds 2\.5 in 1 of 60 rows.*dose.*panel_dml"
    ),
    BadInput("treatment as text", table({"w": ["yes", "no"] * 30}), DataError, r"'no', 'yes'.*0 or 1.*Recode"),
    BadInput("nobody treated", table({"w": np.zeros(60)}), DataError, "treatment column 'w' is constant: 0"),
    BadInput(
        "negative weight", table(with_value(-1.0, "x"), covariates="y", outcome="lon", weights="x"), DataError, "neg"
    ),
    BadInput("weights of zero", table({"v": np.zeros(60)}, weights="v"), DataError, "sums to zero"),
    BadInput("infinite weight", table({"v": np.full(60, np.inf)}, weights="v"), DataError, "weights.*infinite"),
    BadInput("one cluster", table({"site": np.ones(60)}, cluster="site"), DataError, "one label 1 in all rows"),
    BadInput("mixed labels", table({"site": [1, "1", 2] * 20}, cluster="site"), DataError, "mixes types.*int, str"),
    BadInput("dates that are none", table({"when": ["June"] * 60}, time="when"), DataError, "cannot be read as dates"),
    BadInput(
        "a name as covariate",
        table({"who": [f"person {i}" for i in range(60)]}, covariates=["who"]),
        DataError,
        "60 different texts in 60 rows",
    ),
    BadInput(
        "columns of several levels",
        frame(lambda: pd.DataFrame(np.ones((3, 2)), columns=pd.MultiIndex.from_tuples([("a", "y"), ("a", "x")]))),
        DataError,
        "several levels; give each one name",
    ),
    BadInput("an Excel file", excel, DataError, r"ends in '\.xlsx'; allowed: \.csv"),
    BadInput("column by number", table(outcome=3), OptionError, "outcome=3 must be the name of a column, not int"),
    BadInput("role that takes no column", table(covariates=()), OptionError, "covariates is an empty list"),
    BadInput(
        "periods as labels",
        table({"site": pd.period_range("2000", periods=60, freq="Y").to_numpy()}, cluster="site"),
        DataError,
        "values of type Period",
    ),
    BadInput("two outcomes", table(outcome=["y", "x"]), OptionError, r"outcome=\['y', 'x'\] names 2 columns"),
    BadInput("one coordinate", table(coords="lon"), OptionError, "two column names, longitude then latitude"),
    BadInput("latitude first by name", table(coords=("lat", "lon")), DataError, "longitude comes first"),
    BadInput(
        "latitude first by value",
        table({"a": np.full(60, 8.0), "b": np.full(60, 120.0)}, coords=("a", "b")),
        DataError,
        r"\(8, 120\).*60 such rows.*swap",
    ),
    BadInput(
        "metres for degrees",
        table({"lon": np.full(60, 512_000.0), "lat": np.full(60, 99_000.0)}, coords=("lon", "lat")),
        DataError,
        "projected metres",
    ),
    BadInput(
        "missing coordinates", table(with_value(np.nan, "lat"), coords=("lon", "lat")), DataError, "missing.*row 3"
    ),
    BadInput("geometry without CRS", frame(lambda: geo(None)), DataError, "without a coordinate system.*set_crs"),
    BadInput("matrix of another length", table(embeddings=np.ones((59, 3))), DataError, "59 rows and the data have 60"),
    BadInput("vector for a matrix", table(embeddings=np.ones(60)), DataError, r"two dimensions.*\[:, None\]"),
    BadInput("infinite embedding", table(embeddings=np.full((60, 2), np.inf)), DataError, "infinite in 60 rows"),
    BadInput("embeddings without a key", table(embeddings=images()), DataError, "embedding_key='site'"),
    BadInput(
        "ids that do not match",
        table(embeddings=images(ids=[f"site_{i}" for i in range(15)]), key="site"),
        DataError,
        "lack in 60 of 60 rows, for example '0'.*'site_0'",
    ),
    BadInput(
        "embedding key missing throughout",
        table({"site": [None] * 60}, embeddings=images(), key="site"),
        DataError,
        "missing in all 60 rows",
    ),
    BadInput(
        "an id twice", table(embeddings=images(ids=[0, *range(14)]), key="site"), DataError, "'0'.*ambig|cannot tell"
    ),
    BadInput(
        "one image, two vectors",
        table(embeddings=np.random.default_rng(2).normal(size=(60, 3)), key="site"),
        DataError,
        "rows 0 and 1 have the same site '0' and different vectors",
    ),
    BadInput("no image usable", table(embeddings=np.full((60, 2), np.nan)), DataError, "image all_nodata in 60"),
    BadInput("unknown status", lambda: images(2, status=["ok", "cloudy"]), OptionError, "status='cloudy'.*allowed: ok"),
    BadInput("footprint without CRS", lambda: images(2, footprint=np.ones((2, 4))), DataError, "footprint_crs"),
    BadInput("unfinished embedding job", unfinished_job, UnfinishedJobError, "1 parts are done.*partial=True"),
    BadInput("Parquet of something else", other_parquet, DataError, "holds no embeddings.*from_matrix"),
    BadInput("one fold", lambda: Folds(n=1), OptionError, r"Folds\.n=1 must be at least 2"),
    BadInput("half a fold", lambda: Folds(n=2.5), OptionError, r"Folds\.n=2\.5.*whole number"),
    BadInput("column and blocks at once", lambda: Folds(by="site", block_km=5), OptionError, "one of them"),
    BadInput("negative buffer", lambda: Folds(buffer_km=-1), OptionError, r"Folds\.buffer_km=-1"),
    BadInput("blocks without places", unit_folds(Folds(block_km=10), coords=None), DataError, "give coords"),
    BadInput("blocks too large", unit_folds(Folds(block_km=500)), DataError, r"at least two per fold \(10\)"),
    BadInput(
        "user folds that split an image",
        unit_folds(Folds(n=2, by="half"), {"half": np.arange(60) % 2}, images(), "site"),
        ImageSplitError,
        "split 15 units.*over folds 0, 1",
    ),
    BadInput("chips in one chain", unit_folds(Folds(), None, chain(), "site"), DataError, "60 of 60 rows.*block_km"),
    BadInput(
        "overlapping chips in two blocks",
        unit_folds(Folds(n=2, block_km=2), line(), chain(), "site"),
        ImageSplitError,
        r"pairs of overlapping chips.*buffer_km=",
    ),
    BadInput(
        "fewer units than folds",
        lambda: deal_folds(np.arange(60) % 3, n_folds=5, seed=0, unit_labels=np.arange(3)),
        DataError,
        "at least 5 units.*hold 3",
    ),
    BadInput(
        "an arm too small to train on",
        lambda: deal_folds(np.arange(60), (np.arange(60) < 15) * 1.0, n_folds=5, seed=0, unit_labels=np.arange(60)),
        DataError,
        r"Training without fold \d leaves 12 treated rows.*needs 20",
    ),
    BadInput("buffer that takes everything", same_place_folds, DataError, "takes 100% of the training rows of fold 0"),
]
