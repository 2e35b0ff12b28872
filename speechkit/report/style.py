"""How report.html looks."""

CSS = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; color: #1d2733;
  background: #f5f6f8; max-width: 68rem; margin: 0 auto; padding: 2rem 1rem 4rem; }
header p { color: #5b6775; margin: 0; }
h1 { font-size: 1.6rem; margin: 0; }
h2 { font-size: 1.15rem; margin: 0 0 .8rem; }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; }
section { background: #fff; border: 1px solid #e1e5ea; border-radius: 8px; padding: 1.2rem 1.4rem; margin-top: 1.2rem;
  overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; margin: .4rem 0 .8rem; font-variant-numeric: tabular-nums; }
th { text-align: right; font-weight: 600; color: #5b6775; border-bottom: 2px solid #e1e5ea; padding: .25rem .7rem; }
td { text-align: right; border-bottom: 1px solid #eef0f3; padding: .25rem .7rem; }
th:first-child, td:first-child, .worst th, .worst td { text-align: left; padding-left: 0; }
tr:empty { display: none; }
code, pre { font: .85rem ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
pre { background: #f5f6f8; border-radius: 6px; padding: .8rem 1rem; overflow-x: auto; }
summary { cursor: pointer; color: #2f6db3; }
.cards, .charts { display: flex; flex-wrap: wrap; gap: .8rem; margin-bottom: .8rem; }
.card { background: #f0f5fb; border-radius: 8px; padding: .7rem 1.1rem; min-width: 9rem; }
.card b { font-size: 1.5rem; }
.card small { color: #5b6775; }
.charts img { max-width: 100%; width: 19.5rem; height: auto; }
.worst td { vertical-align: top; white-space: nowrap; }
.worst td.aligned { white-space: normal; }
.aligned img { display: block; width: 100%; max-width: 46rem; height: auto; }
.aligned audio { display: block; width: 100%; max-width: 22rem; height: 2rem; margin: .2rem 0 .8rem; }
.pair { display: inline-block; border-radius: 4px; padding: 0 .3rem; margin: 0 .1rem .2rem 0; text-align: center; }
.pair span { display: block; line-height: 1.35; }
.correct { color: #5b6775; }
.substituted { background: #fde8cf; color: #8a4b00; }
.deleted { background: #fbd9d7; color: #96201a; }
.inserted { background: #d9e8fb; color: #12498c; }
"""
