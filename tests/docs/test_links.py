"""Links lead somewhere, and the site has every page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pages import PAGES, ROOT, headings, links, reference

SITE = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
WRITTEN = {f"reference/{name}.md" for name in reference.PAGES}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file_and_to_a_heading(page: Path) -> None:
    for path, anchor in links(page):
        if path in WRITTEN or path.removeprefix("docs/") in WRITTEN:
            continue  # the strict build looks at these
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), path
        assert not anchor or anchor in headings(target), f"{path}#{anchor}"


def test_the_site_leads_to_every_page() -> None:
    def paths(nav: Any) -> list[str]:
        if isinstance(nav, str):
            return [nav]
        entries = nav if isinstance(nav, list) else nav.values()
        return [path for entry in entries for path in paths(entry)]

    named = paths(SITE["nav"])
    assert len(set(named)) == len(named)
    docs = {str(page.relative_to(ROOT / "docs")) for page in PAGES[1:]}
    assert set(named) == docs | WRITTEN


def test_the_site_takes_nothing_from_the_network() -> None:
    assert SITE["theme"]["font"] is False
    assert SITE["plugins"] == ["search"]
    assert not {"extra_javascript", "extra_css", "repo_url"} & set(SITE)


def test_readme_and_site_begin_with_the_same_words() -> None:
    first, index = (
        page.read_text().split("\n\n")[1] for page in (PAGES[0], ROOT / "docs/index.md")
    )
    assert first == index
