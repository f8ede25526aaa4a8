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
# # Discontinuities in distributions: the R package, the Senate anchors, and Table 2
#
# Run as `CAUSALSAT_DATA=<folder> python replicate.py`. It writes `results.csv`, `report.md` and the board.
# `CAUSALSAT_FAST=1` shrinks the simulations, checks that everything runs, and writes nothing. Names of parts
# (`reference`, `senate`, `table2_500`, `table2_1000`, `table2_2000`, `pointwise`, `small`, `pixels`) run those only;
# the other rows stay as committed.

# %%
import csv
import functools
import os
import sys
import tomllib
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

import causalsat as cs
from causalsat.study.distributions import QuantileMatrix

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
import pixels  # noqa: E402
import table2  # noqa: E402
from record import FAST, Result, mean_row, row, run, say  # noqa: E402

warnings.simplefilter("ignore", cs.errors.CausalsatWarning)

config = tomllib.loads((HERE / "config.toml").read_text(encoding="utf-8"))
if FAST:
    for part, changes in config["fast"].items():
        config[part] |= changes
with (HERE / "targets.csv").open(newline="", encoding="utf-8") as handle:
    PUBLISHED = {target["id"]: target["published"] for target in csv.DictReader(handle)}


# %% [markdown]
# ## The R package's own data
# Its automatic bandwidths depend on the unit of the running variable, so both are compared at its bandwidth.


# %%
def reference_folder() -> Path | None:
    """The folder with the package's files, or None with the reason in words."""
    named = os.environ.get("CAUSALSAT_DATA")
    folder = Path(named or Path.home() / ".cache" / "causalsat") / "r3d"
    if (folder / "ref_data_sharp_simple_20.csv").is_file():
        return folder
    say(f"Reference rows are kept as committed: {folder.name}/ref_data_sharp_simple_20.csv is absent.")
    say("Set CAUSALSAT_DATA to the folder that holds r3d/, the public comparison files of the R package R3D.")
    return None


def reference() -> list[Result] | None:
    """Ours and the package's at its bandwidths, both estimators."""
    folder = reference_folder()
    if folder is None:
        return None
    import pandas as pd

    units = pd.read_csv(folder / "ref_data_sharp_simple_20.csv")
    levels = np.arange(1, 21) / 21.0
    matrix = QuantileMatrix(units.drop(columns="X").to_numpy(float), levels)
    rows, gaps = [], {}
    cases = (("frechet", "frechet", None), ("pointwise", "simple", None), ("pointwise", "simple", "R3D-0.1.0"))
    for estimator, name, compat in cases:
        theirs = pd.read_csv(folder / f"ref_results_sharp_{name}_20.csv")
        h = theirs["bw_num"].to_numpy()
        assert estimator == "pointwise" or (h == config["reference"]["h"]).all()
        result = cs.r3d(
            units, outcome=matrix, running="X", quantiles=levels, estimator=estimator, compat=compat,
            kernel=config["reference"]["kernel"], bandwidth=h if estimator == "pointwise" else float(h[0]),
            functionals=(), checks=None,
        )  # fmt: skip
        fit = result.estimates[0].fit
        ours = {"tau": fit.tau, "int_plus": fit.curves[0], "int_minus": fit.curves[1]}
        gaps[estimator, compat] = max(float(np.abs(ours[k] - theirs[k].to_numpy()).max()) for k in ours)
        if estimator == "frechet":
            names = {"tau": "package_tau_first", "int_plus": "package_plus_first", "int_minus": "package_minus_first"}
            rows = [row(names[k], ours[k][0]) for k in ours]
    ids = ("package_gap", "package_gap_pointwise", "package_gap_compat")
    return rows + [row(name, gap) for name, gap in zip(ids, gaps.values(), strict=True)]


# %% [markdown]
# ## U.S. Senate: one draw per unit, the numbers of rdrobust
# The data come with rdrobust, which is not needed otherwise.


# %%
def senate_frame() -> Any:
    """The Senate data that the package rdrobust carries, or None with the reason in words."""
    found = find_spec("rdrobust")
    if found is None or not found.submodule_search_locations:
        say(
            "Senate rows are kept as committed: rdrobust, which carries the data, is not installed (pip install "
            "rdrobust, or put a downloaded copy on PYTHONPATH)."
        )
        return None
    import pandas as pd

    path = Path(found.submodule_search_locations[0]) / "data" / "rdrobust_RDsenate.csv"
    return pd.read_csv(path).dropna(subset=["vote", "margin"])


