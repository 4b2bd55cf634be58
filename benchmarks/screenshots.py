"""The report's pictures in README and docs/report.md: `python benchmarks/screenshots.py REPORT docs/images [NAME…]`.

Needs playwright and Chromium. Without names, all of them but `label`, which is of a run whose heads were measured. Each
is taken in its own width and, as `…-480.png`, in that of a telephone. Says how long the page took to show its first
site, and all its numbers.
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import NamedTuple

from playwright.sync_api import Browser, Page, sync_playwright


class Picture(NamedTuple):
    """A view of the page: its address, what is scrolled to, and how it is taken."""

    file: str
    address: str
    target: str
    theme: str = "light"
    size: tuple[int, int] = (1280, 860)


NARROW = (480, 860)
SITE, HEADS = "block.7.linear2", "block.7.attention"
PAIR = f"network1=network&site1={SITE}&network2=untrained&site2={SITE}"
PICTURES = {
    "network": Picture("explorer-network-1280-light.png", f"site1={SITE}&sort=diagonal", "#explorer"),
    "site": Picture("explorer-site-1280-light.png", f"site1={SITE}&sort=diagonal", ".side"),
    "node": Picture("explorer-node-1280-light.png", f"site1={SITE}&node1=174", ".side .node"),
    "pair": Picture("explorer-pair-1280-dark.png", PAIR, ".pair", theme="dark"),
    "tables": Picture("explorer-tables-1280-light.png", "", "#results"),
    "label": Picture("explorer-label.png", f"site1={HEADS}&sort=head&label=bear", "body", size=(1300, 1010)),
}


def main() -> None:
    report, folder, *names = sys.argv[1:]
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for name in names or [name for name in PICTURES if name != "label"]:
            picture = PICTURES[name]
            take(browser, Path(report), picture, Path(folder) / picture.file)
            narrow = picture._replace(size=NARROW)
            take(browser, Path(report), narrow, Path(folder) / f"explorer-{name}-480.png")
        browser.close()


def take(browser: Browser, report: Path, picture: Picture, file: Path) -> None:
    width, height = picture.size
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=picture.theme)
    page = context.new_page()
    page.on("console", lambda message: print("console:", message.text))
    open_page(page, report.resolve())
    show(page, picture.address, picture.target)
    wide = page.evaluate("document.documentElement.scrollWidth")
    print(file.name, "" if wide <= width else f"scrolls sideways: {wide}")
    page.screenshot(path=file)
    context.close()


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
