// Requests to the server's own API, below /v1; the key stays in this tab.
const KEY = "mrlstore-key";

export const key = {
  get: () => sessionStorage.getItem(KEY) || "",
  set: (value) => (value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY)),
};

const headers = () => {
  const sent = { "Content-Type": "application/json" };
  if (key.get()) sent["Api-Key"] = key.get();
  return sent;
};

const failure = (status, body) => {
  const error = new Error(body?.error?.message || `the server answered ${status}`);
  error.status = status;
  return error;
};

export async function raw(method, path, body) {
  const answer = await fetch(path, { method, headers: headers(), body });
  return { status: answer.status, text: await answer.text() };
}

export async function call(method, path, body) {
  const answer = await raw(method, `/v1${path}`, body === undefined ? undefined : JSON.stringify(body));
  let parsed = null;
  try { parsed = answer.text ? JSON.parse(answer.text) : null; } catch { /* an error without a body in JSON */ }
  if (answer.status >= 400) throw failure(answer.status, parsed);
  return parsed;
}

// Long work: `report` gets each event of progress; gives the result.
export async function follow(path, body, report) {
  const answer = await fetch(`/v1${path}`, { method: "POST", headers: headers(), body: JSON.stringify(body) });
  if (!answer.ok) throw failure(answer.status, await answer.json().catch(() => null));
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new Error("the connection ended before the work did");
    text += value;
    for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
      const event = text.slice(0, end).match(/^event: (\w+)\ndata: (.*)$/s);
      text = text.slice(end + 2);
      if (!event) continue;
      const data = JSON.parse(event[2]);
      if (event[1] === "progress") report(data);
      else if (event[1] === "error") throw failure(data.status, data);
      else return data;
    }
  }
}

export const at = (index, name) => `/indexes/${encodeURIComponent(index)}${name ? "/" + name : ""}`;
