"""One HTML page that needs nothing but itself: no network, no script, no other file."""

from __future__ import annotations

import base64
import contextlib
import os
import tempfile
from collections.abc import Sequence
from html import escape
from pathlib import Path

import cv2

from edge.errors import InputError
from edge.records import Image

Row = Sequence[str]


class Html(str):
    """Text that is HTML already, by this module, and is not escaped again."""


STYLE = """\
:root { color-scheme: light dark; --back: #fff; --ink: #1c2126; --soft: #59636e; --rule: #d5dade;
  --panel: #f5f7f8; --warn: #fff4dc; --warn-rule: #d99a1c;
  --s1: #0066a6; --s2: #c24a00; --s3: #00795a; --s4: #9a3f78; }
@media (prefers-color-scheme: dark) { :root { --back: #14181b; --ink: #e4e8eb; --soft: #9aa5af;
  --rule: #343c43; --panel: #1d2327; --warn: #33290f; --warn-rule: #d99a1c;
  --s1: #63b5ee; --s2: #f2915a; --s3: #4fc3a1; --s4: #dd94c0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 68rem; background: var(--back); color: var(--ink);
  font: 16px/1.55 system-ui, sans-serif; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .25rem; }
h2 { font-size: 1.2rem; margin: 2.75rem 0 .5rem; padding-top: 1rem; border-top: 1px solid var(--rule); }
h3 { font-size: 1rem; margin: 1.5rem 0 .4rem; }
p, figcaption, li { max-width: 46rem; }
.soft, figcaption, caption { color: var(--soft); }
.warn { background: var(--warn); border-left: 4px solid var(--warn-rule); padding: .7rem 1rem; margin: 1.25rem 0; }
.lead { font-size: 1.1rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: .6rem 0; font-variant-numeric: tabular-nums; font-size: .9rem; }
caption { text-align: left; padding-bottom: .35rem; }
th, td { padding: .28rem .6rem; border-bottom: 1px solid var(--rule); text-align: right; white-space: nowrap; }
th { font-weight: 600; vertical-align: bottom; }
thead th { white-space: normal; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
table.dense { font-size: .84rem; } table.dense th, table.dense td { padding: .25rem .4rem; }
td:has(.bar) { text-align: left; }
table.text td { text-align: left; white-space: normal; overflow-wrap: anywhere; }
table.text th { text-align: left; }
figure { margin: 1rem 0; }
.chart { width: 100%; max-width: 46rem; height: auto; display: block; }
.chart text { fill: var(--ink); font: 12px system-ui, sans-serif; }
.chart .tick { fill: var(--soft); } .chart .axis { font-size: 13px; }
.chart .grid { stroke: var(--rule); stroke-width: 1; } .chart .frame { stroke: var(--soft); fill: none; }
.chart .line { fill: none; stroke-width: 2.2; } .chart .area { stroke: none; fill-opacity: .22; }
.chart .mark { stroke: var(--ink); stroke-width: 1.2; stroke-dasharray: 4 3; }
.line.s1 { stroke: var(--s1); } .line.s2 { stroke: var(--s2); stroke-dasharray: 9 4; }
.line.s3 { stroke: var(--s3); stroke-dasharray: 3 3; } .line.s4 { stroke: var(--s4); stroke-dasharray: 12 3 3 3; }
.area.s1 { fill: var(--s1); } .area.s2 { fill: var(--s2); } .area.s3 { fill: var(--s3); } .area.s4 { fill: var(--s4); }
.bins { display: grid; grid-template-columns: repeat(auto-fit, minmax(26rem, 1fr)); gap: 0 2.5rem; }
.bar { display: inline-block; height: .7em; background: var(--s1); vertical-align: baseline; }
.pairs { display: grid; grid-template-columns: repeat(auto-fill, minmax(17.5rem, 1fr)); gap: 1.1rem; }
.pair { background: var(--panel); padding: .7rem; break-inside: avoid; font-size: .86rem; line-height: 1.4; margin: 0; }
.pair .shots { display: flex; gap: .5rem; margin-bottom: .4rem; }
.pair .shot { flex: 1; min-width: 0; overflow-wrap: anywhere; }
.pair img, .pair .none { width: 100%; aspect-ratio: 1; display: block; background: var(--rule); }
.pair .none { display: grid; place-items: center; text-align: center; color: var(--soft); padding: .5rem; }
code { font-size: .88em; overflow-wrap: anywhere; }
@media print { body { max-width: none; padding: 0; font-size: 10.5pt; } h2, h3 { break-after: avoid; }
  tr, figure { break-inside: avoid; } }
"""

