"""How the page looks, by day and by night."""

STYLE = """
:root { color-scheme: light dark; --ink: #1c2328; --paper: #fcfcfa; --card: #ffffff;
  --faint: #66727a; --line: #e1e5e7; --good: #2e8b57; --warn: #a86a00; --bad: #c8433a; --a: #2176ae;
  --b: #d9772b }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaec; --paper: #12171a; --card: #192024;
  --faint: #95a2aa; --line: #2b353b; --good: #5cbf8a; --warn: #e3b04b; --bad: #ee7469; --a: #5aaee0;
  --b: #f09a52 } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 76rem; padding: 2.75rem 1.5rem 4rem; color: var(--ink);
  background: var(--paper); font: 16px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif;
  font-variant-numeric: tabular-nums }
h1 { font-size: 1.9rem; line-height: 1.2; letter-spacing: -.015em; margin: .15rem 0 .3rem }
h2 { font-size: 1.2rem; letter-spacing: -.005em; margin: 0 0 .15rem }
.kicker { color: var(--faint); font-size: .8rem; letter-spacing: .09em; text-transform: uppercase;
  margin: 0 }
.what { color: var(--faint); margin: 0 0 1.6rem }
.how { color: var(--faint); font-size: .93rem; margin: 0 0 .9rem; max-width: 62rem }
.models { display: grid; gap: 1.25rem; align-items: start }
.models.two { grid-template-columns: repeat(2, minmax(0, 1fr)) }
.name { font-weight: 600; font-size: .9rem; margin: 0 0 .5rem }
.name b { display: inline-block; width: 1.45em; text-align: center; border-radius: .3em;
  margin-right: .5em; color: #fff; background: var(--a) }
.name.second b { background: var(--b) }
.verdict { border: 1px solid var(--line); border-left: 5px solid var(--good); border-radius: 8px;
  background: var(--card); padding: 1rem 1.3rem; margin-bottom: 1rem }
.verdict.fault { border-left-color: var(--bad) }
.verdict.remark { border-left-color: var(--warn) } .verdict.remark h2 { color: var(--warn) }
.verdict h2 { font-size: 1.25rem; color: var(--good) } .verdict.fault h2 { color: var(--bad) }
.verdict p, .verdict ul { margin: .45rem 0 } .verdict ul { padding-left: 1.2rem }
.verdict code { color: var(--faint); font-size: .8rem }
.claim { font-size: 1.12rem; line-height: 1.5; margin: 0 0 1.4rem; max-width: 62rem }
dl.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(7.3rem, 1fr)); gap: .6rem;
  margin: 0 }
dl.tiles div { border: 1px solid var(--line); border-radius: 8px; background: var(--card);
  padding: .5rem .7rem }
dt { font-size: .85rem } dd { margin: 0 }
dd b { display: block; font-size: 1.4rem; line-height: 1.3; letter-spacing: -.01em }
dd small { color: var(--faint); font-size: .75rem; line-height: 1.3; display: block }
section { margin-top: 2.6rem; border-top: 1px solid var(--line); padding-top: 1.5rem }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(24rem, 1fr)); gap: 0 2.2rem }
.plot svg { width: 100%; height: auto; display: block }
.plot svg text { font-family: inherit !important }
.plot.square { max-width: 34rem }
.strips { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .3rem .8rem;
  align-items: center }
.strips span { color: var(--faint); font-size: .82rem; text-align: right; white-space: nowrap }
.strips .apart { grid-column: 1 / -1; height: .35rem }
img { display: block; height: auto; image-rendering: pixelated }
table { border-collapse: collapse; width: 100%; font-size: .95rem }
th, td { padding: .3rem .8rem; border-bottom: 1px solid var(--line); text-align: right }
th:first-child, td:first-child { text-align: left; padding-left: 0 }
th { font-weight: 600 } td small { color: var(--faint) } td:first-child small { margin-left: .6em }
footer { margin-top: 3rem; color: var(--faint); font-size: .85rem }
@media (max-width: 48rem) { .models.two { grid-template-columns: minmax(0, 1fr) }
  .pair { grid-template-columns: minmax(0, 1fr) } }
"""
