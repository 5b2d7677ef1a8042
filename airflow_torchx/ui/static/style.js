/**
 * The look of the page, in Airflow's own colours where the host page has them. `light-dark` follows
 * the host's `color-scheme`, so the colours of a plain page are right in both themes, too.
 */
export const css = `
:host { display: block; height: 100%; overflow: auto; }
[hidden] { display: none !important; }
.page {
  --fg: var(--chakra-colors-fg, light-dark(#18181b, #fafafa));
  --muted: var(--chakra-colors-fg-muted, light-dark(#52525b, #a1a1aa));
  --bg: var(--chakra-colors-bg, light-dark(#ffffff, #111111));
  --line: var(--chakra-colors-border, light-dark(#e4e4e7, #27272a));
  --soft: color-mix(in srgb, var(--fg) 4%, var(--bg));
  --running: var(--chakra-colors-running-solid, light-dark(#15803d, #4ade80));
  --success: var(--chakra-colors-success-solid, light-dark(#166534, #22c55e));
  --failed: var(--chakra-colors-failed-solid, light-dark(#dc2626, #f87171));
  --queued: var(--chakra-colors-queued-solid, light-dark(#71717a, #a1a1aa));
  --retry: var(--chakra-colors-up_for_retry-solid, light-dark(#ca8a04, #facc15));
  --removed: var(--chakra-colors-removed-solid, light-dark(#a1a1aa, #71717a));
  --unknown: var(--removed);
  --link: var(--chakra-colors-fg-info, light-dark(#1d4ed8, #93c5fd));
  box-sizing: border-box; container-type: inline-size; padding: 1rem; max-width: 100rem;
  color: var(--fg); font: 0.8125rem/1.5 var(--chakra-fonts-body, system-ui, sans-serif);
}
.page *, .page *::before { box-sizing: border-box; }
h2, h3, p, ul, ol, pre, dl, dd { margin: 0; padding: 0; }
h2 { font-size: 1.125rem; line-height: 1.4; overflow-wrap: anywhere; }
h3 { font-size: 0.875rem; }
ul, ol { list-style: none; }
a { color: var(--link); }
button, select, input {
  font: inherit; color: inherit; background: var(--bg); border: 1px solid var(--line);
  border-radius: 0.25rem; padding: 0.2rem 0.6rem; min-height: 1.75rem; max-width: 100%;
}
button { cursor: pointer; }
button:hover:not(:disabled) { background: var(--soft); }
button:disabled { color: var(--muted); cursor: default; }
button[aria-pressed="true"], button[aria-current="true"] { background: color-mix(in srgb, var(--fg) 12%, var(--bg)); }
:focus-visible { outline: 2px solid var(--link); outline-offset: 1px; }
.muted { color: var(--muted); }
.mono, pre { font-family: var(--chakra-fonts-mono, ui-monospace, monospace); font-size: 0.75rem; }
.stack { display: flex; flex-direction: column; gap: 0.9rem; }
.stack > :empty { display: none; }
.bar { display: flex; flex-wrap: wrap; gap: 0.4rem 0.75rem; align-items: center; }
.push { margin-inline-start: auto; }
.card { border: 1px solid var(--line); border-radius: 0.375rem; padding: 0.6rem 0.8rem; background: var(--soft); }
.note { border-inline-start: 3px solid var(--retry); padding-inline-start: 0.6rem; }
[data-tone="running"] { --tone: var(--running); }
[data-tone="success"] { --tone: var(--success); }
[data-tone="failed"] { --tone: var(--failed); }
[data-tone="queued"] { --tone: var(--queued); }
[data-tone="retry"] { --tone: var(--retry); }
[data-tone="removed"] { --tone: var(--removed); }
[data-tone="unknown"] { --tone: var(--unknown); }
.state { display: inline-flex; gap: 0.35rem; align-items: center; white-space: nowrap; }
.state .glyph {
  display: inline-grid; place-items: center; inline-size: 1.1rem; block-size: 1.1rem; border-radius: 0.2rem;
  border: 2px solid var(--tone); font-size: 0.65rem; line-height: 1; flex: none;
  background: color-mix(in srgb, var(--tone) 18%, var(--bg));
}
.tiles { display: flex; flex-wrap: wrap; gap: 0.3rem 1.5rem; }
.tiles div { display: flex; gap: 0.4rem; }
.tiles dt { color: var(--muted); }
.failure { border-color: var(--failed); border-inline-start-width: 4px; }
.failure pre { margin-block-start: 0.4rem; max-block-size: 14rem; overflow: auto; white-space: pre-wrap; overflow-wrap: anywhere; }
.failure .error { font-weight: 600; overflow-wrap: anywhere; }
.progress .rail { block-size: 0.5rem; border-radius: 0.25rem; background: color-mix(in srgb, var(--fg) 12%, var(--bg)); overflow: hidden; margin-block-start: 0.3rem; }
.progress .done { block-size: 100%; inline-size: var(--share); background: var(--tone); }
.squares { display: flex; flex-wrap: wrap; gap: 2px; }
.square {
  inline-size: 1.25rem; block-size: 1.25rem; display: grid; place-items: center; border-radius: 0.2rem; cursor: pointer;
  border: 2px solid var(--tone); font-size: 0.65rem; line-height: 1;
  background: color-mix(in srgb, var(--tone) 18%, var(--bg));
}
.square[aria-selected="true"] { outline: 2px solid var(--link); outline-offset: 1px; }
.role { display: flex; flex-wrap: wrap; gap: 0.2rem 0.8rem; align-items: center; }
.role .role-name { font-weight: 600; overflow-wrap: anywhere; }
.lanes { border: 1px solid var(--line); border-radius: 0.375rem; }
.row { display: grid; align-items: center; column-gap: 0.6rem; padding-inline: 0.6rem; grid-template-columns: var(--columns); }
.row > * { min-inline-size: 0; }
.lane { min-block-size: 2.1rem; border-block-start: 1px solid var(--line); cursor: pointer; }
.lane:hover { background: var(--soft); }
.lane[aria-selected="true"] { background: color-mix(in srgb, var(--link) 12%, var(--bg)); }
.head { color: var(--muted); min-block-size: 1.8rem; }
.name { overflow: hidden; text-overflow: ellipsis; }
.lane .end { overflow-wrap: anywhere; font-size: 0.75rem; }
.track { position: relative; align-self: stretch; min-block-size: 1.2rem; }
.seg { position: absolute; inset-inline-start: var(--from); inline-size: max(2px, var(--length)); inset-block-start: 50%; transform: translateY(-50%); block-size: 0.85rem; border-radius: 2px; background: var(--tone); }
.seg.wait { block-size: 0.2rem; }
.mark { position: absolute; inset-block: 0; inset-inline-start: var(--at); inline-size: 0; border-inline-start: 2px dashed var(--failed); }
.took { text-align: end; font-size: 0.75rem; white-space: nowrap; }
.tick { position: absolute; inset-inline-start: var(--at); inset-block-start: 50%; transform: translate(-50%, -50%); font-size: 0.7rem; white-space: nowrap; }
.tick:first-child { transform: translate(0, -50%); }
.tick.last { transform: translate(-100%, -50%); }
.spark { font-size: 0.7rem; line-height: 1.2; padding-block: 0.2rem; }
.spark svg { display: block; inline-size: 100%; block-size: 1rem; overflow: visible; }
.spark polyline { fill: none; stroke: var(--fg); stroke-width: 1.25; vector-effect: non-scaling-stroke; }
.spark line { stroke: var(--muted); stroke-dasharray: 3 2; vector-effect: non-scaling-stroke; }
.spark.near { font-weight: 600; }
.spark.near polyline { stroke: var(--retry); stroke-width: 2.5; }
.odd { display: block; font-size: 0.7rem; color: var(--fg); }
.odd::before { content: "⚠ "; }
.log pre { max-block-size: 26rem; min-block-size: 6rem; overflow: auto; background: var(--bg); border: 1px solid var(--line); border-radius: 0.25rem; padding: 0.5rem; white-space: pre-wrap; overflow-wrap: anywhere; margin-block-start: 0.5rem; }
.attempts { display: flex; flex-wrap: wrap; gap: 0.4rem; }
.attempts button { text-align: start; display: inline-flex; flex-wrap: wrap; gap: 0.2rem 0.6rem; align-items: center; max-inline-size: 32rem; }
.why { font-size: 0.75rem; color: var(--muted); overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; inline-size: 100%; }
th { text-align: start; color: var(--muted); font-weight: 500; white-space: nowrap; }
th, td { padding: 0.35rem 0.6rem; border-block-end: 1px solid var(--line); overflow-wrap: anywhere; }
tbody tr:hover { background: var(--soft); }
.filters label { display: inline-flex; gap: 0.35rem; align-items: center; color: var(--muted); }
.filters label > * { color: var(--fg); }
dialog { color: var(--fg); background: var(--bg); border: 1px solid var(--line); border-radius: 0.5rem; padding: 1rem; max-inline-size: min(32rem, 90vw); font: inherit; }
dialog::backdrop { background: rgb(0 0 0 / 50%); }
dialog .bar { margin-block-start: 1rem; justify-content: flex-end; }
.danger { border-color: var(--failed); }
@container (max-width: 56rem) {
  .row { grid-template-columns: minmax(4rem, 7rem) 6.5rem minmax(6rem, 1fr) 5.5rem; grid-template-areas: "name state track took" "end end end end"; }
  .name { grid-area: name; } .lane-state { grid-area: state; } .track { grid-area: track; } .took { grid-area: took; } .end { grid-area: end; }
  .row .use, .head .end { display: none; }
  .lane .end:not(:empty) { padding-block-end: 0.3rem; }
  .optional { display: none; }
}
@media (prefers-reduced-motion: no-preference) {
  .progress .done { transition: inline-size 0.3s; }
}
`;
