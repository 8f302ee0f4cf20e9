"""The report page's charts as Vega-Lite: what is drawn for which column; the page fills in rows and captions.

Colours, shapes and labels come with the rows, so a legend is the page's own and can be reached by keyboard. Text and axes
take the page's colour, in a dark page too.
"""

from __future__ import annotations

from typing import Any

import altair as alt

from neuronlens.report.palette import CONCEPT_COLOUR, INTERVAL_COLOUR, REST_COLOUR

OTHER = "#999999"
TEXT = "currentColor"
FONT = (
    'system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif'  # named, for labels are measured before they are drawn
)
DENSITY_HEIGHT, RUG_HEIGHT = 300, 10
FEW = alt.Axis(tickCount=alt.ExprRef("max(3, ceil(width / 100))"))
Spec = dict[str, Any]
Layered = alt.LayerChart | alt.FacetChart


def specifications() -> dict[str, Spec]:
    """Return every chart of the page by name, without data, as Vega-Lite takes it."""
    charts = {
        "tradeoff": tradeoff(),
        "bars": bars(),
        "heat": heat(None),
        "share": heat((0.0, 1.0)),
        "density": density(),
    }
    return {name: _styled(chart).to_dict(validate=True) for name, chart in charts.items()}


def tradeoff() -> Layered:
    """Return curves of collateral over erasure with intervals on both axes; rows in `points`, one per cell."""
    rows = alt.Chart(alt.NamedData("points"))
    colour = alt.Color("colour:N", scale=None)
    x, y = alt.X("x:Q", title="share of the concept's accuracy erased", axis=FEW), alt.Y("y:Q", title=None)
    across = rows.mark_rule(strokeWidth=0.8, opacity=0.6, aria=False).encode(
        x="x_low:Q", x2="x_high:Q", y=y, color=colour
    )
    along = rows.mark_rule(strokeWidth=0.8, opacity=0.6, aria=False).encode(
        x=x, y="y_low:Q", y2="y_high:Q", color=colour
    )
    dashed = alt.when("datum.dashed").then(alt.value([6, 3])).otherwise(alt.value([1, 0]))
    curve = rows.mark_line(strokeWidth=1.8, aria=False).encode(
        x=x, y=y, color=colour, detail="number:N", order="dose:Q", strokeDash=dashed
    )
    shown = ["method", "neurons", "strength", "share erased", "measure", "value"]
    points = rows.mark_point(filled=True, size=46, opacity=1).encode(
        x=x, y=y, color=colour, shape=alt.Shape("shape:N", scale=None), tooltip=[f"{name}:N" for name in shown]
    )
    nothing = alt.Chart(alt.InlineData(values=[{"zero": 0}])).mark_rule(opacity=0.35, stroke=TEXT, aria=False)
    return alt.layer(nothing.encode(y="zero:Q"), across, along, curve, points).properties(width="container", height=380)


def bars() -> Layered:
    """Return one bar per method with its interval, its name above it; rows in `bars`, best first."""
    rows = alt.Chart(alt.NamedData("bars"))
    y = alt.Y("row:O", axis=None)
    colour = alt.Color("colour:N", scale=None)
    shown = [f"{name}:N" for name in ("method", "value", "concepts")]
    bar = rows.mark_bar(height=11, yOffset=9).encode(
        x=alt.X("mean:Q", title="cost to the others (lower is better)", axis=FEW), y=y, color=colour, tooltip=shown
    )
    whisker = rows.mark_rule(strokeWidth=1.4, yOffset=9, stroke=TEXT, aria=False).encode(x="low:Q", x2="high:Q", y=y)
    fits = alt.ExprRef("width - 2")
    text = rows.mark_text(align="left", baseline="middle", dy=-6, fill=TEXT, fontSize=12, limit=fits, aria=False)
    named = text.encode(x=alt.value(2), y=y, text="label:N")
    return alt.layer(bar, whisker, named).properties(width="container", height=alt.Step(36))


