"""Dates of frames, months, and the pre-treatment rule."""

import numpy as np
import pytest

from causalsat import Dates
from causalsat.errors import DataError, OptionError, UndatedImageryError
from causalsat.raster.dates import add_months, date_in_name, frame_rule, period
from tests.raster.making import at, chips, image, pixel, plan_of, write

DAY = "datetime64[D]"


@pytest.mark.parametrize(
    ("value", "first", "last"),
    [
        ("2015", "2015-01-01", "2015-12-31"),
        (2015, "2015-01-01", "2015-12-31"),
        (2015.0, "2015-01-01", "2015-12-31"),
        ("2016-02", "2016-02-01", "2016-02-29"),
        ("201602", "2016-02-01", "2016-02-29"),
        ("20160203", "2016-02-03", "2016-02-03"),
        ("2022:01:17 10:43:43", "2022-01-17", "2022-01-17"),
        (np.datetime64("2001-05-06T10:00"), "2001-05-06", "2001-05-06"),
    ],
)
def test_periods(value, first, last):
    assert period(value) == (np.datetime64(first), np.datetime64(last))


@pytest.mark.parametrize("value", [None, float("nan"), "", "NaT"])
def test_missing_dates_stay_missing(value):
    assert np.isnat(period(value)[0])


@pytest.mark.parametrize("value", ["soon", "2015-13-01", "2015-02-30", "15/02/2015"])
def test_what_is_not_a_date_is_refused(value):
    with pytest.raises(DataError, match="YYYY-MM-DD"):
        period(value)


def test_months_keep_the_day_where_the_month_has_it():
    days = np.array(["2012-02-29", "2012-03-31", "NaT"], DAY)
    assert add_months(days, -12).astype(str).tolist() == ["2011-02-28", "2011-03-31", "NaT"]
    assert add_months(days, -1).astype(str).tolist() == ["2012-01-29", "2012-02-29", "NaT"]


def test_the_window_is_half_open():
    frames = np.array(["2005-06-29", "2005-06-30", "2008-06-29", "2008-06-30"], DAY)
    event = np.full(4, np.datetime64("2008-06-30"))
    usable, late = frame_rule(frames, frames, event, event, (-36, 0), allow_post_treatment=False)
    assert usable.tolist() == [False, True, True, False]
    assert late.tolist() == [False, False, False, True]


def test_a_year_counts_only_when_it_ends_before_treatment():
    first, last = (np.array([d], DAY) for d in ("2008-01-01", "2008-12-31"))
    event = np.array(["2008-06-30"], DAY)
    assert not frame_rule(first, last, event, event, (-36, 12), allow_post_treatment=False)[0][0]
    assert frame_rule(first, last, event, event, (-36, 12), allow_post_treatment=True)[0][0]


@pytest.mark.parametrize(
    ("name", "pattern", "found"),
    [
        ("LC08_20150102_x.tif", r"_(\d{8})_", "2015-01-02"),
        ("a-2015-03.tif", r"(?P<year>\d{4})-(?P<month>\d{2})", "2015-03-01"),
        ("nothing.tif", r"_(\d{8})_", "NaT"),
    ],
)
def test_dates_in_file_names(name, pattern, found):
    assert str(date_in_name(name, pattern)[0]) == found


@pytest.mark.parametrize("pattern", [r"\d{8}", r"(?P<when>\d+)", "("])
def test_patterns_must_mark_the_date(pattern):
    with pytest.raises(OptionError, match="pattern"):
        Dates("treated_on", pattern=pattern)


@pytest.mark.parametrize("options", [{"window_months": (0, 0)}, {"frames": "sequences"}, {"composite": "medain"}])
def test_options_are_checked(options):
    with pytest.raises(OptionError):
        Dates("treated_on", **options)


@pytest.fixture
def years(tmp_path):
    """The same ground in 2005, 2007 and 2009; the frame of 2007 has a hole."""
    paths = []
    for year in (2005, 2007, 2009):
        mask = np.full((60, 60), 255, "uint8")
        if year == 2007:
            mask[20:25, 20:25] = 0
        array = np.full((1, 60, 60), year - 2000, "uint8")
        paths.append(write(tmp_path / f"scene_{year}0715.tif", array, mask=mask))
    return paths


PATTERN = r"_(\d{8})"


def test_each_pixel_comes_from_the_latest_frame_before_treatment(years):
    table = at(*pixel(30, 30), treated_on=["2008-06-30"])
    batch = chips(years, table, dates=Dates("treated_on", pattern=PATTERN), size_m=320)
    expected = np.full((32, 32), 7)
    expected[6:11, 6:11] = 5
    assert (batch.pixels[0, ..., 0] == expected).all()
    assert (batch.status[0], batch.n_frames[0], str(batch.image_date[0])) == ("ok", 2, "2007-07-15")


def test_post_treatment_frames_are_used_only_on_request(years):
    table = at(*pixel(30, 30), treated_on=["2008-06-30"])
    dates = Dates("treated_on", window_months=(-36, 24), pattern=PATTERN)
    assert chips(years, table, dates=dates).pixels.max() == 7
    assert chips(years, table, dates=dates, allow_post_treatment=True).pixels.min() == 9


def test_statuses_say_why_no_frame_fits(years):
    table = at(*pixel([30, 30, 30], [30, 30, 30]), treated_on=["2001-01-01", "2020-01-01", "2008-06-30"])
    batch = chips(years, table, dates=Dates("treated_on", pattern=PATTERN))
    assert batch.status.tolist() == ["post_treatment", "no_frame", "ok"]
    assert (batch.pixels[:2] == 0).all()
    assert not batch.mask[:2].any()


def test_an_event_column_apart_from_the_anchor(years):
    table = at(*pixel(30, 30), surveyed=["2010-01-01"], treated_on=["2006-01-01"])
    dates = Dates("surveyed", event="treated_on", window_months=(-60, 0), pattern=PATTERN)
    assert chips(years, table, dates=dates).pixels.max() == 5
    fixed = Dates("surveyed", event="2006-01-01", window_months=(-60, 0), pattern=PATTERN)
    assert chips(years, table, dates=fixed).pixels.max() == 5


def test_undated_imagery_with_a_dated_treatment_is_refused(tmp_path):
    path = write(tmp_path / "a.tif", image())
    table = at(*pixel(50, 50), treated_on=["2008-06-30"])
    with pytest.raises(UndatedImageryError, match="image_date="):
        plan_of(path, table, dates=Dates("treated_on"))
    stated = plan_of(path, table, dates=Dates("treated_on"), source_options={"image_date": "2007"})
    assert (stated.status[0], str(stated.image_date[0])) == ("ok", "2007-12-31")


def test_the_tiff_tag_dates_a_file(tmp_path):
    path = write(tmp_path / "a.tif", image(), tags={"TIFFTAG_DATETIME": "2007:05:04 10:00:00"})
    plan = plan_of(path, at(*pixel(50, 50), treated_on=["2008-06-30"]), dates=Dates("treated_on"))
    assert str(plan.image_date[0]) == "2007-05-04"


def test_repeated_ids_are_told_apart_by_dates(years):
    table = at(*pixel([30, 30], [30, 30]), treated_on=["2006-01-01", "2008-06-30"]) | {"site": ["a", "a"]}
    batch = chips(years, table, dates=Dates("treated_on", pattern=PATTERN))
    assert [int(batch.pixels[i].max()) for i in range(2)] == [5, 7]
