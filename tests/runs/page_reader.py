"""What a browser would find in a page: its tables, headings, images and links."""

import re
from html.parser import HTMLParser

VOID = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """A page, parsed.

    Attributes:
        tables: {caption: list of rows of cells}.
        headings: list of (level, text).
        tags: list of (tag, {attribute: value}).
        text: of everything but styles.
    """

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.source, self.tables, self.headings, self.tags = text, {}, [], []
        self._open, self._text, self._rows = [], [], []
        self.feed(text)
        self.close()
        assert self._open == [], "tags that are not closed"
        self.text = " ".join(" ".join(self._text).split())

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self._open.append((tag, len(self._text)))
        if tag == "table":
            self._rows, self._caption = [], None
        elif tag == "tr":
            self._rows.append([])

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        opened, start = self._open.pop()
        assert opened == tag, f"<{opened}> is closed by </{tag}>"
        own = " ".join(" ".join(self._text[start:]).split())
        if tag in ("th", "td"):
            self._rows[-1].append(own)
        elif tag == "caption":
            self._caption = own
        elif tag == "table":
            self.tables[self._caption] = self._rows
        elif re.fullmatch(r"h\d", tag):
            self.headings.append((int(tag[1]), own))

    def handle_data(self, data):
        if not any(tag in ("style", "title") for tag, _ in self._open):
            self._text.append(data)

    def all(self, tag):
        """The attributes of every element of a kind."""
        return [attributes for own, attributes in self.tags if own == tag]

    def table(self, beginning):
        """The rows of the table whose caption begins so, the headings first."""
        (found,) = (rows for name, rows in self.tables.items() if name.startswith(beginning))
        return found

    def check(self):
        """What holds of every page: it stands alone, is small, and can be read by a machine."""
        assert len(self.source.encode()) <= 3_000_000
        assert not self.all("script") and "@import" not in self.source
        assert "url(" not in self.source
        for attributes in (own for _, own in self.tags):
            assert not any(name.startswith("on") for name in attributes)
            for name in ("src", "href"):
                assert attributes.get(name, "#").startswith(("#", "data:")), attributes
        levels = [level for level, _ in self.headings]
        assert levels[0] == 1 and levels.count(1) == 1
        steps = zip(levels, levels[1:], strict=False)
        assert all(after <= before + 1 for before, after in steps)
        assert None not in self.tables
        assert all("scope" in own for own in self.all("th"))
        assert all(own["alt"] for own in self.all("img"))
        assert all(own.get("aria-label") or own.get("aria-hidden") for own in self.all("svg"))
        targets = {own["id"] for _, own in self.tags if "id" in own}
        assert {own["href"][1:] for own in self.all("a")} <= targets
        return self
