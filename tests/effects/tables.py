"""Tables that the tests of this folder share."""

import numpy as np

from causalsat import EffectTable

ADJUST = ["none", "tabular", "image", "both"]


def make_table(**changes):
    """Four rows with a full covariance, 399 draws and influence values; keywords replace arguments of build."""
    rng = np.random.default_rng(4)
    root = rng.normal(size=(4, 4))
    covariance = root @ root.T / 40 + 0.01 * np.eye(4)
    estimate = np.array([1.5, 0.9, 0.4, 1.0 / 3.0])
    arguments = {
        "term": "road",
        "estimate": estimate,
        "std_error": np.sqrt(np.diag(covariance)),
        "n_obs": 400,
        "covariance": covariance,
        "draws": rng.multivariate_normal(estimate, covariance, size=399),
        "influence": rng.normal(size=(400, 4)),
        "meta": {
            "estimator": "image_ate",
            "estimand": "average effect",
            "assumptions": ["no unmeasured confounding", "overlap"],
            "n_boot": 399,
            "n_failed": 0,
            "resampling": "iid",
            "seed": 7,
            "data_hash": "abc",
            "warnings": ["few clusters"],
            "dropped": {"missing outcome": 3},
        },
    }
    index = changes.pop("index", {"adjust": ADJUST})
    return EffectTable.build(index, **(arguments | changes))
