"""What machines cost: crossings against brute force, and no amount for what was not measured."""

import math
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bench.comparing.cost import Curves, Option, crossing, curves
from bench.comparing.document import Questions, comparison_document
from bench.comparing.machines import machines
from bench.comparing.prices import Price, Prices, Use, read_prices
from bench.comparing.purchase import (
    Wanted,
    latencies,
    network_costs,
    parse_seconds,
    parse_training,
)
from bench.comparing.side_by_side import Comparison, choose_baseline, compare
from bench.comparing.speedup import Ratio
from bench.errors import RequestError
from bench.report import Document
from bench.results.schema import Run
from tests.commands import ROOT, bench
from tests.machines import box, passes, served, write
from tests.runs import run

EXAMPLE = """
currency = "EUR"
electricity_per_kwh = 0.30
cooling_factor = 1.3
[use]
hours_per_month = 200
lifetime_months = 36
jobs_at_once = 4
[machines."A"]
purchase = 1500
host = 500
as_of = 2026-11-01
source = "a shop"
[machines."B"]
hourly = 3.2
[machines."C"]
hourly = 1
"""


def compared(*runs: Run) -> Comparison:
    found = machines(runs)
    return compare(found, choose_baseline(found, None))


def priced(**labels: Price) -> Prices:
    return Prices(
        currency="EUR",
        electricity_per_kwh=0.3,
        cooling_factor=1.0,
        lifetime_months=36.0,
        is_lifetime_assumed=False,
        use=Use(200.0, 1),
        machines=labels,
    )


def bought(price: float) -> Price:
    return Price(purchase=price, hourly=None, as_of=None, source=None)


def rented(hourly: float) -> Price:
    return Price(purchase=None, hourly=hourly, as_of=None, source=None)


def curve(comparison: Comparison, prices: Prices) -> Curves:
    found = curves(comparison, prices, comparison.overall, "All work")
    assert found is not None
    return found


def document(comparison: Comparison, questions: Questions) -> Document:
    return comparison_document(comparison, comparison.machines, questions)


def write_prices(folder: Path, text: str = EXAMPLE) -> Path:
    path = folder / "prices.toml"
    path.write_text(text)
    return path


def said(found: Document) -> str:
    return "\n".join([*found.sentences, *found.warnings, *found.remarks])


ratios = st.builds(
    lambda middle, down, up: Ratio(middle, middle / (1 + down), middle * (1 + up)),
    st.floats(1.0, 20.0),
    st.floats(0, 0.5),
    st.floats(0, 0.5),
)
options = st.builds(
    Option,
    machine=st.sampled_from(["A", "B", "C"]),
    way=st.sampled_from(["bought", "rented"]),
    count=st.integers(1, 9),
    per_month=st.floats(0, 5000),
    per_machine_hour=st.floats(0, 20),
    slower=ratios,
)
pairs = st.tuples(options, options).map(
    # One machine is as slow bought as rented.
    lambda pair: (
        pair
        if pair[0].machine != pair[1].machine
        else (pair[0], replace(pair[1], slower=pair[0].slower))
    )
)


@settings(deadline=None)
@given(pairs)
def test_a_crossing_is_where_brute_force_finds_it(pair: tuple[Option, Option]) -> None:
    one, other = pair
    found = crossing(one, other)
    hours = [step / 2 for step in range(1, 2000)]
    cheaper = [one.cost(h).median < other.cost(h).median for h in hours]
    turns = [
        (early, late)
        for early, late, a, b in zip(hours, hours[1:], cheaper, cheaper[1:], strict=False)
        if a != b
    ]
    if found is None or not hours[0] < found.hours < hours[-1]:
        # Costs that are the same but for rounding may turn anywhere.
        slope = abs(one.per_hour.median - other.per_hour.median)
        assume(slope > 1e-6)
        assume(abs(one.per_month - other.per_month) > 1e-6)
        assert not turns
        return
    slack = 1e-6 * found.hours
    slope = abs(one.per_hour.median - other.per_hour.median)
    assume(slope > 1e-6)
    assert any(early - slack <= found.hours <= late + slack for early, late in turns)
    before, after = found.hours * 0.9, found.hours * 1.1
    assert found.below.cost(before).median < found.above.cost(before).median
    assert found.above.cost(after).median < found.below.cost(after).median


