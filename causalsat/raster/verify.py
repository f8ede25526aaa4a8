"""Is a finished job what it says it is?"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from causalsat.errors import DataError, OptionError, UnfinishedJobError, count
from causalsat.raster.encode import USABLE, Fitted, Work, encode_rows
from causalsat.raster.encoders.joined import encoder_from_spec
from causalsat.raster.normalise import Normalise, keyed_generator
from causalsat.raster.parts import ShardRows, file_sha256, part_metadata
from causalsat.raster.request import numerics, places_digest
from causalsat.raster.store import differences, job_id, load_encoder, part_path, read_job_rows, read_json

RTOL = 1e-5


@dataclass(frozen=True)
class Verification:
    """What :func:`verify` found.

    ``problems`` is empty exactly when ``passed``; ``max_difference`` is the largest absolute difference between stored
    and re-encoded features (NaN when none was re-encoded); ``exact`` says whether bits had to agree.
    """

    passed: bool
    problems: tuple[str, ...]
    n_parts: int
    n_rows: int
    n_sampled: int
    max_difference: float
    exact: bool


def verify(
    out: str | Path, sample: int = 32, *, rasters: Any = None, places: Any = None, encoder: Any = None, seed: int = 0
) -> Verification:
    """Re-hash the parts of a finished job, check ids and counts, read and encode a sample again and compare.

    Features must be equal to the last bit where device, batch size and JAX version are those of the job, else to 1e-5
    relative.

    Parameters
    ----------
    out : path
        Folder of the job.
    sample : int
        Places to encode again; 0: only hashes, ids and counts.
    rasters : optional
        Where the rasters are now, if not where the job found them; needed for arrays.
    places : optional
        The places; needed where imagery was chosen by date.
    encoder : optional
        Needed for functions and encoders of your own.
    seed : int
        Names the sample.

    Returns
    -------
    Verification

    Raises
    ------
    UnfinishedJobError
        The job has no manifest yet.
    OptionError
        Something is needed to encode again that the folder does not hold.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from rasterio.transform import from_origin
    >>> import causalsat as cs
    >>> from causalsat.raster.verify import verify
    >>> image = np.arange(3 * 40 * 40, dtype=np.uint8).reshape(3, 40, 40)
    >>> source = (image, from_origin(5e5, 1e5, 30, 30), "EPSG:32636")
    >>> sites = {"site": ["a", "b"], "longitude": [33.001, 33.002], "latitude": [0.9, 0.901]}
    >>> folder = tempfile.mkdtemp()
    >>> table = cs.embed(source, sites, embedding_key="site", encoder="bands", size_m=300, out=folder)
    >>> verify(folder, rasters=source).passed
    True
    """
    folder = Path(out)
    count("sample", sample, 0)
    if not (folder / "manifest.json").exists():
        raise UnfinishedJobError(
            f"{folder} has no manifest.json: the job is not finished. Run the same call to resume it."
        )
    job, manifest = read_json(folder / "job.json"), read_json(folder / "manifest.json")
    problems = list(_broken_parts(folder, job, manifest))
    if problems:
        return _verdict(problems, manifest, 0, 0, np.nan, False)
    rows = read_job_rows(folder, len(manifest["parts"]))
    problems += _wrong_rows(rows, manifest)
    if sample == 0 or problems:
        return _verdict(problems, manifest, len(rows), 0, np.nan, False)
    work, fitted, changed = _again(folder, job, rows, rasters, places, encoder)
    problems += changed
    exact = work.request["numerics"] == job["request"]["numerics"]
    chosen = _chosen(rows, sample, seed)
    again = encode_rows(work, fitted, chosen)
    difference, unequal = _compare(rows, again, exact)
    return _verdict(problems + unequal, manifest, len(rows), len(chosen), difference, exact)


def _verdict(
    problems: list[str], manifest: dict[str, Any], rows: int, sampled: int, difference: float, exact: bool
) -> Verification:
    return Verification(not problems, tuple(problems), len(manifest["parts"]), rows, sampled, float(difference), exact)


def _broken_parts(folder: Path, job: dict[str, Any], manifest: dict[str, Any]) -> Iterator[str]:
    if job_id(job["request"]) != job["job_id"] or manifest["job_id"] != job["job_id"]:
        yield "job.json, manifest.json and the request do not agree in the job id"
    for shard, listed in enumerate(manifest["parts"]):
        path = part_path(folder, shard)
        if not path.exists():
            yield f"{listed['name']} is missing"
        elif file_sha256(path) != listed["sha256"]:
            yield f"{listed['name']} was changed: its hash is not the one in manifest.json"
        else:
            found = part_metadata(path)
            if found is None or found[0]["job_id"] != job["job_id"] or found[1] != listed["rows"]:
                yield f"{listed['name']} does not belong to this job"


def _wrong_rows(rows: ShardRows, manifest: dict[str, Any]) -> Iterator[str]:
    if len(rows) != manifest["n_rows"] or not np.array_equal(rows.row, np.arange(len(rows))):
        yield f"the parts hold {len(rows)} rows that are not the places 0 to {manifest['n_rows'] - 1}, each once"
    finite = np.isfinite(rows.embedding).all(axis=1)
    wrong = int((finite != np.isin(rows.status, USABLE)).sum())
    if wrong:
        yield f"{wrong} rows have a vector against their status, or none"


def _again(
    folder: Path, job: dict[str, Any], rows: ShardRows, rasters: Any, places: Any, encoder: Any
) -> tuple[Work, Fitted, list[str]]:
    """The job set up once more from its own folder, and what changed outside it."""
    from causalsat.raster.plan import make_plan
    from causalsat.raster.reader import ChipReader
    from causalsat.raster.sources import open_sources

    request, context = job["request"], job["context"]
    rasters = context["rasters"] if rasters is None else rasters
    if rasters is None:
        raise OptionError(
            "rasters= is needed: the job was run on something that is not a path, which no folder can hold."
        )
    declared = encoder_from_spec(request["encoder"]) if encoder is None else encoder
    saved = load_encoder(folder, declared)
    if saved is None:
        raise DataError(f"{folder / 'encoder'} holds no encoder; the job must be run again.")
    dates = _dates(context)
    found = _places(rows, context, places, dates)
    chips = request["chips"]
    sources = open_sources(rasters, bands=chips["bands"], dates=dates, image_date=context["image_date"])
    options = {k: chips[k] for k in ("size_m", "gsd_m", "grid", "align", "resampling", "mask_rule", "shard_rows")}
    plan = make_plan(found, sources, dates=dates, allow_post_treatment=chips["allow_post_treatment"], **options)
    now = {
        "places": places_digest(found),
        "sources": sources.fingerprint(),
        "chips": plan.spec() | {"min_valid_frac": chips["min_valid_frac"]},
    }
    changed = [
        f"{field} was {old!r} and is {new!r} now"
        for field, old, new in differences({name: request[name] for name in now}, now)
    ]
    size = request["numerics"]["batch_size"]
    work = Work(
        found, sources, plan, declared, Normalise(kind="none"), chips["min_valid_frac"], size, request["seed"],
        {"numerics": numerics(size)}, lambda: ChipReader(plan),
    )  # fmt: skip
    return work, Fitted(*saved), changed


def _dates(context: dict[str, Any]) -> Any:
    from causalsat.raster.dates import Dates

    if context["dates"] is None:
        return None
    return Dates(**context["dates"] | {"window_months": tuple(context["dates"]["window_months"])})


def _places(rows: ShardRows, context: dict[str, Any], places: Any, dates: Any) -> Any:
    from causalsat.raster.places import Places, read_places

    if places is not None:
        coords = (context["coords"][0], context["coords"][1])
        return read_places(places, embedding_key=context["embedding_key"], coords=coords, dates=dates)
    if dates is not None:
        raise OptionError("places= is needed to encode again: imagery was chosen by each place's date.")
    lon, lat = rows.lonlat.T
    return Places(rows.unit_id, lon, lat, np.where(np.isfinite(lon), "ok", "bad_place"))


def _chosen(rows: ShardRows, sample: int, seed: int) -> np.ndarray:
    have = np.flatnonzero(np.isin(rows.status, USABLE))
    take = min(sample, len(have))
    return np.sort(keyed_generator(seed, "verify").choice(have, take, replace=False)) if take else have


def _compare(rows: ShardRows, again: ShardRows, exact: bool) -> tuple[float, list[str]]:
    stored, fresh = rows.embedding[again.row], again.embedding
    if len(fresh) == 0:
        return np.nan, []
    difference = float(np.nanmax(np.abs(stored - fresh), initial=0.0))
    scale = np.abs(stored).max(initial=0.0)
    same = np.array_equal(stored, fresh) if exact else np.allclose(stored, fresh, rtol=RTOL, atol=RTOL * scale)
    problems = [] if same else [f"re-encoded features differ by up to {difference:.3g}"]
    if not np.array_equal(rows.chip_sha256[again.row], again.chip_sha256):
        problems.append("the rasters give other pixels than the ones encoded")
    return difference, problems
