"""Every bad table, role, embedding and fold gets one clear message."""

import pytest

from tests.study.bad_inputs import CASES


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_message(case):
    with pytest.raises(case.error, match=case.match) as caught:
        case.make()
    text = str(caught.value)
    assert text[-1] in ".?)"
    assert "\n" not in text


def test_names_are_unique_and_there_are_enough():
    assert len({case.name for case in CASES}) == len(CASES) >= 25
