"""A report as one HTML file with tables, figures and notes. It has no script and loads nothing from the network."""

from collections.abc import Sequence
from html import escape

from msgspec import Struct

STYLE = """
:root { color-scheme: light dark; --line: #8884; --paper: #fff; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; }
th, td { text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
figure { margin: 1.5rem 0; background: var(--paper); padding: 1rem; border-radius: .5rem; max-width: 48rem; }
figure svg { width: 100%; height: auto; }
pre { white-space: pre-wrap; background: #8881; padding: .6rem; border-radius: .4rem; }
"""


class Section(Struct, frozen=True):
    """A part of the report: a table, and a figure below the table. Either may be empty.

    title: heading; empty for none
    headings: names of the columns
    rows: cells of each row, as many as there are headings
    svg: figure as an SVG document; empty for none
    """

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    svg: str = ""


def page(
    title: str,
    sections: Sequence[Section],
    notes: Sequence[str] = (),
    texts: Sequence[tuple[str, str]] = (),
    first: str = "",
) -> bytes:
    """Return the report as an HTML document in UTF-8.

    title: heading of the document
    sections: tables and figures, in this order
    notes: sentences for a list below the sections
    texts: pairs of a title and a long text, such as an answer; each is folded until the reader opens it
    first: a sentence that stands above all sections; empty for none

    All text is escaped, so that markup in a model's answer has no effect.
    """
    parts = [f"<h1>{escape(title)}</h1>", *([f"<p><strong>{escape(first)}</strong></p>"] if first else [])]
    for section in sections:
        if section.title:
            parts.append(f"<h2>{escape(section.title)}</h2>")
        if section.rows:
            parts.append(_table(section.headings, section.rows))
        if section.svg:
            parts.append(f"<figure>{section.svg[section.svg.index('<svg') :]}</figure>")
    if notes:
        parts.append("<ul>" + "".join(f"<li>{escape(note)}</li>" for note in notes) + "</ul>")
    parts += [f"<details><summary>{escape(name)}</summary><pre>{escape(text)}</pre></details>" for name, text in texts]
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>{STYLE}</style>"
    )
    body = "\n".join(parts)
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n{body}\n</body></html>\n'.encode()


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in headings)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
