"""Every bad input gets its error, and the message says what to do."""

import re

import pytest

from tests.raster.bad_inputs import CASES


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_inputs_are_refused(case, tmp_path):
    with pytest.raises(case.error) as caught:
        case.make(tmp_path)
    assert re.search(case.match, str(caught.value))


def test_names_are_unique():
    assert len({case.name for case in CASES}) == len(CASES)