@settings(deadline=None)
@given(pairs)
def test_the_interval_of_a_crossing_contains_it(pair: tuple[Option, Option]) -> None:
    one, other = pair
    found = crossing(one, other)
    assume(found is not None)
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    assert 0 <= found.low <= found.hours <= found.high


@settings(deadline=None)
@given(options, options, st.floats(0, 1), st.floats(0, 1))
def test_any_speed_within_the_intervals_crosses_within_the_interval(
    one: Option, other: Option, here: float, there: float
) -> None:
    assume(one.machine != other.machine)
    found = crossing(one, other)
    assume(found is not None)
    assert found is not None
    drawn = []
    for option, share in ((found.below, here), (found.above, there)):
        low, high = option.slower.low, option.slower.high
        assert low is not None
        assert high is not None
        drawn.append(replace(option, slower=Ratio(low + share * (high - low), None, None)))
    other_found = crossing(*drawn)
    assert found.low is not None
    assert found.high is not None
    if other_found is None:
        assert math.isinf(found.high) or found.high > 1e9
    else:
        assert found.low * (1 - 1e-6) <= other_found.hours <= found.high * (1 + 1e-6)


@settings(deadline=None)
@given(st.floats(1e-3, 1e3))
def test_crossings_do_not_depend_on_the_currency(unit: float) -> None:
    comparison = compared(box("A", 3.6), box("B", 1.0))
    one = curve(comparison, priced(A=bought(2000.0), B=rented(3.2)))
    other = curve(comparison, priced(A=bought(2000.0 * unit), B=rented(3.2 * unit)))
    assert [c.hours for c in other.crossings] == pytest.approx([c.hours for c in one.crossings])


def test_four_cheap_machines_are_set_against_one_dear() -> None:
    comparison = compared(box("A", 3.6), box("B", 1.0))
    found = curve(comparison, priced(A=rented(1.0), B=bought(7200.0)))
    assert found.fastest == "B"
    assert [(o.count, o.machine) for o in found.options] == [(1, "B"), (4, "A")]
    (turn,) = found.turns()
    # A's hour costs 1, and it takes 3.6 of them; B costs 200 a month.
    assert turn.hours == pytest.approx(200 / 3.6)
    assert turn.low == pytest.approx(200 / 3.7, rel=0.01)
    assert turn.high == pytest.approx(200 / 3.5, rel=0.01)
    text = said(document(comparison, Questions(prices=priced(A=rented(1.0), B=bought(7200.0)))))
    assert "one B (bought) costs less than four A (rented) above 55.6 h/month [54.0, 57.1]" in text
    assert "B finishes a single job 3.60x [3.50, 3.70] sooner" in text


def test_machines_as_fast_as_each_other_stand_alone() -> None:
    found = curve(compared(box("A"), box("B")), priced(A=bought(100.0), B=bought(200.0)))
    assert [option.count for option in found.options] == [1, 1]


def test_a_count_that_may_be_too_small_is_said() -> None:
    comparison = compared(box("A", 3.95), box("B", 1.0))
    text = said(document(comparison, Questions(prices=priced(A=bought(1.0), B=bought(2.0)))))
    assert "A takes 3.95x [3.84, 4.06] as long: four of them may be one too few" in text


def test_buying_is_set_against_renting_the_same_machine() -> None:
    both = Price(purchase=3600.0, hourly=2.0, as_of=None, source=None)
    comparison = compared(box("A", 2.0), box("B", 1.0))
    found = curve(comparison, priced(A=both, B=both))
    same = [c for c in found.crossings if c.below.machine == c.above.machine == "B"]
    assert [(c.below.way, c.above.way) for c in same] == [("rented", "bought")]
    assert same[0].hours == pytest.approx(50.0)
    # B is the fastest: its hours are what is counted, and they are exact.
    assert same[0].low == same[0].high == same[0].hours


def test_electricity_is_that_measured_and_of_machines_that_have_a_counter() -> None:
    comparison = compared(box("A", 1.0, watts=500.0), box("B", 1.0))
    prices = replace(priced(A=bought(100.0), B=bought(100.0)), cooling_factor=1.4)
    found = {option.machine: option for option in curve(comparison, prices).options}
    assert found["A"].per_machine_hour == pytest.approx(0.5 * 1.4 * 0.3)
    assert found["B"].per_machine_hour == 0.0
    text = said(document(comparison, Questions(prices=prices)))
    assert "electricity of B is left out: no energy was measured" in text
    assert "electricity of A" not in text


