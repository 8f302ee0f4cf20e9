"""The page over all jobs of a multirun: its tables, and the way to each job's own page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from importlib import resources

from neuronlens.report.cells import texts
from neuronlens.report.gather.jobs import GatheredJob
from neuronlens.report.table import Table

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


def page(title: str, tables: Sequence[Table], jobs: Sequence[tuple[GatheredJob, str | None]]) -> str:
    """Return one HTML file that opens from disk; all text in it is escaped, and no script runs.

    Args:
        jobs: those with results, each with the address of its own page where it has one.
    """
    style = (resources.files("neuronlens.report.page") / "assets" / "page.css").read_text(encoding="utf-8")
    body = "\n".join(part for table in tables for part in _section(table))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)} · NeuronLens</title>\n<style>{style}</style>\n</head>\n<body>\n"
        f'<header><p class="kind">NeuronLens multirun</p><h1>{escape(title)}</h1></header>\n<main id="main">\n'
        f"{body}\n{''.join(_links(jobs))}</main>\n</body>\n</html>\n"
    )


def _section(table: Table) -> Iterator[str]:
    headings, rows = texts(table)
    kinds = [' class="number"' if right else "" for right in table.right_aligned]
    yield f"<section><h2>{escape(table.title)}</h2><p>{escape(' '.join((table.caption, *table.notes)))}</p>"
    yield '<div class="scroll" tabindex="0"><table><thead><tr>'
    yield "".join(f'<th scope="col"{kind}>{escape(text)}</th>' for text, kind in zip(headings, kinds, strict=True))
    yield "</tr></thead><tbody>"
    for row in rows:
        yield (
            "<tr>" + "".join(f"<td{kind}>{escape(text)}</td>" for text, kind in zip(row, kinds, strict=True)) + "</tr>"
        )
    yield "</tbody></table></div></section>"


def _links(jobs: Sequence[tuple[GatheredJob, str | None]]) -> Iterator[str]:
    there = [(job, address) for job, address in jobs if address is not None]
    if not there:
        return
    yield "<section><h2>The page of each job</h2><ul>\n"
    for job, address in there:
        own = " ".join(f"{key}={value}" for key, value in job.values.items())
        yield f'<li><a href="{escape(address)}">#{job.number} {escape(own)}</a></li>\n'
    yield "</ul></section>\n"
