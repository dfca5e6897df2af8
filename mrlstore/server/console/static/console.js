// The console: signing in, the list of indexes, and the pages of one index.
import { html, render, useEffect, useState } from "/console/htm-preact.js";
import { at, call, follow, key, raw } from "/console/server.js";
import { Map2d } from "/console/map.js";

const count = (value) => (value ?? 0).toLocaleString("en");
const bytes = (value) => {
  const units = ["B", "KB", "MB", "GB", "TB"];
  let n = 0;
  for (; value >= 1000 && n < 4; n++) value /= 1000;
  return `${n ? value.toFixed(1) : value} ${units[n]}`;
};
const said = (error) => error && html`<p class="error" role="alert">${error}</p>`;
const parsed = (text, what) => {
  if (!text.trim()) return undefined;
  try { return JSON.parse(text); } catch (failed) { throw new Error(`${what}: not JSON (${failed.message})`); }
};
const Cut = ({ value }) => html`<div class="cut">${typeof value === "string" ? value : value == null ? "" : JSON.stringify(value)}</div>`;

function SignIn({ done }) {
  const [error, setError] = useState("");
  const submit = async (event) => {
    event.preventDefault();
    key.set(event.target.elements.key.value.trim());
    try { done(await call("GET", "/me")); } catch (failed) { key.set(""); setError(failed.message); }
  };
  return html`<form onSubmit=${submit}><label class="wide">Key<input name="key" type="password" autocomplete="off" autofocus required /></label>
    <button class="main">Sign in</button></form>${said(error)}`;
}

function Indexes({ open }) {
  const [rows, setRows] = useState(null), [error, setError] = useState("");
  useEffect(() => { call("GET", "/indexes").then((found) => setRows(found.indexes), (failed) => setError(failed.message)); }, []);
  if (!rows) return said(error) || html`<p>Loading...</p>`;
  if (!rows.length) return html`<p>There are no indexes yet.</p>`;
  return html`<div class="scroll"><table><thead><tr><th>Index</th><th class="number">Rows</th><th class="number">Dims</th>
    <th class="number">Prefix</th><th class="number">Segments</th><th class="number">Bytes</th><th>Health</th></tr></thead>
    <tbody>${rows.map((row) => html`<tr key=${row.name}><td><button class="link" onClick=${() => open(row.name)}>${row.name}</button></td>
      <td class="number">${row.rows === undefined ? "" : count(row.rows)}</td><td class="number">${row.dim}</td><td class="number">${row.prefix_dim}</td>
      <td class="number">${row.segments}</td><td class="number">${row.bytes_on_disk === undefined ? "" : bytes(row.bytes_on_disk)}</td>
      <td>${row.error ? html`<span class="error">${row.error}</span>` : row.damaged_parts ? html`<span class="error">${row.damaged_parts} damaged parts</span>` : "whole"}</td></tr>`)}</tbody></table></div>`;
}

function Row({ index, row, may, close, changed }) {
  const [full, setFull] = useState(null), [text, setText] = useState(""), [error, setError] = useState(""), [sure, setSure] = useState(false);
  useEffect(() => {
    call("POST", at(index, "get"), { ids: [row.id], namespace: row.namespace }).then(({ records }) => {
      if (!records.length) return setError("the row has been removed");
      setFull(records[0]);
      setText(JSON.stringify(records[0].metadata ?? {}, null, 2));
    }, (failed) => setError(failed.message));
  }, []);
  const doing = async (work) => { try { await work(); changed(); close(); } catch (failed) { setError(failed.message); } };
  const save = () => doing(async () => {
    const wanted = parsed(text, "metadata") ?? {};
    const gone = Object.keys(full.metadata ?? {}).filter((name) => !(name in wanted)).map((name) => [name, null]);
    await call("POST", at(index, "update"), { ids: [row.id], namespace: row.namespace, metadatas: [{ ...wanted, ...Object.fromEntries(gone) }] });
  });
  const remove = () => doing(() => call("POST", at(index, "delete"), { ids: [row.id], namespace: row.namespace }));
  return html`<dialog ref=${(box) => { if (box && !box.open) box.showModal(); }} onClose=${close} aria-label="Row">
    <h2>${row.id}</h2><p class="faint">${row.namespace ? `namespace ${row.namespace}` : "the default namespace"}</p>
    ${full && html`${full.document && html`<pre>${full.document}</pre>`}
      <label>Metadata<textarea name="metadata" value=${text} onInput=${(event) => setText(event.target.value)} readonly=${!may}></textarea></label>`}
    ${said(error)}
    <div class="bar">${may && full && html`<button class="main" onClick=${save}>Save</button>
      ${sure ? html`<button class="error" onClick=${remove}>Really delete this row</button>` : html`<button onClick=${() => setSure(true)}>Delete</button>`}`}
      <button onClick=${close}>Close</button></div></dialog>`;
}

