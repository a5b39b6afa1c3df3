"""The look of report.html: one style sheet, light and dark by the reader's system, no external resource."""

STYLE = """
:root {
  --page: #f6f7f9; --card: #ffffff; --ink: #16202c; --soft: #5c6b7c; --rule: #e1e6ec; --code: #f1f4f7;
  --accent: #0f766e; --teacher: #64748b; --student: #3b82f6; --pruned: #8b5cf6; --quantized: #0d9488;
  --good: #15803d; --good-back: #e8f6ec; --warn: #a15c07; --warn-back: #fdf3e1; --bad: #b42318; --bad-back: #fdecea;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #0f151c; --card: #18212b; --ink: #e6edf3; --soft: #93a4b5; --rule: #2a3744; --code: #121a22;
    --accent: #2dd4bf; --teacher: #94a3b8; --student: #60a5fa; --pruned: #a78bfa; --quantized: #2dd4bf;
    --good: #4ade80; --good-back: #12301e; --warn: #fbbf24; --warn-back: #33260b; --bad: #f87171; --bad-back: #3a1715;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { font-size: 30px; line-height: 1.2; margin: 0 0 6px; letter-spacing: -0.02em; overflow-wrap: anywhere; }
h2 { font-size: 18px; margin: 0 0 14px; letter-spacing: -0.01em; }
h3 { font-size: 14px; margin: 22px 0 8px; color: var(--soft); font-weight: 600; }
h3:first-child { margin-top: 0; }
p { margin: 0 0 10px; }
a { color: var(--accent); }
.soft, .facts { color: var(--soft); } p.soft { font-size: 13.5px; }
.facts { display: flex; flex-wrap: wrap; gap: 2px 18px; font-size: 13.5px; }
.verdict { display: inline-block; margin: 16px 0 20px; padding: 8px 14px; border-radius: 8px; font-weight: 600; }
.verdict::before { margin-right: 8px; }
.verdict.good { background: var(--good-back); color: var(--good); } .verdict.good::before { content: "\\2713"; }
.verdict.doubtful { background: var(--warn-back); color: var(--warn); } .verdict.doubtful::before { content: "!"; }
.verdict.failed { background: var(--bad-back); color: var(--bad); } .verdict.failed::before { content: "\\2715"; }
.reasons { margin: -8px 0 20px; padding: 10px 16px; border-radius: 8px; max-width: 900px; }
.reasons.doubtful { background: var(--warn-back); border-left: 4px solid var(--warn); }
.reasons.failed { background: var(--bad-back); border-left: 4px solid var(--bad); }
section, .tile { background: var(--card); border: 1px solid var(--rule); border-radius: 12px; }
section { padding: 22px 24px; margin-top: 18px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(225px, 1fr)); gap: 14px; }
.tile { padding: 16px 18px; }
.tile .title { font-size: 13px; color: var(--soft); }
.tile .value { font-size: 29px; font-weight: 650; letter-spacing: -0.02em; line-height: 1.3;
  font-variant-numeric: tabular-nums; }
.tile .detail { font-size: 13px; color: var(--soft); line-height: 1.45; margin-top: 4px; }
.tile .detail b { color: var(--ink); font-weight: 600; }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); gap: 26px; }
.curves { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 300px), 1fr)); gap: 22px; }
.columns > *, .curves > * { min-width: 0; }
.scroll { overflow-x: auto; margin: 0 -4px; padding: 0 4px; }
table { border-collapse: collapse; width: 100%; font-size: 13.5px; font-variant-numeric: tabular-nums; }
th, td { padding: 7px 12px 7px 0; text-align: left; border-bottom: 1px solid var(--rule); vertical-align: top; }
th:last-child, td:last-child { padding-right: 0; }
th { font-weight: 600; color: var(--soft); font-size: 12.5px; white-space: nowrap; vertical-align: bottom; }
tbody tr:last-child td { border-bottom: 0; }
.right { text-align: right; white-space: nowrap; }
.below { display: block; color: var(--soft); font-weight: 400; font-size: 12px; }
.result td { font-weight: 650; }
.models td:first-child { min-width: 150px; padding-left: 18px; text-indent: -18px; }
.models th { white-space: normal; min-width: 44px; }
.swatch { display: inline-block; width: 10px; height: 10px; border-radius: 3px; margin-right: 8px; }
.kept { color: var(--good); font-weight: 600; } .missed { color: var(--bad); font-weight: 600; }
ul { margin: 0; padding-left: 20px; } li { margin: 4px 0; overflow-wrap: anywhere; }
.notice { border-left: 4px solid var(--warn); }
pre { margin: 0; padding: 14px 16px; background: var(--code); border: 1px solid var(--rule); border-radius: 8px;
  overflow: auto; max-height: 560px; font-size: 12.5px; line-height: 1.5; }
code, pre { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "Liberation Mono", monospace; }
code { font-size: 0.92em; overflow-wrap: anywhere; }
td.key code { overflow-wrap: normal; }
p code, td code { background: var(--code); border-radius: 4px; padding: 1px 5px; }
.scroll + .soft { margin: 10px 0 0; }
.hashes { margin-top: 22px; } .hashes td { overflow-wrap: anywhere; } .hashes td:first-child { overflow-wrap: normal; }
.hashes td + td { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; font-size: 12px; }
details { margin-top: 16px; } details + details { margin-top: 10px; }
summary { cursor: pointer; color: var(--soft); font-weight: 600; font-size: 14px; }
details > :not(summary) { margin-top: 10px; }
.tall { max-height: 480px; overflow: auto; }
.share { display: grid; grid-template-columns: minmax(80px, max-content) 1fr 66px; gap: 5px 12px; align-items: center;
  font-size: 13px; font-variant-numeric: tabular-nums; }
.share span:nth-child(3n) { text-align: right; }
.share i { display: block; height: 9px; border-radius: 3px; background: var(--quantized); min-width: 1px; }
.share span:nth-child(3n + 1) { overflow-wrap: anywhere; }
.track { background: var(--code); border-radius: 3px; }
footer { margin-top: 26px; color: var(--soft); font-size: 13px; }
svg { display: block; width: 100%; height: auto; font-family: inherit; }
svg text { fill: var(--ink); } .tick { font-size: 11px; } svg .tick, svg .axis-title { fill: var(--soft); }
.axis-title { font-size: 11.5px; } .label { font-size: 12px; } .strong { font-weight: 650; }
.plot { overflow-x: auto; }
.grid { stroke: var(--rule); } .axis { stroke: var(--soft); } .whisker { stroke-width: 1.6; }
.trail { fill: none; stroke: var(--soft); stroke-width: 1.2; stroke-dasharray: 3 4; }
.m-teacher { fill: var(--teacher); stroke: var(--teacher); }
.m-student { fill: var(--student); stroke: var(--student); }
.m-pruned { fill: var(--pruned); stroke: var(--pruned); }
.m-quantized { fill: var(--quantized); stroke: var(--quantized); }
svg .t-m-teacher { fill: var(--teacher); } svg .t-m-student { fill: var(--student); }
svg .t-m-pruned { fill: var(--pruned); } svg .t-m-quantized { fill: var(--quantized); }
.bar { stroke: none; } .dot { stroke: var(--card); stroke-width: 1.5; }
.b-teacher { background: var(--teacher); } .b-student { background: var(--student); }
.b-pruned { background: var(--pruned); } .b-quantized { background: var(--quantized); }
.curve { fill: none; stroke-width: 2; stroke-linejoin: round; } .curve.c-loss { stroke: var(--teacher); }
.curve.c-accuracy { stroke: var(--student); } .point.c-loss { fill: var(--teacher); }
.point.c-accuracy { fill: var(--student); } svg .axis-title.c-loss { fill: var(--teacher); }
svg .axis-title.c-accuracy { fill: var(--student); }
.cell { fill: var(--quantized); stroke: var(--rule); stroke-width: 0.5; } .wrong { fill: var(--bad); }
.cell-text { font-size: 10.5px; } svg .cell-text.light { fill: var(--card); }
@media (max-width: 560px) {
  main { padding: 20px 12px 40px; } section { padding: 18px 16px; } h1 { font-size: 25px; }
  svg.wide { min-width: 430px; }
}
@media print { body { background: none; } section, .tile { break-inside: avoid; } pre, .tall { max-height: none; } }
"""
