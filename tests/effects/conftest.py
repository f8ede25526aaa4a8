"""The fixture of this folder."""

import pytest

from tests.effects.tables import make_table


@pytest.fixture
def table():
    return make_table()
