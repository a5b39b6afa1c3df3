"""What the layer analysis says, in report.html."""

from __future__ import annotations

import re

from edgecompress.report.html.parts import details, section, table
from edgecompress.report.html.svg import esc
from edgecompress.report.words.analysis import LEGEND, SHOWN_LAYERS, analysis_sentence, analysis_table
from edgecompress.report.words.tables import Report


def section_html(report: Report) -> str:
    """Returns the report's section on the layers: the worst ones, what follows, and a list of all; "" without any."""
    found = report.get("analysis")
    if not found:
        return ""
    layers = found["layers"]
    told = re.sub(r"`([^`]+)`", r"<code>\1</code>", esc(found["conclusion"]))
    body = f"<p>{told}</p>{table(analysis_table(layers[:SHOWN_LAYERS]))}"
    body += f'<p class="soft">{esc(f"{analysis_sentence(found)} {LEGEND}")}</p>'
    if len(layers) > SHOWN_LAYERS:
        everything = f'<div class="tall">{table(analysis_table(layers))}</div>'
        body += details(f"All {len(layers)} operators, ranked", everything)
    return section("What quantization costs, layer by layer", body)
