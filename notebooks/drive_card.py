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
# # Returns to schooling with an instrument, and what a robust radius does and does not buy
#
# Card (1995) asks what a year of schooling adds to the log wage of 3,010 men and uses growing up near a college as the
# instrument. `cs.drive` fits DRIVE (Qu and Kwon 2024): the effect with the smallest worst-case error over all laws of
# the projected data within a Wasserstein ball of squared radius `rho`. At `rho = 0` it is two-stage least squares.
#
# What it does **not** buy, said first:
#
# - it does not repair invalid instruments: below its threshold it has the limit of TSLS, right or wrong, and where the
#   instruments contradict each other it moves that limit towards zero, whatever the truth;
# - with valid, strong instruments its mean squared error is not below that of TSLS;
# - it shrinks towards zero. That helps where the error of TSLS points away from zero and hurts where it points towards
#   zero. The last part of this notebook shows both.

# %%
import os
import warnings

import numpy as np
from linearmodels.datasets import card

import causalsat as cs
from causalsat.simulate.iv import iv

warnings.simplefilter("ignore", cs.errors.CausalsatWarning)
FAST = os.environ.get("CAUSALSAT_FAST") == "1"
RUNS = 60 if FAST else 150

# %% [markdown]
# ## One instrument: DRIVE is TSLS
# With as many instruments as treatments nothing contradicts the fit, and below the threshold the estimate is TSLS up to
# rounding. The first stage is weak (effective F about 14), so the summary puts the Anderson-Rubin and conditional
# likelihood ratio sets first: they alone hold then.

# %%
men = card.load()
study = {
    "outcome": "lwage",
    "treatment": "educ",
    "covariates": ["exper", "expersq", "black", "smsa", "south", "smsa66", *(f"reg{r}" for r in range(662, 670))],
}
one = cs.drive(men, instruments="nearc4", compare=("ols", "tsls", "liml", "fuller"), **study)
print(one.summary())

# %% [markdown]
# Above the threshold the estimate no longer tends to the effect. With one treatment its limit does not even depend on
# the size of the effect, only on its sign.

# %%
beyond = cs.drive(men, instruments="nearc4", rho=5 * one.rho_report.rho_hat, sets=(), n_boot=99, **study)
print(beyond.meta["estimand"])
print(one.path([0.0, one.rho, one.rho_report.rho_hat, 2 * one.rho_report.rho_hat, 5 * one.rho_report.rho_hat]))

# %% [markdown]
# ## Two instruments: shrinkage begins at once
# With the two-year college as a second instrument the two disagree a little. DRIVE then lies between TSLS and zero at
# every radius above zero. The distance vanishes as rows are added if both instruments are valid; it is no test of
# validity.

# %%
both = cs.drive(men, instruments=["nearc4", "nearc2"], compare=("ols", "tsls", "liml"), **study)
print(both.summary())
ax = both.plot(kind="path")

# %% [markdown]
# How large may the direct effect of a college nearby on wages be before the intervals hold zero? The answer is in
# standard deviations of log wage per standard deviation of the instrument.

# %%
doubt = one.sensitivity(direct=0.01)
print(doubt.summary())

# %% [markdown]
# ## Both signs of the bias
# Simulated studies with effect 1 and weak instruments. With confounding of .6 the bias of TSLS points away from zero,
# with -.6 towards zero; nothing else differs. The errors of `fuller` stand beside, a correction that knows no direction.

# %%
def median_errors(confounding):
    """Median absolute errors over simulated studies with the same seeds."""
    errors = []
    for seed in range(RUNS):
        data, truth = iv(n=500, q=4, effect=1.0, concentration=10.0, confounding=confounding, seed=seed)
        table = cs.drive(
            data, outcome="y", treatment="x", instruments=["z1", "z2", "z3", "z4"], sets=(), n_boot=0,
            compare=("tsls", "fuller"), options=cs.DriveOptions(n_law=1000),
        ).table
        found = {"drive": table.row(method="drive", interval="limit")}
        found |= {m: table.row(method=m, interval="wald") for m in ("tsls", "fuller")}
        errors.append([abs(found[m]["estimate"] - truth["effect"][0]) for m in ("drive", "tsls", "fuller")])
    return dict(zip(("drive", "tsls", "fuller"), np.median(errors, axis=0).round(3).tolist()))


away, towards = median_errors(0.6), median_errors(-0.6)
print("bias away from zero:", away)
print("bias towards zero:  ", towards)

# %% [markdown]
# Which of the two cases a study is in is a question about the world, not about the method. If the answer is not known,
# the sets above are what the data say.

# %% [markdown]
# ## What the numbers must be

# %%
row = one.table.row
tsls = row(method="tsls", interval="wald")["estimate"]
assert abs(row(method="drive", interval="limit")["estimate"] - tsls) < 1e-12
assert abs(tsls - 0.1315038) < 1e-7
assert abs(row(method="ar", interval="homoskedastic")["conf_low"] - 0.024855) < 1e-6
assert list(one.table["method"])[0] == "ar"  # weak instruments: sets first
A, rho = one.rho_report.lambda_min, beyond.rho
per_sd = one.scale_factors["lwage"] / one.scale_factors["educ"]
assert abs(beyond.table["estimate"][0] - np.sqrt(A / (rho - A)) * per_sd) < 1e-9
assert beyond.table["interval"][0] == "pseudo_true"
shrunk, plain = both.table.row(method="drive", interval="limit"), both.table.row(method="tsls", interval="wald")
assert 0 < shrunk["estimate"] < plain["estimate"] and both.rho_report.ratio < 1
assert away["drive"] < away["tsls"] and towards["drive"] > towards["tsls"]
