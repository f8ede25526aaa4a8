"""Reports and the board: published numbers beside ours, judged by rules that do not know the answer.

``python paper_replications/board.py`` rewrites every paper's ``report.md`` and ``paper_replications/README.md`` from
``targets.csv`` (typed before the run) and ``results.csv`` (written by ``replicate.py``). Nothing else enters.
"""

import csv
import math
import re
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

HOME = Path(__file__).resolve().parent
KINDS = ("exact", "rounding", "monte_carlo", "qualitative", "not_attempted")
VERDICTS = ("reproduced", "replicated", "agrees", "missed", "not_attempted", "data_not_public")
DATA = ("original", "simulated", "not_public")
SOURCES = ("paper", "anchor")
Z = Decimal("3.3")

Row = dict[str, str]


@dataclass(frozen=True)
class Judged:
    """One target with its result and what follows from both."""

    target: Row
    result: Row | None
    difference: str
    tolerance: str
    verdict: str


def read(path: Path) -> list[Row]:
    """The rows of a CSV file."""
    with path.open(newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def papers(home: Path = HOME) -> list[Path]:
    """Folders that hold targets."""
    return sorted(path.parent for path in home.glob("*/targets.csv"))


def printed_decimals(text: str) -> int:
    """Digits after the point of a number as printed."""
    return len(text.partition(".")[2])


def half_unit(decimals: int) -> Decimal:
    """Half a unit of the last printed digit."""
    return Decimal(5).scaleb(-decimals - 1)


def judge(target: Row, results: dict[str, Row]) -> Judged:
    """The verdict on one target; raises KeyError when an attempted target has no result."""
    kind = target["kind"]
    if kind == "not_attempted":
        verdict = "data_not_public" if target["data"] == "not_public" else "not_attempted"
        return Judged(target, None, "", "", verdict)
    if kind == "qualitative":
        held = chain_holds(target["published"], results)
        return Judged(target, None, "", "ordering", "agrees" if held else "missed")
    result = results[target["id"]]
    tolerance = allowed(target, result)
    gaps = [(abs(Decimal(result["ours"]) - Decimal(target["published"])), tolerance)]
    if target["published_se"] and kind != "monte_carlo":
        se_digits = half_unit(printed_decimals(target["published_se"]))
        gaps.append((abs(Decimal(result["our_se"]) - Decimal(target["published_se"])), se_digits))
    inside = all(gap <= bound for gap, bound in gaps)
    good = "reproduced" if target["data"] == "original" else "replicated"
    difference = shown(Decimal(result["ours"]) - Decimal(target["published"]))
    return Judged(target, result, difference, shown(tolerance), good if inside else "missed")


def allowed(target: Row, result: Row) -> Decimal:
    """Half a printed unit, or 3.3 standard errors of the difference of two simulated numbers."""
    if target["kind"] == "monte_carlo":
        return Z * (Decimal(target["published_se"]) ** 2 + Decimal(result["our_se"]) ** 2).sqrt()
    return half_unit(int(target["decimals"]))


def chain_holds(chain: str, results: dict[str, Row]) -> bool:
    """Whether an ordering of results and numbers such as ``a ~ b < c`` holds.

    ``x < y`` asks for a gap above 3.3 combined standard errors; ``x ~ y`` asks for a gap smaller than the step that
    follows it in the chain.
    """
    words = chain.split()
    terms, signs = [term(word, results) for word in words[::2]], words[1::2]
    if len(words) % 2 == 0 or not signs or not set(signs) <= {"<", "~"} or signs[-1] == "~":
        raise ValueError(f"{chain!r} is not a chain of names or numbers joined by < and ~ that ends in <.")
    for i, sign in enumerate(signs):
        (low, low_se), (high, high_se) = terms[i], terms[i + 1]
        if sign == "<" and not high - low > float(Z) * math.hypot(low_se, high_se):
            return False
        if sign == "~" and not abs(high - low) < terms[i + 2][0] - max(low, high):
            return False
    return True


def term(word: str, results: dict[str, Row]) -> tuple[float, float]:
    """Value and standard error of a result, or a plain number without error."""
    if re.fullmatch(r"[0-9.]+", word):
        return float(word), 0.0
    row = results[word]
    return float(row["ours"]), float(row["our_se"] or 0.0)


def shown(value: Decimal) -> str:
    """Two significant digits."""
    return f"{float(value):.2g}"


def judged(folder: Path) -> list[Judged]:
    """Every target of a paper with its verdict."""
    results = {row["id"]: row for row in read(folder / "results.csv")}
    return [judge(target, results) for target in read(folder / "targets.csv")]


def counts(found: list[Judged]) -> dict[str, int]:
    """Targets per verdict, in the order of the verdicts."""
    return {verdict: sum(j.verdict == verdict for j in found) for verdict in VERDICTS}


def report(folder: Path) -> str:
    """The text of ``report.md``."""
    found, results = judged(folder), read(folder / "results.csv")
    lines = [f"# {title(folder)}: published and ours", "", GENERATED, "", summary(found), ""]
    lines += ["| target | published | ours | difference | tolerance | verdict |", "|---|---|---|---|---|---|"]
    lines += [table_row(j, results) for j in found]
    missed = [j for j in found if j.verdict == "missed"]
    if missed:
        lines += ["", "## Missed, and why", ""]
        lines += [f"- {j.target['quantity']}: {explanation(j, results)}" for j in missed]
    lines += ["", "## Every target: where it comes from", "", "| target | place | kind | tolerance or reason |"]
    lines += ["|---|---|---|---|"]
    lines += [
        f"| `{j.target['id']}` | {j.target['place']} | {j.target['kind']} | {j.target['reason']} |" for j in found
    ]
    return "\n".join(lines + supporting(found, results) + runs(results)) + "\n"


GENERATED = "Generated by `paper_replications/board.py` from `targets.csv` and `results.csv`; do not edit."


def title(folder: Path) -> str:
    """The first heading of the paper's README."""
    return (folder / "README.md").read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")


def summary(found: list[Judged]) -> str:
    """Counts in one sentence; anchors are told apart from numbers that a paper prints."""
    parts = [f"{number} {verdict}" for verdict, number in counts(found).items() if number]
    anchors = sum(j.target["source"] == "anchor" for j in found)
    return (
        f"{len(found)} targets: {', '.join(parts)}. {anchors} of them are anchors: numbers computed from the same "
        "data outside this package, and not printed in a paper."
    )


def table_row(j: Judged, results: list[Row]) -> str:
    """One line of the table of targets."""
    t, r = j.target, j.result
    published = f"`{t['published']}`" if t["kind"] == "qualitative" else with_se(t["published"], t["published_se"])
    if t["kind"] == "qualitative":
        by_id = {row["id"]: row for row in results}
        ours = ", ".join(f"{w} {rounded(by_id[w], 4)}" for w in t["published"].split() if w in by_id)
    else:
        ours = "" if r is None else rounded(r, 4 if t["data"] == "simulated" else int(t["decimals"]) + 1)
    return f"| {t['quantity']} | {published} | {ours} | {j.difference} | {j.tolerance} | **{j.verdict}** |"


def rounded(row: Row, decimals: int) -> str:
    """Our number with its standard error where there is one."""
    se = f"{float(row['our_se']):.{decimals}f}" if row["our_se"] else ""
    return with_se(f"{float(row['ours']):.{decimals}f}", se)


def with_se(value: str, se: str) -> str:
    """``value (se)``."""
    return f"{value} ({se})" if se else value


def explanation(j: Judged, results: list[Row]) -> str:
    """What ``results.csv`` says about a miss."""
    notes = {row["id"]: row["note"] for row in results}
    return notes.get(j.target["id"]) or "not explained yet"


def supporting(found: list[Judged], results: list[Row]) -> list[str]:
    """Results that are no target themselves: what the orderings are made of, and what shows how they arose."""
    targets = {j.target["id"] for j in found}
    rows = [row for row in results if row["id"] not in targets]
    if not rows:
        return []
    lines = ["", "## Numbers behind the verdicts", "", "| result | ours | runs | what it is |", "|---|---|---|---|"]
    digits = [4 if row["our_se"] else 6 for row in rows]
    shown_rows = zip(rows, digits, strict=True)
    return lines + [f"| `{r['id']}` | {rounded(r, d)} | {r['runs']} | {r['note']} |" for r, d in shown_rows]


def runs(results: list[Row]) -> list[str]:
    """Machines, versions, seconds and memory of the runs."""
    lines = [
        "",
        "## The runs",
        "",
        "| results | seconds | peak memory by then | hardware | versions |",
        "|---|---|---|---|---|",
    ]
    groups: dict[tuple[str, ...], int] = {}
    for row in results:
        key = tuple(row[c] for c in ("part", "seconds", "peak_mb", "hardware", "versions"))
        groups[key] = groups.get(key, 0) + 1
    return lines + [f"| {n}, {k[0]} | {k[1]} | {k[2]} MB | {k[3]} | {k[4]} |" for k, n in groups.items()]


def board(home: Path = HOME) -> str:
    """The text of ``paper_replications/README.md``."""
    lines = ["# Published numbers beside ours", "", GENERATED, "", INTRODUCTION, ""]
    lines += [f"| paper | targets | {' | '.join(VERDICTS)} |", "|---|---|" + "---|" * len(VERDICTS)]
    total = dict.fromkeys(VERDICTS, 0)
    for folder in papers(home):
        found = judged(folder)
        number = counts(found)
        total = {verdict: total[verdict] + number[verdict] for verdict in VERDICTS}
        name = f"[{title(folder)}]({folder.name}/report.md)"
        lines.append(f"| {name} | {len(found)} | {' | '.join(map(str, number.values()))} |")
    lines.append(f"| all | {sum(total.values())} | {' | '.join(map(str, total.values()))} |")
    return "\n".join([*lines, "", *LEGEND]) + "\n"


INTRODUCTION = (
    "Each folder holds `targets.csv` (typed before anything ran, with the place each number comes from and a derived "
    "tolerance), `replicate.py` (plain Python), `results.csv` and a generated `report.md`. Missed targets stay."
)
LEGEND = [
    "- **reproduced**: original data, inside the tolerance. This includes anchors, which were computed from the same",
    "  data outside this package and are not printed in a paper; each report says which targets are anchors.",
    "- **replicated**: the paper's design simulated, inside the tolerance. Simulated data never earn *reproduced*.",
    "- **agrees**: sign or ordering only.",
    "- **missed**: outside the tolerance, explained in the report.",
    "- **not_attempted**, **data_not_public**: no number of ours, with the reason.",
    "",
    "Tolerances are derived: half a unit of the last printed digit for deterministic numbers and for simulated ones",
    "printed without an error; 3.3 standard errors of the difference for simulated ones with an error. An ordering",
    "`a < b` asks for a gap of 3.3 standard errors, `a ~ b` for a gap smaller than the next step.",
]


def write(home: Path = HOME) -> None:
    """Write every report and the board."""
    for folder in papers(home):
        (folder / "report.md").write_text(report(folder), encoding="utf-8")
    (home / "README.md").write_text(board(home), encoding="utf-8")


if __name__ == "__main__":
    write()
