# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # DRIVE: anchors on the data of Card (1995) and Mroz (1987)
#
# Run as `python replicate.py`; the data come with the package linearmodels. It writes `results.csv`, `report.md` and
# the board. `CAUSALSAT_FAST=1` takes fewer draws and writes nothing. Names of parts (`card`, `mroz`) run those only.

# %%
import sys
import tomllib
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

import causalsat as cs
from causalsat.inference.iv_sets import ar_test

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
from record import FAST, Result, row, run, say  # noqa: E402

warnings.simplefilter("ignore", cs.errors.CausalsatWarning)

config = tomllib.loads((HERE / "config.toml").read_text(encoding="utf-8"))
if FAST:
    config["card"]["draws"] = config["fast"]["draws"]
KIND = {"ar": "homoskedastic", "clr": "homoskedastic", "lm": "homoskedastic"}


def has_data() -> bool:
    """Whether the package that carries the data is installed."""
    found = find_spec("linearmodels") is not None
    if not found:
        say("linearmodels is not installed (pip install 'causalsat[test]'): its rows are kept as committed")
    return found


# %% [markdown]
# ## Card: returns to schooling, college proximity as the instrument
# Exactly identified: DRIVE at the default radius is TSLS up to rounding, LIML too, and CLR and LM are AR.


# %%
def card_fit(data: Any, covariance: str = "hc1", instruments: list[str] | None = None, **more: Any) -> Any:
    """`cs.drive` on the study; no bootstrap rows unless asked for."""
    c = config["card"]
    options = {"compare": ("ols", "tsls", "liml", "fuller"), "sets": ("ar", "clr", "lm"), "n_boot": 0}
    return cs.drive(
        data, outcome=c["outcome"], treatment=c["treatment"], covariates=c["covariates"],
        instruments=instruments or c["instruments"], covariance=cs.Sandwich(covariance), seed=c["seed"],
        **(options | more),
    )  # fmt: skip


def wald(result: Any, method: str, treatment: str = "educ") -> tuple[float, float]:
    """Estimate and standard error of a comparator."""
    found = result.table.row(method=method, treatment=treatment, interval="wald")
    return found["estimate"], found["std_error"]


def ends(result: Any, method: str, prefix: str) -> list[Result]:
    """Both ends of a set that is one interval."""
    found = result.table.row(method=method, interval=KIND[method])
    return [row(f"{prefix}_low", found["conf_low"]), row(f"{prefix}_high", found["conf_high"])]


def p_value(result: Any, check: str) -> float:
    """The p-value in the table of a check."""
    table = result.check(check).table
    return float(table["value"][list(table["quantity"]).index("p_value")])


def card() -> list[Result] | None:
    """Every number of the exactly identified study, then both college instruments without a target."""
    if not has_data():
        return None
    from linearmodels.datasets import card as source

    data = source.load()
    none = cs.DriveOptions(dof="none")
    classical, hc0 = (card_fit(data, kind, options=none) for kind in ("classical", "hc0"))
    hc1, by_f = card_fit(data), card_fit(data, options=cs.DriveOptions(ar_law="f"))
    rows = []
    for method in ("ols", "tsls", "liml"):
        rows += [row(f"card_{method}_{n}", *wald(r, method)) for n, r in (("classical", classical), ("hc0", hc0))]
    rows += [row("card_tsls_hc1", wald(hc1, "tsls")[1]), row("card_fuller", wald(hc1, "fuller")[0])]
    kappas = {found.method: found.kappa for found in hc1.equations[0].comparators}
    rows.append(row("card_fuller_kappa", kappas["fuller"]))
    rows += card_strength(hc0, hc1, classical) + card_sets(data, hc1, by_f)
    drive = hc1.table.row(method="drive", interval="limit")
    rows += [
        row("card_wu_hausman", hc1.check("wu_hausman").statistic),
        row("card_wu_hausman_p", p_value(hc1, "wu_hausman")),
        row("card_durbin", hc1.check("durbin").statistic),
        row("card_drive", drive["estimate"], note="DRIVE at its default radius, exactly identified: TSLS"),
        row("card_rho", hc1.rho, note="its radius, rule theory"),
        row("card_threshold", hc1.rho_report.rho_hat, note="the threshold below which it is TSLS"),
    ]
    return rows + both_instruments(data)


