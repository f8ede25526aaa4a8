"""A study file (TOML) becomes a frozen, fully resolved `RunConfig`: defaults < file < ``--set``."""

import dataclasses
import importlib
import inspect
import os
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import causalsat
from causalsat.errors import OptionError, nearest, one_of

METHODS = {
    "image_ate": "causalsat.estimators.image_ate",
    "drive": "causalsat.estimators.drive",
    "r3d": "causalsat.estimators.r3d",
}
PREFLIGHTS = {
    "image_ate": "causalsat.estimators.ate_preflight",
    "drive": "causalsat.estimators.drive_preflight",
    "r3d": "causalsat.estimators.r3d_preflight",
}
OPTION_CLASSES = {
    "folds": "Folds",
    "nuisance_folds": "Folds",
    "eligibility": "Eligibility",
    "exposure": "Exposure",
    "normalise": "Normalise",
    "dates": "Dates",
    "covariance": "Sandwich",
    "options": "DriveOptions",
    "bandwidth": "Bandwidth",
    "bandwidth_treatment": "Bandwidth",
}
STUDY_KEYS = {"title", "table", "embeddings"}
DATA_ARGUMENTS = {"data", "embeddings", "progress"}
ENCODERS = {"rcf": "Rcf", "bands": "Bands"}
PLACES_OF_TABLE = "of the table"


@dataclass(frozen=True)
class RunConfig:
    """A study, resolved.

    Attributes
    ----------
    path : Path
        The study file; every relative path inside it is relative to its folder.
    title : str
        Title of the report.
    table : Path
        Table with one row per unit of observation.
    embeddings : Path or None
        Embeddings made earlier (instead of an ``[embed]`` block).
    embed : dict or None
        Arguments of `causalsat.embed`.
    methods : dict of str to dict
        One entry per method block, with every argument of the verb.
    """

    path: Path
    title: str
    table: Path
    embeddings: Path | None = None
    embed: dict[str, Any] | None = None
    methods: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """The folder of the study file."""
        return self.path.parent

    def to_toml(self) -> str:
        """The study file with every default written out."""
        import tomli_w

        study = {"title": self.title, "table": str(self.table)}
        if self.embeddings is not None:
            study["embeddings"] = str(self.embeddings)
        document: dict[str, Any] = {"study": study}
        if self.embed is not None:
            document["embed"] = self.embed
        document.update(self.methods)
        return tomli_w.dumps(plain(document))


def plain(value: Any) -> Any:
    """TOML has no null: an option left at None is left out."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items() if v is not None}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain({f.name: getattr(value, f.name) for f in dataclasses.fields(value)})
    return value if isinstance(value, bool | int | float | str) else str(value)


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a study file and apply ``key=value`` overrides.

    Parameters
    ----------
    path : str or Path
        The study file.
    overrides : sequence of str
        ``section.key=value``; the value is read as TOML, else as text.

    Raises
    ------
    OptionError
        The file is absent or not TOML, or names a section, key or method that does not exist.

    Examples
    --------
    >>> load_config("study.toml", ["image_ate.level=0.9"])  # doctest: +SKIP
    """
    path = Path(path)
    if not path.is_file():
        raise OptionError(f"There is no study file {path}; `causalsat demo` writes one to start from.")
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise OptionError(f"{path} is not valid TOML: {error}.") from error
    for text in overrides:
        _override(document, text)
    return resolve(path, expanded(document))


def data_folder() -> Path:
    """The folder of shared data: the environment variable CAUSALSAT_DATA, else ``causalsat`` in the user's cache."""
    named = os.environ.get("CAUSALSAT_DATA")
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "causalsat"


