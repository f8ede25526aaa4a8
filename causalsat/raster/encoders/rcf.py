"""Random convolutional features."""

import dataclasses
import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from causalsat.errors import OptionError, count, number, one_of
from causalsat.public import public
from causalsat.raster.encoders.patches import draw_patches, gaussian_filters, whitened_filters
from causalsat.raster.encoders.protocol import FitSample

_QUANTILE = re.compile(r"q(0?\.\d+|0|1)$")
_BIAS_PATCHES = 10_000


@public
@dataclass(frozen=True)
class Rcf:
    """Random convolutional features: mean rectified responses to K = n_features / 2 random filters.

    The representation of MOSAIKS (Rolf et al. 2021, Nature Communications 12:4392): for filter k,
    ``c_k`` is the valid cross-correlation of the normalised image with ``F_k`` (stride 1, kernel not flipped),
    ``phi_k+ = mean relu(c_k - b)`` and ``phi_k- = mean relu(-c_k - b)`` over positions whose P x P support is fully
    valid. Columns: all +, then all -. With ``source="data"`` the filters are ``F = X Z Z'`` for patches X of the
    imagery itself, each less its mean and divided by its norm, and ``Z = V (E + eps)^(-1/2) V'`` their ZCA whitening.
    Filters see pixels only, never outcome or treatment. Features scale with the units of the pixels.

    Parameters
    ----------
    n_features : int
        2K, even.
    patch : int
        P, side of a filter in pixels.
    bias : float or "q0.75"-like text
        The threshold b, or the quantile of ``|c|`` over (up to 10,000) patches of the fit sample that sets it.
    zca_eps : float
        Added to the eigenvalues of the patches' second moment.
    n_patches : int
        Patches drawn over the whole fit sample; the whitening uses them all.
    n_fit : int
        Places whose chips patches are drawn from: those with the smallest hash of (seed, id).
    source : {"data", "gaussian"}
        Filters from patches, or independent standard normals.
    seed : int
        Names the filters; 0 is a seed like any other.
    resize : int, optional
        Resize chips to this side first (bilinear, half-pixel centres).
    block : int, optional
        Columns alternate + and - in blocks of this many filters instead.

    Raises
    ------
    OptionError
        An odd number of features, a patch larger than the chip, an unknown source or bias.

    Examples
    --------
    >>> from causalsat import Rcf
    >>> Rcf(n_features=256, patch=6).n_filters
    128
    """

    n_features: int = 1024
    patch: int = 3
    bias: float | str = 0.0
    zca_eps: float = 1e-3
    n_patches: int = 100_000
    n_fit: int = 256
    source: str = "data"
    seed: int = 0
    resize: int | None = None
    block: int | None = None

    def __post_init__(self) -> None:
        if count("Rcf.n_features", self.n_features, 2) % 2:
            raise OptionError(f"Rcf.n_features={self.n_features} must be even: each filter gives a + and a - feature.")
        for name in ("patch", "n_patches", "n_fit"):
            count(f"Rcf.{name}", getattr(self, name), 1)
        count("Rcf.seed", self.seed, 0)
        number("Rcf.zca_eps", self.zca_eps, 0.0, math.inf)
        one_of("Rcf.source", self.source, ("data", "gaussian"))
        if isinstance(self.bias, str):
            if not _QUANTILE.match(self.bias):
                raise OptionError(f'Rcf.bias={self.bias!r} must be a number or a quantile such as "q0.75".')
        else:
            number("Rcf.bias", self.bias, -math.inf, math.inf)
        if self.source == "data" and self.n_patches < self.n_filters:
            raise OptionError(f"Rcf.n_patches={self.n_patches} must be at least the {self.n_filters} filters.")
        for name in ("resize", "block"):
            if getattr(self, name) is not None:
                count(f"Rcf.{name}", getattr(self, name), 1)
        if self.block is not None and self.n_filters % self.block:
            raise OptionError(f"Rcf.block={self.block} must divide the {self.n_filters} filters.")

    @classmethod
    def mosaiks(cls, seed: int = 0) -> "Rcf":
        """The settings of the MOSAIKS paper's own code: 4096 filters of 3 x 3, images resized to 256 x 256.

        RGB divided by 255, 10 images, 100,000 patches, eps 1e-3, b = 0, and that code's column order (blocks of 1024
        filters, + then - in each). Its one pooling cell is the mean over all 254 x 254 positions. Not reproduced:
        that code calls a general eigensolver, and its patches depend on a thread count, so a seed does not name one
        encoder there.
        """
        return cls(n_features=8192, patch=3, bias=0.0, zca_eps=1e-3, n_fit=10, seed=seed, resize=256, block=1024)

    @property
    def n_filters(self) -> int:
        """K."""
        return int(self.n_features) // 2

    @property
    def n_fit_places(self) -> int:
        """Places wanted for the fit: none for gaussian filters with a given bias."""
        return 0 if self.source == "gaussian" and not isinstance(self.bias, str) else int(self.n_fit)

    def spec(self) -> dict[str, Any]:
        """The options as plain JSON."""
        return {"encoder": "rcf"} | dataclasses.asdict(self)

    def fit(self, sample: FitSample) -> "FittedRcf":
        """Draw patches, whiten, keep K filters (float64 throughout, cast to float32 at the end)."""
        side = self.resize or sample.n_px
        if self.patch > side:
            raise OptionError(f"Rcf.patch={self.patch} is larger than the chip of {side} pixels.")
        patches = np.zeros((0, 0))
        ids: tuple[str, ...] = ()
        if self.n_fit_places:
            resized = sample if self.resize is None else _resized_sample(sample, self.resize)
            patches, ids = draw_patches(resized, patch=self.patch, n_patches=self.n_patches, seed=self.seed)
        if self.source == "data":
            filters = whitened_filters(patches, n_filters=self.n_filters, eps=self.zca_eps, seed=self.seed)
        else:
            filters = gaussian_filters(
                n_filters=self.n_filters, patch=self.patch, n_bands=sample.n_bands, seed=self.seed
            )
        bias = self._bias(patches, filters)
        return self.restore({"filters": filters}, {"bias": bias, "fit_ids": list(ids)})

    def restore(self, arrays: dict[str, np.ndarray], notes: dict[str, Any]) -> "FittedRcf":
        """The encoder with saved filters."""
        filters = np.ascontiguousarray(arrays["filters"], dtype=np.float32)
        return FittedRcf(self, filters, float(notes["bias"]), tuple(notes["fit_ids"]))

    def _bias(self, patches: np.ndarray, filters: np.ndarray) -> float:
        if not isinstance(self.bias, str):
            return float(self.bias)
        take = np.linspace(0, len(patches) - 1, min(len(patches), _BIAS_PATCHES)).astype(np.int64)
        responses = np.abs(patches[take].astype(np.float32) @ filters.T)
        return float(np.float32(np.quantile(responses, float(self.bias[1:]))))


