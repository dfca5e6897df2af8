// Plots as SVG: recall of tiers against their cost, recall that the audit measured, time by stage.
import { html } from "/console/htm-preact.js";
import { count } from "/console/parts.js";

const WIDTH = 380, HEIGHT = 250, LEFT = 46, RIGHT = 12, TOP = 12, BOTTOM = 40;
const COLOURS = 7; // classes s0 to s6 of console.css
const MARKERS = ["M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0", "M-4,-4h8v8h-8z", "M0,-5l5,9h-10z", "M0,-5l5,5l-5,5l-5,-5z", "M0,5l5,-9h-10z",
  "M-2,-5h4v3h3v4h-3v3h-4v-3h-3v-4h3z", "M-5,-3l2,-2l3,3l3,-3l2,2l-3,3l3,3l-2,2l-3,-3l-3,3l-2,-2l3,-3z"];

const short = (value) => (value >= 1000 ? `${+(value / 1000).toPrecision(2)}k` : `${+value.toPrecision(2)}`);

// Marks of a logarithmic axis: 1, 2 and 5 of each decade, or the decades alone where these would be many.
function marks(low, high) {
  const found = [];
  for (let decade = Math.floor(Math.log10(low)); decade <= Math.ceil(Math.log10(high)); decade++)
    for (const step of [1, 2, 5]) found.push({ value: step * 10 ** decade, step });
  const inside = found.filter(({ value }) => value >= low && value <= high);
  return (inside.length > 7 ? inside.filter(({ step }) => step === 1) : inside).map(({ value }) => value);
}

// From which recall an axis begins, and the recalls that it marks.
function recallAxis(least) {
  const floor = Math.min(0.9, Math.max(0, Math.floor(least * 10) / 10)), span = 1 - floor;
  const step = span < 0.15 ? 0.02 : span < 0.25 ? 0.05 : span < 0.65 ? 0.1 : 0.2, levels = [];
  for (let level = 1; level > floor - 1e-9; level -= step) levels.push(level);
  return { floor, levels };
}

// Recall, linear, against a cost, logarithmic. series: [{name, style, line, points: [{x, y, low, high, words}]}].
function RecallPlot({ title, unit, series }) {
  const points = series.flatMap((one) => one.points).filter((point) => point.x > 0);
  if (!points.length) return "";
  const xs = points.map((point) => point.x), low = Math.min(...xs) / 1.15, high = Math.max(...xs) * 1.15;
  const { floor, levels } = recallAxis(Math.min(...points.map((point) => point.low ?? point.y)));
  const x = (value) => LEFT + (Math.log(value / low) / Math.log(high / low)) * (WIDTH - LEFT - RIGHT);
  const y = (value) => TOP + ((1 - value) / (1 - floor)) * (HEIGHT - TOP - BOTTOM);
  return html`<figure><figcaption>${title}</figcaption><svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label=${title}>
    ${levels.map((level) => html`<g key=${level}><line class="grid" x1=${LEFT} x2=${WIDTH - RIGHT} y1=${y(level)} y2=${y(level)} />
      <text x=${LEFT - 5} y=${y(level) + 4} text-anchor="end">${level.toFixed(2)}</text></g>`)}
    ${marks(low, high).map((value) => html`<g key=${value}><line class="grid" x1=${x(value)} x2=${x(value)} y1=${TOP} y2=${HEIGHT - BOTTOM} />
      <text x=${x(value)} y=${HEIGHT - BOTTOM + 15} text-anchor="middle">${short(value)}</text></g>`)}
    <text x=${(LEFT + WIDTH - RIGHT) / 2} y=${HEIGHT - 6} text-anchor="middle">${unit}</text>
    ${series.map((one) => html`<g key=${one.name} class="series s${one.style % COLOURS}">
      ${one.line && html`<polyline points=${one.points.map((point) => `${x(point.x)},${y(point.y)}`).join(" ")} />`}
      ${one.points.filter((point) => point.x > 0).map((point) => html`<g class="point">
        ${point.low !== undefined && html`<line x1=${x(point.x)} x2=${x(point.x)} y1=${y(point.low)} y2=${y(point.high)} />`}
        <path d=${MARKERS[one.style % COLOURS]} transform="translate(${x(point.x)} ${y(point.y)})"><title>${point.words}</title></path></g>`)}</g>`)}
  </svg></figure>`;
}

