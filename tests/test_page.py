"""The page as a file: its structure, its words, and that nothing of a run file becomes markup."""

import base64
import hashlib
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from bench.reports import _page_document, _page_figures, _page_tables, plots
from hypothesis import given
from hypothesis import strategies as st

from bench import catalog
from bench.report import Request
from bench.results.schema import Measurement, Run, WorkerLine
from bench.text import plain
from tests.commands import ROOT, bench
from tests.machines import cost_page, hostile_page
from tests.runs import (
    GPU_MACHINE,
    gpu_matmul,
    gpu_run,
    hostile_run,
    matmul,
    measurement,
    network_run,
    realistic_run,
    run,
    small_run,
)

GOLDEN = ROOT / "tests" / "data" / "page_body.html"
VOID = {"br", "link", "meta", "img", "input", "hr"}


@dataclass
class Element:
    tag: str
    attributes: dict[str, str | None]
    children: list["Element | str"] = field(default_factory=list)

    def walk(self) -> Iterator["Element"]:
        yield self
        for child in self.children:
            if isinstance(child, Element):
                yield from child.walk()

    def all(self, *tags: str) -> list["Element"]:
        return [element for element in self.walk() if element.tag in tags]

    @property
    def text(self) -> str:
        return " ".join("".join(self._texts()).split())

    def _texts(self) -> Iterator[str]:
        if self.tag == "br":
            yield " "
        for child in self.children:
            if isinstance(child, str):
                yield child
            else:
                yield from child._texts()