def heat(domain: tuple[float, float] | None) -> Layered:
    """Return a heat map of `value` over `row` and `column`, grey where there is none; rows in `squares`."""
    rows = alt.Chart(alt.NamedData("squares"))
    scale = alt.Scale(scheme="viridis") if domain is None else alt.Scale(scheme="viridis", domain=list(domain))
    labels: dict[str, Any] = {"sort": None, "title": None}
    x = alt.X("column:O", axis=alt.Axis(labelAngle=-50, labelLimit=170, labelOverlap=False, domain=False), **labels)
    y = alt.Y("row:O", axis=alt.Axis(labelLimit=320, labelOverlap=False, domain=False), **labels)
    shown = [f"{name}:N" for name in ("row name", "column name", "value")]
    colour = alt.Color("number:Q", scale=scale, legend=alt.Legend(orient="top", title=None, gradientLength=200))
    square = rows.mark_rect(stroke="white", strokeWidth=0.6).encode(x=x, y=y, tooltip=shown)
    # Every square is there first, grey: the axes then take rows and columns in the order given, filled or not.
    empty = square.encode(color=alt.value("#88888840"))
    filled = square.transform_filter("datum.number !== null").encode(color=colour)
    ink = alt.when("datum.light").then(alt.value("#000")).otherwise(alt.value("#fff"))
    number = rows.mark_text(fontSize=9.5, aria=False).encode(x=x, y=y, text="text:N", color=ink, tooltip=shown)
    return alt.layer(empty, filled, number).properties(width="container", height=alt.Step(24))


def density() -> Layered:
    """Return class-conditional densities over the intervals of a range, with the fitted law and a rug.

    Rows: `spans` (low, high), `curves` (kind, name, x, y), `laws` (name, x, y, component) and `rug` (x, kind).
    """
    x = alt.X("x:Q", title="activation", axis=FEW, scale=alt.Scale(nice=False, zero=False))
    y = alt.Y("y:Q", title="density", axis=alt.Axis(tickCount=4))
    spans = alt.Chart(alt.NamedData("spans")).mark_rect(color=INTERVAL_COLOUR, opacity=0.2, aria=False)
    spans = spans.encode(x="low:Q", x2="high:Q", y=alt.value(0), y2=alt.value(DENSITY_HEIGHT))
    edges = (
        alt.Chart(alt.NamedData("edges")).mark_rule(stroke=INTERVAL_COLOUR, strokeWidth=1.2, aria=False).encode(x="x:Q")
    )
    curves = alt.Chart(alt.NamedData("curves"))
    filled = curves.mark_area(line={"strokeWidth": 2}, fillOpacity=0.22, aria=False)
    rest = filled.transform_filter("datum.kind === 'rest'").encode(x=x, y=y, color=alt.value(REST_COLOUR))
    own = filled.transform_filter("datum.kind === 'concept'").encode(x=x, y=y, color=alt.value(CONCEPT_COLOUR))
    thin = curves.mark_line(strokeWidth=1, opacity=0.55, aria=False).transform_filter("datum.kind === 'other'")
    others = thin.encode(x=x, y=y, detail="number:N", color=alt.value(OTHER), tooltip="name:N")
    bold = curves.mark_line(strokeWidth=2.2, strokeDash=[2, 2], aria=False)
    compared = bold.transform_filter("datum.kind === 'compared'").encode(x=x, y=y, color=alt.value("#cc79a7"))
    laws = alt.Chart(alt.NamedData("laws")).mark_line(aria=False, stroke=TEXT)
    dashed = alt.when("datum.component").then(alt.value([2, 3])).otherwise(alt.value([7, 3]))
    law = laws.encode(x=x, y=y, detail="name:N", strokeDash=dashed, strokeWidth=alt.value(1.3))
    rug = alt.Chart(alt.NamedData("rug")).mark_tick(thickness=1, height=RUG_HEIGHT, opacity=0.45, aria=False)
    rug_colour = alt.when("datum.kind === 'concept'").then(alt.value(CONCEPT_COLOUR)).otherwise(alt.value(REST_COLOUR))
    rug = rug.encode(x=x, y=alt.value(DENSITY_HEIGHT - RUG_HEIGHT / 2), color=rug_colour)
    layers = (spans, edges, rest, others, own, compared, law, rug)
    return alt.layer(*layers).properties(width="container", height=DENSITY_HEIGHT)


def _styled(chart: Layered) -> Layered:
    """Return a chart in the page's type and colour, that fits the width it is given."""
    axis: dict[str, Any] = {
        "labelColor": TEXT,
        "titleColor": TEXT,
        "tickColor": "#88888880",
        "domainColor": "#88888880",
    }
    axis |= {"gridColor": "#88888833", "titleFontWeight": "normal", "labelFontSize": 12, "titleFontSize": 12}
    return (
        chart.properties(background="transparent")
        .configure(font=FONT)
        .configure_axis(**axis)
        .configure_legend(labelColor=TEXT, titleColor=TEXT)
        .configure_view(stroke=None)
    )
