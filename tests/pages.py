"""What every drawing and every page of a report must get right."""

from __future__ import annotations

import html.parser
import re

from novacula.reporting.figures.base import Picture


def check_pictures(pictures: list[Picture]) -> None:
    """Inline, self-contained, described drawings, whose identifiers cannot clash."""
    for picture in pictures:
        assert picture.svg.startswith('<svg role="img" aria-label=')
        assert "<metadata" not in picture.svg
        assert "http" not in picture.svg
        assert "<style" not in picture.svg
        assert len(picture.alt) > 20
        ids = re.findall(r'\bid="([^"]+)"', picture.svg)
        assert len(ids) == len(set(ids))
        assert all(i.startswith(f"{picture.name}-") for i in ids)
        assert set(re.findall(r'href="#([^"]+)"', picture.svg)) <= set(ids)


class Page(html.parser.HTMLParser):
    """Collects what a well-formed page must get right."""

    VOID = frozenset({"meta", "br", "img", "link", "input", "hr"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.headings: list[int] = []
        self.captions = self.tables = 0
        self.references: list[str] = []
        self.tags: set[str] = set()
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        self.tags.add(tag)
        self.tables += tag == "table"
        self.captions += tag == "caption"
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        for name, value in attrs:
            if name == "id":
                self.ids.append(str(value))
            if name in {"src", "href"}:
                self.references.append(str(value))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def check_page(text: str) -> None:
    """A well-formed page without scripts and requests, with headings in order and a caption for each table."""
    page = Page(text)
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    assert page.headings[0] == 1
    assert page.headings.count(1) == 1
    assert all(b - a <= 1 for a, b in zip(page.headings, page.headings[1:], strict=False))
    assert page.tables == page.captions
    assert not page.tags & {"script", "link", "iframe", "object", "img"}
    assert all(r.startswith(("#", "data:image/png;base64,")) for r in page.references)
    assert {r[1:] for r in page.references if r.startswith("#")} <= set(page.ids)
    assert '<html lang="en">' in text
    assert not re.search(r"url\((?!#)", text)
    assert "@import" not in text
    assert "None" not in re.sub(r"<[^>]+>", "", text)
