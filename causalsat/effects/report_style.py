"""How a report looks: on a screen, on paper, without colour."""

STYLE = """
:root { --ink: #1d2430; --soft: #596273; --line: #d9dde4; --tint: #f5f7fa; --accent: #0b5394;
        --good: #1a6b3c; --bad: #a3211b; --open: #7a5a00; }
* { box-sizing: border-box; }
body { margin: 0; color: var(--ink); background: #fff; line-height: 1.55; font-size: 16px;
       font-family: "Source Serif 4", "Iowan Old Style", Charter, Georgia, serif; }
main, header, footer { max-width: 62rem; margin: 0 auto; padding: 0 1.5rem; }
header { padding-top: 3rem; border-bottom: 2px solid var(--ink); }
h1 { font-size: 2rem; line-height: 1.2; margin: 0 0 .4rem; }
h2 { font-size: 1.35rem; margin: 2.6rem 0 .6rem; padding-top: .6rem; }
h3 { font-size: 1rem; margin: 1.4rem 0 .3rem; letter-spacing: .02em; }
p { max-width: 46rem; margin: .4rem 0 .8rem; }
nav, table, .badge, .count, figcaption, .facts, .causalsat-notes {
  font-family: system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif; }
nav { margin: .8rem 0 1rem; font-size: .9rem; }
nav a { color: var(--accent); text-decoration: none; margin-right: 1.2rem; }
nav a:hover { text-decoration: underline; }
.lead { color: var(--soft); }
.count { display: inline-block; margin-right: 1.4rem; font-size: .95rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; margin: .5rem 0; }
caption { text-align: left; font-weight: 600; padding-bottom: .3rem; }
th, td { padding: .3rem .85rem .3rem 0; text-align: left; vertical-align: top; }
th.num, td.num { text-align: right; white-space: nowrap; }
th:last-child, td:last-child { padding-right: 0; }
tr { break-inside: avoid; }
thead th { border-top: 1.5px solid var(--ink); border-bottom: 1px solid var(--ink); font-weight: 600; }
tbody tr:last-child td { border-bottom: 1.5px solid var(--ink); }
tbody tr:nth-child(even) td { background: var(--tint); }
.causalsat-notes, .assumes { max-width: 52rem; font-size: .9rem; }
.causalsat-notes { list-style: none; padding: 0; color: var(--soft); }
.causalsat-notes .warning, .causalsat-notes .not-available { color: var(--open); }
.assumes { border-left: 3px solid var(--accent); padding: .2rem 0 .2rem 1rem; margin: 1rem 0; }
.assumes h3 { margin-top: 0; }
.assumes ul { margin: .2rem 0; padding-left: 1.1rem; }
figure { margin: 1.2rem 0; }
figure svg { max-width: 100%; height: auto; }
figcaption { color: var(--soft); font-size: .85rem; }
.check { border-top: 1px solid var(--line); padding: .7rem 0; }
.check h3 { margin: 0; display: inline; }
.badge { display: inline-block; min-width: 7.5rem; font-size: .82rem; font-weight: 700; letter-spacing: .03em;
         margin-right: .6rem; }
.passed .badge { color: var(--good); } .failed .badge { color: var(--bad); } .open .badge { color: var(--open); }
.failed { border-left: 4px solid var(--bad); padding-left: .9rem; background: #fdf5f4; }
.statistic { color: var(--soft); font-size: .9rem; margin-left: .5rem; }
summary { cursor: pointer; color: var(--accent); font-size: .88rem; }
.facts { font-size: .88rem; display: grid;
         grid-template-columns: max-content 1fr; gap: .15rem 1.2rem; margin: .3rem 0; }
.facts dt { color: var(--soft); } .facts dd { margin: 0; overflow-wrap: anywhere; }
.facts .facts { grid-column: 2; }
footer { border-top: 1px solid var(--line); color: var(--soft); font-size: .85rem; margin-top: 3rem;
         padding-bottom: 3rem; }
@media print {
  @page { margin: 18mm 15mm; }
  body { font-size: 10pt; } nav, summary { display: none; }
  table { font-size: 7.6pt; } th, td { padding: .2rem .6rem .2rem 0; } .scroll { overflow: visible; }
  h2, h3, .badge { break-after: avoid; } figure, .assumes, .causalsat-notes, .check { break-inside: avoid; }
  header { padding-top: 0; } main, header, footer { max-width: none; padding: 0; } figure svg { max-height: 11cm; }
}
"""