def test_without_a_price_of_electricity_none_is_counted() -> None:
    comparison = compared(box("A", watts=500.0), box("B"))
    prices = replace(priced(A=bought(100.0), B=bought(100.0)), electricity_per_kwh=None)
    assert {o.per_machine_hour for o in curve(comparison, prices).options} == {0.0}
    assert "electricity is left out" in said(document(comparison, Questions(prices=prices)))


def test_what_was_never_measured_has_no_number() -> None:
    comparison = compared(box("A", 3.6), box("B", 1.0))
    prices = priced(A=bought(1.0), C=rented(0.01))
    found = document(comparison, Questions(prices=prices, budget=100.0))
    assert "C was not measured: no cost of it is known" in found.remarks
    assert "no price, and so no cost: B" in found.remarks
    cells = [cell for table in found.tables for row in table.rows for cell in row]
    assert not [cell for cell in cells if cell == "C" or " C " in cell]
    assert {r["machine"] for t in found.tables for r in t.records} == {"A", "B"}


def test_the_recommendation_keeps_to_the_jobs_there_are() -> None:
    comparison = compared(box("A", 3.6), box("B", 1.0))
    prices = priced(A=bought(360.0), B=bought(36000.0))
    text = said(document(comparison, Questions(prices=prices)))
    assert "with one job at once, one B (bought) costs least, 1000 EUR a month" in text
    assert "four A (bought) would cost 40.0 EUR, but only four jobs at once" in text
    many = replace(prices, use=Use(200.0, 4))
    text = said(document(comparison, Questions(prices=many)))
    assert "with four jobs at once, four A (bought) cost least, 40.0 EUR a month" in text


def test_a_recommendation_within_the_intervals_is_not_certain() -> None:
    comparison = compared(box("A", 2.0), box("B", 1.0))
    prices = replace(priced(A=rented(1.0), B=rented(2.01)), use=Use(100.0, 9))
    text = said(document(comparison, Questions(prices=prices)))
    assert "two A (rented) cost least" in text
    assert "not certain: one B (rented) 201 EUR" in text


def test_without_use_there_is_a_curve_and_no_recommendation(tmp_path: Path) -> None:
    start, rest = EXAMPLE.split("[use]")
    text = start + "[machines" + rest.split("[machines", 1)[1]
    prices = read_prices(write_prices(tmp_path, text))
    assert prices.use is None
    found = document(compared(box("A", 3.6), box("B", 1.0)), Questions(prices=prices))
    assert "No recommendation" in said(found)
    assert "costs least" not in said(found)
    assert "cost least" not in said(found)
    assert "36 months, which is assumed" in said(found)
    assert "cost_curve" in [table.name for table in found.tables]
    networks = next(table for table in found.tables if table.name == "networks")
    assert {row[-2] for row in networks.rows} == {"-"}


def test_a_million_inferences_cost_the_hours_that_they_take() -> None:
    comparison = compared(box("A", 2.0), box("B", 1.0))
    found = network_costs(comparison, priced(A=rented(3.6), B=bought(7200.0)), [])
    costs = {(c.machine, c.network, c.phase): c for c in found}
    # ResNet-50 at 50 ms for 8 on B: 6250 s for a million, twice that on A.
    one = costs["A", "resnet50/imagenet", "forward"]
    assert one.seconds.median == pytest.approx(12500)
    assert one.costs["rented"].median == pytest.approx(12.5)
    other = costs["B", "resnet50/imagenet", "forward"]
    assert other.costs["bought"].median == pytest.approx(6250 / 3600 * 7200 / 36 / 200)
    assert other.costs["bought"].low == pytest.approx(other.costs["bought"].median * 0.98)


def test_networks_are_compared_over_the_batches_that_all_have() -> None:
    large = run(*passes(0.5, batches=(8, 1024)), label="A")
    found = network_costs(compared(large, box("B", 1.0)), None, [])
    assert {cost.batch for cost in found} == {8}


