"""A figure as part of a page, and as files."""

from __future__ import annotations

import io
import re
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from metatune.report.figures.plot import Plot
from metatune.report.figures.style import CYCLE, FAINT, INK, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_IN_PAGE = {
    INK: "currentColor",
    FAINT: "var(--faint, #8a8b8c)",
    # A page may know a lighter shade of each for the dark.
    **{colour: f"var(--c{place}, {colour})" for place, colour in enumerate(CYCLE, start=1)},
}


def inline_svg(plot: Plot) -> str:
    """The figure as an ``<svg>`` to stand in a page, the same at every call.

    Its text is text in the page's typeface and colour, its colours are variables of the page, its
    background is clear, and its identifiers begin with the figure's name, so that two figures never
    share one.
    """
    text = _saved(plot, "svg").decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r"<style[^>]*>.*?</style>\s*", "", text, flags=re.DOTALL)  # would be the page's
    text = re.sub(r'\bid="([^"]*)"', rf'id="{plot.name}-\1"', text)
    text = re.sub(r"url\(#([^)]*)\)", rf"url(#{plot.name}-\1)", text)
    text = text.replace("xlink:href", "href")  # the prefix is no longer needed
    text = re.sub(r'href="#([^"]*)"', rf'href="#{plot.name}-\1"', text)
    text = re.sub(r"font: ([^;\"]*?)'DejaVu Sans'[^;\"]*", r"font: \1var(--sans)", text)
    for colour, own in _IN_PAGE.items():
        text = text.replace(colour, own)
    box = re.search(r'viewBox="[^"]*"', text)
    assert box is not None, "matplotlib writes the size of an SVG"
    said = f'class="plot" role="img" aria-label="{escape(plot.title)}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {box.group()} {said}{_after_head(text)}'


def _after_head(text: str) -> str:
    """The SVG from the end of its first tag on."""
    return text[text.index(">", text.index("<svg")) :]


def write_files(plot: Plot, folder: Path) -> tuple[Path, Path]:
    """The figure as ``NAME.png``, 200 dots an inch, and ``NAME.svg``, both on white.

    Raises:
        OSError: they cannot be written.
    """
    paths = folder / f"{plot.name}.png", folder / f"{plot.name}.svg"
    paths[0].write_bytes(_saved(plot, "png", transparent=False, dpi=200))
    paths[1].write_bytes(_saved(plot, "svg", transparent=False))
    return paths


def _saved(plot: Plot, form: str, **options: object) -> bytes:
    figure: Figure = plot.figure()
    out, dated = io.BytesIO(), {"Date": None} if form == "svg" else {"Software": None}
    with styled(plot.name):
        figure.savefig(out, format=form, metadata=dated, **options)  # type: ignore[arg-type]
    return out.getvalue()
