"""Bad inputs of `drive`, each with the message it must get."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

import causalsat as cs
from causalsat.errors import DataError, IdentificationError, OptionError


@dataclass(frozen=True)
class BadInput:
    """One bad input: how to make it, which error, and what the message must say."""

    name: str
    make: Callable[[], object]
    error: type[Exception]
    match: str


def data(n: int = 120) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    z, v = rng.normal(size=(n, 2)), rng.normal(size=n)
    x = z @ [0.8, 0.4] + v
    group = np.arange(n) % 12
    return {
        "y": x + 0.5 * v + rng.normal(size=n), "x": x, "x2": rng.normal(size=n), "z1": z[:, 0], "z2": z[:, 1],
        "copy": 2.0 * x, "group": group, "one": np.zeros(n), "between": (group % 3).astype(float), "half": np.arange(n) % 2,
        "bad": np.where(np.arange(n) == 3, -1.0, 1.0), "flat": np.full(n, 2.0), "far": np.where(np.arange(n) == 9, np.inf, z[:, 0]),
    }  # fmt: skip


def call(**changes) -> Callable[[], object]:
    arguments = {"outcome": "y", "treatment": "x", "instruments": ["z1", "z2"], "n_boot": 0} | changes
    return lambda: cs.drive(data(), **arguments)


def few() -> object:
    return cs.drive(
        {k: v[:5] for k, v in data().items()}, outcome="y", treatment="x", instruments=["z1", "z2"], n_boot=0
    )


CASES = [
    BadInput("drive: radius instead of rho", call(radius=0.1), OptionError, "squared radius"),
    BadInput("drive: unknown rule", call(rho="theroy"), OptionError, 'Did you mean "theory"'),
    BadInput("drive: negative rho", call(rho=-0.5), OptionError, r"rho=-0\.5"),
    BadInput("drive: cross-validation without environments", call(rho="cv"), OptionError, "environment"),
    BadInput("drive: too few environments", call(rho="cv", folds=cs.Folds(by="half")), DataError, "environment"),
    BadInput("drive: k-class without kappa", call(compare="kclass"), OptionError, "kappa"),
    BadInput("drive: unknown set", call(sets="lr"), OptionError, "sets="),
    BadInput("drive: wild bootstrap", call(n_boot=999, inference=cs.Bootstrap(199, "wild")), OptionError, "wild"),
    BadInput("drive: hc3", call(covariance=cs.Sandwich("hc3")), OptionError, "hc3"),
    BadInput(
        "drive: fewer instruments than treatments",
        call(treatment=["x", "x2"], instruments="z1"),
        IdentificationError,
        "fewer|instrument",
    ),
    BadInput("drive: instrument equals the treatment", call(instruments=["z1", "copy"]), IdentificationError, "copy"),
    BadInput("drive: constant outcome", call(outcome="flat"), DataError, "flat"),
    BadInput("drive: infinite instrument", call(instruments=["z1", "far"]), DataError, "far"),
    BadInput("drive: negative weights", call(weights="bad"), DataError, "bad"),
    BadInput("drive: one cluster", call(cluster="one"), DataError, "one"),
    BadInput(
        "drive: no variation inside fixed effects",
        call(instruments=["between"], fixed_effects="group"),
        DataError,
        "between",
    ),
    BadInput("drive: too few rows", few, DataError, "rows"),
    BadInput("drive: joint as a text", call(joint="no"), OptionError, "joint='no' must be True or False"),
    BadInput(
        "drive: a switch as a number", lambda: cs.DriveOptions(many_instruments=3), OptionError, "many_instruments=3"
    ),
    BadInput(
        "drive: draws beside a sandwich",
        call(n_boot=500, inference=cs.Sandwich("hc1")),
        OptionError,
        "n_boot=500 asks for bootstrap draws",
    ),
    BadInput(
        "drive: draws beside two cluster columns",
        call(n_boot=500, cluster=["group", "half"]),
        OptionError,
        "two cluster columns have none",
    ),
    BadInput(
        "drive: components without images", call(embedding_control="pca"), OptionError, "embeddings= is not given"
    ),
    BadInput(
        "drive: components under ridge", call(options=cs.DriveOptions(n_components=3)), OptionError, "n_components=3"
    ),
    BadInput("drive: raw embeddings as instruments", call(instruments=np.zeros((120, 3))), OptionError, "instruments"),
]
