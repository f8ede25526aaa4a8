"""Concordance of a score with a binary label (area under the ROC curve), by weighted mid-ranks within groups."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array


def wins(m: Array, d: Array, w: Array, group: Array) -> tuple[Array, Array]:
    """Weight beaten by each row among the other arm of its own group, and the weight there is to beat.

    For a treated row: the sum over controls of w (1{m > m0} + 1{m = m0}/2); for a control row: the sum over treated
    of w (1{m1 > m} + 1{m1 = m}/2). ``group`` (n,) int; (n,) each.
    """
    n = m.shape[0]
    order = jnp.lexsort((m, group))
    score, label, block = m[order], d[order], group[order]
    mass0, mass1 = w[order] * (1.0 - label), w[order] * label
    new_block = jnp.concatenate([jnp.ones(1, bool), block[1:] != block[:-1]])
    new_tie = new_block | jnp.concatenate([jnp.ones(1, bool), score[1:] != score[:-1]])
    block_id, tie_id = jnp.cumsum(new_block) - 1, jnp.cumsum(new_tie) - 1

    def below_and_total(mass: Array) -> tuple[Array, Array]:
        tied = jax.ops.segment_sum(mass, tie_id, num_segments=n)
        total = jax.ops.segment_sum(mass, block_id, num_segments=n)
        up_to = jnp.cumsum(tied)[tie_id]
        before = (jnp.cumsum(total) - total)[block_id]
        return up_to - before - 0.5 * tied[tie_id], total[block_id]

    below0, total0 = below_and_total(mass0)
    below1, total1 = below_and_total(mass1)
    beaten = jnp.where(label > 0, below0, total1 - below1)
    rivals = jnp.where(label > 0, total0, total1)
    return jnp.zeros_like(m).at[order].set(beaten), jnp.zeros_like(m).at[order].set(rivals)


def _one_group(m: Array, group: Array | None) -> Array:
    return jnp.zeros(m.shape[0], jnp.int64) if group is None else group


def auc(m: Array, d: Array, w: Array, group: Array | None = None) -> Array:
    """Share of (treated, control) pairs of the same group in which m ranks the treated higher; ties count one half.

    Pairs carry the product of their weights, so groups are averaged with weights n1 n0.
    """
    beaten, rivals = wins(m, d, w, _one_group(m, group))
    return jnp.sum(w * d * beaten) / jnp.sum(w * d * rivals)


def auc_influence(m: Array, d: Array, w: Array, group: Array | None = None) -> tuple[Array, Array]:
    """AUC and its influence values (n,), m held: ``(d/P)(F0(m) - AUC) + ((1-d)/(1-P))(1 - F1(m) - AUC)``.

    With groups the formula is the derivative of (won pairs) / (pairs), both summed over groups. Weights are inside.
    """
    beaten, rivals = wins(m, d, w, _one_group(m, group))
    pairs = jnp.sum(w * d * rivals)
    value = jnp.sum(w * d * beaten) / pairs
    return value, w * (beaten - value * rivals) * (w.shape[0] / pairs)


def auc_without(m: Array, d: Array, w: Array, group: Array, cluster: Array, n_clusters: int) -> Array:
    """(g,) AUC without each cluster, exactly: pairs with one or both ends in it are taken out."""
    beaten, rivals = wins(m, d, w, group)
    inner_beaten, inner_rivals = wins(m, d, w, group * n_clusters + cluster)

    def left(all_rows: Array, inner: Array) -> Array:
        touching = jax.ops.segment_sum(w * all_rows, cluster, num_segments=n_clusters)
        both_ends = jax.ops.segment_sum(w * d * inner, cluster, num_segments=n_clusters)
        return jnp.sum(w * d * all_rows) - touching + both_ends

    return left(beaten, inner_beaten) / left(rivals, inner_rivals)


class Ranked(NamedTuple):
    """AUC within groups, its influence values (n,), pooled AUC, AUC of a second score, and AUC without each cluster."""

    auc: Array
    influence: Array
    pooled: Array
    second: Array
    without: Array


@functools.partial(jax.jit, static_argnames="n_clusters")
def ranked(m: Array, second: Array, d: Array, w: Array, group: Array, cluster: Array, *, n_clusters: int) -> Ranked:
    """Everything an assignment check needs in one compiled call; rows of zero weight change nothing but n."""
    value, influence = auc_influence(m, d, w, group)
    without = auc_without(m, d, w, group, cluster, n_clusters)
    return Ranked(value, influence, auc(m, d, w), auc(second, d, w), without)
