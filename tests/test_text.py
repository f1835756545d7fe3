import unicodedata
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.text import align, display_width, fold, plain

ANY_TEXT = st.text(alphabet=st.characters(codec=None), max_size=40)


def without_spaces(text: str) -> str:
    return "".join(text.split())


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("two\nlines\r\n", r"two\nlines\r\n"),
        ("a\tb\x00c\x7fd\x9b", r"a\tb\x00c\x7fd\x9b"),
        ("abc\u202edef\u2066", r"abc\u202edef\u2066"),
        ("\u2028\u2029\ufeff\u200b", r"\u2028\u2029\ufeff\u200b"),
        ("lone \udc80", r"lone \udc80"),
        ("tag \U000e0041", r"tag \U000e0041"),
    ],
)
def test_what_has_no_glyph_is_shown_as_an_escape(text: str, shown: str) -> None:
    assert plain(text) == shown


@pytest.mark.parametrize(
    "text", ["Müller's Büro", "日本語 サーバー", "5 µs ± 1", "ภาษาไทย", "C:\\new", "e\u0301"]
)
def test_ordinary_text_of_any_language_stays_as_it_is(text: str) -> None:
    assert plain(text) == text


@given(ANY_TEXT)
def test_plain_text_has_one_line_and_no_control_character(text: str) -> None:
    shown = plain(text)
    assert {unicodedata.category(c)[0] for c in shown}.isdisjoint("C")
    assert len(shown.splitlines()) <= 1
    shown.encode()


def test_wide_characters_take_two_columns_and_accents_none() -> None:
    assert display_width("日本") == 4
    assert display_width("e\u0301a") == 2


@given(ANY_TEXT.map(plain), st.integers(2, 30))
def test_folded_lines_fit_and_together_hold_the_text(text: str, width: int) -> None:
    lines = fold(text, width)
    assert all(display_width(line) <= width for line in lines)
    assert without_spaces("".join(lines)) == without_spaces(text)


def test_columns_are_aligned_by_what_they_take_on_the_screen() -> None:
    table = align(
        ["name", "time", "notes"],
        [["日本", "1.0 ms", "fine"], ["all of them"], ["torch", "12.0 ms", ""]],
        right={1},
    )
    assert table == (
        "name      time  notes\n"
        "-----  -------  -----\n"
        "日本    1.0 ms  fine\n"
        "all of them\n"
        "torch  12.0 ms\n"
    )


def test_a_long_word_is_broken_at_its_joints() -> None:
    assert fold("torch-cpu+channels_last", 16) == ["torch-cpu+", "channels_last"]
    assert fold("abcdef+g", 4) == ["abcd", "ef+g"]


def test_the_last_column_folds_where_the_table_is_too_wide() -> None:
    table = align(
        ["name", "time", "notes"],
        [["numpy", "1.0 ms", "launch bound, power capped, disturbed"]],
        right={1},
        width=35,
    )
    assert table == (
        "name     time  notes\n"
        "-----  ------  --------------------\n"
        "numpy  1.0 ms  launch bound, power\n"
        "               capped, disturbed\n"
    )


def test_notes_stand_beneath_their_row_where_there_is_no_room_beside_it() -> None:
    table = align(
        ["name", "time", "notes"],
        [["numpy", "1.0 ms", "launch bound, power capped"], ["torch", "2.0 ms", ""]],
        right={1},
        width=26,
    )
    assert table == (
        "name     time\n"
        "-----  ------\n"
        "numpy  1.0 ms\n"
        "    notes: launch bound,\n"
        "    power capped\n"
        "torch  2.0 ms\n"
    )


def test_numbers_are_never_broken_however_narrow_the_terminal() -> None:
    table = align(["name", "time"], [["numpy", "123456789.0 ms"]], right={1}, width=5)
    assert "123456789.0 ms" in table


def test_colours_do_not_disturb_the_alignment() -> None:
    rows = [["a", "1"], ["bb", "2"]]
    painted = align(["x", "y"], rows, style=lambda row, column, text: f"<{text}>")
    assert painted.replace("<", "").replace(">", "") == align(["x", "y"], rows)
    assert "<bb>" in painted


def test_a_table_without_rows_is_its_header() -> None:
    assert align(["a", "bcd"], []) == "a  bcd\n-  ---\n"


ROWS = st.lists(
    st.tuples(ANY_TEXT, st.text("0123456789.", min_size=1, max_size=8), ANY_TEXT).map(list),
    max_size=5,
)


@given(ROWS)
def test_without_a_width_every_row_is_one_line_that_holds_its_cells(
    rows: list[list[str]],
) -> None:
    lines = align(["name", "time", "notes"], rows, right={1}).split("\n")
    assert len(lines) == len(rows) + 3
    for row, line in zip(rows, lines[2:], strict=False):
        assert all(plain(cell).rstrip(" ") in line for cell in row)


@given(ROWS, st.integers(44, 120))
def test_within_a_width_every_line_fits_and_no_text_is_lost(
    rows: list[list[str]], width: int
) -> None:
    table = align(["name", "time", "notes"], rows, right={1}, width=width)
    assert all(display_width(line) <= width for line in table.split("\n"))
    wanted = Counter(without_spaces("".join(plain(cell) for row in rows for cell in row)))
    assert not wanted - Counter(without_spaces(table))
