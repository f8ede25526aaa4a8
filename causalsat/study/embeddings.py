"""`causalsat.Embeddings`: one vector per image, with what is known about the image."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from causalsat.errors import DataError, OptionError, nearest
from causalsat.public import public

if TYPE_CHECKING:
    import pandas as pd

STATUSES = (
    "ok",
    "partial",
    "low_valid",
    "all_nodata",
    "off_raster",
    "bad_place",
    "no_frame",
    "post_treatment",
    "read_error",
)
USABLE = ("ok", "partial")
_OPTIONAL = ("lonlat", "footprint", "footprint_crs", "chip_sha256", "image_date")


@public
@dataclass(frozen=True, eq=False, repr=False)
class Embeddings:
    """Image embeddings and what is known about each image; J images, d features.

    Attributes
    ----------
    ids : ndarray (J,) str
        Names that the study's ``embedding_key`` column refers to.
    matrix : ndarray (J, d) float32
        One vector per image; NaN rows where ``status`` is neither "ok" nor "partial".
    feature_names : tuple of str
        d names.
    status : ndarray (J,) str
        "ok", "partial", or why there is no vector: "low_valid", "all_nodata", "off_raster", "bad_place", "no_frame",
        "post_treatment", "read_error".
    valid_frac : ndarray (J,) float32
        Share of valid pixels; NaN unknown.
    lonlat : ndarray (J, 2) float64, optional
        Centre in degrees WGS84; NaN unknown.
    footprint : ndarray (J, 4) float64, optional
        minx, miny, maxx, maxy of the chip in ``footprint_crs``; NaN unknown.
    footprint_crs : ndarray (J,) str, optional
        For example "EPSG:32636"; "" unknown.
    chip_sha256 : ndarray (J,) str, optional
        Hash of pixels and mask: equal hashes are identical chips; "" unknown.
    image_date : ndarray (J,) datetime64[D], optional
        Date of the latest frame; NaT unknown.
    provenance : dict
        Plain JSON: encoder, sources, versions.

    Raises
    ------
    DataError
        Fields of different lengths, unknown statuses, infinite values, a footprint without its coordinate system.
    """

    ids: np.ndarray
    matrix: np.ndarray
    feature_names: tuple[str, ...]
    status: np.ndarray
    valid_frac: np.ndarray
    lonlat: np.ndarray | None = None
    footprint: np.ndarray | None = None
    footprint_crs: np.ndarray | None = None
    chip_sha256: np.ndarray | None = None
    image_date: np.ndarray | None = None
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value in _typed(self).items():
            object.__setattr__(self, name, value)
        _refuse_mismatch(self)

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        usable = int(self.usable.sum())
        return f"Embeddings({len(self)} images, {self.d} features, {usable} usable)"

    @property
    def d(self) -> int:
        """Number of features."""
        return int(self.matrix.shape[1])

    @property
    def usable(self) -> np.ndarray:
        """Which images have a vector: (J,) bool."""
        return np.isin(self.status, USABLE) & np.isfinite(self.matrix).all(axis=1)

    @classmethod
    def from_matrix(
        cls,
        matrix: Any,
        ids: Any = None,
        *,
        feature_names: Sequence[str] | None = None,
        status: Any = None,
        valid_frac: Any = None,
        lonlat: Any = None,
        footprint: Any = None,
        footprint_crs: Any = None,
        chip_sha256: Any = None,
        image_date: Any = None,
        provenance: dict[str, Any] | None = None,
    ) -> "Embeddings":
        """Embeddings from vectors computed elsewhere.

        Parameters
        ----------
        matrix : array (J, d)
            One vector per image, cast to float32. A row that is all NaN gets the status "all_nodata", a row with some
            NaN "low_valid" and a vector of NaN.
        ids : sequence (J,), optional
            Names; whole numbers are written without a decimal point. None: "0", "1", ...
        feature_names : sequence of str, optional
            None: "e0", "e1", ...
        status, valid_frac, lonlat, footprint, footprint_crs, chip_sha256, image_date, provenance
            As the attributes; one coordinate system may be given for all footprints.

        Raises
        ------
        DataError
            Not a matrix of numbers, infinite values, lengths that differ.

        Examples
        --------
        >>> import causalsat as cs
        >>> cs.Embeddings.from_matrix([[1.0, 2.0], [3.0, 4.0]], ids=["a", "b"])
        Embeddings(2 images, 2 features, 2 usable)
        """
        vectors = vectors_of(matrix, "matrix")
        n, d = vectors.shape
        missing = np.isnan(vectors)
        found = np.where(missing.all(axis=1) & (d > 0), "all_nodata", np.where(missing.any(axis=1), "low_valid", "ok"))
        state = found if status is None else np.asarray(status).astype(str)
        if isinstance(footprint_crs, str):
            footprint_crs = np.full(n, footprint_crs)
        if missing.any():
            vectors = np.where(missing.any(axis=1)[:, None], np.float32(np.nan), vectors)
        return cls(
            ids=np.arange(n).astype(str) if ids is None else texts_of(ids, "ids"),
            matrix=vectors,
            feature_names=tuple(f"e{j}" for j in range(d)) if feature_names is None else tuple(feature_names),
            status=state,
            valid_frac=np.full(n, np.nan, np.float32) if valid_frac is None else valid_frac,
            lonlat=lonlat,
            footprint=footprint,
            footprint_crs=footprint_crs,
            chip_sha256=chip_sha256,
            image_date=image_date,
            provenance={} if provenance is None else dict(provenance),
        )

    def align(self, keys: Any) -> np.ndarray:
        """Position of each key among the images.

        Parameters
        ----------
        keys : sequence (n,)
            Ids as text or whole numbers.

        Returns
        -------
        ndarray (n,) int64
            -1 where no image has that id.

        Raises
        ------
        DataError
            An id names several images, so the join is ambiguous.
        """
        wanted = texts_of(keys, "keys")
        where = {name: j for j, name in enumerate(self.ids.tolist())}
        if len(where) < len(self):
            names, times = np.unique(self.ids, return_counts=True)
            raise DataError(
                f"embeddings holds {int((times > 1).sum())} ids more than once, for example "
                f"{str(names[times > 1][0])!r}; a row cannot tell which image is meant. Keep one image per id "
                "(one date, one draw) with Embeddings.take."
            )
        return np.fromiter((where.get(key, -1) for key in wanted.tolist()), np.int64, len(wanted))

    def take(self, positions: Any) -> "Embeddings":
        """The images at ``positions`` (m,), in that order."""
        at = np.asarray(positions, dtype=np.int64)
        if len(at) == len(self) and np.array_equal(at, np.arange(len(self))):
            return self
        optional = {name: None if getattr(self, name) is None else getattr(self, name)[at] for name in _OPTIONAL}
        return Embeddings(
            ids=self.ids[at],
            matrix=self.matrix[at],
            feature_names=self.feature_names,
            status=self.status[at],
            valid_frac=self.valid_frac[at],
            provenance=self.provenance,
            **optional,
        )

    def write(self, path: str | Path) -> None:
        """Write one Parquet file (GeoParquet points) that :meth:`read` gives back exactly.

        Parameters
        ----------
        path : str or Path
            File to write; it appears whole or not at all.
        """
        from causalsat.study.embedding_files import write_embeddings

        write_embeddings(self, Path(path))

    @classmethod
    def read(cls, path: str | Path, *, partial: bool = False) -> "Embeddings":
        """Read a file written by :meth:`write`, or the folder of an embedding job.

        Parameters
        ----------
        path : str or Path
            A Parquet file or a job folder.
        partial : bool
            Accept a job that is not finished: the images that are done.

        Raises
        ------
        UnfinishedJobError
            The job has no manifest yet and ``partial`` is false.
        DataError
            Nothing there, or not embeddings.
        """
        from causalsat.study.embedding_files import read_embeddings

        return read_embeddings(Path(path), partial=partial)

    def to_wide(self) -> "pd.DataFrame":
        """One row per image: ``unit_id, status, valid_frac, longitude, latitude``, then one column per feature."""
        import pandas as pd

        lonlat = np.full((len(self), 2), np.nan) if self.lonlat is None else self.lonlat
        about = pd.DataFrame(
            {
                "unit_id": self.ids.astype(object),
                "status": self.status.astype(object),
                "valid_frac": self.valid_frac,
                "longitude": lonlat[:, 0],
                "latitude": lonlat[:, 1],
            }
        )
        return pd.concat([about, pd.DataFrame(self.matrix, columns=list(self.feature_names))], axis=1)


def vectors_of(matrix: Any, argument: str) -> np.ndarray:
    """A matrix of numbers as C-ordered float32 (J, d), all finite or NaN (raises DataError)."""
    try:
        numbers = np.asarray(matrix)
        if numbers.dtype.kind not in "fiub":
            numbers = numbers.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{argument} is not a matrix of numbers ({error}); give one row of numbers per image."
        ) from error
    if numbers.ndim != 2:
        raise DataError(
            f"{argument} has shape {numbers.shape}; it must have two dimensions, one row per image and one column per "
            "feature. For one feature write matrix[:, None]."
        )
    if numbers.shape[1] == 0:
        raise DataError(f"{argument} has no columns; give at least one feature.")
    with np.errstate(over="ignore"):
        vectors = np.ascontiguousarray(numbers, dtype=np.float32)
    if np.isinf(vectors).any():
        row, column = (int(i) for i in np.argwhere(np.isinf(vectors))[0])
        raise DataError(
            f"{argument} is infinite in {int(np.isinf(vectors).any(axis=1).sum())} rows (row {row}, feature {column}: "
            f"{float(numbers[row, column])!r} as float32); rescale the feature or set it to NaN."
        )
    return vectors


def texts_of(values: Any, argument: str) -> np.ndarray:
    """Ids as text; whole numbers lose their decimal point (raises DataError on a missing id)."""
    # A list of numbers and texts would become texts such as "20.0".
    found = np.asarray(values, dtype=object) if isinstance(values, (list, tuple)) else np.asarray(values)
    if found.ndim != 1:
        raise DataError(f"{argument} has shape {found.shape}; give one id per image.")
    if found.dtype.kind in "Uiu":
        return found.astype(str)
    texts = []
    for row, value in enumerate(found.tolist()):
        if value is None or value != value:
            raise DataError(f"{argument} has no id in row {row}; give each image an id, or leave it out.")
        whole = isinstance(value, float) and value.is_integer()
        texts.append(str(int(value)) if whole else str(value))
    return np.array(texts, dtype=str) if texts else np.array([], dtype="<U1")


def _typed(given: Embeddings) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "ids": texts_of(given.ids, "ids"),
        "matrix": vectors_of(given.matrix, "matrix"),
        "feature_names": tuple(str(name) for name in given.feature_names),
        "status": np.asarray(given.status).astype(str),
        "valid_frac": np.asarray(given.valid_frac, dtype=np.float32),
    }
    kinds = {"lonlat": "f8", "footprint": "f8", "footprint_crs": "str", "chip_sha256": "str", "image_date": "M8[D]"}
    for name, kind in kinds.items():
        value = getattr(given, name)
        if value is not None:
            array = np.asarray(value)
            fields[name] = array.astype(str) if kind == "str" else array.astype(kind)
    place = fields.get("lonlat")
    if place is not None and place.ndim == 2:
        # A place of which only one coordinate is known is unknown.
        fields["lonlat"] = np.where(np.isnan(place).any(axis=1)[:, None], np.nan, place)
    return fields


def _refuse_mismatch(given: Embeddings) -> None:
    n = len(given.ids)
    shapes = {"matrix": (n, given.d), "status": (n,), "valid_frac": (n,), "lonlat": (n, 2), "footprint": (n, 4)}
    shapes |= {"footprint_crs": (n,), "chip_sha256": (n,), "image_date": (n,)}
    for name, shape in shapes.items():
        value = getattr(given, name)
        if value is not None and value.shape != shape:
            raise DataError(f"Embeddings: {name} has shape {value.shape} and {n} ids ask for {shape}.")
    if len(given.feature_names) != given.d:
        raise DataError(f"Embeddings: {len(given.feature_names)} feature_names for {given.d} features.")
    unknown = sorted(set(given.status.tolist()) - set(STATUSES))
    if unknown:
        raise OptionError(
            f"status={unknown[0]!r} is not known; allowed: {', '.join(STATUSES)}.{nearest(unknown[0], STATUSES)}"
        )
    if given.footprint is not None:
        known = np.isfinite(given.footprint).all(axis=1)
        crs = given.footprint_crs
        if known.any() and (crs is None or bool((crs[known] == "").any())):
            raise DataError(
                "Embeddings: footprint without footprint_crs; name the coordinate system of the boxes, for example "
                'footprint_crs="EPSG:32636".'
            )
