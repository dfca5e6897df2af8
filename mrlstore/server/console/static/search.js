// Searches: the hits beside what the prefix alone gives, the margin, and the time of each stage.
import { html, useState } from "/console/htm-preact.js";
import { at, call } from "/console/server.js";
import { Cut, Failure, count, parsed } from "/console/parts.js";
import { Stages } from "/console/plots.js";

const score = (value) => (value == null ? "" : value.toFixed(4));
const places = (hits) => new Map(hits.map((hit, n) => [hit.id, n + 1]));

function Summary({ explanation, hits, alone }) {
  const { margin, visited, reranked, warnings, microseconds } = explanation;
  const among = alone && places(alone), gained = alone && hits.filter((hit) => !among.has(hit.id)).length;
  return html`<p>Margin ${margin == null ? "unknown" : margin.toFixed(4)}; ${count(visited)} codes looked at, ${count(reranked)} rows re-ranked.
      ${alone && html` <b>Missing in the prefix's own list: ${gained} of ${hits.length} hits.</b>`}</p>
    ${warnings.map((words) => html`<p class="faint" key=${words}>${words}</p>`)}
    <${Stages} microseconds=${microseconds} />`;
}

function Hits({ title, first, hits, open, other, otherName }) {
  return html`<section aria-label=${title}><h2>${title}</h2>
    <div class="scroll"><table><thead><tr><th class="number">Rank</th>${otherName && html`<th class="number">${otherName}</th>`}<th>Id</th>
      <th class="number">${first}</th><th>Row</th></tr></thead>
    <tbody>${hits.map((hit, n) => {
      const place = other(hit);
      return html`<tr key=${hit.id} class=${otherName && place === "none" ? "alone" : ""}><td class="number">${n + 1}</td>${otherName && html`<td class="number">${place}</td>`}
        <td><button class="link" onClick=${() => open(hit)}>${hit.id}</button></td><td class="number">${score(hit.score)}</td>
        <td><${Cut} value=${hit.document || hit.metadata} /></td></tr>`;
    })}</tbody></table></div></section>`;
}

function Answer({ hits, explanation, alone, open }) {
  if (!explanation) return html`<${Hits} title="Hits" first="Score" hits=${hits} open=${open} other=${() => ""} />`;
  const ranks = new Map(explanation.hits.map((hit) => [hit.id, hit])), answered = places(hits);
  return html`<${Summary} explanation=${explanation} hits=${hits} alone=${alone} />
    <div class="beside"><${Hits} title="After the re-rank" first="Score" otherName="By prefix" hits=${hits} open=${open} other=${(hit) => ranks.get(hit.id)?.prefix_rank ?? ""} />
      ${alone && html`<${Hits} title="By the prefix alone" first="Prefix score" otherName="In the answer" hits=${alone} open=${open} other=${(hit) => answered.get(hit.id) ?? "none"} />`}</div>`;
}

export function Search({ index, space, open, facts }) {
  const [kind, setKind] = useState("keywords"), [beside, setBeside] = useState(true);
  const [answer, setAnswer] = useState(null), [error, setError] = useState("");
  const prefix = facts?.prefix_dim < facts?.dim ? facts.prefix_dim : null;
  const submit = async (event) => {
    event.preventDefault();
    const { what, where, k } = event.target.elements;
    try {
      const source = kind === "vector" ? parsed(what.value, "vector") : what.value;
      const body = { [kind]: source, k: Number(k.value), namespace: space, where: parsed(where.value, "filter"), include: ["metadata", "document"] };
      const place = at(index, "query"), vectors = kind !== "keywords";
      const [found, alone] = await Promise.all([
        call("POST", place, { ...body, explain: vectors }),
        vectors && beside && prefix ? call("POST", place, { ...body, dim: prefix }) : null,
      ]);
      setAnswer({ hits: found.hits, explanation: found.plan.explanation, alone: alone?.hits });
      setError("");
    } catch (failed) { setAnswer(null); setError(failed.message); }
  };
  return html`<form onSubmit=${submit}>
      <label>By<select name="kind" value=${kind} onChange=${(event) => setKind(event.target.value)}>
        <option value="keywords">keywords</option><option value="id">row id</option><option value="text">text</option><option value="vector">vector</option></select></label>
      <label class="wide">${kind}<input name="what" required /></label>
      <label class="wide">Filter<input name="where" /></label>
      <label>k<input name="k" type="number" min="1" max="1000" value="10" /></label>
      ${prefix && html`<label class="check"><input name="beside" type="checkbox" checked=${beside} onChange=${(event) => setBeside(event.target.checked)} />
        beside the first ${prefix} dims alone (a scan of all rows)</label>`}
      <button class="main">Search</button></form><${Failure} error=${error} />
    ${answer && html`<${Answer} ...${answer} open=${open} />`}`;
}