def test_a_training_is_costed_by_its_name() -> None:
    comparison = compared(box("A", 2.0), box("B", 1.0))
    asked = [Wanted("resnet50", 8000)]
    found = [c for c in network_costs(comparison, None, asked) if c.samples == 8000]
    assert {(c.machine, c.task) for c in found} == {("A", "training"), ("B", "training")}
    assert min(c.seconds.median for c in found) == pytest.approx(1000 * 0.15)
    with pytest.raises(RequestError, match="did you mean resnet50"):
        network_costs(comparison, None, [Wanted("resnet5", 1)])


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("resnet50:1000", Wanted("resnet50", 1000)),
        ("resnet50:1281167x90", Wanted("resnet50", 115_305_030)),
        ("a:b:1_000", Wanted("a:b", 1000)),
    ],
)
def test_trainings_are_read(text: str, wanted: Wanted) -> None:
    assert parse_training(text) == wanted


@pytest.mark.parametrize(
    "text", ["", ":1", "a:", "a:-1", "a:1x", "a:1.5", "a:9999999999999999", "a:²"]
)
def test_what_is_no_training_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="--train"):
        parse_training(text)


def test_bounds_are_read_with_their_unit() -> None:
    assert [parse_seconds(text) for text in ("20ms", "0.5s", "800us")] == [0.02, 0.5, 800e-6]


def test_the_cheapest_machine_within_a_latency_bound_is_named() -> None:
    comparison = compared(
        box("A", 1.0, served(0.0190)),
        box("B", 1.0, served(0.0199)),
        box("D", 1.0, served(0.0300)),
        box("E", 1.0),
    )
    found = {answer.machine: answer.verdict for answer in latencies(comparison, 0.02)}
    assert found == {"A": "meets", "B": "uncertain", "D": "misses", "E": "unknown"}
    prices = priced(A=rented(2.0), B=rented(0.1), D=rented(0.1))
    text = said(document(comparison, Questions(prices=prices, latency_bound=0.02)))
    assert "A; not certain: B; cheapest: A (rented), 400 EUR a month" in text


def test_latency_of_one_block_is_not_certain() -> None:
    comparison = compared(
        box("A", 1.0, served(0.01, spread=None)), box("B", 1.0, served(0.01, spread=None))
    )
    assert {answer.verdict for answer in latencies(comparison, 0.02)} == {"uncertain"}


def test_without_latencies_that_is_said() -> None:
    text = said(document(compared(box("A"), box("B")), Questions(latency_bound=0.02)))
    assert "no latency of the same work was measured" in text


def test_a_budget_buys_the_fastest_that_it_can_pay() -> None:
    comparison = compared(box("A", 4.0), box("B", 1.0), box("D", 2.0))
    prices = priced(A=bought(1000.0), B=bought(6000.0), D=bought(4000.0))
    text = said(document(comparison, Questions(prices=prices, budget=5000.0)))
    assert "5000 EUR buys at best D for 4000 EUR: 2.00x" in text
    assert "five A would do 5.00x as much as A, if there are five jobs at once" in text
    text = said(document(comparison, Questions(prices=prices, budget=10.0)))
    assert "10.0 EUR buys none" in text