def card_strength(hc0: Any, hc1: Any, classical: Any) -> list[Result]:
    """First-stage statistics."""
    return [
        row("card_partial_r2", hc1.first_stage.partial_r2[0]),
        row("card_f", hc1.first_stage.f_classical[0]),
        row("card_cragg_donald", hc1.first_stage.cragg_donald.f),
        row("card_f_n", classical.first_stage.f_classical[0]),
        row("card_effective_hc0", hc0.first_stage.f_effective),
        row("card_effective_hc1", hc1.first_stage.f_effective),
        row("card_kp_hc0", hc0.first_stage.kleibergen_paap.f),
        row("card_kp_hc1", hc1.first_stage.kleibergen_paap.f),
    ]


def card_sets(data: Any, hc1: Any, by_f: Any) -> list[Result]:
    """AR at zero and its sets under both laws and levels; CLR and LM."""
    found = {law: r.table.row(method="ar", interval="homoskedastic") for law, r in (("chi2", hc1), ("f", by_f))}
    rows = [row("card_ar", found["chi2"]["statistic"])]
    rows += [row(f"card_ar_p_{law}", f["p_value"]) for law, f in found.items()]
    for level in (95, 99):
        for law in ("chi2", "f"):
            result = card_fit(data, level=level / 100, options=cs.DriveOptions(ar_law=law))
            rows += ends(result, "ar", f"card_ar{level}_{law}")
    return rows + ends(hc1, "clr", "card_clr95") + ends(hc1, "lm", "card_lm95")


def both_instruments(data: Any) -> list[Result]:
    """Over-identified by the two-year college: DRIVE moves away from TSLS. Archived, no target."""
    result = card_fit(data, instruments=config["card"]["both"], n_boot=config["card"]["draws"])
    table = result.table
    limit = table.row(method="drive", interval="limit")
    rows = [
        row("card_both_drive", limit["estimate"], limit["std_error"], note="DRIVE, instruments nearc4 and nearc2"),
        row("card_both_rho", result.rho, note="its radius, rule theory"),
        row("card_both_rho_share", result.rho_report.ratio, note="radius over the threshold"),
        row("card_both_effective_f", result.first_stage.f_effective, note="effective F, HC1"),
        row("card_both_sargan", result.check("sargan").statistic, note="Sargan, chi-squared(1)"),
    ]
    rows += [row(f"card_both_{m}", *wald(result, m), note=f"{m.upper()}, HC1") for m in ("ols", "tsls", "liml")]
    for method, kind in (("drive", "limit"), ("drive", "recentred"), ("ar", "robust"), ("clr", "homoskedastic")):
        found = table.row(method=method, interval=kind)
        for end, word in (("low", "lower"), ("high", "upper")):
            note = f"{method.upper()} {kind}, 95 %, {word} end"
            rows.append(row(f"card_both_{method}_{kind}_{end}", found[f"conf_{end}"], note=note))
    return rows


# %% [markdown]
# ## Mroz: two treatments, three instruments


# %%
def mroz() -> list[Result] | None:
    """428 working women."""
    if not has_data():
        return None
    from linearmodels.datasets import mroz as source

    c = config["mroz"]
    result = cs.drive(
        source.load(), outcome=c["outcome"], treatment=c["treatment"], instruments=c["instruments"],
        covariance=cs.Sandwich("classical"), n_boot=0, sets="ar",
    )  # fmt: skip
    strength, rows = result.first_stage, result.equations[0].rows
    drive = {t: result.table.row(method="drive", treatment=t, interval="limit")["estimate"] for t in c["treatment"]}
    return [
        *(row(f"mroz_tsls_{t}", wald(result, "tsls", t)[0]) for t in c["treatment"]),
        *(row(f"mroz_sw_{t}", f) for t, f in zip(c["treatment"], strength.sanderson_windmeijer, strict=True)),
        row("mroz_cragg_donald", strength.cragg_donald.f),
        row("mroz_sargan", result.check("sargan").statistic),
        row("mroz_sargan_p", p_value(result, "sargan")),
        row("mroz_wu_hausman", result.check("wu_hausman").statistic),
        row("mroz_ar", ar_test(rows, np.zeros(2), law="f").statistic),
        row("mroz_n", rows.n, note="rows with a wage"),
        *(row(f"mroz_drive_{t}", value, note=f"DRIVE, {t}, rule theory") for t, value in drive.items()),
        row("mroz_rho", result.rho, note="its radius"),
    ]


# %% [markdown]
# ## Run, write, report

# %%
results = run(HERE, {"card": card, "mroz": mroz})

# %% [markdown]
# The headline numbers.

# %%
number = {found["id"]: float(found["ours"]) for found in results if found["ours"]}
assert abs(number["card_tsls_hc0"] - 0.1315038) < 5e-8
assert abs(number["card_drive"] - number["card_tsls_hc0"]) < 1e-9 and number["card_rho"] < number["card_threshold"]
assert number["mroz_n"] == 428
