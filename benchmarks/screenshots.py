"""Pictures of the report's views at two widths, light and dark: `python benchmarks/screenshots.py REPORT docs/images`.

Needs playwright and Chromium. Says how long the page took to show its first site, and all its numbers.
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

WIDTHS = (1280, 480)
SITE = "block.7.linear2"
VIEWS = {
    # name: the view's address, and what is scrolled to
    "network": (f"site1={SITE}&sort=diagonal", "#explorer"),
    "label": (f"site1={SITE}&sort=label&label=bear", ".drawing"),
    "site": (f"site1={SITE}&sort=diagonal", ".side"),
    "node": (f"site1={SITE}&node1=174", ".side .node"),
    "pair": (f"network1=network&site1={SITE}&network2=untrained&site2={SITE}", ".pair"),
    "tables": ("", "#results"),
}


def main() -> None:
    report, folder = Path(sys.argv[1]).resolve(), Path(sys.argv[2])
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for theme in ("light", "dark"):
            for width in WIDTHS:
                context = browser.new_context(viewport={"width": width, "height": 860}, color_scheme=theme)
                page = context.new_page()
                page.on("console", lambda message: print("console:", message.text))
                open_page(page, report)
                for name, (address, target) in VIEWS.items():
                    show(page, address, target)
                    wide = page.evaluate("document.documentElement.scrollWidth")
                    print(name, theme, width, "" if wide <= width else f"scrolls sideways: {wide}")
                    page.screenshot(path=folder / f"explorer-{name}-{width}-{theme}.png")
                context.close()
        browser.close()


def open_page(page: Page, report: Path) -> None:
    begin = time.perf_counter()
    page.goto(report.as_uri(), wait_until="commit")
    page.wait_for_selector(".cells button", state="attached", timeout=120_000)
    first = time.perf_counter() - begin
    page.wait_for_selector("#explorer[data-settled=true]", timeout=120_000)
    print(f"first site after {first:.1f} s, all numbers after {time.perf_counter() - begin:.1f} s")


def show(page: Page, address: str, target: str) -> None:
    page.evaluate("(address) => { location.hash = address; }", address or "site1=none")
    page.wait_for_timeout(200)
    page.wait_for_selector("#explorer[data-settled=true]", timeout=120_000)
    page.locator(target).first.evaluate("(one) => one.scrollIntoView({ block: 'start', behavior: 'instant' })")
    page.wait_for_timeout(200)


if __name__ == "__main__":
    main()
