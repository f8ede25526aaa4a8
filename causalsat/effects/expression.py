"""Linear expressions over row labels, such as ``0.5 * (image + both) - none``."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from causalsat.errors import OptionError, nearest

_NUMBER = re.compile(r"(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_WORD = re.compile(r"[^\W\d][\w.:]*")
_ROW = re.compile(r"b(\d+)")


@dataclass(frozen=True)
class Token:
    """A piece of an expression: an operator, a number, or a row (``row`` is then its position)."""

    text: str
    row: int | None = None
    value: float | None = None


@dataclass(frozen=True)
class Linear:
    """``weights @ rows + constant``, and the tokens it was written with."""

    weights: np.ndarray
    constant: float
    tokens: tuple[Token, ...]

    @property
    def rows(self) -> np.ndarray:
        """Positions of the rows that the expression names."""
        return np.array(sorted({t.row for t in self.tokens if t.row is not None}), dtype=np.int64)

    def written(self, names: Sequence[str]) -> str:
        """The expression with these names for the rows, spaced evenly."""
        text = " ".join(t.text if t.row is None else names[t.row] for t in self.tokens)
        return text.replace("( ", "(").replace(" )", ")")


def is_word(label: str) -> bool:
    """Whether a label can be written without backticks."""
    return _WORD.fullmatch(label) is not None


def parse(expression: str, labels: Sequence[str]) -> Linear:
    """Read a linear expression.

    Raises
    ------
    OptionError
        An unknown row, a product of two rows, a division by a row or by zero, unbalanced parentheses.
    """
    tokens = tuple(_tokens(expression, labels))
    reader = _Reader(expression, tokens, len(labels))
    value = reader.sum()
    if reader.position != len(tokens):
        raise OptionError(f'contrast "{expression}" cannot be read from "{tokens[reader.position].text}" on.')
    found = Linear(value[:-1], float(value[-1]), tokens)
    if not found.rows.size:
        raise OptionError(f'contrast "{expression}" names no row; the rows are {", ".join(labels)}.')
    return found


def _tokens(text: str, labels: Sequence[str]) -> list[Token]:
    longest_first = sorted(range(len(labels)), key=lambda i: -len(labels[i]))
    tokens: list[Token] = []
    start = 0
    while start < len(text):
        if text[start].isspace():
            start += 1
            continue
        token, start = _next_token(text, start, labels, longest_first)
        tokens.append(token)
    return tokens


def _next_token(text: str, start: int, labels: Sequence[str], longest_first: Sequence[int]) -> tuple[Token, int]:
    if text[start] == "`":
        end = text.find("`", start + 1)
        if end < 0:
            raise OptionError(f'contrast "{text}" has a backtick that is never closed.')
        name = text[start + 1 : end]
        if name not in labels:
            raise _unknown(text, name, labels)
        return Token(f"`{name}`", row=list(labels).index(name)), end + 1
    for i in longest_first:
        end = start + len(labels[i])
        if _WORD.match(labels[i]) and text.startswith(labels[i], start) and not _continues(text, end):
            return Token(labels[i], row=i), end
    if text[start] in "+-*/()":
        return Token(text[start]), start + 1
    number = _NUMBER.match(text, start)
    if number:
        return Token(number.group(), value=float(number.group())), number.end()
    word = _WORD.match(text, start)
    row = _ROW.fullmatch(word.group()) if word else None
    if word and row and int(row.group(1)) < len(labels):
        return Token(word.group(), row=int(row.group(1))), word.end()
    raise _unknown(text, word.group() if word else text[start], labels)


def _continues(text: str, end: int) -> bool:
    return end < len(text) and bool(re.match(r"[\w.:]", text[end])) and bool(re.match(r"[\w.:]", text[end - 1]))


def _unknown(text: str, name: str, labels: Sequence[str]) -> OptionError:
    return OptionError(
        f'contrast "{text}": "{name}" is no row. Rows are {", ".join(labels)}, or b0 to b{len(labels) - 1}; '
        f"put a label that holds spaces or begins with a digit in backticks.{nearest(name, labels)}"
    )


class _Reader:
    """Recursive descent; a value is the (k + 1,) vector of weights and, last, the constant."""

    def __init__(self, text: str, tokens: Sequence[Token], k: int) -> None:
        self.text, self.tokens, self.k, self.position = text, tokens, k, 0

    def peek(self) -> str:
        return self.tokens[self.position].text if self.position < len(self.tokens) else ""

    def sum(self) -> np.ndarray:
        value = self.product()
        while self.peek() in ("+", "-"):
            sign = 1.0 if self.peek() == "+" else -1.0
            self.position += 1
            value = value + sign * self.product()
        return value

    def product(self) -> np.ndarray:
        value = self.factor()
        while self.peek() in ("*", "/"):
            operator = self.peek()
            self.position += 1
            other = self.factor()
            value = self.times(value, other) if operator == "*" else self.over(value, other)
        return value

    def times(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        if left[:-1].any() and right[:-1].any():
            raise OptionError(f'contrast "{self.text}" multiplies two rows; only linear expressions are possible.')
        return left * right[-1] if not right[:-1].any() else right * left[-1]

    def over(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        if right[:-1].any() or right[-1] == 0.0:
            raise OptionError(f'contrast "{self.text}" divides by a row or by zero; only linear expressions work.')
        return left / right[-1]

    def factor(self) -> np.ndarray:
        if self.position >= len(self.tokens):
            raise OptionError(f'contrast "{self.text}" ends too early.')
        token = self.tokens[self.position]
        self.position += 1
        if token.row is not None or token.value is not None:
            value = np.zeros(self.k + 1)
            value[self.k if token.row is None else token.row] = 1.0 if token.value is None else token.value
            return value
        if token.text in "+-":
            return self.factor() if token.text == "+" else -self.factor()
        if token.text == "(":
            value = self.sum()
            if self.peek() != ")":
                raise OptionError(f'contrast "{self.text}" has a parenthesis that is never closed.')
            self.position += 1
            return value
        raise OptionError(f'contrast "{self.text}" has "{token.text}" where a row or a number must stand.')