def senate_fit(frame: Any, **options: Any) -> Any:
    """`cs.r3d` with one draw per unit."""
    defaults = {"bandwidth": config["senate"]["h"], "order": 1, "checks": None, "functionals": (), "n_boot": 99}
    return cs.r3d(frame, outcome="vote", running="margin", quantiles=1, **(defaults | options))


def jump(result: Any) -> tuple[float, float]:
    """Effect and its standard error."""
    found = result.table.where(term="laqte")
    return float(found["estimate"][0]), float(found["std_error"][0])


def senate() -> list[Result] | None:
    """Jumps, standard errors, ladder bandwidths, clusters and covariates."""
    frame = senate_frame()
    if frame is None:
        return None
    fit = functools.partial(senate_fit, frame)
    rows = [row(f"senate_p{p}_h20", jump(fit(order=p))[0]) for p in (1, 2)]
    for p in (1, 2):
        rows += [row(f"senate_se_p{p}_{r}", jump(fit(order=p, residuals=r))[1]) for r in ("hc0", "hc2", "hc3")]
    rows += [row(f"senate_p{p}_h10", jump(fit(order=p, bandwidth=10.0))[0]) for p in (1, 2)]
    rows += [row(f"senate_p{p}_uniform", jump(fit(order=p, kernel="uniform"))[0]) for p in (1, 2)]
    rows += [
        row("senate_p1_h16", jump(fit(bandwidth=16.79369))[0]),
        row("senate_p1_mserd", jump(fit(bandwidth=17.7544))[0]),
    ]
    return rows + senate_ladder(fit) + senate_clusters(frame) + senate_covariates(frame)


def senate_ladder(fit: Any) -> list[Result]:
    """Bandwidths of rdrobust's mserd."""
    rows = []
    rule = cs.Bandwidth(pilot="ladder", regularization=3.0)
    cases = [("triangular", r) for r in ("hc0", "hc1", "hc2", "hc3")] + [("epanechnikov", "hc3"), ("uniform", "hc0")]
    for kernel, residuals in cases:
        found = fit(bandwidth=rule, kernel=kernel, residuals=residuals).estimates[0].selected
        name = f"senate_ladder_{kernel}_{residuals}"
        rows += [row(f"{name}_h", found.h[0]), row(f"{name}_b", found.b.reshape(2, -1)[0, 0])]
    return rows


def senate_clusters(frame: Any) -> list[Result]:
    """Standard errors by state: one cluster for both sides of the cutoff, or one for each."""
    sides = frame.assign(state_side=frame["state"] + np.where(frame["margin"] >= 0.0, " +", " -"))
    rows = []
    for form in ("0", "3"):
        for p in (1, 2):
            for column, name in (("state", f"senate_cr{form}_p{p}"), ("state_side", f"senate_cr{form}_side_p{p}")):
                result = senate_fit(sides, order=p, cluster=column, residuals=f"hc{form}")
                rows.append(row(name, jump(result)[1]))
    return rows


def senate_covariates(frame: Any) -> list[Result]:
    """One slope per covariate for both sides."""
    names = ["class", "termshouse", "termssenate"]
    complete = frame.dropna(subset=names)
    fits = {p: jump(senate_fit(complete, order=p, covariates=names))[0] for p in (1, 2)}
    return [row("senate_covariates", fits[1]), row("senate_covariates_p2", fits[2])]


# %% [markdown]
# ## Table 2
# (i) The inference of the R package, `compat="R3D-0.1.0"`, at a fixed bandwidth of 1 or .9 (the print names none).
# (ii) The defaults of `cs.r3d`.


# %%
def options_of(n: int) -> dict[str, dict[str, Any]]:
    """Sets of options by the suffix of their rows."""
    fixed = {f"h{100 * h:.0f}": {**table2.PACKAGE, "bandwidth": h} for h in config["table2"]["h"]}
    wide = {**fixed["h100"], "estimator": "pointwise"}
    every = {"frechet_h100": fixed["h100"], "pointwise_h100": wide, "frechet_h90": fixed["h90"], "frechet_default": {}}
    return {name: {"n_boot": config["table2"]["draws"], **options} for name, options in every.items()}


WORDS = {
    "h100": "inference of the R package, h = 1",
    "h90": "inference of the R package, h = 0.9",
    "default": "defaults of cs.r3d",
}