function Rows({ index, space, open, version }) {
  const [page, setPage] = useState(null), [where, setWhere] = useState(""), [before, setBefore] = useState([]), [error, setError] = useState("");
  const load = async (cursors) => {
    try {
      const body = { namespace: space, limit: 50, where: parsed(where, "filter"), after: cursors.at(-1) };
      setPage(await call("POST", at(index, "scan"), body));
      setBefore(cursors);
      setError("");
    } catch (failed) { setError(failed.message); }
  };
  useEffect(() => { load([]); }, [index, space]);
  useEffect(() => { if (version) load(before); }, [version]);
  return html`<form onSubmit=${(event) => { event.preventDefault(); load([]); }}>
      <label class="wide">Filter<input name="where" placeholder='{"year": {"$gte": 2020}}' value=${where} onInput=${(event) => setWhere(event.target.value)} /></label>
      <button class="main">Show</button></form>${said(error)}
    ${page && html`<div class="scroll"><table><thead><tr><th>Id</th><th>Metadata</th><th>Document</th></tr></thead>
      <tbody>${page.records.map((row) => html`<tr key=${row.id}><td><button class="link" onClick=${() => open(row)}>${row.id}</button></td>
        <td><${Cut} value=${row.metadata} /></td><td><${Cut} value=${row.document} /></td></tr>`)}</tbody></table></div>
      <div class="bar"><button disabled=${!before.length} onClick=${() => load(before.slice(0, -1))}>Before</button>
      <button disabled=${!page.next} onClick=${() => load([...before, page.next])}>Next</button>
      <span class="faint">${page.records.length} rows</span></div>`}`;
}

function Search({ index, space, open }) {
  const [kind, setKind] = useState("keywords"), [result, setResult] = useState(null), [error, setError] = useState("");
  const submit = async (event) => {
    event.preventDefault();
    const { what, where, k } = event.target.elements;
    try {
      const asked = kind === "vector" ? parsed(what.value, "vector") : what.value;
      const body = { [kind]: asked, k: Number(k.value), namespace: space, where: parsed(where.value, "filter"), explain: kind !== "keywords", include: ["metadata", "document"] };
      setResult(await call("POST", at(index, "query"), body));
      setError("");
    } catch (failed) { setResult(null); setError(failed.message); }
  };
  const told = result?.plan.explanation, ranks = new Map((told?.hits ?? []).map((hit) => [hit.id, hit]));
  return html`<form onSubmit=${submit}>
      <label>By<select name="kind" value=${kind} onChange=${(event) => setKind(event.target.value)}>
        <option value="keywords">keywords</option><option value="id">row id</option><option value="text">text</option><option value="vector">vector</option></select></label>
      <label class="wide">${kind}<input name="what" required /></label>
      <label class="wide">Filter<input name="where" /></label>
      <label>k<input name="k" type="number" min="1" max="1000" value="10" /></label>
      <button class="main">Search</button></form>${said(error)}
    ${result && html`${told && html`<p>Margin ${told.margin == null ? "unknown" : told.margin.toFixed(4)}; ${told.from_beyond_k} hits came by the re-rank;
        ${" "}${count(told.visited)} codes looked at, ${count(told.reranked)} rows re-ranked.
        ${" "}<span class="faint">${Object.entries(told.microseconds).map(([stage, spent]) => `${stage} ${Math.round(spent)} us`).join(", ")}</span></p>`}
      <div class="scroll"><table><thead><tr><th class="number">Rank</th><th class="number">By prefix</th><th>Id</th><th class="number">Score</th><th class="number">Prefix score</th><th>Metadata</th><th>Document</th></tr></thead>
      <tbody>${result.hits.map((hit, n) => html`<tr key=${hit.id}><td class="number">${n + 1}</td><td class="number">${ranks.get(hit.id)?.prefix_rank ?? ""}</td>
        <td><button class="link" onClick=${() => open({ ...hit })}>${hit.id}</button></td><td class="number">${hit.score.toFixed(4)}</td>
        <td class="number">${ranks.get(hit.id)?.prefix_score.toFixed(4) ?? ""}</td><td><${Cut} value=${hit.metadata} /></td><td><${Cut} value=${hit.document} /></td></tr>`)}</tbody></table></div>`}`;
}

