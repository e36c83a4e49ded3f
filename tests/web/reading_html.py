"""HTML as a test reads it: elements with their attributes and text."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = frozenset({"meta", "link", "img", "input", "br", "hr", "use", "path"})


class Element:
    """One element. ``text`` is everything inside, in order."""

    def __init__(self, name: str, attributes: dict[str, str]) -> None:
        self.name = name
        self.attributes = attributes
        self.text: list[str] = []

    def __getitem__(self, name: str) -> str:
        return self.attributes[name]

    def get(self, name: str) -> str:
        return self.attributes.get(name, "")

    @property
    def words(self) -> str:
        return " ".join("".join(self.text).split())


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[Element] = []
        self._open: list[Element] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"{tag} names an attribute twice: {names}"
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.found.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        assert self._open[-1].name == tag, f"</{tag}> inside <{self._open[-1].name}>"
        self._open.pop()

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.text.append(data)

    def close(self) -> None:
        super().close()
        assert not self._open, f"never closed: {[element.name for element in self._open]}"


class Document:
    """A page whose elements are all closed in order."""

    def __init__(self, html: str) -> None:
        reader = _Reader()
        reader.feed(html)
        reader.close()
        self.elements = reader.found

    def all(self, name: str, /, **attributes: str) -> list[Element]:
        wanted = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items()}
        return [
            element
            for element in self.elements
            if element.name == name
            and all(
                value in element.get(key).split() if key == "class" else element.get(key) == value
                for key, value in wanted.items()
            )
        ]

    def one(self, name: str, /, **attributes: str) -> Element:
        [element] = self.all(name, **attributes)
        return element

    def meta(self, key: str) -> str:
        [found] = [e for e in self.all("meta") if key in (e.get("name"), e.get("property"))]
        return found["content"]

    @property
    def token(self) -> str:
        return self.all("input", name="token")[0]["value"]

    def ids(self) -> list[str]:
        return [element["id"] for element in self.elements if element.get("id")]
