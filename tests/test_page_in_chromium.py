"""The page as a reader has it: in a real browser, on a phone, in the dark, by keyboard, printed."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.chromium import EXECUTABLE, WHY_NOT, Browser, chromium
from tests.machines import cost_page
from tests.runs import gpu_run, hostile_run, realistic_run, run, small_run
from tests.test_page import full_run, page

pytestmark = pytest.mark.skipif(EXECUTABLE is None, reason=WHY_NOT)

PAGES: dict[str, Callable[[], str]] = {
    "full": lambda: page(full_run()),
    "small": lambda: page(small_run()),
    "hostile": lambda: page(hostile_run()),
    "empty": lambda: page(run()),
    "two": lambda: page(gpu_run(), realistic_run()),
    "costs": cost_page,
}
A4_INSIDE = (703, 1032)
"""CSS pixels between margins of 12 mm."""
CONTRAST = """
(() => {
  const light = (color) => {
    const [r, g, b] = color.match(/[\\d.]+/g).slice(0, 3).map((part) => {
      const c = part / 255;
      return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = getComputedStyle(at).backgroundColor;
      if (!/, 0\\)$/.test(color)) return color;
    }
    return "rgb(255, 255, 255)";
  };
  const texts = [...document.querySelectorAll("body *:not(svg *):not(svg)")].filter((e) =>
    e.checkVisibility() && [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()));
  return texts.map((e) => {
    const [one, other] = [getComputedStyle(e).color, behind(e)].map(light);
    return [(Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05), e.outerHTML];
  });
})()
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    found = {}
    for name, make in PAGES.items():
        found[name] = folder / f"{name}.html"
        found[name].write_text(make())
    return found


each_page = pytest.mark.parametrize("name", PAGES)


@each_page
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_console_stays_empty_and_nothing_is_requested(
    browser: Browser, files: dict[str, Path], name: str, dark: bool
) -> None:
    browser.screen(1280, dark=dark)
    browser.open(files[name])
    assert browser.said == []
    assert browser.requested == [files[name].as_uri()]


def test_this_test_hears_of_what_the_policy_forbids(
    browser: Browser, files: dict[str, Path]
) -> None:
    browser.screen(1280)
    browser.open(files["small"])
    browser.evaluate("document.body.setAttribute('style', 'opacity: 0.5')")
    assert browser.evaluate("getComputedStyle(document.body).opacity") == "1"
    browser.evaluate("document.body.append(Object.assign(new Image(), {src: 'x.png'}))")
    browser.evaluate("0")
    said = " ".join(browser.said)
    assert "Content Security Policy" in said
    assert "x.png" in said


@each_page
@pytest.mark.parametrize("width", [360, 390, 1280])
def test_no_page_is_wider_than_its_window(
    browser: Browser, files: dict[str, Path], name: str, width: int
) -> None:
    browser.screen(width)
    browser.open(files[name])
    assert browser.evaluate("document.documentElement.scrollWidth") == width
    assert browser.evaluate("innerWidth") == width


@each_page
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_text_stands_out_from_what_is_behind_it(
    browser: Browser, files: dict[str, Path], name: str, dark: bool
) -> None:
    browser.screen(1280, dark=dark)
    browser.open(files[name])
    found = browser.evaluate(CONTRAST)
    assert len(found) > 10
    assert [text for ratio, text in found if ratio < 4.5] == []


def test_dark_is_dark_and_figures_stay_on_white(browser: Browser, files: dict[str, Path]) -> None:
    browser.screen(1280, dark=True)
    browser.open(files["full"])
    background = "getComputedStyle(document.{}).backgroundColor"
    assert browser.evaluate(background.format("body")) == "rgb(22, 24, 27)"
    assert browser.evaluate(background.format("querySelector('.sheet')")) == "rgb(255, 255, 255)"


def test_figures_have_their_styles(browser: Browser, files: dict[str, Path]) -> None:
    browser.screen(1280)
    browser.open(files["full"])
    strokes = browser.evaluate(
        "[...new Set([...document.querySelectorAll('figure svg path, figure svg use')]"
        ".map((e) => getComputedStyle(e).stroke))]"
    )
    assert {"rgb(0, 114, 178)", "rgb(213, 94, 0)"} <= set(strokes)
    sizes = browser.evaluate(
        "[...document.querySelectorAll('figure svg text')]"
        ".map((e) => parseFloat(getComputedStyle(e).fontSize))"
    )
    assert min(sizes) >= 7
    assert max(sizes) <= 12
    drawn = browser.evaluate(
        "[...document.querySelectorAll('figure svg use')].every((e) => e.getBBox().width > 0"
        " || e.getBBox().height > 0)"
    )
    assert drawn


def column(browser: Browser, index: int) -> list[str]:
    """Return the texts of a column of the table under test, from top to bottom."""
    found: list[str] = browser.evaluate(
        f"[...table.tBodies[0].rows].map((row) => row.cells[{index}].textContent)"
    )
    return found


def seconds(text: str) -> float:
    number, unit = text.split()
    return float(number) * {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0}[unit]


