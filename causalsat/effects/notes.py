"""The sentences that stand under a table: what is assumed, how uncertainty was computed, what is missing."""

from typing import TYPE_CHECKING, Any

from causalsat.effects.format import show_number, show_percent

if TYPE_CHECKING:
    from causalsat.effects.table import EffectTable


def notes(table: "EffectTable") -> list[tuple[str, str]]:
    """Pairs (heading, sentence) in reading order, from ``meta`` alone; deterministic (no dates, no seconds)."""
    meta = table.meta
    found: list[tuple[str, str]] = []
    if meta.get("estimand"):
        found.append(("Estimand", _listed(meta["estimand"])))
    if meta.get("assumptions"):
        found.append(("Assumes", _listed(meta["assumptions"])))
    found.append(("Intervals", _intervals(table)))
    if meta.get("joint"):
        found.append(("Together", _joint(meta["joint"])))
    found += [("Finding", str(text)) for text in meta.get("findings") or []]
    if meta.get("dropped"):
        found.append(("Rows left out", _dropped(meta["dropped"])))
    found += [("Not available", text) for text in _unavailable(table)]
    found += [("Warning", str(text)) for text in meta.get("warnings") or []]
    return found


def _listed(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{name}: {_listed(item)}" for name, item in value.items())
    return "; ".join(str(item) for item in value) if isinstance(value, list) else str(value)


def _intervals(table: "EffectTable") -> str:
    meta = table.meta
    parts = [f"{show_percent(table.level)}, {meta['interval']}"]
    if meta.get("n_boot"):
        scheme = f" ({_listed(meta['resampling'])})" if meta.get("resampling") else ""
        parts.append(f"{meta['n_boot']} draws{scheme}, {_failed(meta.get('n_failed', 0))} failed")
    elif meta.get("covariance"):
        parts.append(f"{_listed(meta['covariance'])} standard errors")
    if meta.get("n_clusters") is not None:
        parts.append(f"{_listed(meta['n_clusters'])} clusters")
    return ", ".join(parts)


def _failed(value: Any) -> int:
    return sum(int(v) for v in value.values()) if isinstance(value, dict) else int(value or 0)


def _joint(joint: dict[str, Any]) -> str:
    if joint["reason"]:
        return f"no simultaneous band: {joint['reason']}"
    critical = show_number(float(joint["critical"]), 3)
    adjusted = "" if joint["method"] == "none" else f"; p-values adjusted by {joint['method']}"
    outside = f", {joint['n_outside']} rows outside" if joint["n_outside"] else ""
    return (
        f"simultaneous band over {joint['n_family']} rows{outside} with critical value {critical} "
        f"from the {joint['source']}{adjusted}"
    )


def _dropped(dropped: Any) -> str:
    if not isinstance(dropped, dict):
        return _listed(dropped)
    return ", ".join(f"{count} ({reason})" for reason, count in dropped.items() if count) or "none"


def _unavailable(table: "EffectTable") -> list[str]:
    """One sentence per row and reason, naming the columns that it empties."""
    sentences = []
    for row, why in table.meta["unavailable"].items():
        by_reason: dict[str, list[str]] = {}
        for column, reason in why.items():
            by_reason.setdefault(reason, []).append(column)
        label = table.labels[int(row)]
        for reason, columns in by_reason.items():
            what = "all numbers" if {"estimate", "conf_low"} <= set(columns) else ", ".join(columns)
            sentences.append(f"{label}, {what}: {reason}")
    return sentences
