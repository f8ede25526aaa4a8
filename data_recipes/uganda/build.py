"""Check the Uganda files that you put in place: hashes, schema, traps. Nothing is downloaded or changed."""

import hashlib
import os
import sys
import tomllib
from pathlib import Path

COLUMNS = ["site", "longitude", "latitude", "treated", "outcome", "x1", "x2", "x3", "x4", "x5", "x6"]


def data_folder() -> Path:
    """The folder named by CAUSALSAT_DATA, else `causalsat` inside the user's cache folder."""
    named = os.environ.get("CAUSALSAT_DATA")
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "causalsat"


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def problems(folder: Path) -> list[str]:
    """Everything that differs from the recipe; empty when the data are as described."""
    recipe = tomllib.loads((Path(__file__).parent / "recipe.toml").read_text(encoding="utf-8"))
    people, chips = folder / "uganda" / "people.csv", folder / "uganda" / "chips"
    if not people.is_file() or not chips.is_dir():
        return [f"{people} or {chips} is not there; see recipe.toml for the source and set CAUSALSAT_DATA"]
    found = []
    header = people.open(encoding="utf-8").readline().strip().split(",")
    if header != COLUMNS:
        found.append(f"people.csv has columns {header}, expected {COLUMNS}")
    if digest(people) != recipe["files"]["uganda/people.csv"]["hash"]:
        found.append("people.csv has another hash than the recipe")
    files = sorted(chips.glob("*.tif"), key=lambda path: int(path.stem))
    if len(files) != recipe["sites"]:
        found.append(f"{len(files)} chips, expected {recipe['sites']}")
    listed = "".join(f"{path.name} {digest(path)}\n" for path in files)
    if hashlib.sha256(listed.encode()).hexdigest() != recipe["files"]["uganda/chips"]["hash"]:
        found.append("the chips have other hashes than the recipe")
    return found


if __name__ == "__main__":
    wrong = problems(data_folder())
    sys.stdout.write("\n".join(wrong or ["uganda: as the recipe says"]) + "\n")
    sys.exit(1 if wrong else 0)
