"""A report as one page of HTML that asks nothing of the net: tables, curves, Plotly's script, all in the file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from html import escape

import plotly.io
from plotly.offline import get_plotlyjs

from imder.report.blocks import Block, Bullets, Cell, Figure, Heading, Listing, Table, Text

STYLE = """
:root { color-scheme: light dark; --ink: #1d2733; --quiet: #566270; --page: #fff; --line: #d5dbe2; --best: #eef4fa }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6ebf1; --quiet: #a3aebb; --page: #14181d; --line: #343d48; --best: #1d2a38 }
}
* { box-sizing: border-box }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, sans-serif }
main { max-width: 75rem; margin: 0 auto; padding: 1.5rem 1rem 4rem }
h1, h2, h3, h4 { line-height: 1.25; margin: 2.2rem 0 .8rem }
p, li { max-width: 48rem }
pre { overflow-x: auto; padding: .7rem; border: 1px solid var(--line); font-size: .85rem }
.box { overflow-x: auto; margin: 1.2rem 0 1.8rem }
.box:focus-visible { outline: 2px solid #0072b2; outline-offset: 2px }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums }
caption { text-align: left; padding-bottom: .5rem }
caption span { display: block; max-width: 48rem; color: var(--quiet); font-size: .85rem }
th, td { padding: .3rem .7rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line) }
th[scope=row], thead th:first-child { text-align: left; position: sticky; left: 0; background: var(--page) }
thead th { border-bottom: 2px solid var(--line) }
tr.average > * { border-bottom-color: transparent; font-style: italic }
tr.first > * { border-top: 2px solid var(--line) }
td strong { background: var(--best) }
figure { margin: 1.2rem 0 2rem }
figcaption { color: var(--quiet); font-size: .85rem; max-width: 48rem }
""".strip()
#: The browser itself refuses whatever is not in the file.
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
CONFIG = {
    "displaylogo": False,
    "responsive": True,
    "plotlyServerURL": "",
    "modeBarButtonsToRemove": ["sendDataToCloud"],
}
CODE = re.compile(r"`([^`]+)`")


def html(blocks: Sequence[Block], title: str) -> str:
    """The whole page."""
    body = "\n".join(part for i, block in enumerate(blocks) for part in _html(block, i))
    drawn = any(isinstance(block, Figure) for block in blocks)
    script = f"<script>{get_plotlyjs()}</script>\n" if drawn else ""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<link rel="icon" href="data:,">
<title>{escape(title)}</title>
<style>
{STYLE}
</style>
{script}</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""


def prose_html(text: str) -> str:
    """Text with its inline code marked."""
    return CODE.sub(r"<code>\1</code>", escape(text, quote=False))


def _html(block: Block, number: int) -> Iterator[str]:
    if isinstance(block, Heading):
        yield f"<h{block.level}>{escape(block.text)}</h{block.level}>"
    elif isinstance(block, Text):
        yield f"<p>{prose_html(block.text)}</p>"
    elif isinstance(block, Bullets):
        yield "<ul>\n" + "\n".join(f"<li>{prose_html(item)}</li>" for item in block.items) + "\n</ul>"
    elif isinstance(block, Listing):
        yield f'<pre tabindex="0"><code>{escape(chr(10).join(block.lines))}</code></pre>'
    elif isinstance(block, Table):
        yield table_html(block, f"{block.title}; block {number}")
    elif isinstance(block, Figure):
        drawn = plotly.io.to_html(
            block.figure, config=CONFIG, include_plotlyjs=False, full_html=False, div_id=f"figure-{number}",
            default_height="560px",
        )  # fmt: skip
        caption = f"<figcaption>{prose_html(block.caption)}</figcaption>"
        yield f"<h4>{escape(block.title)}</h4>\n<figure>\n{drawn}\n{caption}\n</figure>"


def table_html(table: Table, label: str) -> str:
    """A table with caption and scopes, in a box named `label` that scrolls and that the keyboard reaches."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in table.head)
    lines, averages = [], len(table.body) - table.averages
    for i, row in enumerate(table.body):
        stubs = "".join(f'<th scope="row">{_cell(cell)}</th>' for cell in row[:1])
        cells = "".join(f"<td>{_cell(cell)}</td>" for cell in row[1:])
        kind = "" if i < averages else ' class="average first"' if i == averages else ' class="average"'
        lines.append(f"<tr{kind}>{stubs}{cells}</tr>")
    rows = "\n".join(lines)
    return f"""<div class="box" role="region" tabindex="0" aria-label="{escape(label)}">
<table>
<caption><strong>{escape(table.title)}</strong><span>{prose_html(table.caption)}</span></caption>
<thead><tr>{head}</tr></thead>
<tbody>
{rows}
</tbody>
</table>
</div>"""


def listing(lines: Sequence[str], label: str) -> str:
    """Commands in a box that scrolls."""
    code = escape("\n".join(lines))
    return f'<pre tabindex="0" role="region" aria-label="{escape(label)}"><code>{code}</code></pre>'


def _cell(cell: Cell) -> str:
    return " / ".join(f"<strong>{_number(p.text)}</strong>" if p.best else _number(p.text) for p in cell)


def _number(text: str) -> str:
    """Escaped, its negative numbers with a minus in place of a hyphen."""
    return escape(re.sub(r"(?<![\w.)])-(?=\.?\d)", "−", text))
