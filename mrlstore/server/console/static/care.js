// Upkeep of an index: jobs with their progress, a tier report, the audit, backups.
import { html, useEffect, useState } from "/console/htm-preact.js";
import { at, call, follow } from "/console/server.js";
import { Dialog, Failure, bytes, count } from "/console/parts.js";
import { AuditPlot, TierPlots } from "/console/plots.js";

function Tiers({ report }) {
  return html`<h2>Tiers, recall@${report.k}</h2><${TierPlots} report=${report} />
    <div class="scroll"><table><thead><tr><th></th><th>Tier</th><th class="number">Recall</th><th class="number">Time</th><th class="number">Memory</th></tr></thead>
    <tbody>${report.summary.map((row) => html`<tr key=${row.tier}><td>${row.what}</td><td class="name">${row.tier}</td><td class="number">${row.recall.toFixed(3)}</td>
      <td class="number">${row.time.toFixed(2)}</td><td class="number">${row.memory.toFixed(2)}</td></tr>`)}</tbody></table></div>
    <p class="faint">Time of a query and memory of a row, as multiples of the store as it is.</p><p>${report.recommendation}</p>${report.warnings.map((words) => html`<p class="faint">${words}</p>`)}
    <div class="scroll"><table><thead><tr><th>Tier</th><th class="number">Recall</th><th class="number">95% interval</th><th class="number">p50 ms</th><th class="number">Queries/s</th><th class="number">Bytes/row in memory</th></tr></thead>
    <tbody>${report.tiers.map((tier) => html`<tr key=${tier.name}><td class="name">${tier.name}</td><td class="number">${tier.recall.toFixed(4)}</td>
      <td class="number">${tier.low.toFixed(3)} to ${tier.high.toFixed(3)}</td><td class="number">${tier.p50_ms.toFixed(3)}</td>
      <td class="number">${count(Math.round(tier.qps_one))}</td><td class="number">${count(Math.round(tier.memory_bytes_per_row))}</td></tr>`)}</tbody></table></div>`;
}

function Audit({ index, audit, may, load }) {
  const [error, setError] = useState("");
  const submit = async (event) => {
    event.preventDefault();
    try {
      await call("POST", at(index, "audit"), { rate: Number(event.target.elements.rate.value) });
      setError("");
      load();
    } catch (failed) { setError(failed.message); }
  };
  return html`<h2>Recall audit</h2>${audit.length ? html`<${AuditPlot} audit=${audit} />` : html`<p class="faint">No query has been checked in the process that answered.</p>`}
    <form onSubmit=${submit}><label>Share of queries to check<input name="rate" type="number" min="0" max="1" step="any" value="0.01" disabled=${!may} /></label>
      <button disabled=${!may}>Set the audit</button><button type="button" onClick=${load}>Look again</button></form><${Failure} error=${error} />`;
}

function Restore({ index, backup, close, start }) {
  const submit = (event) => { event.preventDefault(); start(event.target.elements.target.value.trim()); close(); };
  return html`<${Dialog} name="Restore" close=${close}><h2>Restore ${backup}</h2><p class="faint">It becomes a new index; ${index} stays as it is.</p>
    <form class="fields" onSubmit=${submit}><label>Name of the new index<input name="target" required autocomplete="off" value=${`${index}-${backup}`} /></label>
      <div class="bar"><button class="main">Restore</button><button type="button" onClick=${close}>Close</button></div></form><//>`;
}