class Tree(HTMLParser):
    """Reads a page; an end tag that does not fit is an error."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.root = Element("", {})
        self.open = [self.root]
        self.feed(page)
        self.close()
        assert self.open == [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"an attribute of {tag} stands twice"
        element = Element(tag, dict(attrs))
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].children.append(Element(tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


def page(*runs: Run, **request: Any) -> str:
    text = catalog.reports()["page"].render(runs, Request(**request))
    assert isinstance(text, str)
    return text


def parsed(*runs: Run, **request: Any) -> Element:
    return Tree(page(*runs, **request)).root


def part(tree: Element, heading: str) -> Element:
    """Return the section under a heading."""
    (found,) = [
        section for section in tree.all("section") if section.all("h2", "h3")[0].text == heading
    ]
    return found


def tables(section: Element) -> dict[str, list[list[str]]]:
    """Return the rows of each table by its caption."""
    return {
        table.all("caption")[0].text: [
            [cell.text for cell in row.all("th", "td")] for row in table.all("tr")
        ]
        for table in section.all("table")
    }


def warned(*cases: Measurement, **fields: Any) -> dict[str, str]:
    """Return the warnings of a run by their subjects."""
    sections = [
        s
        for s in parsed(run(*cases, **fields)).all("section")
        if s.attributes.get("class") == "warnings"
    ]
    items = [i for s in sections for i in s.children if isinstance(i, Element) and i.tag == "ul"]
    found = {}
    for item in (li for ul in items for li in ul.children if isinstance(li, Element)):
        subject, _, said = item.text.partition(": ")
        found[subject] = said
    return found


def full_run(**fields: Any) -> Run:
    """Return a run that has every part of a page and every kind of figure."""
    swept = [
        gpu_matmul(n, backend, phase=phase, name="tiny", sizes={"batch": b}, suite="batch-sweep")
        for phase in ("forward", "training_step")
        for b, n in ((1, 64), (8, 512), (64, 2048))
        for backend in ("numpy", "torch-cuda")
    ]
    bad = measurement("conv2d", "cupy", None, status="failed", reason="no memory", device="gpu")
    found = gpu_run(*swept, *network_run().measurements, bad, **fields)
    peaks = {"float32": 50e12, "bytes": 4e12, "call": 3e-6, "link_call": 9e-6, "link_bytes": 25e9}
    found.workers = [
        WorkerLine(backend="cupy", threads=2, block=0, canary=[], layout={}, peaks=peaks)
    ]
    return found


PAGES: dict[str, Callable[[], str]] = {
    "small": lambda: page(small_run()),
    "full": lambda: page(full_run()),
    "hostile": lambda: page(hostile_run()),
    "empty": lambda: page(run()),
    "the same twice": lambda: page(full_run(), full_run()),
    "three": lambda: page(hostile_run(), realistic_run(), small_run()),
    "costs": cost_page,
    "hostile machines": hostile_page,
}


@pytest.fixture(scope="module", params=PAGES)
def text(request: pytest.FixtureRequest) -> str:
    return PAGES[request.param]()


@pytest.fixture
def tree(text: str) -> Element:
    return Tree(text).root


def test_no_id_stands_twice_and_every_reference_leads_somewhere(tree: Element) -> None:
    elements = list(tree.walk())
    ids = [e.attributes["id"] for e in elements if "id" in e.attributes]
    assert not [name for name, count in Counter(ids).items() if count > 1]
    assert all(name and not re.search(r"\s", name) for name in ids)
    for element in elements:
        names = (element.attributes.get("aria-labelledby") or "").split()
        href = element.attributes.get("href") or ""
        names += [href[1:]] if href else []
        assert not href or href.startswith("#")
        for value in element.attributes.values():
            names += re.findall(r"url\(#([^)]*)\)", value or "")
        assert set(names) <= set(ids)
    (style,) = tree.all("style")
    assert set(re.findall(r"url\(#([^)]*)\)", style.text)) <= set(ids)


def test_headings_go_down_one_level_at_a_time(tree: Element) -> None:
    levels = [int(h.tag[1]) for h in tree.all("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_the_landmarks_of_a_page_are_there(tree: Element) -> None:
    for tag in ("header", "nav", "main"):
        assert len(tree.all(tag)) == 1
    assert tree.all("head")[0].all("title")[0].text
    assert tree.all("html")[0].attributes["lang"] == "en"
    assert tree.all("a")[0].attributes == {"class": "skip", "href": "#main"}
    for section in tree.all("section"):
        assert section.attributes["aria-labelledby"]


def test_every_table_has_a_caption_heads_and_a_frame_of_its_own(tree: Element) -> None:
    framed = [
        table
        for frame in tree.all("div")
        if "scroll" in (frame.attributes.get("class") or "")
        for table in frame.all("table")
    ]
    assert len(framed) == len(tree.all("table"))
    for table in framed:
        assert table.all("caption")[0].text
        (head,) = table.all("thead")
        assert all(th.attributes["scope"] == "col" for th in head.all("th"))
        for body in table.all("tbody"):
            for row in body.all("tr"):
                first, *others = row.all("th", "td")
                assert first.attributes["scope"] == "row"
                assert len(others) == len(head.all("th")) - 1


def test_figures_say_what_they_are_and_have_their_data_beside_them(tree: Element) -> None:
    for figure in tree.all("figure"):
        (svg,) = figure.all("svg")
        assert svg.attributes["role"] == "img"
        title, description = svg.all("title")[0], svg.all("desc")[0]
        names = f"{title.attributes['id']} {description.attributes['id']}"
        assert svg.attributes["aria-labelledby"] == names
        assert title.text
        assert description.text
        data = [
            d for d in figure.all("details") if d.all("summary")[0].text.startswith("The data of")
        ]
        named = [p for p in figure.all("p") if p.text.startswith("The data of this figure:")]
        if named:
            # It shows tables that are read for themselves, too.
            links = [str(link.attributes["href"]) for p in named for link in p.all("a")]
            tables = {f"#{table.attributes['id']}" for table in tree.all("table")}
            assert links
            assert set(links) <= tables
        else:
            assert [d.all("table") != [] for d in data] == [True]


def test_the_policy_allows_this_style_and_this_script_and_nothing_else(
    text: str, tree: Element
) -> None:
    policy = next(
        m.attributes["content"] or ""
        for m in tree.all("meta")
        if m.attributes.get("http-equiv") == "Content-Security-Policy"
    )
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    for tag in ("style", "script"):
        (inner,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inner.encode()).digest()).decode()
        assert rules[f"{tag}-src"] == f"'sha256-{digest}'"
    for element in tree.walk():
        names = set(element.attributes)
        assert not names & {"style", "src", "srcset", "action", "xlink:href"}
        assert not [name for name in names if name.startswith("on")]
    tags = {element.tag for element in tree.walk()}
    assert not tags & {"img", "link", "iframe", "object", "embed", "base", "form", "foreignobject"}


def test_no_address_stands_in_the_page() -> None:
    assert not re.findall(r"(?:https?:)?//[^\s\"'<]+", page(full_run()))


def test_hostile_texts_stay_text_everywhere() -> None:
    text = page(hostile_run(), hostile_run())
    assert not re.search("[\x00-\x08\x0b-\x1f\u202a-\u202e\u2066-\u2069]", text)
    tree = Tree(text).root
    assert r"=1|`x`<b>\n\x1b[31m\u202e@team **b**" in tree.all("h2")[1].text
    assert not tree.all("b")  # the heat map alone has some
    for word in ("e.example", "@team"):
        assert word not in " ".join(
            value or "" for e in tree.walk() for value in e.attributes.values() if e.tag != "svg"
        ).replace("~40~team", "").replace("e.example~", "")


def test_a_text_that_closes_elements_stays_text() -> None:
    bad = "</script></style></title><script>alert(1)</script>\"' onload=x --><!--"
    cases = [
        gpu_matmul(64, b, variant=bad, reason=bad, flags=[bad]) for b in ("numpy", "torch-cuda")
    ]
    machine = {"cpu": {"model": bad, bad: bad}, "gpus": [{"name": bad}], bad: bad}
    tree = parsed(run(*cases, label=bad, machine=machine, remarks=[bad]))
    assert len(tree.all("script")) == 1
    assert tree.all("title")[0].text == f"{bad}: bench"
    assert [e.attributes for e in tree.all("h1")] == [{}]


def test_the_page_opens_with_what_follows_for_a_gpu() -> None:
    short = part(parsed(full_run()), "In short")
    suites, training, *_ = short.all("ul")
    assert [item.text.partition(" as fast")[0] for item in suites.all("li")] == [
        "batch-sweep: torch-cuda is 6.00x [5.83, 6.17]",
        "matmul: torch-cuda is 8.04x [7.82, 8.27]",
    ]
    assert [item.text for item in training.all("li")] == [
        "tiny, matmul training_step, float32: torch-cuda beats the best CPU (numpy) from batch ="
        " 1.96 [1.94, 1.99], with transfers from batch = 5.82 [5.72, 5.92]; 48.6x [47.2, 50.0] at"
        " batch = 64, 7.47x [7.26, 7.69] with transfers."
    ]


def test_the_sentence_of_a_suite_is_that_of_its_best_gpu_backend() -> None:
    short = part(parsed(gpu_run()), "In short")
    assert [item.text for item in short.all("ul")[0].all("li")] == [
        "matmul: torch-cuda is 8.04x [7.82, 8.27] as fast as the best CPU, 1.47x when transfers"
        " count; geometric mean over 8 cases, of which the CPU wins 2."
    ]


def test_without_a_gpu_it_says_so_and_names_the_fastest_cpu_backend() -> None:
    cases = [matmul(n, b, g) for n in (64, 128) for b, g in (("numpy", 10.0), ("torch-cpu", 20.0))]
    short = part(parsed(run(*cases)), "In short")
    assert [item.text for item in short.all("li")] == [
        "No GPU was measured: nothing here tells whether one is worth it.",
        "matmul: torch-cpu is the fastest CPU backend, 2.00x [1.94, 2.06] as fast as numpy;"
        " geometric mean over 2 cases that all have.",
    ]


def test_a_close_race_of_cpus_is_called_one() -> None:
    cases = [matmul(64, b, g) for b, g in (("numpy", 10.0), ("torch-cpu", 10.1))]
    assert "as fast as numpy (a repeat may turn it)" in part(parsed(run(*cases)), "In short").text


@pytest.mark.parametrize(
    ("cases", "said"),
    [
        ([], "No case has a number"),
        ([gpu_matmul(64, "torch-cuda")], "No CPU was measured"),
        ([matmul(64, "numpy", 1.0)], "matmul: only numpy has numbers, in 1 case."),
        (
            [matmul(64, "numpy", 1.0), matmul(128, "torch-cpu", 1.0)],
            "matmul: no case has a number on all of numpy, torch-cpu.",
        ),
    ],
)
def test_a_run_from_which_little_follows_says_so(cases: list[Measurement], said: str) -> None:
    assert said in part(parsed(run(*cases)), "In short").text


def noted(*notes: str) -> Measurement:
    """Return a case of one block, which something befell."""
    (block,) = measurement(spread=None).blocks
    return measurement(blocks=[msgspec.structs.replace(block, notes=list(notes))])


GPU: dict[str, Any] = {"index": 0, "name": "Synthetic GPU"}


@pytest.mark.parametrize(
    ("machine", "subject", "said"),
    [
        (
            {"cpu": {"model": "Big", "cores_allowed": 48, "cores_present": 384}},
            "CPU",
            "Big, 48 of 384 cores: this CPU is not one you would buy",
        ),
        ({"gpus": [{**GPU, "other_processes": 1}]}, "GPU 0", "1 other process on it"),
        (
            {"gpus": [{**GPU, "power_limit_watts": 300.0, "power_limit_default_watts": 700.0}]},
            "GPU 0",
            "the power limit is 300 W of 700 W",
        ),
        ({"gpus": [{**GPU, "mig": True}]}, "GPU 0", "MIG is on"),
        ({"libraries": {"cupy": {"CUPY_TF32": "1"}}}, "TF32 on", "cupy says CUPY_TF32 = 1"),
        (
            {"libraries": {"torch-cuda": {"matmul_allow_tf32": True}}},
            "TF32 on",
            "torch-cuda says matmul_allow_tf32 = True",
        ),
        (
            {"libraries": {"torch-cpu": {"float32_matmul_precision": "medium"}}},
            "TF32 on",
            "float32_matmul_precision = medium",
        ),
        ({"environment": {"NVIDIA_TF32_OVERRIDE": "1"}}, "environment", "NVIDIA_TF32_OVERRIDE=1"),
        ({"gpus": [{"ecc": []}]}, "Machine", "not one that bench writes"),
        ({"cpu": {"cores_allowed": "x", "cores_present": []}}, "Machine", "not one that bench"),
        ({"cpu": 7}, "Machine", "not one that bench writes"),
    ],
)
def test_the_state_of_the_machine_is_a_warning(
    machine: dict[str, Any], subject: str, said: str
) -> None:
    assert said in warned(measurement(), machine=machine)[subject]


def test_a_sound_run_has_no_warning() -> None:
    sound = {
        "cpu": {"model": "Big", "cores_allowed": 8, "cores_present": 8},
        "gpus": [{**GPU, "power_limit_watts": 700.0, "power_limit_default_watts": 700.0}],
        "libraries": {"torch-cuda": {"matmul_allow_tf32": False}, "cupy": {"CUPY_TF32": "0"}},
        "packages": {"numpy": "2.4.6"},
    }
    assert warned(measurement(), machine=sound) == {}


@pytest.mark.parametrize(
    ("case", "subject", "said"),
    [
        (
            noted("disturbed: throttled: hardware slowdown; x"),
            "Throttled",
            "throttled: hardware slowdown: 1 case",
        ),
        (
            noted("discarded: throttled: software thermal slowdown"),
            "Throttled now and then",
            "was measured again throttled: software thermal slowdown: 1 times",
        ),
        (measurement(flags=["disturbed"]), "Disturbed", "1 of 1 case: something else took"),
        (measurement(flags=["imprecise"]), "Imprecise", "1 of 1 case: their samples spread"),
        (measurement(flags=["untried"], backend="torch-rocm"), "Untried", "torch-rocm: 1 case"),
        (measurement(flags=["no_steady_state"]), "No steady state", "1 of 1 case"),
        (measurement(spread=None), "One block only", "1 of 1 case ran in one process only"),
        (gpu_matmul(64, "torch-cuda", dtype="tf32"), "TF32 on", "torch-cuda: 1 case"),
        (
            measurement(seconds=None, status="wrong", reason="error 0.3"),
            "Failed",
            "matmul/n=1024/call/float32/numpy: wrong: error 0.3",
        ),
        (
            measurement(seconds=None, status="skipped", reason="no CUDA"),
            "Not measured",
            "numpy: skipped: no CUDA",
        ),
    ],
)
def test_what_befell_a_case_is_a_warning(case: Measurement, subject: str, said: str) -> None:
    assert said in warned(case)[subject]


def test_what_befell_the_run_is_a_warning() -> None:
    assert "first look" in warned(measurement(), preset="quick")["Quick preset"]
    assert "Ctrl-C" in warned(measurement(), interrupted="Ctrl-C")["Not finished"]
    assert warned(measurement(), remarks=["cut short"])["Run file"] == "cut short"


def test_the_heat_map_holds_geometric_means_of_suites_and_workloads_with_their_shade() -> None:
    section = part(parsed(full_run()), "Speed over the best CPU")
    (rows,) = tables(section).values()
    head, *body = rows
    assert head[:2] == ["suite and workload", "cupy"]
    named = {row[0]: row[1:] for row in body}
    assert named["batch-sweep: all 6 cases"][:2] == [
        "-",
        "6.00x [5.83, 6.17] 0.917x with transfers",
    ]
    assert named["conv2d forward, float32 3 cases"][0].endswith("2 of 3 cases")
    assert "8.04x [7.82, 8.27] 1.47x with transfers" in named["matmul, float32 8 cases"][1]
    shades = {cell.text: cell.attributes.get("class") for cell in section.all("td")}
    assert shades["8.04x [7.82, 8.27] 1.47x with transfers"] == "n up3"
    assert all(
        ("up" in (shade or "")) == (float(text.partition("x")[0]) >= 2**0.5)
        for text, shade in shades.items()
        if "x" in text
    )


def test_a_cpu_that_nothing_is_compared_with_is_not_in_the_heat_map() -> None:
    headings = [h.text for h in parsed(run(matmul(64, "numpy", 1.0))).all("h2")]
    assert "Speed over the best CPU" not in headings
    alone = [matmul(64, b, 9.0) for b in ("numpy", "torch-cpu")]
    section = part(parsed(run(*alone, matmul(128, "numpy", 1.0))), "Speed over the best CPU")
    assert "2 cases" not in section.text


def test_every_case_with_a_number_is_a_row_with_an_anchor_that_names_it() -> None:
    whole = full_run()
    section = part(parsed(whole), "All cases")
    anchors = {row.attributes["id"] for row in section.all("tr") if "id" in row.attributes}
    for m in whole.measurements:
        if m.seconds is not None:
            assert f"{m.suite}:{m.id}" in anchors
    row = next(r for r in section.all("tr") if "matmul:matmul/n=64/" in str(r.attributes))
    assert [cell.text for cell in row.all("th", "td")][:4] == [
        *("n=64", "cupy", "20.0 us", "[19.6, 20.4] us"),
    ]


def test_a_row_stands_alone_so_that_it_can_be_sorted() -> None:
    section = part(parsed(gpu_run()), "All cases")
    (rows,) = tables(section).values()
    assert len(rows) == 1 + 8 * 4
    assert all(row[0].startswith("n=") for row in rows[1:])


def test_every_number_of_a_figure_leads_to_its_case() -> None:
    tree = parsed(full_run())
    anchors = {row.attributes.get("id") for row in tree.all("tr")}
    rows = [r for f in tree.all("figure") for body in f.all("tbody") for r in body.all("tr")]
    assert len(rows) > 50
    for row in rows:
        (link,) = row.all("a")
        assert (link.attributes["href"] or "")[1:] in anchors


def test_every_row_of_cpu_against_gpu_leads_to_its_case() -> None:
    rows = part(parsed(gpu_run()), "CPU against GPU, case by case").all("tr")[1:]
    assert len(rows) == 16
    assert rows[0].all("a")[0].attributes["href"] == "#matmul:matmul/n=64/call/float32/cupy"


def test_every_figure_with_panels_is_drawn() -> None:
    cases = full_run()
    drawn = {f.all("svg")[0].all("title")[0].text for f in parsed(cases).all("figure")}
    shown = {f.shows for f in plots.FIGURES.values() if f.panels([cases], Request())}
    assert len(shown) >= 4
    assert {title.rpartition(": ")[0] for title in drawn} == shown


def test_of_many_panels_the_fullest_are_drawn_and_the_others_named() -> None:
    sizes = [(64, 128, 256)] * _page_figures.MOST_PANELS + [(64, 128)]
    cases = [
        measurement(f"work{i}", sizes={"n": n}, suite="many", flops=n**3)
        for i, own in enumerate(sizes)
        for n in own
    ]
    (figure,) = parsed(run(*cases)).all("figure")
    (left,) = [d for d in figure.all("details") if "not drawn" in d.text]
    assert left.all("li")[0].text == f"many: work{len(sizes) - 1}, float32"
    assert len(figure.all("caption")) == _page_figures.MOST_PANELS


def test_how_it_was_measured_comes_with_the_command_and_the_machine() -> None:
    machine = {
        "host": "secret-host",
        "cpu": {"model": "Big CPU", "cores_present": 8},
        "memory": {"total_bytes": 2**35},
        "gpus": [{**GPU, "power_limit_watts": 700.0, "max_sm_clock_hertz": 1.98e9}],
        "packages": {"numpy": "2.4.6"},
    }
    given = run(matmul(64, "numpy", 1.0), machine=machine)
    given.header.command = ["bench", "run", "--only", "*n=64*"]
    section = part(parsed(given), "How it was measured")
    assert section.all("code")[0].text == "bench run --only '*n=64*'"
    facts = tables(section)
    assert ["total_bytes", "32.0 GiB"] in facts["memory"]
    assert ["0 power_limit_watts", "700 W"] in [
        [cell.replace(".", " ") for cell in row] for row in facts["gpus"]
    ]
    assert ["numpy", "2.4.6"] in facts["packages"]
    assert "secret-host" not in section.text
    assert section.all("p")[0].text.count(". ") == 2


def test_a_file_that_no_run_wrote_claims_no_protocol_and_no_command() -> None:
    given = run(matmul(64, "numpy", 1.0))
    given.header.settings.clear()
    given.header.command.clear()
    said = part(parsed(given), "How it was measured").text
    assert "does not say how it was measured" in said
    assert "is not in the file" in said
    assert "float64" not in said


def test_only_those_cases_that_were_asked_for_are_on_the_page() -> None:
    section = part(parsed(gpu_run(), only=["*/n=64/*"]), "All cases")
    (rows,) = tables(section).values()
    assert {row[0] for row in rows[1:]} == {"n=64"}


def test_several_runs_have_a_part_each_under_their_labels() -> None:
    tree = parsed(gpu_run(label="one"), small_run(label="two"))
    assert [h.text for h in tree.all("h2")] == ["one", "two"]
    assert tree.all("h1")[0].text == "one, two"
    assert len(tree.all("article")) == 2


def test_the_same_runs_give_the_same_bytes_in_any_process() -> None:
    code = (
        "import sys; sys.path.insert(0, '.');"
        "from tests.test_page import page, full_run, small_run;"
        "sys.stdout.write(page(full_run(), small_run()))"
    )
    pages = [
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert pages[0] == pages[1]
    assert len(pages[0]) > 50_000


def test_the_body_of_a_small_page_is_as_it_was() -> None:
    """Without drawings, which each version of matplotlib makes a little differently.

    Where a difference is meant, write the new body into the file.
    """
    cases = [
        gpu_matmul(1024, "numpy"),
        gpu_matmul(1024, "torch-cuda"),
        measurement(backend="cupy", seconds=None, status="skipped", reason="not installed"),
    ]
    text = page(run(*cases, machine=GPU_MACHINE))
    (body,) = re.findall(r"<body>.*</main>\n", text, re.DOTALL)
    assert re.sub(r"<svg .*?</svg>", "<svg/>", body, flags=re.DOTALL) == GOLDEN.read_text()


def test_a_style_that_would_end_its_element_is_refused() -> None:
    with pytest.raises(ValueError, match="end tag"):
        _page_document.document("page.html", style="</style>")


def written(folder: Path, given: Run) -> Path:
    """Write a run file of the measurements of `given`."""
    path = folder / "mine.jsonl"
    lines = [given.header, *given.measurements, given.end]
    path.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
    return path


def test_piped_it_goes_to_stdout_and_with_output_into_a_file(tmp_path: Path) -> None:
    path = written(tmp_path, small_run())
    piped = bench("report", path, "--as", "page")
    assert piped.stdout.startswith("<!DOCTYPE html>")
    done = bench("report", path, "--as", "page", "--output", tmp_path / "own.html")
    assert done.stdout.strip() == str(tmp_path / "own.html")
    assert (tmp_path / "own.html").read_text().strip() == piped.stdout.strip()


@pytest.mark.skipif(os.name == "nt", reason="a terminal is asked for by POSIX means")
def test_in_a_terminal_it_goes_beside_the_run_file(tmp_path: Path) -> None:
    import pty

    path = written(tmp_path, small_run())
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "bench", "report", str(path), "--as", "page"]
    done = subprocess.run(command, stdout=theirs, stderr=subprocess.PIPE, check=False, timeout=120)
    os.close(theirs)
    said = os.read(ours, 4096).decode()
    os.close(ours)
    assert done.returncode == 0, done.stderr
    assert said.strip() == str(tmp_path / "mine.html")
    assert (tmp_path / "mine.html").read_text().startswith("<!DOCTYPE html>")


def test_the_run_file_itself_is_never_written_over(tmp_path: Path) -> None:
    path = written(tmp_path, small_run())
    before = path.read_bytes()
    done = bench("report", path, "--as", "page", "--output", tmp_path / "." / "mine.jsonl")
    assert done.returncode == 2
    assert "that is a run file" in done.stderr
    assert path.read_bytes() == before


def test_the_templates_are_in_the_wheel() -> None:
    import tomllib

    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert settings["package-data"]["bench.reports"] == ["templates/*"]
    folder = _page_document.TEMPLATES
    names = {path.name for path in folder.iterdir()}
    assert names == {*(f"{name}.html" for name in ("base", "page", "comparison", "parts"))} | {
        *("page.css", "page.js"),
    }


def test_labels_of_any_script_are_shown() -> None:
    assert "日本語" in page(small_run(label="日本語"))


@given(st.text(min_size=1, max_size=40))
def test_any_text_stays_one_text_and_its_anchor_leads_to_it(text: str) -> None:
    cases = [
        measurement(text, backend, flags=[text], suite=text, verified=text)
        for backend in ("numpy", "torch-cpu")
    ]
    tree = parsed(run(*cases, label=text, machine={"cpu": {text: text}}))
    assert len(tree.all("script")) == 1
    assert tree.all("h1")[0].text == " ".join(plain(text).split())
    rows = [row for row in tree.all("tr") if "id" in row.attributes]
    assert len({row.attributes["id"] for row in rows}) == 2
    for row in rows:
        assert row.all("a")[0].attributes["href"] == f"#{row.attributes['id']}"


@given(st.text(), st.text())
def test_two_texts_never_have_one_anchor(one: str, other: str) -> None:
    anchors = [_page_tables.Anchors("").case((text, "x")) for text in (one, other)]
    assert (anchors[0] == anchors[1]) == (one == other)
    assert not re.search(r"[\s\"'<>&#%]", anchors[0])
