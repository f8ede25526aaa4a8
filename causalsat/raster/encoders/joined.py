"""Several encoders whose vectors stand side by side, and what a user may pass as ``encoder``."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from causalsat.errors import OptionError, one_of
from causalsat.raster.encoders.bands import Bands
from causalsat.raster.encoders.callables import CallableEncoder
from causalsat.raster.encoders.protocol import Encoder, FitSample, FittedEncoder
from causalsat.raster.encoders.rcf import Rcf

NAMES = ("rcf", "bands")


@dataclass(frozen=True)
class Joined:
    """Encoders applied to the same chips, columns joined in the order given."""

    parts: tuple[Encoder, ...]

    @property
    def n_fit_places(self) -> int:
        """The largest fit sample any part wants."""
        return max(part.n_fit_places for part in self.parts)

    def spec(self) -> dict[str, Any]:
        """The parts' options as plain JSON."""
        return {"encoder": "joined", "parts": [part.spec() for part in self.parts]}

    def fit(self, sample: FitSample) -> "FittedJoined":
        """Fit each part on its own share of the sample, so that a part alone gives the same numbers."""
        return FittedJoined(tuple(part.fit(_head(sample, part.n_fit_places)) for part in self.parts))

    def restore(self, arrays: dict[str, np.ndarray], notes: dict[str, Any]) -> "FittedJoined":
        """Every part with its own arrays."""
        fitted = []
        for i, (part, note) in enumerate(zip(self.parts, notes["parts"])):
            own = {name.split("/", 1)[1]: a for name, a in arrays.items() if name.split("/", 1)[0] == str(i)}
            fitted.append(part.restore(own, note))
        return FittedJoined(tuple(fitted))


@dataclass(frozen=True)
class FittedJoined:
    """Fitted encoders side by side."""

    parts: tuple[FittedEncoder, ...]

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The parts' names; a part that repeats earlier names gets its number in front."""
        names: list[str] = []
        for i, part in enumerate(self.parts):
            own = part.feature_names
            names.extend(f"{i}:{name}" for name in own) if set(own) & set(names) else names.extend(own)
        return tuple(names)

    def encode(self, batch: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """The parts' features, joined by column."""
        return np.concatenate([part.encode(batch, mask) for part in self.parts], axis=1)

    def arrays(self) -> dict[str, np.ndarray]:
        """The parts' arrays under ``<number>/<name>``."""
        return {f"{i}/{name}": a for i, part in enumerate(self.parts) for name, a in part.arrays().items()}

    def notes(self) -> dict[str, Any]:
        """The parts' notes."""
        return {"parts": [part.notes() for part in self.parts]}


def as_encoder(encoder: Any, seed: int = 0) -> Encoder:
    """A name ("rcf" takes ``seed``), an encoder, a function, or a list of these."""
    if isinstance(encoder, str):
        return Rcf(seed=seed) if one_of("encoder", encoder, NAMES) == "rcf" else Bands()
    if isinstance(encoder, Sequence):
        if not encoder:
            raise OptionError("encoder=[] is empty; name at least one encoder.")
        return Joined(tuple(as_encoder(part, seed) for part in encoder))
    if isinstance(encoder, Rcf | Bands | CallableEncoder | Joined):
        return encoder
    if all(hasattr(encoder, name) for name in ("n_fit_places", "spec", "fit", "restore")):
        return cast(Encoder, encoder)
    if callable(encoder):
        return CallableEncoder(encoder)
    raise OptionError(
        f"encoder={encoder!r} must be a name ({', '.join(NAMES)}), an encoder, a function, or a list of these."
    )


def encoder_from_spec(spec: dict[str, Any]) -> Encoder:
    """The declaration that ``spec()`` wrote, for the encoders of this package."""
    options = {name: value for name, value in spec.items() if name != "encoder"}
    if spec.get("encoder") == "rcf":
        return Rcf(**options)
    if spec.get("encoder") == "bands":
        return Bands(**options)
    if spec.get("encoder") == "joined":
        return Joined(tuple(encoder_from_spec(part) for part in options["parts"]))
    raise OptionError(f"encoder= is needed: {spec.get('encoder')!r} cannot be built again from its saved options.")


def unnamed_callables(encoder: Encoder) -> bool:
    """Whether some part is a function without name and version."""
    if isinstance(encoder, Joined):
        return any(unnamed_callables(part) for part in encoder.parts)
    return isinstance(encoder, CallableEncoder) and not encoder.named


def _head(sample: FitSample, n: int) -> FitSample:
    return FitSample(
        sample.ids[:n], sample.pixels[:n], sample.mask[:n], sample.normalise, sample.band_names, sample.n_px
    )