function Backups({ index, backups, made, may, start, restore, remove }) {
  const [asked, setAsked] = useState(null), [doomed, setDoomed] = useState(null); // names of backups
  const submit = (event) => { event.preventDefault(); start(event.target.elements.backup.value.trim()); };
  return html`<h2>Backups</h2><form onSubmit=${submit}><label>Name<input name="backup" placeholder="the time of now" disabled=${!may} /></label>
      <button disabled=${!may}>Back up</button></form>
    ${backups.length ? html`<div class="scroll"><table aria-label="Backups"><thead><tr><th>Backup</th><th>Made</th><th class="number">Rows</th><th class="number">Bytes</th>${may && html`<th></th>`}</tr></thead>
      <tbody>${backups.map((one) => html`<tr key=${one.name} class=${one.name === made ? "new" : ""}><td>${one.name}</td>${one.error ? html`<td class="error" colspan="3">${one.error}</td>`
        : html`<td>${one.made.replace("T", " ").replace("+00:00", " UTC")}</td><td class="number">${count(one.rows)}</td><td class="number">${bytes(one.bytes_on_disk)}</td>`}
        ${may && html`<td class="number">${!one.error && html`<button aria-label=${`Restore ${one.name}`} onClick=${() => setAsked(one.name)}>Restore</button> `}
          ${doomed === one.name ? html`<button class="error" onClick=${() => { setDoomed(null); remove(one.name); }}>Really delete ${one.name}</button>`
            : html`<button aria-label=${`Delete ${one.name}`} onClick=${() => setDoomed(one.name)}>Delete</button>`}</td>`}</tr>`)}</tbody></table></div>` : html`<p class="faint">None.</p>`}
    ${asked && html`<${Restore} key=${asked} index=${index} backup=${asked} close=${() => setAsked(null)} start=${(target) => restore(asked, target)} />`}`;
}

export function Care({ index, space, me }) {
  const [stats, setStats] = useState(null), [backups, setBackups] = useState([]), [running, setRunning] = useState(null);
  const [outcome, setOutcome] = useState(""), [tiers, setTiers] = useState(null), [made, setMade] = useState(""), [error, setError] = useState("");
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
      else if (place === "backups") { setMade(result.name); setOutcome(`${name}: done. ${result.name} has ${count(result.rows)} rows, ${bytes(result.bytes_on_disk)}.`); }
      else setOutcome(`${name}: done. ${result ? JSON.stringify(result, null, 2) : ""}`);
    } catch (failed) { setError(`${name}: ${failed.message}`); }
    setRunning(null);
    load();
  };
  const backup = (name) => `backups/${encodeURIComponent(name)}`;
  const remove = async (name) => {
    setError("");
    try { await call("DELETE", at(index, backup(name))); setOutcome(`${name}: deleted.`); } catch (failed) { setError(failed.message); }
    load();
  };
  const level = me.read_only ? 0 : ["read", "write", "admin"].indexOf(me.role);
  const figures = stats && Object.entries(stats).filter(([name, value]) => typeof value !== "object" && name !== "path");
  return html`<div class="bar">
      <button disabled=${level < 1 || running} onClick=${() => run("optimize", "optimize", {})}>Optimize</button>
      <button disabled=${level < 2 || running} onClick=${() => run("verify", "verify", {})}>Verify</button>
      <button disabled=${level < 1 || running} onClick=${() => run("calibrate", "calibrate", {})}>Calibrate</button>
      <button disabled=${running} onClick=${() => run("tier report", "tier_report", { namespace: space, count: 100 })}>Tier report</button></div>
    ${running && html`<p role="status">${running.name}: ${running.phase ?? "working"} ${running.total ? `${count(running.done)} of ${count(running.total)}` : ""}</p>
      <progress aria-label=${running.name} max=${running.total || undefined} value=${running.total ? running.done : undefined}></progress>`}
    <${Failure} error=${error} />${outcome && html`<pre role="status">${outcome}</pre>`}
    ${tiers && html`<${Tiers} report=${tiers} />`}
    <${Backups} index=${index} backups=${backups} made=${made} may=${level >= 2 && !running} start=${(name) => run("backup", "backups", name ? { name } : {})}
      restore=${(name, target) => run("restore", `${backup(name)}/restore`, { index: target })} remove=${remove} />
    ${stats && html`<${Audit} index=${index} audit=${stats.audit} may=${level >= 2} load=${load} />
      <h2>Statistics</h2><div class="scroll"><table><tbody>${figures.map(([name, value]) => html`<tr key=${name}><th>${name.replaceAll("_", " ")}</th>
      <td>${name.startsWith("bytes") ? bytes(value) : typeof value === "number" ? count(value) : String(value ?? "")}</td></tr>`)}</tbody></table></div>`}`;
}