def test_tables_are_sorted_by_keyboard(browser: Browser, files: dict[str, Path]) -> None:
    browser.screen(1280)
    browser.open(files["small"])
    browser.evaluate(
        "table = [...document.querySelectorAll('.sortable')]"
        ".find((t) => t.caption.textContent === 'matmul, float32'); 0"
    )
    heads = browser.evaluate("[...table.tHead.rows[0].cells].map((c) => c.textContent)")
    at = heads.index("time")
    before = column(browser, at)
    browser.evaluate(f"table.tHead.rows[0].cells[{at - 1}].querySelector('button').focus()")
    browser.press("Tab", 9)
    assert browser.evaluate("document.activeElement.textContent") == "time"
    browser.press("Enter", 13, "\r")
    rising = column(browser, at)
    assert rising[-1] == "-"
    assert rising[:-1] == sorted((t for t in before if t != "-"), key=seconds)
    assert rising != before
    sort = f"table.tHead.rows[0].cells[{at}].getAttribute('aria-sort')"
    assert browser.evaluate(sort) == "ascending"
    browser.press(" ", 32, " ")
    assert browser.evaluate(sort) == "descending"
    assert column(browser, at) == [*rising[-2::-1], "-"]
    assert browser.evaluate("document.activeElement.textContent") == "time"
    browser.press("Tab", 9)
    browser.press("Enter", 13, "\r")
    assert browser.evaluate("table.querySelectorAll('[aria-sort]').length") == 1


@pytest.mark.parametrize(
    ("head", "rising"),
    [
        ("size", ["n=64", "n=64", "n=1024", "n=1024", "n=2048", "n=2048"]),
        ("backend", ["numpy"] * 3 + ["torch-cpu"] * 3),
        ("rate", [f"{n} GFLOP/s" for n in ("8.00", "12.0", "175", "302", "310")] + ["-"]),
        ("vs best", ["fastest", "fastest", "1.5x", "1.7x", "-", "-"]),
        ("error", ["3.1e-07"] * 5 + ["3.0e-01"]),
    ],
)
def test_each_kind_of_column_is_sorted_by_what_it_means(
    browser: Browser, files: dict[str, Path], head: str, rising: list[str]
) -> None:
    browser.open(files["small"])
    browser.evaluate(
        "table = [...document.querySelectorAll('.sortable')]"
        ".find((t) => t.caption.textContent === 'matmul, float32'); 0"
    )
    heads = browser.evaluate("[...table.tHead.rows[0].cells].map((c) => c.textContent)")
    browser.evaluate(f"table.tHead.rows[0].cells[{heads.index(head)}].firstChild.click()")
    assert column(browser, heads.index(head)) == rising


def test_the_first_key_skips_to_the_results(browser: Browser, files: dict[str, Path]) -> None:
    browser.screen(1280)
    browser.open(files["full"])
    browser.press("Tab", 9)
    focused = "document.activeElement"
    assert browser.evaluate(f"{focused}.textContent") == "Skip to the results"
    assert browser.evaluate(f"{focused}.getBoundingClientRect().left") >= 0
    assert browser.evaluate(f"getComputedStyle({focused}).outlineStyle") == "solid"
    browser.press("Enter", 13, "\r")
    assert browser.evaluate(f"{focused}.id") == "main"


def test_an_anchor_shows_its_case(browser: Browser, files: dict[str, Path]) -> None:
    browser.screen(1280)
    browser.open(files["full"])
    browser.evaluate(
        "document.querySelector('figure tbody a').closest('details').open = true;"
        "document.querySelector('figure tbody a').click()"
    )
    target = browser.evaluate("document.querySelector(':target').textContent")
    assert target.startswith("tiny,batch=1numpy")

    browser.open(files["hostile"])

    browser.evaluate("document.querySelector('.sortable tbody a').click()")
    assert browser.evaluate("document.querySelector(':target').tagName") == "TR"


def test_a_screen_reader_is_told_what_everything_is(
    browser: Browser, files: dict[str, Path]
) -> None:
    browser.screen(1280)
    browser.open(files["full"])
    nodes = browser.ask("Accessibility.getFullAXTree")["nodes"]
    named: dict[str, list[str]] = {}
    for node in nodes:
        if not node.get("ignored"):
            name = str(node.get("name", {}).get("value", ""))
            named.setdefault(node["role"]["value"], []).append(name)
    for role in ("image", "table", "region", "button", "navigation", "link"):
        assert named[role], role
        assert all(named[role]), role
    assert len(named["main"]) == 1
    images = browser.evaluate("document.querySelectorAll('figure svg').length")
    assert len(named["image"]) == images


def test_hostile_texts_make_no_element_and_no_message(
    browser: Browser, files: dict[str, Path]
) -> None:
    browser.screen(1280)
    browser.open(files["hostile"])
    assert browser.evaluate("document.querySelectorAll('b, script:not(body > script)').length") == 0
    assert browser.evaluate("document.title").startswith(r"=1|`x`<b>\n\x1b[31m\u202e@team **b**")
    assert "$x$" in browser.evaluate("document.querySelector('svg').textContent")
    assert json.dumps(browser.said) == "[]"


@each_page
def test_printed_no_figure_is_longer_than_a_sheet_and_no_table_is_wider(
    browser: Browser, files: dict[str, Path], name: str
) -> None:
    width, height = A4_INSIDE
    browser.screen(width, dark=True, media="print")
    browser.open(files[name])
    figures = browser.evaluate(
        "[...document.querySelectorAll('figure')].map((e) => e.getBoundingClientRect().height)"
    )
    assert all(found <= height for found in figures)
    assert browser.evaluate("getComputedStyle(document.body).color") == "rgb(26, 26, 26)"
    if name != "hostile":  # whose words nobody can break into a column
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
    pages = re.findall(rb"/Type\s*/Page\b", browser.printed())
    assert len(pages) >= 1
