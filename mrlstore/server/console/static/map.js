// The two axes of largest variance of a sample, by power iteration, and a canvas of it.
import { html, useEffect, useRef, useState } from "/console/htm-preact.js";
import { at, call } from "/console/server.js";

const ROUNDS = 30;

function numbers(vector) {
  const bytes = Uint8Array.from(atob(vector.base64), (one) => one.charCodeAt(0));
  const row = Array.from(new Float32Array(bytes.buffer));
  const length = Math.hypot(...row);
  return row.map((value) => value / length);
}

const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);

export function project(rows) {
  const dim = rows[0].length;
  const mean = rows[0].map((_, i) => rows.reduce((sum, row) => sum + row[i], 0) / rows.length);
  let left = rows.map((row) => row.map((value, i) => value - mean[i]));
  const axes = [0, 1].map((which) => {
    let axis = Array.from({ length: dim }, (_, i) => Math.sin(1 + i * (which + 1)));
    for (let round = 0; round < ROUNDS; round++) {
      const next = new Array(dim).fill(0);
      for (const row of left) {
        const weight = dot(row, axis);
        for (let i = 0; i < dim; i++) next[i] += weight * row[i];
      }
      const length = Math.hypot(...next);
      if (!length) break;
      axis = next.map((value) => value / length);
    }
    const places = left.map((row) => dot(row, axis));
    left = left.map((row, n) => row.map((value, i) => value - places[n] * axis[i]));
    return places;
  });
  return rows.map((_, n) => [axes[0][n], axes[1][n]]);
}

export function Map2d({ index, space, open }) {
  const canvas = useRef(), [points, setPoints] = useState([]), [over, setOver] = useState(null); // the position of a point
  const [error, setError] = useState("");
  const load = async () => {
    try {
      const body = { n: 300, namespace: space, include: ["metadata", "document", "vector"] };
      const found = (await call("POST", at(index, "sample?vectors=base64"), body)).records.filter((row) => row.vector);
      if (!found.length) throw new Error("no rows with a vector");
      const places = project(found.map((row) => numbers(row.vector)));
      setPoints(found.map((row, n) => ({ row, place: places[n] })));
      setOver(null);
      setError("");
    } catch (failed) { setError(failed.message); }
  };
  useEffect(() => { load(); }, [index, space]);
  const onCanvas = () => {
    const { clientWidth: width, clientHeight: height } = canvas.current;
    const span = [0, 1].map((axis) => {
      const values = points.map((point) => point.place[axis]);
      return [Math.min(...values), Math.max(...values)];
    });
    const scaled = (value, [low, high], size) => 12 + ((value - low) / (high - low || 1)) * (size - 24);
    return points.map((point) => [scaled(point.place[0], span[0], width), scaled(point.place[1], span[1], height)]);
  };
  useEffect(() => {
    if (!points.length) return;
    const board = canvas.current, scale = devicePixelRatio || 1;
    board.width = board.clientWidth * scale;
    board.height = board.clientHeight * scale;
    const pen = board.getContext("2d");
    pen.scale(scale, scale);
    pen.fillStyle = getComputedStyle(board).getPropertyValue("color");
    onCanvas().forEach(([x, y], n) => {
      pen.beginPath(); pen.arc(x, y, 3, 0, 7); pen.fill();
      if (n === over) { pen.strokeStyle = pen.fillStyle; pen.lineWidth = 2; pen.beginPath(); pen.arc(x, y, 8, 0, 7); pen.stroke(); }
    });
  }, [points, over]);
  const nearest = (event) => {
    const box = canvas.current.getBoundingClientRect();
    let best = null, least = 400;
    onCanvas().forEach(([x, y], n) => {
      const away = (x - event.clientX + box.left) ** 2 + (y - event.clientY + box.top) ** 2;
      if (away < least) [best, least] = [n, away];
    });
    return best;
  };
  // By an arrow to the nearest point on that side, which is at most 45 degrees off; Enter opens the row.
  const step = (event) => {
    const [right, down] = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[event.key] ?? [0, 0];
    if (event.key === "Enter" && over !== null) {
      event.preventDefault(); // else the key also presses the button of the dialog that gets the focus
      return open(points[over].row);
    }
    if (!points.length || (!right && !down)) return;
    event.preventDefault();
    if (over === null) return setOver(0);
    const places = onCanvas();
    let best = over, least = Infinity;
    places.forEach(([x, y], n) => {
      const along = (x - places[over][0]) * right + (y - places[over][1]) * down;
      const aside = Math.abs((x - places[over][0]) * down + (y - places[over][1]) * right);
      if (along > 0 && aside <= along && along + aside < least) [best, least] = [n, along + aside];
    });
    setOver(best);
  };
  const shown = over === null ? null : points[over]?.row;
  return html`<div class="bar"><button onClick=${load}>Another sample</button>
      <span class="faint">${points.length} rows, by the two axes of largest variance</span></div>
    ${error && html`<p class="error" role="alert">${error}</p>`}
    <canvas ref=${canvas} tabindex="0" role="application" aria-label="Map of a sample: arrows go from row to row, Enter opens one" onKeyDown=${step} onMouseMove=${(event) => setOver(nearest(event))}
      onClick=${(event) => { const n = nearest(event); if (n !== null) open(points[n].row); }}></canvas>
    <p aria-live="polite">${shown ? html`<b>${shown.id}</b> ${shown.document || JSON.stringify(shown.metadata || {})}` : html`<span class="faint">Point at a row, or go there by the arrow keys.</span>`}</p>`;
}