// The three plots of a tier report, with one legend.
export function TierPlots({ report }) {
  const dims = [...new Set(report.tiers.filter((tier) => tier.kind !== "store").map((tier) => tier.dim))].sort((a, b) => a - b);
  const named = [...dims.map((dim, style) => ({ name: `${dim} dims`, style, tiers: report.tiers.filter((tier) => tier.kind !== "store" && tier.dim === dim) })),
    { name: "the store as it is", style: dims.length, tiers: report.tiers.filter((tier) => tier.kind === "store") }];
  const against = (cost) => named.map(({ name, style, tiers }) => ({ name, style, points: tiers.map((tier) => ({
    x: tier[cost], y: tier.recall, low: tier.low, high: tier.high, words: `${tier.name}: recall ${tier.recall.toFixed(4)}, ${short(tier[cost])}` })) }));
  const curves = Object.entries(report.curves).map(([dim, curve]) => ({ name: `${dim} dims`, style: Math.max(0, dims.indexOf(Number(dim))), line: true,
    points: curve.map(([shortlist, recall]) => ({ x: shortlist, y: recall, words: `${dim} dims, shortlist ${shortlist}: recall ${recall.toFixed(4)}` })) }));
  return html`<div class="plots"><${RecallPlot} title="Recall against latency" unit="p50 of a query, ms" series=${against("p50_ms")} />
      <${RecallPlot} title="Recall against memory" unit="bytes of a row in memory" series=${against("memory_bytes_per_row")} />
      <${RecallPlot} title="Recall against the shortlist" unit="rows re-ranked" series=${curves} /></div>
    <p class="legend">${named.map(({ name, style }) => html`<span key=${name} class="series s${style % COLOURS}"><svg viewBox="-6 -6 12 12" aria-hidden="true">
      <path d=${MARKERS[style % COLOURS]} /></svg> <span>${name}</span></span>`)}</p><p class="faint">Upright lines are 95% intervals.</p>`;
}

// What the audit measured: one line for each k, recall with its interval.
export function AuditPlot({ audit }) {
  const { floor, levels } = recallAxis(Math.min(...audit.map((one) => one.low)));
  const left = 80, right = 18, step = 34, bottom = TOP + audit.length * step;
  const x = (value) => left + ((value - floor) / (1 - floor)) * (WIDTH - left - right);
  return html`<div class="plots"><figure><figcaption>Recall of audited queries, with 95% intervals</figcaption>
    <svg viewBox="0 0 ${WIDTH} ${bottom + 22}" role="img" aria-label="Recall of audited queries">
    ${levels.map((level) => html`<g key=${level}><line class="grid" x1=${x(level)} x2=${x(level)} y1=${TOP} y2=${bottom} />
      <text x=${x(level)} y=${bottom + 15} text-anchor="middle">${level.toFixed(2)}</text></g>`)}
    ${audit.map((one, n) => { const y = TOP + (n + 0.5) * step; return html`<g key=${one.k} class="series s0"><g class="point">
      <text x=${left - 8} y=${y + 4} text-anchor="end">recall@${one.k}</text>
      <line x1=${x(one.low)} x2=${x(one.high)} y1=${y} y2=${y} /><path d=${MARKERS[0]} transform="translate(${x(one.recall)} ${y})">
        <title>${`recall@${one.k}: ${one.recall.toFixed(4)} (${one.low.toFixed(4)} to ${one.high.toFixed(4)})`}</title></path></g></g>`; })}
    </svg></figure></div>
    <ul class="plain">${audit.map((one) => html`<li key=${one.k}>recall@${one.k} ${one.recall.toFixed(4)} (${one.low.toFixed(4)} to ${one.high.toFixed(4)}) over ${count(one.queries)} queries</li>`)}</ul>`;
}

// Microseconds of each stage of a query as parts of one bar, and in words.
export function Stages({ microseconds }) {
  const stages = Object.entries(microseconds), total = stages.reduce((sum, [, spent]) => sum + spent, 0) || 1;
  let start = 0;
  const parts = stages.map(([stage, spent], style) => {
    const part = { stage, spent, style: style % COLOURS, from: start };
    start += (spent / total) * 100;
    return part;
  });
  return html`<svg class="stages" viewBox="0 0 100 4" preserveAspectRatio="none" role="img" aria-label="Time by stage">
      ${parts.map(({ stage, spent, style, from }) => html`<g key=${stage} class="series s${style}"><rect x=${from} y="0" width=${(spent / total) * 100} height="4"><title>${`${stage}: ${Math.round(spent)} us`}</title></rect></g>`)}</svg>
    <p class="legend">${parts.map(({ stage, spent, style }) => html`<span key=${stage} class="series s${style}"><svg viewBox="-6 -6 12 12" aria-hidden="true"><path d=${MARKERS[1]} /></svg>
      <span>${stage} ${Math.round(spent)} us</span></span>`)}</p>`;
}
