"""An HTML page as tests look at it: its tags, its texts, and whether it stands alone."""

import re
from html.parser import HTMLParser

VOID = {"meta", "link", "img", "br", "hr", "input", "source", "base"}


class Outline(HTMLParser):
    """Tags in order, their attributes, and the text of each element; refuses tags that do not match."""

    def __init__(self, html: str):
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, list[str]] = {}
        self.feed(html)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and data.strip():
            self.text.setdefault(self.open[-1], []).append(data.strip())

    def names(self) -> list[str]:
        """The names of the tags, in order."""
        return [tag for tag, _ in self.tags]


def stands_alone(html: str) -> Outline:
    """Check that a page is well-formed and loads, sends and runs nothing."""
    outline = Outline(html)  # refuses tags that do not match
    assert not {"script", "link", "img", "image", "iframe", "object", "embed", "base", "form"} & set(outline.names())
    for tag, attributes in outline.tags:
        for name, value in attributes.items():
            assert name not in {"src", "srcset", "action", "data", "background", "poster"}, (tag, name)
            assert not name.startswith("on"), (tag, name)
            if name.endswith("href"):
                assert value.startswith("#"), (tag, value)
    assert "@import" not in html
    assert not re.search(r"url\((?!#)", html)
    return outline
