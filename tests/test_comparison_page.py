"""The page of a comparison: what a buyer forwards."""

import re
from pathlib import Path

from tests.commands import bench
from tests.machines import box, compared_page, cost_page, write
from tests.test_page import Tree


def test_a_page_opens_with_sentences_and_draws_the_cost_page() -> None:
    root = Tree(cost_page()).root
    said = [item.text for item in root.all("li")]
    assert "server: 5.00x [4.86, 5.14] as fast as desktop over 8 pieces of work" in said[3]
    assert any("costs least" in text for text in said)
    assert any("unseen was not measured" in text for text in said)
    assert len(root.all("svg")) == 2
    assert [heading.text for heading in root.all("h2")] == ["In short", "Figures", "Tables"]


def test_every_row_of_a_page_stands_alone() -> None:
    rows = re.findall(r'<tr><th scope="row">(.*?)</th>', cost_page())
    assert rows
    assert all(rows)


def test_the_same_comparison_gives_the_same_page() -> None:
    assert cost_page() == cost_page()


def test_without_prices_the_speed_alone_is_drawn_and_its_tables_are_named() -> None:
    root = Tree(compared_page(box("a"), box("b", 2.0), prices=None)).root
    assert len(root.all("svg")) == 1
    targets = [
        link.attributes["href"] for link in root.all("a") if "#table-" in str(link.attributes)
    ]
    assert targets == ["#table-1", "#table-3"]


def test_of_many_machines_the_fastest_and_the_slowest_are_drawn() -> None:
    boxes = [box(f"m{i}", 1.0 + i) for i in range(16)]
    page = compared_page(*boxes, prices=None)
    assert "Of 15 machines the 6 fastest and the 6 slowest are drawn." in page


def test_a_page_is_written_where_it_is_asked_for(tmp_path: Path) -> None:
    files = write(tmp_path, box("a"), box("b", 2.0))
    done = bench("compare", *files, "--as", "page", "--output", tmp_path / "machines.html")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "machines.html").read_text("utf-8").startswith("<!DOCTYPE html>")
    assert done.stdout.strip() == str(tmp_path / "machines.html")