def test_a_prices_file_is_read_with_all_that_it_says(tmp_path: Path) -> None:
    prices = read_prices(write_prices(tmp_path))
    assert prices.machines["A"] == Price(2000.0, None, "2026-11-01", "a shop")
    assert prices.use == Use(200.0, 4)
    assert (prices.currency, prices.lifetime_months, prices.cooling_factor) == ("EUR", 36.0, 1.3)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('currency = "EUR"', "", "currency is missing"),
        ('currency = "EUR"', 'currency = "euro"', "currency is no currency"),
        ('currency = "EUR"', "currency = 5", "currency is not a text"),
        ("purchase = 1500", "purchase = -1", "machines.A.purchase is negative"),
        ("purchase = 1500", 'purchase = "1500"', "machines.A.purchase is not a number"),
        ("purchase = 1500", "purchase = true", "machines.A.purchase is not a number"),
        ("purchase = 1500", "purchase = inf", "machines.A.purchase is no amount"),
        ("purchase = 1500", "purchase = nan", "machines.A.purchase is no amount"),
        ("purchase = 1500", "purchase = 0", "machines.A.purchase must be above 0"),
        ("purchase = 1500", "", "machines.A.host is a part of a purchase"),
        ("hourly = 3.2", "", "machines.B has no price"),
        ("hourly = 3.2", "hourli = 3.2", "did you mean hourly?"),
        ("[use]", "[usage]", "did you mean use?"),
        ("hours_per_month = 200", "hours_per_month = 0", "use.hours_per_month must be above 0"),
        ("hours_per_month = 200", "hours_per_month = 800", "more than a month has"),
        ("jobs_at_once = 4", "jobs_at_once = 1.5", "use.jobs_at_once is not a whole number"),
        ("cooling_factor = 1.3", "cooling_factor = 0.5", "cooling_factor is total power"),
        ("[use]", "[use", "no TOML"),
    ],
)
def test_a_fault_of_the_prices_file_is_named(
    tmp_path: Path, old: str, new: str, named: str
) -> None:
    text = EXAMPLE.replace(old, new)
    assert text != EXAMPLE
    if named.startswith("machines.A.host"):
        text = text.replace("host = 500", "host = 500\nhourly = 1")
    with pytest.raises(RequestError) as caught:
        read_prices(write_prices(tmp_path, text))
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ['currency = "EUR"', 'currency = "EUR"\n[machines]', "machines = 3"]
)
def test_a_prices_file_without_machines_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(RequestError, match=r"machines|currency"):
        read_prices(write_prices(tmp_path, text))


def test_the_prices_file_of_the_documentation_is_read(tmp_path: Path) -> None:
    documented = (ROOT / "docs" / "comparing.md").read_text()
    example = documented.split("```toml\n")[1].split("```")[0]
    assert list(read_prices(write_prices(tmp_path, example)).machines) == ["RTX 5090 box"]


def test_a_prices_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "prices.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RequestError, match="no TOML"):
        read_prices(path)


def test_the_walk_from_two_runs_and_prices_to_an_answer(tmp_path: Path) -> None:
    paths = write(tmp_path, box("A", 3.6), box("B", 1.0, watts=600.0))
    prices = write_prices(tmp_path)
    done = bench("compare", *paths, "--prices", prices, "--train", "resnet50:1000000")
    assert done.returncode == 0, done.stderr
    assert "four A (bought) cost less than one B (rented) above 69.4 h/month" in done.stdout
    assert "C was not measured" in done.stdout
    assert "1,000,000" not in done.stderr


def test_the_prices_of_hostile_machines_stay_text(tmp_path: Path) -> None:
    prices = write_prices(
        tmp_path, EXAMPLE + '[machines."\\u001b[31m\\u202e<b>"]\nhourly = 1\nsource = "\\u001b"\n'
    )
    done = bench("compare", *write(tmp_path, box("A"), box("B")), "--prices", prices)
    assert done.returncode == 0
    assert "\x1b" not in done.stdout + done.stderr
    assert "\u202e" not in done.stdout


def test_the_cost_is_drawn_the_same_each_time_and_described(tmp_path: Path) -> None:
    from bench import catalog
    from bench.report import Request

    render = catalog.comparison_reports()["plots"].render
    name = "<b>A&$x$"
    comparison = compared(box(name, 3.6), box("B", 1.0, watts=600.0))
    prices = priced(**{name: rented(1.0), "B": bought(7200.0)})
    wanted = [Wanted("resnet50", 1000)]
    found = document(comparison, Questions(prices=prices, trainings=wanted))
    files = render(found, Request())
    assert isinstance(files, dict)
    names = ("speed", "cost", "cost-2")
    assert list(files) == [f"{name}.{end}" for name in names for end in ("svg", "png")]
    assert files == render(found, Request())
    svg = files["cost.svg"].decode()
    assert "<b>" not in svg
    assert "costs less up to" in svg
    ElementTree.fromstring(svg)
    path = write_prices(tmp_path)
    files_of = write(tmp_path, box("A", 3.6), box("B", 1.0))
    done = bench(
        "compare", *files_of, "--prices", path, "--as", "plots", "--output", tmp_path / "p"
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "p" / "cost.png").read_bytes().startswith(b"\x89PNG")


def test_without_prices_the_speed_alone_is_drawn(tmp_path: Path) -> None:
    folder = tmp_path / "plots"
    files = write(tmp_path, box("A"), box("B"))
    done = bench("compare", *files, "--as", "plots", "--output", folder)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["speed.png", "speed.svg"]
