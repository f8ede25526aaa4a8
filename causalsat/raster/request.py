"""A request resolved: places, headers, plan, normaliser, numerics, and the identity of the job."""

import hashlib
from typing import TYPE_CHECKING, Any

from causalsat.errors import DataError, count
from causalsat.raster.encode import Fitted, Work
from causalsat.raster.encoders.protocol import Encoder
from causalsat.raster.normalise import Normalise, default_normalise
from causalsat.raster.parts import SCHEMA_VERSION
from causalsat.raster.store import encoder_sha256, job_id

if TYPE_CHECKING:
    from causalsat.raster.dates import Dates
    from causalsat.raster.places import Places

_SMALL_CHIP = 64
_LISTED_FILES = 100


def prepare(
    rasters: Any,
    places: Any,
    *,
    embedding_key: str | None,
    coords: tuple[str, str],
    encoder: Encoder,
    size_m: float,
    normalise: Normalise | None,
    min_valid_frac: float,
    batch_size: int | None,
    threads: int | None,
    on_error: str,
    bands: Any,
    dates: "Dates | None",
    image_date: Any,
    seed: int,
    **chips: Any,
) -> Work:
    """Resolve a request: places, headers, plan, normaliser, numerics. Reads no pixel.

    ``chips`` are the remaining arguments of :func:`causalsat.raster.plan.make_plan`.
    """
    from causalsat.raster.places import read_places
    from causalsat.raster.plan import make_plan
    from causalsat.raster.reader import ChipReader
    from causalsat.raster.sources import open_sources

    found = read_places(places, embedding_key=embedding_key, coords=coords, dates=dates)
    if len(found) == 0:
        raise DataError("places is empty: there is nothing to embed.")
    sources = open_sources(rasters, bands=bands, dates=dates, image_date=image_date)
    declared = default_normalise(sources.dtype) if normalise is None else normalise
    if declared.fit == "given":
        declared.resolve(sources.dtype, len(sources.band_names))
    plan = make_plan(found, sources, size_m=size_m, dates=dates, **chips)
    size = (32 if plan.n_px <= _SMALL_CHIP else 8) if batch_size is None else count("batch_size", batch_size, 2)
    request = {
        "schema": SCHEMA_VERSION,
        "places": places_digest(found),
        "sources": sources.fingerprint(),
        "frames": [f"{item.first_day}/{item.last_day}" for item in sources.items],
        "chips": plan.spec() | {"min_valid_frac": float(min_valid_frac)},
        "normalise": declared.spec(),
        "encoder": encoder.spec(),
        "numerics": numerics(size),
        "seed": int(seed),
    }
    return Work(
        found, sources, plan, encoder, declared, float(min_valid_frac), size, int(seed), request,
        lambda: ChipReader(plan, threads=threads, on_error=on_error), on_error == "record",
    )  # fmt: skip


def numerics(batch_size: int) -> dict[str, Any]:
    """What must be equal for features to be equal to the last bit."""
    import jax

    return {
        "device": jax.devices()[0].device_kind,
        "dtype": "float32",
        "batch_size": int(batch_size),
        "jax": jax.__version__,
    }


def provenance_of(work: Work, fitted: Fitted) -> dict[str, Any]:
    """What stands in every part: request, hashes, versions; no clock time and no path of this machine."""
    from importlib.metadata import version

    names = ("causalsat", "numpy", "jax", "rasterio", "pyarrow")
    return {
        "schema": SCHEMA_VERSION,
        "job_id": job_id(work.request),
        "request": _short(work.request),
        "feature_names": list(fitted.encoder.feature_names),
        "encoder_sha256": encoder_sha256(work.encoder, fitted.encoder, fitted.normaliser),
        "normaliser": fitted.normaliser.spec(),
        "licences": list(work.sources.licences),
        "allow_post_treatment": work.plan.allow_post_treatment,
        "versions": {name: version(name) for name in names},
    }


def _short(request: dict[str, Any]) -> dict[str, Any]:
    """The request with long lists of files replaced by their digest: ``job.json`` holds them once, parts many times."""
    return {
        key: {"n": len(value), "sha256": job_id({key: value})}
        if isinstance(value, list) and len(value) > _LISTED_FILES
        else value
        for key, value in request.items()
    }


def places_digest(places: "Places") -> dict[str, Any]:
    """Number and SHA-256 of ids, coordinates, statuses and dates."""
    digest = hashlib.sha256()
    for name in ("ids", "lon", "lat", "status", "event", "anchor"):
        values = getattr(places, name)
        text = "" if values is None else "\x1f".join(map(str, values.tolist()))
        digest.update(f"{name}\x1e{text}\x1d".encode())
    return {"n": len(places), "sha256": digest.hexdigest()}
