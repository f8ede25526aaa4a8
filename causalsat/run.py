"""From a study file to a folder of results: embed, fit, write, whole or not at all."""

import inspect
import json
import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import causalsat
from causalsat.config import (
    METHODS,
    PLACES_OF_TABLE,
    RunConfig,
    call_arguments,
    load_config,
    plain,
    preflight_of,
    verb_of,
)
from causalsat.effects.report import write_report
from causalsat.effects.table import EffectTable
from causalsat.errors import DataError, OptionError, collected_warnings
from causalsat.files import whole_file, whole_folder
from causalsat.interop.r import plain as builtins_only
from causalsat.progress import Progress

logger = logging.getLogger("causalsat")
COLUMN_ROLES = (
    "outcome", "treatment", "instruments", "covariates", "fixed_effects", "embedding_key", "weights", "cluster", "time",
    "running", "unit", "unit_weights",
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """What `run_study` wrote.

    Attributes
    ----------
    out : Path
        The folder of results.
    results : dict of str to result
        The result object of every method, with its table and checks.
    """

    out: Path
    results: dict[str, Any]


def run_study(
    path: str | Path,
    *,
    overrides: Sequence[str] = (),
    out: str | Path | None = None,
    progress: Progress = None,
) -> Run:
    """Run a study file and write its results into a fresh folder.

    Parameters
    ----------
    path : str or Path
        Study file (TOML).
    overrides : sequence of str
        ``section.key=value`` settings that win over the file.
    out : str or Path, optional
        Folder to create; it must not exist. None: ``results-001`` beside the study file, or the next free number.
    progress : bool or callable, optional
        Progress bars.

    Returns
    -------
    Run
        The folder, and the results by method.

    Raises
    ------
    OptionError, DataError, NumericalError
        Nothing is written then.

    Examples
    --------
    >>> run_study("study.toml")  # doctest: +SKIP
    """
    config = load_config(path, overrides)
    target = Path(out) if out is not None else _next_folder(config.folder)
    if target.exists():
        raise OptionError(f"--out {target} exists already; results go into a fresh folder.")
    validate_study(config)
    started = time.perf_counter()
    with collected_warnings() as notes:
        embeddings = study_embeddings(config, progress)
        results = {name: fit(config, name, embeddings, progress) for name in config.methods}
    meta = _run_meta(config, results, embeddings, notes, time.perf_counter() - started)
    with whole_folder(target) as folder:
        write_results(folder, target, config, results, meta)
    return Run(target, results)


def fit(config: RunConfig, method: str, embeddings: Any, progress: Progress) -> Any:
    """Call the verb of one method on the study's table."""
    arguments = call_arguments(config.methods[method])
    logger.info("fitting %s", method)
    verb = verb_of(method)
    if "embeddings" in inspect.signature(verb).parameters:
        arguments["embeddings"] = embeddings
    return verb(config.folder / config.table, progress=progress, **arguments)


def study_embeddings(config: RunConfig, progress: Progress) -> Any:
    """The study's embeddings: made by the ``[embed]`` block, read from a path, or None."""
    if config.embeddings is not None:
        return causalsat.Embeddings.read(config.folder / config.embeddings)
    if config.embed is None:
        return None
    arguments = call_arguments(config.embed)
    rasters, places = _beside(config.folder, arguments.pop("rasters")), study_places(config)
    arguments.pop("places")
    arguments["out"] = config.folder / arguments["out"]
    logger.info("embedding %s into %s", config.embed["rasters"], arguments["out"])
    return causalsat.embed(rasters, places, progress=progress, **arguments)


def study_places(config: RunConfig) -> Any:
    """The file of places of the ``[embed]`` block, or the distinct keys and coordinates of the table itself.

    Raises
    ------
    DataError
        A key of the table stands at two places.
    """
    from causalsat.study.frame import read_frame

    embed = config.embed or {}
    if embed["places"] != PLACES_OF_TABLE:
        return config.folder / embed["places"]
    key, coords = embed["embedding_key"], tuple(embed["coords"])
    if key is None:
        raise OptionError("[embed] needs places, or embedding_key to take the places from the table.")
    frame = read_frame(config.folder / config.table)
    codes, labels = frame.column(key, "embedding_key").codes("embedding_key")
    degrees = np.stack([frame.column(name, "coords").numbers("coords") for name in coords], axis=1)
    first = np.unique(codes, return_index=True)[1]
    first = first[codes[first] >= 0]
    own = degrees[first][codes]
    moved = (codes >= 0) & (np.abs(own - degrees).max(axis=1) > 1e-9)
    if moved.any():
        where = labels[codes[np.argmax(moved)]]
        raise DataError(f"embedding_key {key!r}: {where} stands at several places in the table; give a file of places.")
    return {key: labels.astype(str), coords[0]: degrees[first, 0], coords[1]: degrees[first, 1]}


def validate_study(config: RunConfig) -> dict[str, Any]:
    """Check all that can be checked before heavy work: files, columns, rasters, the plan of the embedding.

    Returns
    -------
    dict
        ``table`` (rows and columns) and, with an ``[embed]`` block, ``embed`` (the plan's counts).
    """
    from causalsat.study.frame import read_frame

    table = config.folder / config.table
    frame = read_frame(table)
    found: dict[str, Any] = {"table": {"rows": frame.n, "columns": list(frame.names)}}
    for method, arguments in config.methods.items():
        _check_columns(method, arguments, frame.names)
        given = call_arguments(arguments)
        if config.embed is not None or config.embeddings is not None:
            given["embeddings"] = config.embeddings or config.embed
        preflight_of(method)(verb_of(method), table, given)
    if config.embed is not None:
        found["embed"] = embed_plan(config).describe()
    if config.embeddings is not None and not (config.folder / config.embeddings).exists():
        raise DataError(f"[study] embeddings = {str(config.embeddings)!r} is not there (looked in {config.folder}).")
    return found


def embed_plan(config: RunConfig) -> Any:
    """The plan of the ``[embed]`` block; reads headers, no pixels."""
    from causalsat.raster.places import read_places
    from causalsat.raster.plan import make_plan
    from causalsat.raster.sources import open_sources

    a = call_arguments(config.embed or {})
    places = read_places(
        study_places(config), embedding_key=a["embedding_key"], coords=tuple(a["coords"]), dates=a["dates"]
    )
    sources = open_sources(
        _beside(config.folder, a["rasters"]), bands=a["bands"], dates=a["dates"], image_date=a["image_date"]
    )
    names = ("size_m", "gsd_m", "grid", "align", "resampling", "bands", "dates", "mask_rule", "allow_post_treatment")
    return make_plan(places, sources, **{n: a[n] for n in names})


def write_results(
    folder: Path, target: Path, config: RunConfig, results: Mapping[str, Any], meta: Mapping[str, Any]
) -> None:
    """Write effects, checks, report and configuration into ``folder``, which will be renamed to ``target``."""
    for name, result in results.items():
        stem = "effects" if len(results) == 1 else f"effects-{name}"
        result.table.write(folder / f"{stem}.parquet")
        result.table.to_csv(folder / f"{stem}.csv")
        _text(folder / f"{stem}.md", result.table.to_markdown())
        _text(folder / f"{stem}.tex", result.table.to_latex())
    write_report(
        folder / "report.html",
        title=config.title,
        sections={name: result.table for name, result in results.items()},
        checks=[check for result in results.values() for check in result.checks],
        provenance=meta["provenance"],
        figures={name: table_figure(result.table) for name, result in results.items()},
    )
    _text(folder / "meta.json", json.dumps(meta, indent=2, allow_nan=True) + "\n")
    _text(folder / "config.toml", relocated(config, target).to_toml())


def table_figure(table: EffectTable) -> Any:
    """The figure of a table in a report: its effects, without sets that have no point estimate."""
    from causalsat.effects.plots import plot_table

    main = table.where(term="effect" if "effect" in table["term"] else str(table["term"][0]))
    shown = np.isfinite(main["estimate"]) | np.isnan(main["conf_low"])
    return plot_table(main.take(np.flatnonzero(shown)) if shown.any() else main)


def rebuild_report(folder: str | Path) -> Path:
    """Write ``report.html`` of a results folder again from its tables and ``meta.json``."""
    from causalsat.checks.result import CheckResult

    folder = Path(folder)
    if not (folder / "meta.json").is_file():
        raise DataError(f"{folder} holds no meta.json; it is not a results folder of `causalsat run`.")
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    stems = {m: "effects" if len(meta["methods"]) == 1 else f"effects-{m}" for m in meta["methods"]}
    tables = {name: EffectTable.read(folder / f"{stem}.parquet") for name, stem in stems.items()}
    write_report(
        folder / "report.html",
        title=meta["title"],
        sections=tables,
        checks=[CheckResult(**({"passed": None} | check)) for check in meta["checks"]],
        provenance=meta["provenance"],
        figures={name: table_figure(table) for name, table in tables.items()},
    )
    return folder / "report.html"


def relocated(config: RunConfig, target: Path) -> RunConfig:
    """The configuration with its paths relative to the results folder, so that it runs again from there."""

    def moved(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {k: moved(v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [moved(v) for v in value]
        return os.path.relpath(config.folder / str(value), target).replace(os.sep, "/")

    embed = None
    if config.embed is not None:
        own = ("rasters", "out") if config.embed["places"] == PLACES_OF_TABLE else ("rasters", "places", "out")
        paths = {name: moved(config.embed[name]) for name in own}
        embed = {**config.embed, **paths}
    stored = None if config.embeddings is None else Path(moved(config.embeddings))
    return replace(config, table=Path(moved(config.table)), embeddings=stored, embed=embed)


def _run_meta(
    config: RunConfig, results: Mapping[str, Any], embeddings: Any, notes: list[str], seconds: float
) -> dict[str, Any]:
    provenance: dict[str, Any] = {"causalsat": causalsat.__version__, "seconds": round(seconds, 3)}
    if embeddings is not None:
        provenance["embeddings"] = embeddings.provenance
    meta: dict[str, Any] = builtins_only(
        {
            "title": config.title,
            "methods": list(results),
            "tables": {name: result.table.meta for name, result in results.items()},
            "checks": [plain(check) for result in results.values() for check in result.checks],
            "warnings": notes,
            "provenance": provenance,
        }
    )
    return meta


def _check_columns(method: str, arguments: Mapping[str, Any], columns: Sequence[str]) -> None:
    from causalsat.errors import nearest

    for role in COLUMN_ROLES:
        value = arguments.get(role)
        for name in [value] if isinstance(value, str) else list(value or ()):
            if name not in columns:
                raise DataError(
                    f"[{method}] {role} = {name!r} is not a column of the table; it has {', '.join(columns)}."
                    f"{nearest(name, columns)}"
                )


def _beside(folder: Path, rasters: Any) -> Any:
    if isinstance(rasters, str):
        return str(folder / rasters)
    if isinstance(rasters, Mapping):
        return {key: str(folder / value) for key, value in rasters.items()}
    return [str(folder / item) for item in rasters]


def _next_folder(folder: Path) -> Path:
    number = 1
    while (folder / f"results-{number:03d}").exists():
        number += 1
    return folder / f"results-{number:03d}"


def _text(path: Path, text: str) -> None:
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def method_card(method: str) -> str:
    """The documentation of a method, as `causalsat describe` prints it."""
    verb = verb_of(method)
    return f"{method}{inspect.signature(verb)}\n\n{inspect.getdoc(verb)}\n"


def method_names() -> list[str]:
    """The methods that a study file may name."""
    return list(METHODS)
