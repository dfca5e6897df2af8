// What several pages of the console share.
import { html, useEffect, useState } from "/console/htm-preact.js";

export const count = (value) => (value ?? 0).toLocaleString("en");

export const bytes = (value) => {
  const units = ["B", "KB", "MB", "GB", "TB"];
  let n = 0;
  for (; value >= 1000 && n < 4; n++) value /= 1000;
  return `${n ? value.toFixed(1) : value} ${units[n]}`;
};

export const Failure = ({ error }) => error && html`<p class="error" role="alert">${error}</p>`;

// The value of a field that holds JSON; undefined where it is empty.
export const parsed = (text, what) => {
  if (!text.trim()) return undefined;
  try { return JSON.parse(text); } catch (failed) { throw new Error(`${what}: not JSON (${failed.message})`); }
};

export const Cut = ({ value }) => html`<div class="cut">${typeof value === "string" ? value : value == null ? "" : JSON.stringify(value)}</div>`;

export function Dialog({ name, close, children }) {
  const [before] = useState(() => document.activeElement); // gets the focus back
  useEffect(() => () => queueMicrotask(() => before?.focus()), []); // once the dialog is gone: what lies below takes no focus before
  return html`<dialog ref=${(box) => { if (box && !box.open) box.showModal(); }} onClose=${close} aria-label=${name}>${children}</dialog>`;
}
