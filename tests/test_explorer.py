"""The explorer in a browser: opened from disk, driven as a reader would, its numbers compared with Python's."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nodelens.measures import andc_mask, dilution, head_specialization, sweep
from nodelens.probing import Measurement, load_measurements
from nodelens.report.page import write_report
from synthetic_runs import HOSTILE, LABELS, QUOTED, SITES, site, write_run

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

EXPLORER = Path(__file__).parent.parent / "src" / "nodelens" / "report" / "explorer"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SWITCHES = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SITE = "block.2.attention"
AXE = EXPLORER / "node_modules" / "axe-core" / "axe.min.js"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no Chromium: the explorer is not opened")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=list(SWITCHES))
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report([write_run(tmp_path_factory.mktemp("run"))])


@pytest.fixture(scope="module")
def measured(report: Path) -> Measurement:
    from nodelens.runs import RunDirectory

    return load_measurements(RunDirectory(report.parent), "test")[0]


class Opened:
    """A page in the browser; it remembers what it asked for and what went wrong."""

    def __init__(self, browser: Browser, report: Path, fragment: str = "", **how: Any) -> None:
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page: Page = browser.new_context(**how).new_page()
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(f"dialog {dialog.message}"))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(f"{report.as_uri()}{'#' * bool(fragment)}{fragment}")
        self.settle()

    def settle(self) -> None:
        """Wait until all numbers are drawn."""
        self.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        self.page.wait_for_selector("#explorer[data-settled=true]")

    def move_slider(self, threshold: float) -> None:
        set_value = "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input')); }"
        self.page.get_by_label("Threshold", exact=True).evaluate(set_value, str(threshold))
        self.settle()

    def statistics(self) -> dict[str, float]:
        cells = self.page.locator(".side:not([hidden]) [data-statistic]").all()
        return {str(c.get_attribute("data-statistic")): float(str(c.get_attribute("data-value"))) for c in cells}

    def close(self) -> None:
        self.page.context.close()


@pytest.fixture
def opened(browser: Browser, report: Path) -> Iterator[Opened]:
    one = Opened(browser, report, f"site1={SITE}")
    yield one
    assert one.complaints == []
    assert [url.split("#")[0] for url in one.requests if not url.startswith("data:")] == [report.as_uri()]
    one.close()


def test_the_slider_gives_pythons_numbers(opened: Opened, measured: Measurement) -> None:
    for threshold in (0.3, 0.05, 0.47, 0.9):
        opened.move_slider(threshold)
        expected = measured[SITE].statistics(threshold).scalars()
        assert opened.statistics() == {key: expected[key] for key in opened.statistics()}
        assert len(opened.statistics()) == 9


def test_the_other_cluster_rule_does_too(opened: Opened, measured: Measurement) -> None:
    opened.page.get_by_label("Cluster rule").select_option("maximum")
    opened.settle()
    expected = measured[SITE].statistics(0.3, "maximum").scalars()
    assert opened.statistics() == {key: expected[key] for key in opened.statistics()}


def test_the_curve_has_its_maximum_where_python_has(opened: Opened, measured: Measurement) -> None:
    found = sweep(measured[SITE].matrices, [round(0.05 * i, 2) for i in range(1, 19)])
    best = max(found, key=lambda statistics: statistics.snr_min)
    chart = opened.page.get_by_role("img", name="SNR_min against the threshold")
    assert f"Largest at threshold {best.threshold:g}: {best.snr_min:.4g}" in str(chart.get_attribute("aria-label"))


def test_heads_and_dilution_follow_the_threshold(opened: Opened, measured: Measurement) -> None:
    opened.page.get_by_label("Ratio of the heads").fill("1.5")
    opened.page.get_by_label("Ratio of the heads").press("Enter")
    opened.move_slider(0.2)
    expert = head_specialization(measured[SITE].matrices.diagonals(0.2), heads=2, ratio=1.5)
    shown = [int(str(line.get_attribute("data-labels"))) for line in opened.page.locator(".heads li").all()]
    assert shown == expert.labels_per_head.tolist()
    mask = andc_mask(*(measured[name].matrices.diagonals(0.2) for name in ("block.2.qkv", "block.2.ln")))
    row = opened.page.locator("[data-layer='block.2.qkv']")
    assert f"{100 * dilution(mask):.1f}%" in row.inner_text()


def test_a_searched_label_is_counted_at_every_site(opened: Opened, measured: Measurement) -> None:
    opened.page.get_by_label("Search a label").fill("otter")
    opened.settle()
    for name in measured:
        nodes = int(measured[name].statistics(0.3).appearances[LABELS.index("otter")])
        box = opened.page.get_by_role("button", name=f"{name}, ")
        assert f"nodes that know it {nodes}" in str(box.first.get_attribute("aria-label"))
    assert "of its nodes know “otter”" in opened.page.locator(".side .hint").first.inner_text()


def test_what_cannot_be_leaves_what_was(opened: Opened) -> None:
    field = opened.page.get_by_label("Search a label")
    field.fill("otter")
    opened.settle()
    field.fill("no such label")
    field.press("Enter")
    opened.settle()
    assert field.evaluate("field => field.validationMessage") == "No label contains “no such label”."
    assert opened.page.get_by_role("heading", name="Who knows “otter”").is_visible()
    threshold = opened.page.get_by_label("Threshold, as a number")
    threshold.fill("0.4")
    threshold.press("Enter")
    threshold.fill("2")
    threshold.press("Enter")
    opened.settle()
    assert threshold.input_value() == "0.4"
    assert "threshold=0.4" in opened.page.url


def test_a_second_node_of_the_list_is_brought_into_sight(opened: Opened) -> None:
    opened.page.set_viewport_size({"width": 900, "height": 500})
    opened.page.emulate_media(reduced_motion="reduce")  # or it is still on its way
    opened.page.get_by_label("Search a label").fill("otter")
    opened.settle()
    for button in opened.page.get_by_role("region", name="Who knows the label").get_by_role("button").all()[:2]:
        button.scroll_into_view_if_needed()
        button.click()
        opened.settle()
        site, _, node = button.inner_text().replace("\n", " ").split(" ")[:3]
        top = opened.page.get_by_role("heading", name=f"Node {node} of {site}").bounding_box()
        assert top is not None
        assert -1 <= top["y"] < 500


def test_a_searched_label_leads_to_its_nodes_and_heads(opened: Opened, measured: Measurement) -> None:
    opened.page.get_by_label("Search a label").fill("otter")
    opened.settle()
    label, card = LABELS.index("otter"), opened.page.get_by_role("region", name="Who knows the label")
    found = {
        f"{name} node {node}": (float(share), int(measured[name].matrices.diagonals(0.3)[node].sum()))
        for name in reversed(measured.by_site)
        for node, share in enumerate(measured[name].matrices.diagonal_fields()[:, label])
        if share > 0.3
    }
    strongest = sorted(found, key=lambda name: (-found[name][0], found[name][1]))[:12]
    said = [button.inner_text().replace("\n", " ").split(" · ") for button in card.get_by_role("button").all()]
    assert [strength.rsplit(" ", 1)[0] for strength, _ in said] == strongest
    shares = [float(strength.rsplit(" ", 1)[1]) for strength, _ in said]
    assert shares == pytest.approx([found[name][0] for name in strongest], rel=1e-2)
    held = [found[name][1] for name in strongest]
    assert [labels for _, labels in said] == ["this label alone" if n == 1 else f"{n} labels" for n in held]
    counts = head_specialization(measured[SITE].matrices.diagonals(0.3), heads=2).appearances[:, label]
    assert f"{SITE}: {counts[0]} of head 1, {counts[1]} of head 2" in card.inner_text()
    card.get_by_role("button").first.hover()
    opened.page.mouse.down()  # the field loses the focus
    opened.settle()
    opened.page.mouse.up()
    opened.settle()
    site, _, node = strongest[0].split(" ")
    assert opened.page.get_by_role("heading", name=f"Node {node} of {site}").is_visible()


def test_a_node_is_opened_by_keyboard(opened: Opened, measured: Measurement) -> None:
    opened.page.locator(".cells button").first.focus()
    opened.page.keyboard.press("ArrowRight")
    opened.page.keyboard.press("ArrowRight")
    opened.page.keyboard.press("Enter")
    opened.settle()
    node = opened.page.get_by_role("region", name="Node")
    assert node.get_by_role("heading").inner_text() == f"Node 2 of {SITE}"
    clusters = measured[SITE].matrices.clusters(2, 0.3)
    sizes = sorted((len(cluster) for cluster in clusters), reverse=True)
    shown = [len(line.locator(".label").all()) for line in node.locator(".clusters li").all()]
    assert shown == sizes
    node.get_by_role("img").first.focus()
    opened.page.keyboard.press("ArrowDown")
    assert node.locator(".matrix .status").first.inner_text().startswith("input beaver → output bear: ")


def test_nodes_are_sorted(opened: Opened, measured: Measurement) -> None:
    opened.page.get_by_label("Sort the nodes by").first.select_option("diagonal")
    opened.settle()
    order = [
        int(str(b.get_attribute("data-node"))) for b in opened.page.locator(".cells button").all() if b.is_visible()
    ]
    held = measured[SITE].matrices.diagonals(0.3).sum(dim=1)
    assert order == sorted(range(12), key=lambda node: (-int(held[node]), node))


def test_an_address_reopens_its_view(browser: Browser, report: Path, opened: Opened) -> None:
    opened.page.get_by_role("button", name="Put a second site beside it").click()
    opened.settle()
    opened.page.get_by_label("Site", exact=True).last.select_option("block.2.qkv")
    opened.settle()
    opened.page.locator(".side").last.locator(".cells button").nth(3).click()
    opened.page.get_by_label("Search a label").fill(HOSTILE)
    opened.move_slider(0.42)
    again = Opened(browser, report, opened.page.url.split("#")[1])
    assert again.page.get_by_label("Threshold", exact=True).input_value() == "0.42"
    assert again.page.get_by_label("Search a label").input_value() == HOSTILE
    assert again.page.get_by_role("heading", name="Node 3 of block.2.qkv").is_visible()
    assert again.page.url == opened.page.url
    assert again.complaints == []
    again.page.evaluate("location.hash = 'site1=block.1.linear2&threshold=0.6'")
    again.settle()
    assert again.page.get_by_label("Site", exact=True).first.input_value() == "block.1.linear2"
    again.close()


def test_a_wrong_address_opens_the_beginning(browser: Browser, report: Path) -> None:
    one = Opened(browser, report, "site1=nowhere&node1=99&threshold=7&label=none&sort=x&ratio=%FF")
    assert one.page.get_by_label("Threshold", exact=True).input_value() == "0.3"
    assert one.complaints == []
    one.close()


def test_everything_that_can_be_used_has_a_name(opened: Opened) -> None:
    opened.page.locator(".cells button").first.click()
    opened.settle()
    unnamed = """() => [...document.querySelectorAll("button, input, select, a, canvas[tabindex], summary")]
        .filter((one) => one.checkVisibility())
        .filter((one) => !`${one.ariaLabel ?? ""}${one.closest("label")?.textContent ?? ""}${one.textContent}`.trim())
        .map((one) => one.outerHTML)"""
    assert opened.page.evaluate(unnamed) == []


@pytest.mark.skipif(not AXE.exists(), reason="axe-core is not installed (npm install)")
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_accessibility_rules_hold(browser: Browser, report: Path, theme: str) -> None:
    one = Opened(browser, report, f"site1={SITE}&node1=2&label=otter", color_scheme=theme)
    one.page.evaluate(AXE.read_text())
    found = one.page.evaluate(
        "async () => (await axe.run()).violations.map((rule) => `${rule.id}: ${rule.nodes[0].html}`)"
    )
    assert found == []
    one.close()


def test_changes_are_told(opened: Opened) -> None:
    told = opened.page.get_by_role("status").first
    assert told.inner_text() == ""  # a page that opens is read anyway
    opened.move_slider(0.42)
    assert told.inner_text().startswith(f"{SITE}, test split, probe seed 0, threshold 0.42: SNR ")
    opened.page.locator(".cells button").nth(3).click()
    opened.settle()
    assert told.inner_text().endswith(f"Node 3 of {SITE} is open.")


def test_tab_reaches_everything_in_order_and_shows_where_it_is(opened: Opened) -> None:
    names = []
    for _ in range(12):
        opened.page.keyboard.press("Tab")
        names.append(opened.page.evaluate("document.activeElement.ariaLabel ?? document.activeElement.textContent"))
        assert opened.page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    assert [name for name in names if name in ("Threshold", "Cluster rule", "Search a label")] == [
        "Threshold",
        "Cluster rule",
        "Search a label",
    ]
    assert names[0] == "to the explorer"


def test_a_reader_chooses_split_and_seed(browser: Browser, tmp_path: Path) -> None:
    run = write_run(tmp_path, split="test,train", seeds=2)
    one = Opened(browser, write_report([run]), f"site1={SITE}")
    one.page.get_by_label("Split", exact=True).first.select_option("train")
    one.settle()
    one.page.get_by_label("Probe seed", exact=True).first.select_option("1")
    one.settle()
    expected = load_measurements(run, "train")[1][SITE].statistics(0.3).scalars()
    assert one.statistics() == {key: expected[key] for key in one.statistics()}
    again = Opened(browser, tmp_path / "report.html", one.page.url.split("#")[1])
    assert again.statistics() == one.statistics()
    assert "measured on the train split with probe seed 1" in again.page.locator(".side .hint").first.inner_text()
    assert one.complaints == again.complaints == []
    one.close()
    again.close()


@pytest.mark.parametrize("positions", [4, 16])
def test_filters_follow_the_slider(browser: Browser, tmp_path: Path, positions: int) -> None:
    run = write_run(tmp_path, sites=[site("block.1.conv", 6, positions=positions), *SITES])
    one = Opened(browser, write_report([run]), "site1=block.1.conv&node1=2")
    measured = load_measurements(run, "test")[0]["block.1.conv"]
    for rule in ("greedy", "maximum"):
        one.page.get_by_label("Cluster rule").select_option(rule)
        for threshold in (0.3, 0.12):
            one.move_slider(threshold)
            expected = measured.statistics(threshold, rule).scalars()
            assert one.statistics() == {key: expected[key] for key in one.statistics()}
            sizes = sorted((len(own) for own in measured.matrices.clusters(2, threshold, rule)), reverse=True)
            lines = one.page.locator(".side:not([hidden]) .clusters li").all()
            assert [len(line.locator(".label").all()) for line in lines] == sizes
    assert one.complaints == []
    one.close()


def test_themes(opened: Opened) -> None:
    def ground() -> str:
        return str(opened.page.evaluate("getComputedStyle(document.body).backgroundColor"))

    grounds = [ground()]
    for _ in range(2):
        opened.page.get_by_role("button", name="Theme").click()
        grounds.append(ground())
    assert grounds[0] == grounds[1] != grounds[2]


def test_hostile_labels_are_text(opened: Opened) -> None:
    opened.move_slider(0.05)
    names = opened.page.locator(".cells button").all()
    assert any(HOSTILE in str(button.get_attribute("aria-label")) for button in names)
    assert opened.page.locator("datalist option").nth(3).get_attribute("value") == QUOTED


@pytest.mark.parametrize("labels", [1, 1000])
def test_few_and_many_labels_open(browser: Browser, tmp_path: Path, labels: int) -> None:
    report = write_report([write_run(tmp_path, [f"label {i}" for i in range(labels)], SITES[2:4])])
    for width in (1400, 600):
        one = Opened(browser, report, "site1=block.2.qkv&node1=1", viewport={"width": width, "height": 900})
        assert one.page.get_by_role("heading", name="Node 1 of block.2.qkv").is_visible()
        assert one.page.evaluate("document.documentElement.scrollWidth") <= width
        assert one.complaints == []
        one.close()


def test_two_runs_open_side_by_side(browser: Browser, tmp_path: Path) -> None:
    report = write_report([write_run(tmp_path / "dense"), write_run(tmp_path / "pruned", seed=1)])
    one = Opened(browser, report)
    shown = [field.input_value() for field in one.page.locator(".side").get_by_label("Network", exact=True).all()]
    assert shown == ["dense", "pruned"]
    assert one.complaints == []
    one.close()


def test_two_runs_side_by_side(browser: Browser, tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "dense"), write_run(tmp_path / "pruned", [*LABELS[2:], "tree"], seed=1)]
    one = Opened(browser, write_report(runs), "site1=block.2.ln&network2=pruned&site2=block.2.ln")
    shown = [field.input_value() for field in one.page.locator(".side").get_by_label("Network", exact=True).all()]
    assert shown == ["dense", "pruned"]
    for label in ("otter", "tree", "bear"):  # known to both, only to the second, only to the first
        one.page.get_by_label("Search a label").fill(label)
        one.settle()
    assert one.complaints == []
    one.close()
