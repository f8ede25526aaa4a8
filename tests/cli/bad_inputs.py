"""Bad options, study files and command lines, each with the message it must get."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import causalsat as cs
from causalsat.config import load_config
from causalsat.errors import DataError, OptionError
from causalsat.run import rebuild_report, run_study, validate_study


@dataclass(frozen=True)
class BadInput:
    """One bad input: how to make it, which error, and what the message must say."""

    name: str
    make: Callable[[Path], object]
    error: type[Exception]
    match: str


def data(n: int = 200) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "y": rng.normal(size=n),
        "w": (np.arange(n) % 2).astype(float),
        "x": rng.normal(size=n),
        "w2": 1.0 - (np.arange(n) % 2),
        "site": np.arange(n) // 4,
    }


def ate(**changes) -> Callable[[Path], object]:
    arguments = {"outcome": "y", "treatment": "w", "covariates": ["x"], "adjust": ("none", "tabular")} | changes
    return lambda folder: cs.image_ate(data(), **arguments)


def study(text: str, *overrides: str) -> Callable[[Path], object]:
    def make(folder: Path) -> object:
        columns = data(60)
        rows = [",".join(columns)] + [",".join(str(v[i]) for v in columns.values()) for i in range(60)]
        (folder / "table.csv").write_text("\n".join(rows) + "\n")
        (folder / "study.toml").write_text(text)
        config = load_config(folder / "study.toml", overrides)
        return validate_study(config)

    return make


FINE = (
    '[study]\ntable = "table.csv"\n[image_ate]\noutcome = "y"\ntreatment = "w"\ncovariates = ["x"]\nadjust = ["none"]\n'
)


def existing_out(folder: Path) -> object:
    study(FINE)(folder)
    (folder / "taken").mkdir()
    return run_study(folder / "study.toml", out=folder / "taken")


CASES = [
    BadInput("unknown adjustment set", ate(adjust="images"), OptionError, r'adjust=.*allowed.*Did you mean "image"'),
    BadInput("unknown estimand", ate(estimand="atc"), OptionError, r"estimand=.*allowed"),
    BadInput("unknown method", ate(method="aiwp"), OptionError, r'method=.*Did you mean "aipw"'),
    BadInput("adjustment set named twice", ate(adjust=("none", "none")), OptionError, "twice"),
    BadInput("level of 95", ate(level=95), OptionError, r"level=95.*\(0, 1\)"),
    BadInput("half a bootstrap draw", ate(n_boot=200.5), OptionError, r"n_boot=200\.5.*whole number"),
    BadInput("a boolean as a count", ate(n_boot=True), OptionError, "n_boot=True"),
    BadInput("R's missing integer as a count", ate(seed=-2147483648), OptionError, "NA_integer_"),
    BadInput("clip of one half and more", ate(clip=0.7), OptionError, r"clip=0\.7"),
    BadInput("odds weights for the ATE", ate(normalize="odds"), OptionError, "ATT"),
    BadInput("wild bootstrap of scores", ate(inference=cs.Bootstrap(scheme="wild")), OptionError, "wild"),
    BadInput(
        "fixed nuisances with plain IPW",
        ate(method="ipw", inference=cs.Bootstrap(scheme="cluster", refit=False)),
        OptionError,
        "not orthogonal",
    ),
    BadInput(
        "two numbers of draws",
        ate(n_boot=99, inference=cs.Bootstrap(199, "cluster", refit=False)),
        OptionError,
        "contradicts",
    ),
    BadInput("inference as text", ate(inference="cluster"), OptionError, r"Sandwich\(\.\.\.\)"),
    BadInput("block bootstrap without a distance", lambda _: cs.Bootstrap(scheme="block"), OptionError, "block_km"),
    BadInput("unknown bootstrap scheme", lambda _: cs.Bootstrap(scheme="pairs"), OptionError, "allowed"),
    BadInput("unknown covariance", lambda _: cs.Sandwich("hc2"), OptionError, "allowed"),
    BadInput("negative Conley cutoff", lambda _: cs.Sandwich("conley", cutoff_km=-1), OptionError, "cutoff_km=-1"),
    BadInput("nothing left to adjust for", ate(covariates=None, adjust="tabular"), OptionError, "no covariates given"),
    BadInput("study file absent", lambda f: load_config(f / "nothing.toml"), OptionError, "There is no study file"),
    BadInput("study file not TOML", study("[study\n"), OptionError, "not valid TOML"),
    BadInput("unknown section", study(FINE + "[image_at]\n"), OptionError, r'Did you mean "image_ate"'),
    BadInput("unknown key", study(FINE + 'outcomes = "y"\n'), OptionError, r'Did you mean "outcome"'),
    BadInput(
        "no table", study('[study]\ntitle = "x"\n[image_ate]\noutcome="y"\ntreatment="w"\n'), OptionError, "needs table"
    ),
    BadInput("no method", study('[study]\ntable = "table.csv"\n'), OptionError, "names no method"),
    BadInput(
        "no treatment",
        study('[study]\ntable = "table.csv"\n[image_ate]\noutcome="y"\n'),
        OptionError,
        "needs treatment",
    ),
    BadInput("column not in the table", study(FINE.replace('"x"', '"xx"')), DataError, "not a column of the table"),
    BadInput(
        "covariate that is the treatment, found before any pixels are read",
        study(FINE.replace('covariates = ["x"]', 'covariates = ["w2"]')),
        DataError,
        "w2",
    ),
    BadInput("table not there", study(FINE.replace("table.csv", "tabel.csv")), DataError, "tabel.csv"),
    BadInput("override without a section", study(FINE, "level=0.9"), OptionError, r"section\.key=value"),
    BadInput("unknown kind of inference", study(FINE + 'inference = {type = "boot"}\n'), OptionError, "inference.type"),
    BadInput("unknown field of an option", study(FINE + "folds = {k = 5}\n"), OptionError, "'k'"),
    BadInput(
        "embeddings given twice",
        study(FINE.replace("[image_ate]", 'embeddings = "e"\n[embed]\nrasters = "r.tif"\nsize_m = 100\n[image_ate]')),
        OptionError,
        "exclude each other",
    ),
    BadInput("results folder taken", existing_out, OptionError, "exists already"),
    BadInput("report of a folder that is none", lambda f: rebuild_report(f), DataError, "not a results folder"),
]