function Tiers({ report }) {
  return html`<h2>Tiers, recall@${report.k}</h2>
    <div class="scroll"><table><thead><tr><th></th><th>Tier</th><th class="number">Recall</th><th class="number">Time</th><th class="number">Memory</th></tr></thead>
    <tbody>${report.summary.map((row) => html`<tr key=${row.tier}><td>${row.what}</td><td>${row.tier}</td><td class="number">${row.recall.toFixed(3)}</td>
      <td class="number">${row.time.toFixed(2)}</td><td class="number">${row.memory.toFixed(2)}</td></tr>`)}</tbody></table></div>
    <p class="faint">Time of a query and memory of a row, as multiples of the store as it is.</p><p>${report.recommendation}</p>${report.warnings.map((words) => html`<p class="faint">${words}</p>`)}
    <div class="scroll"><table><thead><tr><th>Tier</th><th>Recall</th><th class="number">95% interval</th><th class="number">p50 ms</th><th class="number">Queries/s</th><th class="number">Bytes/row in memory</th></tr></thead>
    <tbody>${report.tiers.map((tier) => html`<tr key=${tier.name}><td>${tier.name}</td><td><meter min="0" max="1" value=${tier.recall}></meter> ${tier.recall.toFixed(4)}</td>
      <td class="number">${tier.low.toFixed(3)} to ${tier.high.toFixed(3)}</td><td class="number">${tier.p50_ms.toFixed(3)}</td>
      <td class="number">${count(Math.round(tier.qps_one))}</td><td class="number">${count(Math.round(tier.memory_bytes_per_row))}</td></tr>`)}</tbody></table></div>`;
}

function Care({ index, space, me }) {
  const [stats, setStats] = useState(null), [backups, setBackups] = useState([]), [running, setRunning] = useState(null);
  const [outcome, setOutcome] = useState(""), [tiers, setTiers] = useState(null), [error, setError] = useState("");
  const load = async () => {
    try {
      setStats(await call("POST", at(index, "stats")));
      setBackups((await call("GET", at(index, "backups"))).backups);
    } catch (failed) { setError(failed.message); }
  };
  useEffect(() => { load(); }, [index]);
  const run = async (name, place, body) => {
    setError(""); setOutcome(""); setRunning({ name });
    try {
      const result = await follow(at(index, place), body, (progress) => setRunning({ name, ...progress }));
      if (place === "tier_report") { setTiers(result); setOutcome(`${name}: done.`); }
      else setOutcome(`${name}: done. ${result ? JSON.stringify(result, null, 2) : ""}`);
    } catch (failed) { setError(`${name}: ${failed.message}`); }
    setRunning(null);
    load();
  };
  const level = me.read_only ? 0 : ["read", "write", "admin"].indexOf(me.role);
  const figures = stats && Object.entries(stats).filter(([name, value]) => typeof value !== "object" && name !== "path");
  return html`<div class="bar">
      <button disabled=${level < 1 || running} onClick=${() => run("optimize", "optimize", {})}>Optimize</button>
      <button disabled=${level < 2 || running} onClick=${() => run("verify", "verify", {})}>Verify</button>
      <button disabled=${level < 2 || running} onClick=${() => run("backup", "backups", {})}>Back up</button>
      <button disabled=${level < 1 || running} onClick=${() => run("calibrate", "calibrate", {})}>Calibrate</button>
      <button disabled=${running} onClick=${() => run("tier report", "tier_report", { namespace: space, count: 100 })}>Tier report</button></div>
    ${running && html`<p role="status">${running.name}: ${running.phase ?? "working"} ${running.total ? `${count(running.done)} of ${count(running.total)}` : ""}</p>
      <progress max=${running.total || undefined} value=${running.total ? running.done : undefined}></progress>`}
    ${said(error)}${outcome && html`<pre role="status">${outcome}</pre>`}
    ${tiers && html`<${Tiers} report=${tiers} />`}
    ${stats && html`<div class="scroll"><table><tbody>${figures.map(([name, value]) => html`<tr key=${name}><th>${name.replaceAll("_", " ")}</th>
      <td>${name.startsWith("bytes") ? bytes(value) : typeof value === "number" ? count(value) : String(value ?? "")}</td></tr>`)}
      ${stats.audit.map((one) => html`<tr key=${one.k}><th>audited recall@${one.k}</th><td>${one.recall.toFixed(4)} (${one.low.toFixed(4)} to ${one.high.toFixed(4)}), ${count(one.queries)} queries</td></tr>`)}</tbody></table></div>`}
    <h2>Backups</h2>${backups.length ? html`<ul>${backups.map((one) => html`<li key=${one.name}>${one.name}: ${one.error ?? `${count(one.rows)} rows, ${bytes(one.bytes_on_disk)}`}</li>`)}</ul>` : html`<p class="faint">None.</p>`}`;
}