def expanded(value: Any) -> Any:
    """``$CAUSALSAT_DATA`` in any text of a study file becomes the data folder."""
    if isinstance(value, Mapping):
        return {key: expanded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [expanded(item) for item in value]
    return value.replace("$CAUSALSAT_DATA", str(data_folder().absolute())) if isinstance(value, str) else value


def resolve(path: Path, document: Mapping[str, Any]) -> RunConfig:
    """Check the sections of a parsed study file and fill in every default."""
    sections = {"study", "embed", *METHODS}
    for name, value in document.items():
        if name not in sections:
            allowed = ", ".join(f"[{s}]" for s in sorted(sections))
            raise OptionError(f"{path} has a section [{name}]; allowed: {allowed}.{nearest(name, sections)}")
        if not isinstance(value, Mapping):
            raise OptionError(f"{path}: {name} must be a section, [{name}].")
    study = dict(document.get("study", {}))
    _only(f"{path} [study]", study, STUDY_KEYS)
    if "table" not in study:
        raise OptionError(f'{path}: [study] needs table = "...", the file with one row per unit of observation.')
    methods = {name: _arguments(path, name, document[name], verb_of(name)) for name in METHODS if name in document}
    if not methods:
        raise OptionError(f"{path} names no method; add a section: {', '.join(f'[{m}]' for m in METHODS)}.")
    embed = document.get("embed")
    if embed is not None and "embeddings" in study:
        raise OptionError(f"{path}: [study] embeddings = ... and [embed] exclude each other; keep one.")
    return RunConfig(
        path=path,
        title=str(study.get("title", path.stem)),
        table=Path(study["table"]),
        embeddings=Path(study["embeddings"]) if "embeddings" in study else None,
        embed=None if embed is None else _embed_arguments(path, embed, document),
        methods=methods,
    )


def verb_of(method: str) -> Callable[..., Any]:
    """The public function of a method."""
    one_of("method", method, METHODS)
    verb: Callable[..., Any] = getattr(importlib.import_module(METHODS[method]), method)
    return verb


def preflight_of(method: str) -> Callable[..., None]:
    """What a method can refuse on the table alone, before there are images."""
    check: Callable[..., None] = importlib.import_module(PREFLIGHTS[method]).preflight
    return check


def call_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a verb with tables turned into its option classes."""
    return {name: _built(name, value) for name, value in arguments.items()}


def _embed_arguments(path: Path, block: Mapping[str, Any], document: Mapping[str, Any]) -> dict[str, Any]:
    given = dict(block)
    given.setdefault("out", "embeddings")
    given.setdefault("places", PLACES_OF_TABLE)
    if "embedding_key" not in given:
        keys = {str(document[m]["embedding_key"]) for m in METHODS if "embedding_key" in document.get(m, {})}
        if len(keys) == 1:
            given["embedding_key"] = keys.pop()
    arguments = _arguments(path, "embed", given, causalsat.embed)
    for needed in ("rasters", "size_m"):
        if arguments.get(needed) is None:
            raise OptionError(f"{path}: [embed] needs {needed}.")
    return arguments


def _arguments(path: Path, section: str, block: Mapping[str, Any], verb: Callable[..., Any]) -> dict[str, Any]:
    parameters = inspect.signature(verb).parameters
    _only(f"{path} [{section}]", block, set(parameters) - DATA_ARGUMENTS)
    resolved = {n: p.default for n, p in parameters.items() if p.default is not p.empty and n not in DATA_ARGUMENTS}
    resolved.update(block)
    absent = [
        n for n, p in parameters.items() if p.default is p.empty and n not in resolved and n not in DATA_ARGUMENTS
    ]
    if absent:
        raise OptionError(f"{path}: [{section}] needs {', '.join(absent)}.")
    for name, value in resolved.items():
        _built(name, value)
    return resolved


def _only(where: str, block: Mapping[str, Any], allowed: set[str]) -> None:
    for key in block:
        if key not in allowed:
            raise OptionError(f"{where} has {key!r}; allowed: {', '.join(sorted(allowed))}.{nearest(key, allowed)}")


def _built(name: str, value: Any) -> Any:
    """An option class from its table: ``folds = {n = 5}``, ``inference = {type = "bootstrap", n = 999}``."""
    if name == "folds" and value is False:
        return None
    if name in OPTION_CLASSES:
        return _instance(name, getattr(causalsat, OPTION_CLASSES[name]), value)
    if name == "encoder":
        return [_encoder(item) for item in value] if isinstance(value, list) else _encoder(value)
    if name == "inference" and isinstance(value, Mapping):
        fields = dict(value)
        kind = one_of("inference.type", fields.pop("type", None), ("bootstrap", "sandwich"))
        return _instance("inference", causalsat.Bootstrap if kind == "bootstrap" else causalsat.Sandwich, fields)
    return value


def _encoder(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    fields = dict(value)
    name = one_of("encoder.name", fields.pop("name", None), ENCODERS)
    return _instance("encoder", getattr(causalsat, ENCODERS[name]), fields)


def _instance(name: str, cls: type, value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    _only(name, value, set(inspect.signature(cls).parameters))
    return cls(**{k: tuple(v) if isinstance(v, list) else _built(k, v) for k, v in value.items()})


def _override(document: dict[str, Any], text: str) -> None:
    key, equals, value = text.partition("=")
    parts = key.strip().split(".")
    if not equals or len(parts) < 2 or not all(parts):
        raise OptionError(f"--set {text!r} must be section.key=value, for example image_ate.level=0.9.")
    try:
        parsed = tomllib.loads(f"value = {value.strip()}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()
    block: Any = document
    for part in parts[:-1]:
        block = block.setdefault(part, {})
        if not isinstance(block, dict):
            raise OptionError(f"--set {text!r}: {part} is not a section.")
    block[parts[-1]] = parsed
