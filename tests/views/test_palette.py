"""The scale of colours: readable, right on its bounds, and numbers of two digits."""

from __future__ import annotations

import math
import re
from itertools import pairwise

import pytest

from minigrad.bptt.record import Reading
from minigrad.views.palette import BINS, SPECIAL, Look, brief, look, number, on, power, rescaled, shown

LOOKS = [found for _, found in BINS] + list(SPECIAL.values())
FRAME = "#fafafa"


def luminance(color: str) -> float:
    """The relative luminance of WCAG 2.1."""
    parts = [int(color[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_the_formula_of_contrast_has_its_known_ends() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)


@pytest.mark.parametrize("found", LOOKS, ids=lambda found: found.legend.replace("\n", " "))
def test_text_is_readable_on_every_fill(found: Look) -> None:
    assert contrast(found.fill, found.text) >= 4.5


@pytest.mark.parametrize("found", [found for _, found in BINS], ids=lambda found: found.legend.replace("\n", " "))
def test_text_on_the_scale_has_the_contrast_that_the_palette_promises(found: Look) -> None:
    assert contrast(found.fill, found.text) >= 5.4


@pytest.mark.parametrize(
    "found", [*(found for _, found in BINS), SPECIAL["not finite"], SPECIAL["underflow"], SPECIAL["zero"],
              SPECIAL["no backward yet"]], ids=lambda found: found.legend.replace("\n", " "),
)  # fmt: skip
def test_wires_are_visible_on_the_frame(found: Look) -> None:
    assert contrast(found.edge, FRAME) >= 3


@pytest.mark.parametrize("found", LOOKS, ids=lambda found: found.legend.replace("\n", " "))
def test_colours_are_six_digits(found: Look) -> None:
    for color in (found.fill, found.text, found.edge):
        assert re.fullmatch("#[0-9a-f]{6}", color)


def test_no_two_looks_are_the_same() -> None:
    assert len({(found.fill, found.text, found.edge, found.style) for found in LOOKS}) == len(LOOKS) == 15


@pytest.mark.parametrize(("k", "bound"), [(k, bound) for k, (bound, _) in enumerate(BINS[:-1])])
def test_a_bound_belongs_to_the_bin_above_it(k: int, bound: float) -> None:
    assert look(Reading(bound, "value")) is BINS[k + 1][1]
    assert look(Reading(math.nextafter(bound, 0), "value")) is BINS[k][1]


def test_the_bounds_are_those_that_the_legend_names() -> None:
    assert [bound for bound, _ in BINS] == [1e-12, 1e-9, 1e-6, 1e-3, 1, 10, 100, 1e4, math.inf]
    for (low, _), (high, found) in pairwise(BINS[:-1]):
        named = re.match(r"(\S+?)…\s*(\S+)", found.legend)
        assert named is not None
        assert (float(named[1]), float(named[2])) == (low, high)


def test_the_ends_of_the_scale() -> None:
    assert look(Reading(1e-300, "value")) is BINS[0][1]
    assert look(Reading(1e300, "value")) is BINS[-1][1]


def test_every_kind_but_a_value_has_a_look_of_its_own() -> None:
    for kind in SPECIAL:
        assert look(Reading(0.0, kind)) is SPECIAL[kind]  # type: ignore[arg-type]


@pytest.mark.parametrize(("x", "text"), [
    (1e-45, "1e-45"), (3.2e-7, "3e-7"), (9.4e-4, "9e-4"), (0.00096, "0.00096"), (0.001, "0.001"), (0.01234, "0.012"),
    (0.999, "1"), (1.25, "1.2"), (9.96, "10"), (12.0, "12"), (99.4, "99"), (99.6, "100"), (822.4, "822"),
    (9999.0, "9999"), (9999.6, "1e4"), (31000.0, "3e4"), (1e38, "1e38"), (0.0, "0"), (-0.25, "-0.25"), (-3e-9, "-3e-9"),
    (math.inf, "inf"), (-math.inf, "-inf"), (math.nan, "NaN"),
])  # fmt: skip
def test_numbers_have_two_digits(x: float, text: str) -> None:
    assert number(x) == text


def test_a_number_below_a_thousandth_never_reads_as_one() -> None:
    assert float(number(math.nextafter(0.00095, 1))) < 0.001 <= float(number(0.001))


@pytest.mark.parametrize("digits", [1.0, 1.04, 3.47, 9.49, 9.96])
def test_a_number_is_right_to_its_digits_and_brief_in_five_letters(digits: float) -> None:
    for exponent in range(-44, 38):
        x = digits * 10.0**exponent
        assert float(number(x)) == pytest.approx(x, rel=0.15 if "e" in number(x) else 0.05)
        assert float(brief(Reading(x, "value"))) == pytest.approx(x, rel=0.15)
        assert len(brief(Reading(x, "value"))) <= 5


def test_what_is_no_number_is_named() -> None:
    assert [shown(Reading(0.0, kind)) for kind in ("no path", "padding", "no backward yet", "zero")] == [
        "no path", "pad", "—", "0",
    ]  # fmt: skip
    assert shown(Reading(math.nan, "not finite")) == "NaN"
    assert [brief(Reading(0.0, kind)) for kind in ("no path", "padding", "no backward yet")] == ["", "pad", "—"]


def test_a_scale_of_other_numbers_has_the_same_colours_and_its_own_bounds() -> None:
    scale = rescaled((0.5, "less", 1), (math.inf, "more", 7))
    assert [on(scale, x).legend for x in (0.1, 0.4999, 0.5, 7.0, 1e300)] == ["less", "less", "more", "more", "more"]
    assert on(scale, 0.1)[1:] == BINS[1][1][1:]
    assert on(scale, 0.0) is SPECIAL["zero"]
    assert on(scale, math.nan) is on(scale, math.inf) is SPECIAL["not finite"]


@pytest.mark.parametrize(("exponent", "text"), [
    (0.0, "1"), (-2.0, "0.01"), (299.0, "1e299"), (-300.5, "3e-301"), (400.0, "1e400"), (-1234.3, "5e-1235"),
    (500.9999, "1e501"), (-math.inf, "0"), (math.inf, "inf"), (math.nan, "NaN"),
])  # fmt: skip
def test_a_power_of_ten_is_written_beyond_the_range_of_floats(exponent: float, text: str) -> None:
    assert power(exponent) == text