@dataclass(frozen=True)
class FittedRcf:
    """:class:`Rcf` with its filters."""

    options: Rcf
    filters: np.ndarray
    """(K, P*P*C) float32, entries ordered row, column, band."""
    bias: float
    fit_ids: tuple[str, ...]

    @property
    def feature_names(self) -> tuple[str, ...]:
        """``rcf/0000+`` ... in column order."""
        k = self.options.n_filters
        width = max(4, len(str(k - 1)))
        names = [f"rcf/{i:0{width}d}{sign}" for sign in "+-" for i in range(k)]
        return tuple(names[i] for i in self._columns())

    def encode(self, batch: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """(N, n, n, C) float32 to (N, 2K) float32; NaN for a chip without a fully valid window."""
        from causalsat.kernels.precision import float64
        from causalsat.kernels.rcf import rcf_features

        if self.options.resize is not None:
            batch, mask = resize_chips(batch, mask, self.options.resize)
        with float64():
            bias = np.float32(self.bias)
            features = np.asarray(rcf_features(batch, mask, self.filters, bias, patch=self.options.patch))
        return features if self.options.block is None else features[:, self._columns()]

    def _columns(self) -> np.ndarray:
        k, block = self.options.n_filters, self.options.block
        if block is None:
            return np.arange(2 * k)
        starts = np.arange(0, k, block)
        return np.concatenate([sign + np.arange(s, s + block) for s in starts for sign in (0, k)])

    def arrays(self) -> dict[str, np.ndarray]:
        """The filters."""
        return {"filters": self.filters}

    def notes(self) -> dict[str, Any]:
        """The threshold and the ids that patches came from."""
        return {"bias": self.bias, "fit_ids": list(self.fit_ids)}


def resize_chips(pixels: np.ndarray, mask: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Bilinear resize to ``side`` x ``side`` with half-pixel centres; a pixel is valid if all its sources are."""
    if pixels.shape[1] == side:
        return pixels, mask
    weights = _bilinear(pixels.shape[1], side)
    resized = np.einsum("ia,najc->nijc", weights, np.einsum("jb,nabc->najc", weights, pixels, optimize=True))
    touched = (weights > 0).astype(np.float32)
    invalid = np.einsum("ia,jb,nab->nij", touched, touched, (~mask).astype(np.float32), optimize=True)
    return resized.astype(np.float32), invalid == 0


def _bilinear(source: int, side: int) -> np.ndarray:
    centre = np.clip((np.arange(side) + 0.5) * source / side - 0.5, 0, source - 1)
    low = np.floor(centre).astype(np.int64)
    high = np.minimum(low + 1, source - 1)
    weights = np.zeros((side, source), np.float32)
    rows = np.arange(side)
    np.add.at(weights, (rows, low), 1 - (centre - low))
    np.add.at(weights, (rows, high), centre - low)
    return weights


def _resized_sample(sample: FitSample, side: int) -> FitSample:
    chips = [resize_chips(pixels[None], mask[None], side) for _, pixels, mask in sample]
    return FitSample(
        sample.ids,
        np.concatenate([pixels for pixels, _ in chips]),
        np.concatenate([mask for _, mask in chips]),
        lambda pixels, mask: pixels,
        sample.band_names,
        side,
    )