CONTENT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""Nothing is fetched and no script runs, whatever a file is called."""

NOTE = (
    "This report contains pictures of people and how alike they look to a machine. Handle it as personal data: "
    "show it to those who need it, do not send it about, and delete it when the question is answered."
)

THUMBNAIL_PX = 144
"""Side of a thumbnail. Set: it is looked at, not measured by."""

THUMBNAIL_REACH = 0.95
"""Half the side of a thumbnail, in widths of the face."""


def page(title: str, below: str, body: Sequence[str]) -> str:
    """A whole document; `body` is HTML, title and the line below it are text."""
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<meta http-equiv="Content-Security-Policy" content="{CONTENT_POLICY}">',
            '<meta name="robots" content="noindex">',
            f"<title>{escape(title)}</title>",
            f"<style>\n{STYLE}</style>",
            "</head>",
            "<body>",
            "<header>",
            f"<h1>{escape(title)}</h1>",
            f'<p class="soft">{escape(below)}</p>',
            f'<p class="warn" role="note">{NOTE}</p>',
            "</header>",
            "<main>",
            *body,
            "</main>",
            "</body>",
            "</html>",
            "",
        ]
    )


def section(title: str, *parts: str) -> str:
    """A heading and what is below it, as HTML."""
    return "\n".join([f"<section>\n<h2>{escape(title)}</h2>", *parts, "</section>"])


def paragraph(text: str, kind: str = "") -> str:
    return f"<p{_kind(kind)}>{escape(text)}</p>"


def table(heads: Row, rows: Sequence[Row], caption: str, kind: str = "") -> str:
    """The first column names the row. Cells are text, unless they are Html."""
    lines = ["<tr>" + "".join(f'<th scope="col">{escape(head)}</th>' for head in heads) + "</tr>"]
    body = [
        "<tr>" + _cell(row[0], 'th scope="row"') + "".join(_cell(cell, "td") for cell in row[1:]) + "</tr>"
        for row in rows
    ]
    return "\n".join(
        [
            f'<div class="wide" tabindex="0" role="group" aria-label="{escape(caption)}">',
            f"<table{_kind(kind)}><caption>{escape(caption)}</caption>",
            "<thead>",
            *lines,
            "</thead>",
            "<tbody>",
            *body,
            "</tbody>",
            "</table></div>",
        ]
    )


def bar(share: float) -> Html:
    """A bar of this share, 0 to 1, of at most six letters' width."""
    return Html(f'<span class="bar" style="width:{6 * min(1.0, share):.2f}em" aria-hidden="true"></span>')


def figure(chart: str, caption: str) -> str:
    return f"<figure>\n{chart}\n<figcaption>{escape(caption)}</figcaption>\n</figure>"


def thumbnail(image: Image, box: tuple[float, float, float, float]) -> str:
    """The face in this box with some of what is around it, as a data URI."""
    x1, y1, x2, y2 = box
    half = max(8, round(THUMBNAIL_REACH * (x2 - x1)))
    x, y = round((x1 + x2) / 2), round((y1 + y2) / 2)
    padded = cv2.copyMakeBorder(image, half, half, half, half, cv2.BORDER_REPLICATE)
    # The picture's own pixel (x, y) lies at (x + half, y + half) now.
    part = padded[max(0, y) : y + 2 * half, max(0, x) : x + 2 * half]
    side = (THUMBNAIL_PX, THUMBNAIL_PX)
    interpolation = cv2.INTER_AREA if 2 * half > THUMBNAIL_PX else cv2.INTER_CUBIC
    small = cv2.resize(part, side, interpolation=interpolation)
    _, data = cv2.imencode(".jpg", small, (cv2.IMWRITE_JPEG_QUALITY, 80))
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()


def shot(picture: str, name: str, role: str) -> str:
    """One photograph of a pair: a data URI, or empty where no face was found."""
    alt = escape(f"{role}: {name}")
    seen = f'<img src="{picture}" alt="{alt}">' if picture else '<div class="none">no face found</div>'
    broken = escape(name).replace("/", "/<wbr>").replace("_", "_<wbr>")  # long names break where words end
    return f'<div class="shot">{seen}<strong>{escape(role)}</strong><br>{broken}</div>'


def pair(shots: Sequence[str], text: str) -> str:
    """Photographs beside each other with a line below."""
    both = "".join(shots)
    return f'<figure class="pair"><div class="shots">{both}</div><figcaption>{escape(text)}</figcaption></figure>'


def pairs(shown: Sequence[str]) -> str:
    return '<div class="pairs">\n' + "\n".join(shown) + "\n</div>"


def write_page(file: Path, text: str) -> None:
    """As `write_private`, also where a photograph has a name that is no UTF-8. Raises InputError."""
    write_private(file, text.encode(errors="backslashreplace"))


def write_private(file: Path, content: bytes) -> None:
    """Readable by its owner only, whole or not at all. Raises InputError where it cannot be written."""
    try:
        descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=".", suffix=".part")  # mode 0600
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(content)
            Path(name).replace(file)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(name).unlink()
            raise
    except OSError as error:
        raise InputError(f"{file}: cannot be written ({error.strerror})") from error


def _cell(cell: str, tag: str) -> str:
    text = cell if isinstance(cell, Html) else escape(cell)
    return f"<{tag}>{text}</{tag.split(maxsplit=1)[0]}>"


def _kind(kind: str) -> str:
    return f' class="{kind}"' if kind else ""
