"""The R boundary seen from Python: exact built-ins and exact bytes."""

import datetime
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from causalsat import Bootstrap, CheckResult, r_companion_path
from causalsat.errors import DataError, OptionError
from causalsat.interop.r import matrix_from_bytes, matrix_to_bytes, plain, whole_numbers
from tests.effects.tables import make_table

EXACT = (float, int, str, bool, list, dict, bytearray)


def assert_exact(value):
    assert type(value) in EXACT, type(value)
    if type(value) is dict:
        for name, item in value.items():
            assert type(name) is str
            assert_exact(item)
    if type(value) is list:
        for item in value:
            assert_exact(item)
    if type(value) is int:
        assert abs(value) <= 2**31 - 1


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ((1, 2), [1, 2]),
        ([1, 2.5], [1.0, 2.5]),
        ([True, 2], [1.0, 2.0]),
        (["a", None], ["a", ""]),
        ({"a": None, "b": 1}, {"b": 1}),
        ({1: "x"}, {"1": "x"}),
        (2**40, float(2**40)),
        ([1, 2**31], [1.0, float(2**31)]),
        (2**31 - 1, 2**31 - 1),
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (np.str_("x"), "x"),
        (Path("a/b"), "a/b"),
        (b"ab", bytearray(b"ab")),
        (datetime.date(2020, 1, 2), "2020-01-02"),
        (np.array(["2020-01-02", "NaT"], dtype="datetime64[D]"), ["2020-01-02", ""]),
        (np.array([1, 2]), [1, 2]),
        (np.array(4.0), 4.0),
        (range(3), [0, 1, 2]),
        ([], []),
    ],
)
def test_plain_values(value, expected):
    found = plain(value)
    assert found == expected
    assert type(found) is type(expected)
    assert_exact(found)


def test_missing_numbers_make_a_column_float():
    found = plain([1, None, 3])
    assert found[0] == 1.0 and type(found[0]) is float
    assert math.isnan(found[1])


def test_subclasses_lose_their_class():
    class Odd(dict):
        pass

    class Text(str):
        pass

    assert type(plain(Odd(a=Text("x")))) is dict
    assert type(plain(Odd(a=Text("x")))["a"]) is str


def test_data_classes_frames_and_tables():
    import pandas as pd

    check = plain(CheckResult("overlap", True, np.float64(0.5), "fine", {"a": [1, 2]}))
    assert check == {"name": "overlap", "passed": True, "statistic": 0.5, "text": "fine", "table": {"a": [1, 2]}}
    assert plain(Bootstrap(n=9))["n"] == 9
    assert plain(pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})) == {"a": [1, 2], "b": ["x", "y"]}
    assert plain(make_table()) == make_table().to_dict()
    assert_exact(plain(make_table().meta))


def test_jax_scalars_and_vectors_cross():
    import jax.numpy as jnp

    assert plain(jnp.asarray(2.0)) == 2.0
    assert plain(jnp.arange(3.0)) == [0.0, 1.0, 2.0]


def test_strangers_are_refused():
    with pytest.raises(DataError, match="object has no plain form"):
        plain(object())
    with pytest.raises(DataError, match="cannot cross"):
        plain(np.zeros((2, 2, 2)))


@given(hnp.arrays(np.float64, hnp.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=6)))
def test_matrices_cross_bit_for_bit(matrix):
    back = matrix_from_bytes(matrix_to_bytes(matrix), list(matrix.shape))
    assert back.tobytes() == matrix.tobytes()
    assert back.flags.c_contiguous
    assert back.flags.writeable


def test_matrices_are_column_major_bytearrays():
    crossing = plain(np.array([[1.0, 2.0], [3.0, 4.0]]))
    assert type(crossing["data"]) is bytearray
    assert np.frombuffer(crossing["data"], "<f8").tolist() == [1.0, 3.0, 2.0, 4.0]
    assert crossing["shape"] == [2, 2]
    assert_exact(crossing)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
                    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))  # fmt: skip
def test_whatever_json_holds_becomes_exact(value):
    if value is not None:
        assert_exact(plain(value))


@pytest.mark.parametrize("shape", [[2.5, 1], [True, 1], [-(2**31), 1], [float("nan"), 1]])
def test_bad_shapes_are_explained(shape):
    with pytest.raises(OptionError, match="shape holds"):
        matrix_from_bytes(b"", shape)


def test_the_missing_integer_of_r_names_its_fix():
    with pytest.raises(OptionError, match=r"NA_integer_.*as\.numeric"):
        whole_numbers("folds", [1, -2147483648])
    assert whole_numbers("folds", [1.0, 2]) == [1, 2]


def test_wrong_byte_counts_are_explained():
    with pytest.raises(DataError, match="holds 8 bytes; a 2 x 2 matrix of doubles has 32"):
        matrix_from_bytes(bytes(8), [2, 2])


def test_the_companion_script_is_package_data():
    assert Path(r_companion_path()).is_file()
