"""The limit interval of DRIVE as a function of direct effects of the instruments, at a fixed radius."""

from dataclasses import replace

import numpy as np

from causalsat.estimators.drive_equation import problem_of
from causalsat.estimators.drive_fit import solve_drive
from causalsat.estimators.drive_law import LAW_STREAM, law_normals, limit_law, shrinkage, t_factors, variance_root
from causalsat.estimators.drive_options import DriveChoices
from causalsat.estimators.drive_problem import DriveProblem
from causalsat.estimators.drive_sensitivity_sets import DirectMoments
from causalsat.inference.intervals import draws_needed, interval, tail_rank
from causalsat.inference.iv_rows import IvRows

_SEARCHED = 1999
_FLAT = 1e-10


def shifted(rows: IvRows, eta: np.ndarray) -> IvRows:
    """The rows with the direct effect ``eta`` (q,) taken out of the outcome."""
    return replace(rows, y=rows.y - rows.Z @ eta)


class DriveEnds:
    """Ends of the limit interval of DRIVE as functions of the direct effects, at a fixed radius.

    ``df`` are the degrees of freedom of its law, infinite for the normal one.
    """

    def __init__(self, moments: DirectMoments, choices: DriveChoices, rho: float, df: float) -> None:
        self.moments, self.choices, self.rho, rows = moments, choices, rho, moments.rows
        draws = max(_SEARCHED, draws_needed(choices.level))
        self.normals = law_normals(draws, rows.q, choices.seed, LAW_STREAM)
        self.factors = t_factors(draws, df, choices.seed) if np.isfinite(df) else np.ones(draws)
        self.rank = tail_rank(draws, 0.5 * (1.0 - choices.level))
        squares, unit = np.mean(rows.weights[:, None] * rows.X**2, axis=0), choices.scale == "unit"
        self.sd_x = np.sqrt(squares) if unit else np.ones(rows.p)
        self.sd_y = float(np.sqrt(np.mean(rows.weights * rows.y**2))) if unit else 1.0
        # Only the target "ols" looks beyond B and w: at what lies outside the instruments, which eta does not move.
        # That target has no units, so that its outcome keeps one scale.
        self.held = rows.scaled(self.sd_y, self.sd_x)
        lowest = np.linalg.eigvalsh(self.problem(np.zeros(rows.q))[0].A)[0]
        self.below = choices.shrink_to == "zero" and choices.metric == "tsls" and rho < lowest

    def problem(self, eta: np.ndarray) -> tuple[DriveProblem, np.ndarray]:
        """The problem at direct effects eta (q,) and the turn (q, q) from orthonormal instruments to its metric."""
        moments, choices, inner = self.moments, self.choices, self.moments.rows.moments
        sd_y, turn = self.sd_y, np.eye(moments.rows.q)
        if choices.scale == "unit" and choices.shrink_to == "zero":
            sd_y = moments.size(np.concatenate([[1.0], inner.b_tsls, -eta]))
        if choices.metric == "gmm":
            here = np.concatenate([[1.0], moments.move @ eta, -eta])
            values, vectors = np.linalg.eigh(moments.variance(here) / moments.second_factor)
            turn = moments.size(here) * (vectors / np.sqrt(np.maximum(values, _FLAT * values[-1]))[None, :]).T
        B, w = turn @ inner.B / self.sd_x[None, :], turn @ (inner.w - inner.L.T @ eta) / sd_y
        return DriveProblem(self.held, turn, B, w, choices.shrink_to, choices.metric, sd_y, self.sd_x), turn

    def reach(self, eta: np.ndarray) -> np.ndarray:
        """(k,) rho over the threshold at eta (k, q)."""
        problems = [self.problem(one)[0] for one in eta]
        slopes = [problem.gradient(problem.b_tsls) for problem in problems]
        return self.rho * np.array([c @ np.linalg.solve(p.A, c) for p, c in zip(problems, slopes, strict=True)])

    def near(self, eta: np.ndarray) -> np.ndarray:
        """Low and high ends (2, p) at eta (q,), raw units, from moments and part of the draws; NaN for no law."""
        problem, turn = self.problem(eta)
        rows, (v, reason) = self.moments.rows, shrinkage(problem, self.rho)
        at = np.concatenate([[1.0], rows.moments.b_tsls - problem.to_raw(problem.b_tsls), -eta])
        root, notes = variance_root(turn @ self.moments.variance(at) @ turn.T / problem.sd_y**2)
        if reason or "reason" in notes:
            return np.full((2, rows.p), np.nan)
        left, sigma, right = np.linalg.svd(problem.B, full_matrices=True)
        turned = self.normals @ (root @ left)
        law = turned[:, : rows.p] @ (right / sigma[:, None])
        law = law - np.sqrt(np.sum(turned[:, rows.p :] ** 2, axis=1))[:, None] * v[None, :]
        ranks = np.array([law.shape[0] - self.rank, self.rank - 1])
        shifts = np.partition(law * self.factors[:, None], ranks, axis=0)[ranks] / np.sqrt(rows.n)
        return np.asarray(problem.to_raw(solve_drive(problem, self.rho).b - shifts))

    def ends(self, eta: np.ndarray) -> np.ndarray:
        """Low and high ends (2, p) at eta (q,) as in the table; NaN where rho is not below the threshold."""
        choices = self.choices
        problem = problem_of(shifted(self.moments.rows, eta), choices)
        law = limit_law(problem, self.rho, choices.covariance, n_law=choices.fine.n_law, seed=choices.seed)
        if not law.valid:
            return np.full((2, problem.rows.p), np.nan)
        estimate = problem.to_raw(solve_drive(problem, self.rho).b)
        draws = estimate[None, :] + problem.to_raw(law.draws) / np.sqrt(problem.rows.n)
        made = interval("basic", estimate, np.ones_like(estimate), level=choices.level, draws=draws)
        return np.array([made.low, made.high])
