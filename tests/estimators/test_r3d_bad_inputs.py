import re

import pytest

from tests.estimators.r3d_bad_inputs import CASES


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_input(case):
    with pytest.raises(case.error) as caught:
        case.make()
    assert re.search(case.match, str(caught.value))