def table2_rows(n: int) -> list[Result]:
    """Both designs with n units of n draws."""
    rows: list[Result] = []
    runs = config["table2"]["runs"][str(n)]
    for design in ("normal", "mixture"):
        for name, found in table2.cell(design, n, runs, options_of(n)).items():
            estimator, suffix = name.split("_")
            for what, values in found.items():
                stem = f"{design}_{n}_{estimator}_{what}"
                judged = what == "coverage" or (what == "homogeneity" and design == "normal")
                if what in ("length", "h"):
                    if suffix == "default":
                        rows.append(length_row(f"{stem}_{suffix}", values, what))
                elif what == "nullity_0":
                    continue
                elif judged and suffix == "h100":
                    rows.append(row(stem, *table2.share(values), runs=runs))
                else:
                    note = f"{WORDS[suffix]}; the paper prints {PUBLISHED[stem]}"
                    rows.append(row(f"{stem}_{suffix}", *table2.share(values), runs=runs, note=note))
    return rows


def pointwise() -> list[Result]:
    """The pointwise estimator with a bandwidth of its own for every quantile, 500 units."""
    rows: list[Result] = []
    options = {"estimator": "pointwise", "bandwidth": "mse", "n_boot": config["table2"]["draws"]}
    runs = config["pointwise"]["runs"]
    for design in ("normal", "mixture"):
        for what, values in table2.cell(design, 500, runs, {"mse": options})["mse"].items():
            stem = f"{design}_500_pointwise_{what}"
            if what in ("length", "h"):
                rows.append(length_row(f"{stem}_mse", values, what))
            elif what != "nullity_0":
                note = f"defaults of cs.r3d with a bandwidth per quantile; the paper prints {PUBLISHED[stem]}"
                rows.append(row(f"{stem}_mse", *table2.share(values), runs=runs, note=note))
    return rows


def length_row(name: str, values: np.ndarray, what: str) -> Result:
    """A median over studies."""
    words = {"length": "median of the band's mean length", "h": "median bandwidth"}[what]
    return row(name, float(np.median(values)), runs=values.size, note=f"defaults of cs.r3d: {words}")


def small() -> list[Result]:
    """Default bands with few units, where asymptotic ones fail."""
    rows: list[Result] = []
    runs = config["small"]["runs"]
    for n in config["small"]["sizes"]:
        found = table2.cell("normal", n, runs, {"default": {"n_boot": config["table2"]["draws"]}})["default"]
        for what in ("coverage", "homogeneity"):
            note = f"defaults of cs.r3d, normal design, n = {n}, n draws per unit: {what}, %"
            rows.append(row(f"small_{n}_{what}", *table2.share(found[what]), runs=runs, note=note))
        rows += [length_row(f"small_{n}_{what}", found[what], what) for what in ("length", "h")]
    return rows


# %% [markdown]
# ## Pooled pixels
# An ordinary quantile RD on all pixels targets quantiles of a mixture over units: its error at a tail, relative to the
# effect, beside ours on the same data.


# %%
def pooled() -> list[Result]:
    """Mean relative error at q = .1 and .9 of the pooled quantile RD and of ours."""
    rows: list[Result] = []
    c = config["bias"]
    for design in ("normal", "mixture"):
        found = pixels.errors(design, c["repeats"], units=c["units"], draws=c["draws"])
        for (method, level), values in found.items():
            words = {"pooled": "quantile RD on pooled pixels", "ours": "cs.r3d's curve at the same h"}[method]
            note = f"{words}, {design} design, q = {level:g}: (estimate - tau) / tau, h = .5, {c['units']} units"
            rows.append(mean_row(f"bias_{design}_{method}_{100 * level:.0f}", values, note))
    return rows


# %% [markdown]
# ## Run, write, report

# %%
parts = {
    "reference": reference,
    "senate": senate,
    **{f"table2_{n}": functools.partial(table2_rows, n) for n in (500, 1000, 2000)},
    "pointwise": pointwise,
    "small": small,
    "pixels": pooled,
}
results = run(HERE, parts)

# %% [markdown]
# The headline numbers.

# %%
number = {found["id"]: float(found["ours"]) for found in results if found["ours"]}
if "package_gap" in number:
    assert number["package_gap"] < 1e-8
if "senate_p1_h20" in number:
    assert abs(number["senate_p1_h20"] - 7.270356) < 1e-6
if not FAST:
    assert all(92.5 <= number[f"small_{n}_coverage"] <= 97.0 for n in (200, 300))
