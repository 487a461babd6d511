"""The style sheet of the HTML page, for light and dark screens."""

STYLE = """
:root {
  --page: #f6f7f9; --card: #ffffff; --ink: #16181d; --muted: #626b78; --line: #e3e6eb;
  --base: #b4bac4; --accent: #2f6fde; --good: #18794e; --good-back: #ddf3e4;
  --bad: #c62a2f; --bad-back: #ffe3e2; --note: #fff7db;
  --series-1: #2f6fde; --series-2: #d9730d; --series-3: #18946a;
  --series-4: #8e4ec6; --series-5: #c62a6b; --series-6: #6b7280;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #101216; --card: #181b21; --ink: #e8eaee; --muted: #9aa3b0; --line: #2a2f38;
    --base: #5b6472; --accent: #5b93f5; --good: #4cc38a; --good-back: #12311f;
    --bad: #ff7b7b; --bad-back: #3b1719; --note: #2c2716;
    --series-1: #5b93f5; --series-2: #f0914a; --series-3: #3dbb8c;
    --series-4: #b98be8; --series-5: #ec6fa3; --series-6: #9aa3b0;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
}
main { max-width: 1040px; margin: 0 auto; padding: 2.2rem 1.2rem 3rem; }
header p { margin: .25rem 0; color: var(--muted); max-width: 52rem; }
h1 { font-size: 1.65rem; line-height: 1.25; margin: 0 0 .6rem; letter-spacing: -.01em; }
h2 { font-size: 1.02rem; margin: 0 0 .7rem; }
section, figure {
  background: var(--card); border: 1px solid var(--line); border-radius: 12px;
  padding: 1.1rem 1.25rem; margin: 1rem 0;
}
section figure { border: 0; padding: 0; margin: 0; }
section > p { margin: 0 0 .7rem; color: var(--muted); }
figure { overflow-x: auto; }
figure svg { display: block; width: 100%; min-width: 620px; height: auto; }
figure svg text { font-family: inherit; }
.tiles {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(175px, 1fr)); gap: .8rem;
  background: none; border: 0; padding: 0;
}
.tile {
  background: var(--card); border: 1px solid var(--line); border-radius: 12px;
  padding: .9rem 1.1rem; display: flex; flex-direction: column;
}
.tile b { font-size: 1.85rem; line-height: 1.2; letter-spacing: -.02em; }
.tile span { font-weight: 500; }
.tile small { color: var(--muted); font-size: .82rem; }
.badge {
  display: inline-block; border-radius: 99px; padding: .12rem .65rem; font-size: .8rem;
  font-weight: 600; letter-spacing: 0; vertical-align: middle; white-space: nowrap;
}
.badge.good { color: var(--good); background: var(--good-back); }
.badge.bad { color: var(--bad); background: var(--bad-back); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { padding: .38rem .7rem; text-align: left; border-bottom: 1px solid var(--line); }
tbody tr:last-child > * { border-bottom: 0; }
thead th { color: var(--muted); font-weight: 600; }
tbody th { font-weight: 500; color: var(--muted); white-space: nowrap; }
td { font-variant-numeric: tabular-nums; }
.numbers th:not(:first-child), .numbers td, td.number { text-align: right; white-space: nowrap; }
td.best { font-weight: 650; color: var(--accent); }
td.meter { width: 30%; min-width: 6rem; }
td.meter i { display: block; height: .55rem; border-radius: 99px; background: var(--accent); }
td.text { color: var(--muted); }
.notes { background: var(--note); }
.notes ul { margin: 0; padding-left: 1.15rem; }
summary { cursor: pointer; font-weight: 600; }
pre { overflow-x: auto; font: .85rem/1.5 ui-monospace, Menlo, Consolas, monospace; }
footer { color: var(--muted); font-size: .82rem; margin-top: 1.4rem; }
"""
