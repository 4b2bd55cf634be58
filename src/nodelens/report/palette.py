"""The colours of all figures: Okabe and Ito's, told apart with every common colour blindness, for light and dark."""

from __future__ import annotations

BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
SKY, AMBER, YELLOW, GREY = "#56B4E9", "#E69F00", "#F0E442", "#8A8A8A"
INK, FAINT, GROUND = "#1B1F24", "#59626C", "#FFFFFF"

IN_THE_DARK = {
    INK: "#E8EAED",
    FAINT: "#A0A8B1",
    GROUND: "#1C1F23",
    BLUE: "#3EA3E0",
    ORANGE: "#F0812F",
    GREEN: "#1FC495",
    PURPLE: "#DD92BD",
    SKY: "#8CCBF2",
    AMBER: "#F2B632",
}
"""What stands for a colour where the reader's theme is dark: as on the page about a run (`page.css`)."""


def in_both_themes(svg: bytes) -> bytes:
    """Matplotlib's SVG with a style sheet by which its colours follow the theme of whoever looks at it.

    >>> b"prefers-color-scheme: dark" in in_both_themes(b"<style>*{stroke-linecap: butt}</style>")
    True
    """
    rules = "".join(
        f'[style*="{part}: {light.lower()}"] {{{part}: {dark} !important}}'
        for light, dark in IN_THE_DARK.items()
        for part in ("fill", "stroke")
    )
    return svg.replace(b"</style>", f"@media (prefers-color-scheme: dark) {{{rules}}}</style>".encode(), 1)
