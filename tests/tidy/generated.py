"""The pages of docs/ that are made from the code: ``python3 build.py docs`` writes them."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints

import msgspec

from appliance.config import Settings
from tests.tidy.sources import CODE, ROOT, docstring, modules, trees
from tests.tidy.unserved import why_not

WEB_VERBS = ("get", "post", "put", "patch", "delete", "websocket", "route")
METRIC_KINDS = ("counter", "gauge", "histogram")
SERVICE_AUTH = "com.atproto.server.getServiceAuth"
_ALSO_ANSWER = (
    "appliance/writes/operations.py",
    "appliance/feeds/generators.py",
    "appliance/web/blobs.py",
)
LEXICONS = CODE / "protocol" / "lexicon_files"


class Metric(NamedTuple):
    """One family of numbers that the process tells."""

    name: str
    kind: str
    labels: tuple[str, ...]
    about: str
    module: str


class Route(NamedTuple):
    """One address that the appliance answers."""

    path: str
    verb: str
    about: str
    module: str


class XrpcMethod(NamedTuple):
    """A method of the schemas. ``status`` is served, passed on or 501; ``about`` is why, or in which file."""

    nsid: str
    kind: str
    status: str
    about: str


def configuration() -> str:
    """docs/configuration.md."""
    lines = [
        "# Configuration",
        "",
        "Made by `python3 build.py docs` from `appliance/config.py`.",
        "",
        "A setting stands in the TOML file (`--config FILE`) or in the environment, under the same name;",
        "the environment wins. Lists are TOML arrays, or separated by commas in the environment.",
        "",
        "| setting | kind | default | what it does |",
        "|---|---|---|---|",
    ]
    for name, kind, default, about in settings():
        lines.append(f"| `{name}` | {kind} | {default} | {about} |")
    return "\n".join(lines) + "\n"


def settings() -> Iterator[tuple[str, str, str, str]]:
    """Name, kind, default and purpose of each setting."""
    hints = get_type_hints(Settings, include_extras=True)
    for field in msgspec.structs.fields(Settings):
        kind, *notes = get_args(hints[field.name])
        about = next((note.description for note in notes if note.description), "")
        yield field.name.upper(), _kind(kind, notes), _default(field.default), about.replace("|", "\\|")


def routes_page() -> str:
    """docs/routes.md."""
    web = [route for route in routes() if not route.path.startswith("/xrpc/")]
    xrpc = [route for route in routes() if route.path.startswith("/xrpc/")]
    lines = ["# Routes", "", "Made by `python3 build.py docs` from the code that answers them.", ""]
    lines += ["## Pages, forms and probes", "", "| address | verb | answers | in |", "|---|---|---|---|"]
    lines += [f"| `{r.path}` | {r.verb} | {r.about} | `{r.module}` |" for r in web]
    lines += ["", "## XRPC", "", "Every other method answers 501 `MethodNotImplemented`.", ""]
    lines += ["| method | verb | what its schema says | in |", "|---|---|---|---|"]
    lines += [f"| `{r.path.removeprefix('/xrpc/')}` | {r.verb} | {r.about} | `{r.module}` |" for r in xrpc]
    return "\n".join(lines) + "\n"


def xrpc_page() -> str:
    """docs/xrpc.md."""
    methods = xrpc_methods()
    counts = Counter(method.status for method in methods)
    lines = ["# XRPC methods", "", "Made by `python3 build.py docs` from the schemas and the code.", ""]
    lines += [
        "- **served**: answered here.",
        "- **passed on**: the member's own PDS answers, asked with the member's session there.",
        "- **501**: `MethodNotImplemented`, and why.",
        "",
        f"Of {len(methods)} methods {counts['served']} are served, {counts['passed on']} passed on.",
        "A client that names another service in `atproto-proxy` has any method passed on to it, by the",
        "member's PDS. What each does: [routes.md](routes.md); our own: [xrpc-own.md](xrpc-own.md).",
        "",
        "| method | kind | status | why not, or where |",
        "|---|---|---|---|",
    ]
    lines += [f"| `{m.nsid}` | {m.kind} | {m.status} | {m.about} |" for m in methods]
    return "\n".join(lines) + "\n"


def xrpc_methods() -> list[XrpcMethod]:
    """Every method of the schemas that come along, in order of name."""
    answered: dict[str, list[str]] = {}
    for route in routes():
        answered.setdefault(route.path.removeprefix("/xrpc/"), []).append(route.module)
    found = []
    for path in sorted(LEXICONS.rglob("*.json")):
        schema: dict[str, Any] = msgspec.json.decode(path.read_bytes())
        kind, nsid = schema["defs"].get("main", {}).get("type", ""), schema["id"]
        if kind not in ("query", "procedure", "subscription"):
            continue
        modules_of = answered.get(nsid, [])
        if nsid.startswith("chat.bsky."):
            found.append(XrpcMethod(nsid, kind, "passed on", "to the service named in `atproto-proxy`"))
        elif not modules_of:
            found.append(XrpcMethod(nsid, kind, "501", why_not(nsid)))
        else:
            served = [one for one in modules_of if not one.endswith("member_calls.py")]
            # Sessions are answered in the same module as what is passed on.
            here = bool(served) or (nsid.startswith("com.atproto.server.") and nsid != SERVICE_AUTH)
            where = ", ".join(f"`{one}`" for one in served or modules_of)
            found.append(XrpcMethod(nsid, kind, "served" if here else "passed on", where))
    return found


def routes() -> list[Route]:
    """Every address that a decorator or an XRPC method names, in order of path."""
    found = set()
    for path, tree in trees(modules()):
        module = path.relative_to(ROOT).as_posix()
        if "/devnet/" in module:
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                for decorator in node.decorator_list:
                    about = docstring(node) or node.name.replace("_", " ")
                    if route := _decorated(decorator, about, module):
                        found.add(route)
            elif isinstance(node, ast.Constant) and (route := _method(node, module)):
                found.add(route)
    return sorted(found)


def _decorated(decorator: ast.expr, about: str, module: str) -> Route | None:
    if not (isinstance(decorator, ast.Call) and isinstance(decorator.func, ast.Attribute)):
        return None
    path = _text(decorator)
    if decorator.func.attr not in WEB_VERBS or not path.startswith("/"):
        return None
    verbs = [
        str(verb.value)
        for keyword in decorator.keywords
        if keyword.arg == "methods" and isinstance(keyword.value, ast.List)
        for verb in keyword.value.elts
        if isinstance(verb, ast.Constant)
    ]
    verb = ", ".join(verbs) or decorator.func.attr.upper().replace("ROUTE", "GET")
    if path.startswith("/xrpc/"):
        about = _schema(path.removeprefix("/xrpc/"))[1]
    return Route(path, verb, about, module)


def _method(constant: ast.Constant, module: str) -> Route | None:
    """These modules name a method of the schemas only to answer it, or to have the PDS answer it."""
    if not module.startswith("appliance/xrpc/") and module not in _ALSO_ANSWER:
        return None
    nsid = str(constant.value).removeprefix("/xrpc/")
    verb, about = _schema(nsid)
    return Route(f"/xrpc/{nsid}", verb, about, module) if verb else None


def _schema(nsid: str) -> tuple[str, str]:
    if nsid == "_health":
        return "GET", "Whether the service is up, and its version."
    if not re.fullmatch(r"[a-zA-Z][a-zA-Z0-9-]*(\.[a-zA-Z0-9-]+)+", nsid):
        return "", ""
    path = LEXICONS.joinpath(*nsid.split(".")).with_suffix(".json")
    if not path.is_file():
        return "", ""
    main: dict[str, Any] = msgspec.json.decode(path.read_bytes()).get("defs", {}).get("main", {})
    verb = {"query": "GET", "procedure": "POST", "subscription": "WEBSOCKET"}.get(main.get("type", ""), "")
    return verb, str(main.get("description", "")).replace("|", "\\|").replace("\n", " ")


def metrics_page() -> str:
    """docs/metrics.md."""
    lines = [
        "# Metrics",
        "",
        "Made by `python3 build.py docs` from the code that counts.",
        "",
        "`/metrics` tells them in Prometheus' text format to callers on the same machine, and to others",
        "with the password of `ADMIN_PASSWORD` (Basic, user `admin`). Each name begins with `appliance_`;",
        "counters end in `_total`, and histograms are told as `_bucket`, `_sum` and `_count`.",
        "",
        "| metric | kind | labels | what it tells | in |",
        "|---|---|---|---|---|",
    ]
    for metric in metrics():
        labels = ", ".join(f"`{label}`" for label in metric.labels) or "–"
        lines.append(f"| `{metric.name}` | {metric.kind} | {labels} | {metric.about} | `{metric.module}` |")
    return "\n".join(lines) + "\n"


def metrics() -> list[Metric]:
    """Every metric that a module declares, by name."""
    found = []
    for path, tree in trees(modules()):
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            kind = node.func.attr
            if kind not in METRIC_KINDS or ast.unparse(node.func.value) != "telemetry":
                continue
            name, about, *rest = node.args
            labels = [ast.literal_eval(each) for each in rest if isinstance(each, ast.List)]
            found.append(
                Metric(
                    ast.literal_eval(name),
                    kind,
                    tuple(labels[0]) if labels else (),
                    ast.literal_eval(about),
                    path.relative_to(ROOT).as_posix(),
                )
            )
    return sorted(found)


def _text(call: ast.Call) -> str:
    first = call.args[0] if call.args else None
    return first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else ""


def _kind(kind: Any, notes: list[Any]) -> str:
    if choices := get_args(kind):
        if get_origin(kind) is tuple:
            return "list"
        return ", ".join(f"`{choice}`" for choice in choices)
    limits = [
        f"{word} {limit}"
        for note in notes
        for word, limit in (("at least", note.ge), ("above", note.gt), ("at most", note.le))
        if limit is not None
    ]
    name = {"str": "text", "int": "number", "float": "number", "bool": "true or false"}[kind.__name__]
    return ", ".join([name, *limits])


def _default(value: Any) -> str:
    if value in ("", ()):
        return "–"
    if isinstance(value, tuple):
        return "<br>".join(f"`{part}`" for part in value)
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


PAGES = {
    "docs/configuration.md": configuration,
    "docs/metrics.md": metrics_page,
    "docs/routes.md": routes_page,
    "docs/xrpc.md": xrpc_page,
}


def write(root: Path = ROOT) -> None:
    """Write every generated page."""
    for name, make in PAGES.items():
        (root / name).write_text(make(), "utf-8")


if __name__ == "__main__":
    write()