function Requests({ index }) {
  const [answer, setAnswer] = useState(null), [method, setMethod] = useState("POST");
  const submit = async (event) => {
    event.preventDefault();
    const { path, body } = event.target.elements;
    try { setAnswer(await raw(method, path.value, method === "GET" || !body.value ? undefined : body.value)); }
    catch (failed) { setAnswer({ status: failed.message, text: "" }); }
  };
  const shown = () => { try { return JSON.stringify(JSON.parse(answer.text), null, 2); } catch { return answer.text; } };
  return html`<form onSubmit=${submit}><label>Method<select name="method" value=${method} onChange=${(event) => setMethod(event.target.value)}>
        ${["POST", "GET", "DELETE"].map((each) => html`<option key=${each} value=${each}>${each}</option>`)}</select></label>
      <label class="wide">Path<input name="path" value=${`/v1${at(index, "count")}`} required /></label><button class="main">Send</button>
      <textarea name="body" aria-label="Body">{}</textarea></form>
    ${answer && html`<p role="status">${answer.status}</p><pre>${shown()}</pre>`}`;
}

const PAGES = { Rows, Search, Map: Map2d, Care, Requests };

function Index({ index, me, leave }) {
  const [name, setName] = useState("Rows"), [spaces, setSpaces] = useState([""]), [space, setSpace] = useState(me.namespaces?.[0] ?? "");
  const [row, setRow] = useState(null), [version, setVersion] = useState(0);
  useEffect(() => { call("POST", at(index, "namespaces")).then((found) => {
    const known = Object.keys(found.namespaces);
    setSpaces(known.length ? known : [""]);
    if (known.length && !known.includes(space)) setSpace(known[0]);
  }, () => {}); }, [index, version]);
  const Page = PAGES[name], may = me.role !== "read" && !me.read_only;
  const turn = (event) => {
    const all = Object.keys(PAGES), step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    setName(all[(all.indexOf(name) + step + all.length) % all.length]);
    queueMicrotask(() => requestAnimationFrame(() => document.querySelector("[role=tab][aria-selected=true]")?.focus()));
  };
  return html`<div class="bar"><button onClick=${leave}>All indexes</button><b>${index}</b>
      <label>Namespace<select name="namespace" value=${space} onChange=${(event) => setSpace(event.target.value)}>
        ${spaces.map((each) => html`<option key=${each} value=${each}>${each || "(default)"}</option>`)}</select></label></div>
    <nav role="tablist" onKeyDown=${turn}>${Object.keys(PAGES).map((each) => html`<button role="tab" key=${each} aria-selected=${each === name ? "true" : "false"} tabindex=${each === name ? 0 : -1} onClick=${() => setName(each)}>${each}</button>`)}</nav>
    <${Page} index=${index} space=${space} me=${me} open=${setRow} version=${version} />
    ${row && html`<${Row} key=${row.id} index=${index} row=${row} may=${may} close=${() => setRow(null)} changed=${() => setVersion(version + 1)} />`}`;
}

function App() {
  const [me, setMe] = useState(undefined), [index, setIndex] = useState(null), [error, setError] = useState("");
  useEffect(() => { call("GET", "/me").then(setMe, (failed) => { setMe(null); if (failed.status !== 401) setError(failed.message); }); }, []);
  const leave = () => { key.set(""); setIndex(null); setMe(null); };
  return html`<header><h1>mrlstore</h1>${me && html`<span class="faint">${me.version}, ${me.role}${me.read_only ? ", read only" : ""}</span>
      ${me.needs_key && html`<button onClick=${leave}>Sign out</button>`}`}</header>${said(error)}
    ${me === undefined ? "" : !me ? html`<${SignIn} done=${setMe} />` : index === null ? html`<${Indexes} open=${setIndex} />`
      : html`<${Index} key=${index} index=${index} me=${me} leave=${() => setIndex(null)} />`}`;
}

document.getElementById("app").textContent = "";
render(html`<${App} />`, document.getElementById("app"));
