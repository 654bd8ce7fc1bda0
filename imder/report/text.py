"""A report as Markdown and as LaTeX."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from imder.evaluation import table as stored
from imder.report.blocks import Block, Bullets, Cell, Heading, Listing, Table, Text

CODE = re.compile(r"`([^`]+)`")

# Markdown ------------------------------------------------------------------------------------------------------------


def markdown(blocks: Sequence[Block]) -> str:
    """Markdown with pipe tables; figures are left out."""
    return "\n\n".join(part for block in blocks for part in _markdown(block)) + "\n"


def _markdown(block: Block) -> list[str]:
    if isinstance(block, Heading):
        return ["#" * block.level + " " + block.text]
    if isinstance(block, Text):
        return [_escaped(block.text)]
    if isinstance(block, Bullets):
        return ["\n".join(f"- {_escaped(item)}" for item in block.items)]
    if isinstance(block, Listing):
        return ["```bash\n" + "\n".join(block.lines) + "\n```"]
    if isinstance(block, Table):
        body = [[_cell(cell, _pipe, "**{}**".format) for cell in line] for line in block.body]
        for line in body[len(body) - block.averages :]:
            line[0] = f"*{line[0]}*"
        head = [_pipe(name) for name in block.head]
        return [f"**{block.title}**", stored.table(head, body), _escaped(block.caption)]
    return []


def _pipe(text: str) -> str:
    return _escaped(text).replace("|", "\\|")


def _escaped(text: str) -> str:
    """Stars and leading underscores as themselves, code as it is."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(
        part if part.startswith("`") else re.sub(r"([*<]|(?<!\w)_|_(?!\w))", r"\\\1", part) for part in parts
    )


def _cell(cell: Cell, escape: Callable[[str], str], bold: Callable[[str], str]) -> str:
    return " / ".join(bold(escape(part.text)) if part.best else escape(part.text) for part in cell)


# LaTeX ---------------------------------------------------------------------------------------------------------------

PREAMBLE = r"""
% Written by `python -m imder report --format latex`. To take single tables: booktabs and graphicx are needed.
\documentclass{article}
\usepackage[T1]{fontenc}
\usepackage[utf8]{inputenc}
\usepackage{textcomp}
\usepackage[margin=2cm]{geometry}
\usepackage{booktabs,graphicx}
\setlength{\parindent}{0pt}
\begin{document}
""".lstrip()
LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "%": r"\%", "#": r"\#", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "[": "{[}", "]": "{]}", "–": "--", "−": "$-$", "±": r"$\pm$",
    "→": r"$\to$", "×": r"$\times$", "…": r"\ldots{}", "’": "'",
}  # fmt: skip
LEVELS = {1: "section", 2: "section", 3: "subsection"}


def latex(blocks: Sequence[Block]) -> str:
    """A document with booktabs tables that compiles as it is; figures are left out."""
    body = "\n".join(part for block in blocks for part in _latex(block))
    return PREAMBLE + body.replace("\\clearpage\n", "", 1) + "\n\\end{document}\n"


def escape_latex(text: str) -> str:
    """Text as LaTeX prints it; what the font encoding may lack becomes a question mark."""
    return "".join(LATEX.get(c, c if c.isascii() or "À" <= c <= "ÿ" else "?") for c in text)


def _prose(text: str) -> str:
    parts = CODE.split(text)
    return "".join(f"\\texttt{{{escape_latex(p)}}}" if i % 2 else escape_latex(p) for i, p in enumerate(parts))


def _latex(block: Block) -> Iterator[str]:
    if isinstance(block, Heading):
        if block.level < 3:
            yield "\\clearpage"
        yield f"\\{LEVELS[block.level]}*{{{escape_latex(block.text)}}}"
    elif isinstance(block, Text):
        yield _prose(block.text) + "\n"
    elif isinstance(block, Bullets):
        items = "\n".join(f"\\item {_prose(item)}" for item in block.items)
        yield f"\\begin{{itemize}}\n{items}\n\\end{{itemize}}"
    elif isinstance(block, Listing):
        yield "\n".join(f"\\texttt{{{escape_latex(line)}}}\\par" for line in block.lines) + "\n"
    elif isinstance(block, Table):
        yield from _latex_tables(block)


def _latex_tables(table: Table) -> Iterator[str]:
    """The table, cut into several of a page's width; each begins with the columns that name the rows."""
    count = len(table.head) - table.stubs
    for first in range(0, max(count, 1), table.width):
        columns = [
            *range(table.stubs),
            *range(table.stubs + first, min(table.stubs + first + table.width, len(table.head))),
        ]
        lines = []
        for i, row in enumerate(table.body):
            if table.averages and i == len(table.body) - table.averages:
                lines.append("\\midrule")
            lines.append(" & ".join(_cell(row[j], escape_latex, "\\textbf{{{}}}".format) for j in columns) + " \\\\")
        title = table.title + (" (continued)" if first else "")
        body = "\n".join(lines)
        yield f"""\\begin{{table}}[!htbp]
\\centering
\\caption{{{escape_latex(title)}. {_prose(table.caption) if not first else ""}}}
\\resizebox{{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}}{{!}}{{%
\\begin{{tabular}}{{{"l" * table.stubs + "r" * (len(columns) - table.stubs)}}}
\\toprule
{" & ".join(escape_latex(table.head[j]) for j in columns)} \\\\
\\midrule
{body}
\\bottomrule
\\end{{tabular}}}}
\\end{{table}}"""
