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
# # Why did an effect change between two periods?
# The covariate mix, the treatment intensity and the outcome model all changed. Each coalition takes some of them from
# period B and the rest from A, fits least squares, and bootstraps it with the same resamples.

# %%
import os

import numpy as np

from causalsat.estimators.group_shapley import group_shapley, swap_value

N, B = 2000, 99 if os.environ.get("CAUSALSAT_FAST") == "1" else 399


def evaluate(mix, dose, model, seed):
    rng = np.random.default_rng(seed)
    x = mix + rng.normal(size=N)
    w = (rng.uniform(size=N) < 0.5).astype(float)
    y = x + model * dose * w * (1.0 + 0.5 * x) + rng.normal(size=N)

    def effect(weight):
        design = np.column_stack([np.ones(N), w, x, w * (x - np.average(x, weights=weight))])
        return np.linalg.solve(design.T @ (weight[:, None] * design), design.T @ (weight * y))[1]

    draws = [effect(rng.multinomial(N, np.full(N, 1.0 / N)).astype(float)) for _ in range(B)]
    return effect(np.ones(N)), np.array(draws)


value = swap_value({"mix": 0.0, "dose": 1.0, "model": 1.0}, {"mix": 1.0, "dose": 1.5, "model": 2.0}, evaluate)
cache = {}
table = group_shapley(value, value.groups, seed=1, cache=cache)
print(table.summary())

# %% [markdown]
# One counterfactual is missing: bounds replace the contributions.

# %%
held = {names: result for names, result in cache.items() if names != {"dose", "model"}}
bounds = group_shapley(held, value.groups, missing="bounds", structure="monotone")
print(bounds.summary())

# %%
total = table.row(group="(total)", term="contribution")
assert total["conf_low"] < 4.5 - 1.0 < total["conf_high"]
for name in value.groups:
    phi = table.row(group=name, term="contribution")["estimate"]
    low = bounds.row(group=name, term="contribution_lower")["estimate"]
    assert low - 1e-7 <= phi <= bounds.row(group=name, term="contribution_upper")["estimate"] + 1e-7
