"""Wrong options and study files get one clear message."""

import pytest

from tests.cli.bad_inputs import CASES


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_message(case, tmp_path):
    with pytest.raises(case.error, match=case.match):
        case.make(tmp_path)
