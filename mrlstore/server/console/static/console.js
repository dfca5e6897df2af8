// The console: signing in, the list of indexes, and the pages of one index.
import { html, render, useEffect, useRef, useState } from "/console/htm-preact.js";
import { at, call, key, raw } from "/console/server.js";
import { Care } from "/console/care.js";
import { Map2d } from "/console/map.js";
import { Cut, Failure, bytes, count, parsed } from "/console/parts.js";
import { NewRow, Row } from "/console/row.js";
import { Search } from "/console/search.js";

function SignIn({ done }) {
  const [error, setError] = useState(""), field = useRef();
  useEffect(() => field.current.focus(), []);
  const submit = async (event) => {
    event.preventDefault();
    key.set(event.target.elements.key.value.trim());
    try { done(await call("GET", "/me")); } catch (failed) { key.set(""); setError(failed.message); }
  };
  return html`<form onSubmit=${submit}><label class="wide">Key<input ref=${field} name="key" type="password" autocomplete="off" required /></label>
    <button class="main">Sign in</button></form><${Failure} error=${error} />`;
}

function Indexes({ open }) {
  const [rows, setRows] = useState(null), [error, setError] = useState("");
  useEffect(() => { call("GET", "/indexes").then((found) => setRows(found.indexes), (failed) => setError(failed.message)); }, []);
  useEffect(() => { document.querySelector("tbody button")?.focus(); }, [rows]);
  if (!rows) return error ? html`<${Failure} error=${error} />` : html`<p>Loading...</p>`;
  if (!rows.length) return html`<p>There are no indexes yet.</p>`;
  return html`<div class="scroll"><table><thead><tr><th>Index</th><th class="number">Rows</th><th class="number">Dims</th>
    <th class="number">Prefix</th><th class="number">Segments</th><th class="number">Bytes</th><th>Health</th></tr></thead>
    <tbody>${rows.map((row) => html`<tr key=${row.name}><td><button class="link" onClick=${() => open(row.name)}>${row.name}</button></td>
      <td class="number">${row.rows === undefined ? "" : count(row.rows)}</td><td class="number">${row.dim}</td><td class="number">${row.prefix_dim}</td>
      <td class="number">${row.segments}</td><td class="number">${row.bytes_on_disk === undefined ? "" : bytes(row.bytes_on_disk)}</td>
      <td>${row.error ? html`<span class="error">${row.error}</span>` : row.damaged_parts ? html`<span class="error">${row.damaged_parts} damaged parts</span>` : "whole"}</td></tr>`)}</tbody></table></div>`;
}

function Rows({ index, space, open, version, may, make }) {
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
      <button class="main">Show</button>${may && html`<button type="button" onClick=${make}>New row</button>`}</form><${Failure} error=${error} />
    ${page && html`<div class="scroll"><table><thead><tr><th>Id</th><th>Metadata</th><th>Document</th></tr></thead>
      <tbody>${page.records.map((row) => html`<tr key=${row.id}><td><button class="link" onClick=${() => open(row)}>${row.id}</button></td>
        <td><${Cut} value=${row.metadata} /></td><td><${Cut} value=${row.document} /></td></tr>`)}</tbody></table></div>
      <div class="bar"><button disabled=${!before.length} onClick=${() => load(before.slice(0, -1))}>Before</button>
      <button disabled=${!page.next} onClick=${() => load([...before, page.next])}>Next</button>
      <span class="faint">${page.records.length} rows</span></div>`}`;
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

const focusTab = () => { document.querySelector("[role=tab][aria-selected=true]")?.focus(); };

function Index({ index, me, leave }) {
  const [name, setName] = useState("Rows"), [spaces, setSpaces] = useState([""]), [space, setSpace] = useState(me.namespaces?.[0] ?? "");
  const [row, setRow] = useState(null), [making, setMaking] = useState(false), [version, setVersion] = useState(0), [facts, setFacts] = useState(null);
  const changed = () => setVersion(version + 1);
  useEffect(() => { call("GET", at(index)).then(setFacts, () => {}); }, [index, version]);
  useEffect(() => { call("POST", at(index, "namespaces")).then((found) => {
    const known = Object.keys(found.namespaces);
    setSpaces(known.length ? known : [""]);
    if (known.length && !known.includes(space)) setSpace(known[0]);
  }, () => {}); }, [index, version]);
  useEffect(focusTab, []);
  const Page = PAGES[name], may = me.role !== "read" && !me.read_only;
  const turn = (event) => {
    const all = Object.keys(PAGES), step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    setName(all[(all.indexOf(name) + step + all.length) % all.length]);
    queueMicrotask(() => requestAnimationFrame(focusTab));
  };
  return html`<div class="bar"><button onClick=${leave}>All indexes</button><b>${index}</b>
      <label>Namespace<select name="namespace" value=${space} onChange=${(event) => setSpace(event.target.value)}>
        ${spaces.map((each) => html`<option key=${each} value=${each}>${each || "(default)"}</option>`)}</select></label></div>
    <nav role="tablist" onKeyDown=${turn}>${Object.keys(PAGES).map((each) => html`<button role="tab" key=${each} aria-selected=${each === name ? "true" : "false"} tabindex=${each === name ? 0 : -1} onClick=${() => setName(each)}>${each}</button>`)}</nav>
    <${Page} index=${index} space=${space} me=${me} open=${setRow} version=${version} facts=${facts} may=${may} make=${() => setMaking(true)} />
    ${row && html`<${Row} key=${row.id} index=${index} row=${row} may=${may} close=${() => setRow(null)} changed=${changed} />`}
    ${making && html`<${NewRow} index=${index} space=${space} close=${() => setMaking(false)} changed=${changed} />`}`;
}

function App() {
  const [me, setMe] = useState(undefined), [index, setIndex] = useState(null), [error, setError] = useState("");
  useEffect(() => { call("GET", "/me").then(setMe, (failed) => { setMe(null); if (failed.status !== 401) setError(failed.message); }); }, []);
  const leave = () => { key.set(""); setIndex(null); setMe(null); };
  return html`<header><h1>mrlstore</h1>${me && html`<span class="faint">${me.version}, ${me.role}${me.read_only ? ", read only" : ""}</span>
      ${me.needs_key && html`<button onClick=${leave}>Sign out</button>`}`}</header><${Failure} error=${error} />
    ${me === undefined ? "" : !me ? html`<${SignIn} done=${setMe} />` : index === null ? html`<${Indexes} open=${setIndex} />`
      : html`<${Index} key=${index} index=${index} me=${me} leave=${() => setIndex(null)} />`}`;
}

document.getElementById("app").textContent = "";
render(html`<${App} />`, document.getElementById("app"));
