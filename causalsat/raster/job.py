"""``cs.embed``: rasters and places in, one row per place out."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from causalsat.errors import (
    EmbeddingQualityWarning,
    OptionError,
    RasterCoverageWarning,
    collected_warnings,
    count,
    number,
    one_of,
    warn,
)
from causalsat.progress import Progress, progress_bar
from causalsat.raster.diagnostics import describe, row_facts
from causalsat.raster.encode import USABLE, Fitted, Work, encode_shards, fit
from causalsat.raster.encoders.joined import as_encoder, unnamed_callables
from causalsat.raster.encoders.protocol import Encoder
from causalsat.raster.lock import folder_lock
from causalsat.raster.normalise import Normalise
from causalsat.raster.parts import ShardRows
from causalsat.raster.request import prepare, provenance_of
from causalsat.raster.store import (
    admit,
    claim,
    load_encoder,
    part_done,
    read_job_rows,
    refuse_small_disk,
    save_encoder,
    sweep,
    write_manifest,
    write_part,
)

if TYPE_CHECKING:
    from causalsat.raster.dates import Dates
    from causalsat.study.embeddings import Embeddings


def embed(
    rasters: Any,
    places: Any,
    *,
    embedding_key: str | None = None,
    coords: tuple[str, str] = ("longitude", "latitude"),
    encoder: Any = "rcf",
    size_m: float,
    gsd_m: float | None = None,
    grid: Any = "auto",
    align: str = "snap",
    resampling: str = "auto",
    bands: Any = None,
    dates: "Dates | None" = None,
    normalise: Normalise | None = None,
    min_valid_frac: float = 0.5,
    mask_rule: str = "all",
    out: str | Path | None = None,
    resume: bool = True,
    batch_size: int | None = None,
    threads: int | None = None,
    on_error: str = "raise",
    progress: Progress = None,
    allow_post_treatment: bool = False,
    image_date: Any = None,
    shard_rows: int = 4096,
    seed: int = 0,
) -> "Embeddings":
    """Read one square chip per place and turn it into a vector.

    Nothing is estimated from outcomes or treatments: an encoder sees pixels only. Each place gives exactly one row, in
    the order given; where there is no usable chip the vector is NaN and ``status`` says why. Frames at or after a dated
    treatment are left out, because an image that shows the treatment's results is a bad control.

    Parameters
    ----------
    rasters : path, list, glob, folder, keyed template ("chips/{site}.tif"), mapping, table or (array, transform, crs)
        The imagery.
    places : GeoDataFrame, data frame, mapping of columns, or path
        One row per place; ``embedding_key`` names the column of ids, ``coords`` those of longitude and latitude in
        degrees (WGS84).
    encoder : {"rcf", "bands"}, encoder, callable, or a list of these
        Vectors of a list are joined.
    size_m, gsd_m : float
        Side of the chip and step of its pixels, metres; ``gsd_m`` defaults to the rasters' own step.
    grid, align, resampling, bands, dates, mask_rule, image_date
        See :func:`causalsat.raster.plan.make_plan` and :func:`causalsat.raster.sources.open_sources`.
    normalise : Normalise, optional
        Default: uint8 / 255, floats as they are; other integers need a declared divisor.
    min_valid_frac : float
        Least share of valid pixels of a chip that is encoded.
    out : path, optional
        Folder of the job (Parquet parts, encoder, manifest). A killed job resumes there to the same bytes. None: in
        memory.
    batch_size : int, optional
        Chips per encoder call, at least 2; part of the numerics of a job. Default 32 up to 64 pixels, 8 above.
    threads : int, optional
        Reader threads.
    on_error : {"raise", "record"}
        A file that cannot be read raises, or gives the status ``read_error``. Resumed with "raise", parts that hold
        ``read_error`` are made again.
    progress : bool or callable, optional
        Bar on a terminal by default; a callable receives events.
    shard_rows : int
        Places per part.
    seed : int
        Names the fit sample and, for ``encoder="rcf"``, the filters.

    Returns
    -------
    Embeddings
        ids (J,), matrix (J, d) float32, status (J,), valid_frac (J,), footprints, hashes of chips, provenance.

    Raises
    ------
    OptionError
        Unknown option, integers without a divisor, a batch of one.
    DataError
        Most places off the rasters, another job in ``out``, a folder in use, a full disk.
    RasterReadError
        A corrupt file, with file, window and place.

    Examples
    --------
    >>> import numpy as np
    >>> from rasterio.transform import from_origin
    >>> import causalsat as cs
    >>> image = np.arange(3 * 40 * 40, dtype=np.uint8).reshape(3, 40, 40)
    >>> sites = {"site": ["a", "b"], "longitude": [33.001, 33.002], "latitude": [0.9, 0.901]}
    >>> source = (image, from_origin(5e5, 1e5, 30, 30), "EPSG:32636")
    >>> cs.embed(source, sites, embedding_key="site", encoder="bands", size_m=300).matrix.shape
    (2, 21)
    """
    one_of("on_error", on_error, ("raise", "record"))
    number("min_valid_frac", min_valid_frac, 0.0, 1.0, open_ends=False)
    chosen = as_encoder(encoder, count("seed", seed, 0))
    _refuse_unresumable(chosen, out)
    with collected_warnings() as notes:
        work = prepare(
            rasters, places, embedding_key=embedding_key, coords=coords, encoder=chosen, size_m=size_m, gsd_m=gsd_m,
            grid=grid, align=align, resampling=resampling, bands=bands, dates=dates, normalise=normalise,
            min_valid_frac=min_valid_frac, mask_rule=mask_rule, batch_size=batch_size, threads=threads,
            on_error=on_error, allow_post_treatment=allow_post_treatment, image_date=image_date, shard_rows=shard_rows,
            seed=seed,
        )  # fmt: skip
        if out is None:
            rows, provenance = _in_memory(work, progress)
        else:
            call = {"embedding_key": embedding_key, "coords": list(coords), "image_date": _plain(image_date)}
            call["dates"] = None if dates is None else dataclasses.asdict(dates)
            rows, provenance = _in_folder(work, Path(out), call | {"rasters": _where(rasters)}, resume, progress)
        _warn_coverage(rows)
        return _embeddings(rows, provenance, notes)


def _in_memory(work: Work, progress: Progress) -> tuple[ShardRows, dict[str, Any]]:
    fitted = fit(work)
    bar = progress_bar(len(work.places), "embed", progress)
    try:
        shards = [rows for _, rows in encode_shards(work, fitted, range(len(work.plan.shards)), bar.update)]
    finally:
        bar.close()
    return ShardRows.concat(shards).ordered(), provenance_of(work, fitted)


def _in_folder(
    work: Work, folder: Path, context: dict[str, Any], resume: bool, progress: Progress
) -> tuple[ShardRows, dict[str, Any]]:
    claim(folder, resume=resume)
    with folder_lock(folder) as beat:
        sweep(folder)
        admit(folder, work.request, context | {"created": _now()})
        fitted = _saved_or_fitted(work, folder)
        provenance = provenance_of(work, fitted)
        job, plan = provenance["job_id"], work.plan
        missing = [
            i for i, rows in enumerate(plan.shards)
            if not part_done(folder, i, len(rows), job, keep_errors=work.keep_errors)
        ]  # fmt: skip
        left = sum(len(plan.shards[i]) for i in missing)
        refuse_small_disk(folder, left, len(fitted.encoder.feature_names))
        _write_missing(work, folder, fitted, missing, provenance, _ticker(left, beat, progress))
        rows = read_job_rows(folder, len(plan.shards))
        write_manifest(folder, job, len(plan.shards), {"n_rows": len(rows), "rows": row_facts(rows)})
    return rows, provenance


def _write_missing(
    work: Work, folder: Path, fitted: Fitted, missing: Sequence[int], provenance: dict[str, Any],
    tick: tuple[Callable[[int], None], Callable[[], Any]],
) -> None:  # fmt: skip
    # A part that is about to be made again makes the job unfinished, whatever an old manifest says.
    if missing:
        (folder / "manifest.json").unlink(missing_ok=True)
    update, close = tick
    try:
        for shard, rows in encode_shards(work, fitted, missing, update):
            write_part(folder, shard, rows, provenance)
    finally:
        close()


def _ticker(
    total: int, beat: Callable[[], None], progress: Progress
) -> tuple[Callable[[int], None], Callable[[], Any]]:
    bar = progress_bar(total, "embed", progress)

    def update(n: int) -> None:
        beat()
        bar.update(n)

    return update, bar.close


def _saved_or_fitted(work: Work, folder: Path) -> Fitted:
    saved = load_encoder(folder, work.encoder)
    if saved is not None:
        return Fitted(*saved)
    fitted = fit(work)
    save_encoder(folder, work.encoder, fitted.encoder, fitted.normaliser)
    return fitted


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _where(rasters: Any) -> Any:
    """Absolute paths for ``job.json`` (never in a part); None for what is not paths."""
    if isinstance(rasters, str | Path):
        return str(Path(rasters).absolute())
    if isinstance(rasters, dict):
        return {str(key): str(Path(path).absolute()) for key, path in rasters.items()}
    if isinstance(rasters, list) and all(isinstance(path, str | Path) for path in rasters):
        return [str(Path(path).absolute()) for path in rasters]
    return None


def _plain(image_date: Any) -> Any:
    if isinstance(image_date, dict):
        return {str(name): str(value) for name, value in image_date.items()}
    return None if image_date is None else str(image_date)


def _refuse_unresumable(encoder: Encoder, out: str | Path | None) -> None:
    if out is not None and unnamed_callables(encoder) and (Path(out) / "job.json").exists():
        raise OptionError(
            "encoder is a function without name and version, and its code cannot be hashed: the job in "
            f"out={str(out)!r} cannot be resumed with it. Use "
            "CallableEncoder(function, name=..., version=...) and a new folder."
        )


def _warn_coverage(rows: ShardRows) -> None:
    names, counts = np.unique(rows.status, return_counts=True)
    lost = {str(name): int(n) for name, n in zip(names, counts) if name not in USABLE}
    if lost:
        listed = ", ".join(f"{name}: {n}" for name, n in lost.items())
        example = rows.unit_id[~np.isin(rows.status, USABLE)][0]
        warn(
            f"{sum(lost.values())} of {len(rows)} places have no vector ({listed}), for example {str(example)!r}; "
            "their rows are NaN and their status says why.",
            RasterCoverageWarning,
        )


def _embeddings(rows: ShardRows, provenance: dict[str, Any], notes: list[str]) -> "Embeddings":
    from causalsat.study.embeddings import Embeddings

    table = Embeddings(
        ids=rows.unit_id,
        matrix=rows.embedding,
        feature_names=tuple(provenance["feature_names"]),
        status=rows.status,
        valid_frac=rows.valid_frac,
        lonlat=rows.lonlat,
        footprint=rows.bounds,
        footprint_crs=rows.chip_crs,
        chip_sha256=rows.chip_sha256,
        image_date=rows.date,
        provenance=provenance | {"rows": row_facts(rows), "warnings": list(notes)},
    )
    facts = describe(table)
    if facts["constant"]:
        warn("All places have the same vector: the embedding cannot adjust for anything.", EmbeddingQualityWarning)
    elif facts["dead_features"]:
        warn(
            f"{facts['dead_features']} of {facts['n_features']} features do not vary between places.",
            EmbeddingQualityWarning,
        )
    table.provenance.update({"diagnostics": facts, "warnings": list(notes)})
    return table
