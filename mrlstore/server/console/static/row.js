// A row in a dialog: shown, made, changed, deleted.
import { html, useEffect, useState } from "/console/htm-preact.js";
import { at, call } from "/console/server.js";
import { Dialog, Failure, parsed } from "/console/parts.js";

const SOURCES = { same: "as it is", numbers: "numbers", document: "the document, embedded by the server", none: "none" };

// The fields that a new row and a stored one have in common. values: {document, metadata, source, vector}.
function Fields({ values, change, sources, may }) {
  const field = (name) => ({ name, value: values[name], readonly: !may, onInput: (event) => change({ ...values, [name]: event.target.value }) });
  return html`<label>Document<textarea ...${field("document")}></textarea></label>
    <label>Metadata<textarea ...${field("metadata")}></textarea></label>
    ${may && html`<label>Vector from<select name="source" value=${values.source} onChange=${(event) => change({ ...values, source: event.target.value })}>
      ${sources.map((each) => html`<option key=${each} value=${each}>${SOURCES[each]}</option>`)}</select></label>`}
    ${values.source === "numbers" && html`<label>Vector<textarea ...${field("vector")} placeholder="[0.1, -0.2, ...]"></textarea></label>`}`;
}

// The arguments of `upsert` for one row; its vector is of numbers, of its document, or missing.
function written(id, space, values, conflict) {
  const row = { ids: [id], namespace: space, metadatas: [parsed(values.metadata, "metadata") ?? {}], on_conflict: conflict };
  if (values.document) row.documents = [values.document];
  if (values.source === "document") {
    if (!values.document.trim()) throw new Error("document: there is no text to embed");
    row.texts = [values.document];
  }
  if (values.source === "numbers") row.vectors = [numbers(values)];
  return row;
}

function numbers(values) {
  const vector = parsed(values.vector, "vector");
  if (!Array.isArray(vector)) throw new Error("vector: expected a list of numbers, such as [0.1, -0.2]");
  return vector;
}

export function NewRow({ index, space, close, changed }) {
  const [values, setValues] = useState({ document: "", metadata: "{}", source: "numbers", vector: "" }), [error, setError] = useState("");
  const submit = async (event) => {
    event.preventDefault();
    try {
      await call("POST", at(index, "upsert"), written(event.target.elements.id.value, space, values, "error"));
      changed();
      close();
    } catch (failed) { setError(failed.message); }
  };
  return html`<${Dialog} name="New row" close=${close}><h2>New row</h2><p class="faint">${space ? `namespace ${space}` : "the default namespace"}</p>
    <form class="fields" onSubmit=${submit}><label>Id<input name="id" required autocomplete="off" /></label>
      <${Fields} values=${values} change=${setValues} sources=${["numbers", "document", "none"]} may />
      <${Failure} error=${error} /><div class="bar"><button class="main">Create</button><button type="button" onClick=${close}>Close</button></div></form><//>`;
}

export function Row({ index, row, may, close, changed }) {
  const [stored, setStored] = useState(null), [values, setValues] = useState(null), [error, setError] = useState(""), [sure, setSure] = useState(false);
  useEffect(() => {
    call("POST", at(index, "get"), { ids: [row.id], namespace: row.namespace }).then(({ records }) => {
      if (!records.length) return setError("the row has been removed");
      const [{ document, metadata }] = records;
      setStored({ document: document ?? "", metadata: metadata ?? {} });
      setValues({ document: document ?? "", metadata: JSON.stringify(metadata ?? {}, null, 2), source: "same", vector: "" });
    }, (failed) => setError(failed.message));
  }, []);
  const during = async (work) => { try { await work(); changed(); close(); } catch (failed) { setError(failed.message); } };
  // What has not been edited is left as it is stored by now, except where the document is embedded anew.
  const update = () => {
    const metadata = parsed(values.metadata, "metadata") ?? {};
    const removed = Object.keys(stored.metadata).filter((name) => !(name in metadata)).map((name) => [name, null]);
    const change = { ids: [row.id], namespace: row.namespace, metadatas: [{ ...metadata, ...Object.fromEntries(removed) }] };
    if (values.document !== stored.document) change.documents = [values.document];
    if (values.source === "numbers") change.vectors = [numbers(values)];
    return call("POST", at(index, "update"), change);
  };
  const submit = (event) => {
    event.preventDefault();
    during(() => (values.source === "document" ? call("POST", at(index, "upsert"), written(row.id, row.namespace, values, "replace")) : update()));
  };
  const remove = () => during(() => call("POST", at(index, "delete"), { ids: [row.id], namespace: row.namespace }));
  return html`<${Dialog} name="Row" close=${close}><h2>${row.id}</h2><p class="faint">${row.namespace ? `namespace ${row.namespace}` : "the default namespace"}</p>
    <form class="fields" onSubmit=${submit}>${values && html`<${Fields} values=${values} change=${setValues} sources=${["same", "numbers", "document"]} may=${may} />`}
      <${Failure} error=${error} />
      <div class="bar">${may && values && html`<button class="main">Save</button>
        ${sure ? html`<button type="button" class="error" onClick=${remove}>Really delete this row</button>` : html`<button type="button" onClick=${() => setSure(true)}>Delete</button>`}`}
        <button type="button" onClick=${close}>Close</button></div></form><//>`;
}
