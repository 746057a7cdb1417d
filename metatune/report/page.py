"""From what a page says to one HTML file: no script, no network, nothing beside it."""

from __future__ import annotations

from pathlib import Path

from metatune.durable import write_atomically
from metatune.errors import RunError
from metatune.report.blocks import Content
from metatune.report.figures import Plot, inline_svg, write_files


def html(content: Content) -> str:
    """The page. Every name and text of the run is escaped where it stands."""
    # Jinja is imported here so that the command line answers at once.
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    def drawn(plot: Plot) -> Markup:
        return Markup(inline_svg(plot))  # our own drawing; its texts are escaped in it

    pages = Environment(
        loader=PackageLoader("metatune.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters["kind"] = lambda block: type(block).__name__
    pages.filters["drawn"] = drawn
    return pages.get_template("report.html.j2").render(page=content)


def write_page(content: Content, out: Path) -> Path:
    """Write the page, in place of an older one.

    Raises:
        RunError: it cannot be written there.
    """
    text = html(content)
    try:
        # A text of the run may hold half of a character, which no file can.
        write_atomically(out, text.encode(errors="replace"))
    except OSError as error:
        raise RunError(f"{out} cannot be written: {error.strerror}") from None
    return out


def write_plots(content: Content, folder: Path) -> list[Path]:
    """Write each figure as PNG and as SVG; their paths.

    Raises:
        RunError: they cannot be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return [path for plot in content.plots for path in write_files(plot, folder)]
    except OSError as error:
        raise RunError(f"{folder} cannot be written: {error.strerror}") from None
