"""The folder of an embedding job: request, encoder, parts, manifest; each whole or absent."""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from causalsat.errors import DataError
from causalsat.files import whole_file
from causalsat.raster.encoders.protocol import Encoder, FittedEncoder
from causalsat.raster.normalise import FittedNormaliser
from causalsat.raster.parts import ShardRows, file_sha256, part_bytes, part_metadata, part_rows

_OURS = ("job.json", "job.lock", "manifest.json", "encoder", "parts")
_ROW_BYTES = 220
_SHOWN = 12


def canonical(values: Any) -> str:
    """JSON with sorted keys, no spaces and no NaN: equal values give equal text."""
    return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)


def job_id(request: dict[str, Any]) -> str:
    """SHA-256 of the canonical JSON of everything that determines values."""
    return hashlib.sha256(canonical(request).encode()).hexdigest()


def differences(old: Any, new: Any, where: str = "") -> Iterator[tuple[str, Any, Any]]:
    """The fields in which two requests differ, with both values."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(set(old) | set(new)):
            yield from differences(old.get(key), new.get(key), f"{where}.{key}" if where else str(key))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for i, (a, b) in enumerate(zip(old, new)):
            yield from differences(a, b, f"{where}[{i}]")
    elif old != new:
        yield where, old, new


def claim(folder: Path, *, resume: bool) -> None:
    """Make the folder, or accept it as one of ours; nothing else may stand in it."""
    folder.mkdir(parents=True, exist_ok=True)
    strangers = [p.name for p in sorted(folder.iterdir()) if p.name not in _OURS and not _temporary(p)]
    if strangers and not (folder / "job.json").exists():
        raise DataError(
            f"out={str(folder)!r} holds files of something else ({', '.join(strangers[:3])}); choose an empty folder."
        )
    if (folder / "job.json").exists() and not resume:
        raise DataError(f"out={str(folder)!r} holds a job already and resume=False; choose another folder.")


def sweep(folder: Path) -> None:
    """Remove the temporaries of a killed run; call it with the lock held."""
    for place in (folder, folder / "parts", folder / "encoder"):
        for path in place.glob(".*.tmp") if place.is_dir() else ():
            path.unlink(missing_ok=True)
    (folder / "parts").mkdir(exist_ok=True)
    (folder / "encoder").mkdir(exist_ok=True)


def admit(folder: Path, request: dict[str, Any], context: dict[str, Any]) -> None:
    """Write ``job.json``, or refuse the folder of another job with the fields that differ.

    ``context`` holds what does not determine values (paths, times): it is kept beside the request.
    """
    path = folder / "job.json"
    mine = job_id(request)
    if not path.exists():
        write_json(path, {"job_id": mine, "request": request, "context": context})
        return
    stored = read_json(path)
    if stored.get("job_id") == mine:
        return
    # The request went through JSON once: tuples and lists must compare equal.
    fields = list(differences(stored.get("request"), json.loads(canonical(request))))
    shown = "; ".join(f"{name}: stored {old!r}, asked {new!r}" for name, old, new in fields[:_SHOWN])
    more = f" and {len(fields) - _SHOWN} more" if len(fields) > _SHOWN else ""
    raise DataError(
        f"out={str(folder)!r} holds another job. It differs in {shown or 'its job id'}{more}. Choose another folder, "
        "or ask for the same job to resume it."
    )


def save_encoder(folder: Path, encoder: Encoder, fitted: FittedEncoder, normaliser: FittedNormaliser) -> str:
    """Write ``encoder/`` (its JSON last) and return the hash of all that decides features."""
    from safetensors.numpy import save

    arrays = fitted.arrays()
    if arrays:
        _write_bytes(folder / "encoder" / "filters.safetensors", save(dict(sorted(arrays.items()))))
    write_json(folder / "encoder" / "normaliser.json", normaliser.spec())
    sha = encoder_sha256(encoder, fitted, normaliser)
    described = {"spec": encoder.spec(), "notes": fitted.notes(), "arrays": sorted(arrays), "sha256": sha}
    write_json(folder / "encoder" / "encoder.json", described)
    return sha


def load_encoder(folder: Path, encoder: Encoder) -> tuple[FittedEncoder, FittedNormaliser] | None:
    """The saved encoder and normaliser, never fitted again; None where they are not saved yet."""
    path = folder / "encoder" / "encoder.json"
    if not path.exists():
        return None
    described = read_json(path)
    arrays: dict[str, np.ndarray] = {}
    if described["arrays"]:
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        weights = folder / "encoder" / "filters.safetensors"
        try:
            arrays = load_file(weights)
        except (OSError, SafetensorError) as error:
            raise DataError(
                f"{weights} cannot be read ({error}); remove the folder and start the job again."
            ) from error
    normaliser = FittedNormaliser.from_spec(read_json(folder / "encoder" / "normaliser.json"))
    fitted = encoder.restore(arrays, described["notes"])
    if encoder_sha256(encoder, fitted, normaliser) != described["sha256"]:
        raise DataError(
            f"The encoder in {folder / 'encoder'} was changed after it was saved: its hash is not the one in "
            "encoder.json. Remove the folder and start the job again."
        )
    return fitted, normaliser


def encoder_sha256(encoder: Encoder, fitted: FittedEncoder, normaliser: FittedNormaliser) -> str:
    """Hash of options, fitted numbers and normaliser."""
    described = {"spec": encoder.spec(), "notes": fitted.notes(), "normaliser": normaliser.spec()}
    digest = hashlib.sha256(canonical(described).encode())
    for name, array in sorted(fitted.arrays().items()):
        digest.update(f"{name}{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def part_path(folder: Path, shard: int) -> Path:
    """``parts/part-00042.parquet``."""
    return folder / "parts" / f"part-{shard:05d}.parquet"


def part_done(folder: Path, shard: int, n_rows: int, job: str, *, keep_errors: bool = False) -> bool:
    """Whether the part of a shard is whole: its footer parses and names this job, this shard and its rows.

    A part with recorded read errors is done only for a call that records them too.
    """
    found = part_metadata(part_path(folder, shard)) if part_path(folder, shard).exists() else None
    if found is None:
        return False
    metadata, rows = found
    ours = metadata.get("job_id") == job and metadata.get("shard") == shard and rows == n_rows
    return ours and (keep_errors or not metadata.get("read_errors"))


def write_part(folder: Path, shard: int, rows: ShardRows, metadata: dict[str, Any]) -> None:
    """Write one part, whole or not at all."""
    own = {"shard": shard, "n_rows": len(rows), "read_errors": int((rows.status == "read_error").sum())}
    _write_bytes(part_path(folder, shard), part_bytes(rows, metadata | own))


def write_manifest(folder: Path, job: str, n_shards: int, facts: dict[str, Any]) -> None:
    """List the parts with their hashes; written last, so that it marks a finished job."""
    parts = []
    for shard in range(n_shards):
        path = part_path(folder, shard)
        found = part_metadata(path)
        if found is None:
            raise DataError(f"{path} is not a whole part any more; run the job again to make it anew.")
        parts.append({"name": path.name, "rows": found[1], "bytes": path.stat().st_size, "sha256": file_sha256(path)})
    write_json(folder / "manifest.json", {"job_id": job, "parts": parts} | facts)


def read_job_rows(folder: Path, n_shards: int) -> ShardRows:
    """All rows of a finished job by place number."""
    return ShardRows.concat([part_rows(part_path(folder, shard)) for shard in range(n_shards)]).ordered()


def refuse_small_disk(folder: Path, n_rows: int, n_features: int) -> None:
    """Refuse before any work when the parts cannot fit on the disk."""
    needed, free = n_rows * (4 * n_features + _ROW_BYTES), shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(
            f"out={str(folder)!r} needs up to {needed} bytes for {n_rows} rows of {n_features} features and {free} are "
            "free there. Free space, choose another disk, or ask for fewer features."
        )


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write sorted, indented JSON, whole or not at all."""
    _write_bytes(path, (json.dumps(values, sort_keys=True, indent=1) + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object of a job folder."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as JSON ({error}); it is not a whole embedding job.") from error
    if not isinstance(found, dict):
        raise DataError(f"{path} does not hold a JSON object; it is not a whole embedding job.")
    return found


def _write_bytes(path: Path, content: bytes) -> None:
    try:
        with whole_file(path) as temporary:
            temporary.write_bytes(content)
    except DataError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.ENOSPC:
            free = shutil.disk_usage(path.parent).free
            raise DataError(
                f"No space left while writing {path.name} in {path.parent}: {len(content)} bytes are needed and {free} "
                "are free. Nothing half-written is left; free space and run the same call again to resume."
            ) from error
        raise


def _temporary(path: Path) -> bool:
    return path.name.startswith(".") and path.name.endswith(".tmp") and not os.path.isdir(path)
