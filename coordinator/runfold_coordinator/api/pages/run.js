// One run: its state, a chart of one metric, its summary, config and writers. Texts become text nodes only.
import { ask, duration } from "./runs.js";

const REFRESH_MS = 2000;
const SVG = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT] = [900, 320, 64, 28, 12, 12];
const element = (id) => document.getElementById(id);
const [entity, project, , runId] = location.pathname.slice(1).split("/").map(decodeURIComponent);
const path = "/runs/" + [entity, project, runId].map(encodeURIComponent).join("/");

function pairs(id, entries) {
  element(id).replaceChildren(...entries.map(([key, value]) => {
    const row = document.createElement("tr");
    row.insertCell().textContent = key;
    const right = row.insertCell();
    right.className = "number";
    right.textContent = shown(value);
    return row;
  }));
}

function shown(value) {
  if (value === null || typeof value !== "object") return String(value);
  if ("_type" in value) {
    const size = value.nrows !== undefined ? `${value.nrows} × ${value.ncols}` : value.width ? `${value.width} × ${value.height}` : "";
    return [value._type, size, value.path].filter(Boolean).join(" · ");
  }
  return JSON.stringify(value);
}

const visible = (tree) => Object.fromEntries(Object.entries(tree).filter(([key]) => key !== "_wandb"));

function leaves(tree, prefix = "") {
  return Object.entries(tree).flatMap(([key, value]) =>
    value !== null && typeof value === "object" && !Array.isArray(value) && !("_type" in value)
      ? leaves(value, `${prefix}${key}.`) : [[prefix + key, value]]);
}

function shape(name, attributes, text) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

const brief = (value) => Number.isInteger(value) && Math.abs(value) < 1e7 ? String(value) : Number(value.toPrecision(4)).toString();

function column(table, name) {
  const found = table.columns.find((each) => each.name === name);
  const whole = new Array(table.length).fill(NaN);
  if (found) found.values.forEach((value, place) => {
    whole[found.rows ? found.rows[place] : place] = typeof value === "number" ? value : NaN;
  });
  return whole;
}

function draw(table, key) {
  const metric = table.columns[1]?.name ?? key;  // the key tells a literal dot from nesting, the name does not
  const x = column(table, "_step"), y = column(table, metric);
  const low = column(table, `${metric}:min`), high = column(table, `${metric}:max`);
  const xs = x.filter(Number.isFinite), ys = [...y, ...low, ...high].filter(Number.isFinite);
  const chart = element("chart");
  if (!xs.length || !ys.length) { chart.replaceChildren(shape("text", { x: 20, y: 40 }, "no numbers yet")); return; }
  const extent = (values) => values.reduce(([a, b], v) => [Math.min(a, v), Math.max(b, v)], [Infinity, -Infinity]);
  const [x0, x1] = extent(xs), [y0, y1] = extent(ys);
  const px = (v) => LEFT + (x1 === x0 ? 0.5 : (v - x0) / (x1 - x0)) * (WIDTH - LEFT - RIGHT);
  const py = (v) => HEIGHT - BOTTOM - (y1 === y0 ? 0.5 : (v - y0) / (y1 - y0)) * (HEIGHT - BOTTOM - TOP);
  const nodes = [];
  for (let tick = 0; tick <= 4; tick++) {
    const vy = y0 + ((y1 - y0) * tick) / 4, vx = x0 + ((x1 - x0) * tick) / 4;
    nodes.push(shape("line", { class: "axis", x1: LEFT, x2: WIDTH - RIGHT, y1: py(vy), y2: py(vy) }));
    nodes.push(shape("text", { x: LEFT - 6, y: py(vy) + 4, "text-anchor": "end" }, brief(vy)));
    nodes.push(shape("text", { x: px(vx), y: HEIGHT - 8, "text-anchor": "middle" }, brief(Math.round(vx))));
  }
  const seen = (values) => values.map((v, i) => [x[i], v]).filter(([a, b]) => Number.isFinite(a) && Number.isFinite(b));
  const points = (list) => list.map(([a, b]) => `${px(a).toFixed(1)},${py(b).toFixed(1)}`).join(" ");
  const lows = seen(low), highs = seen(high);
  if (lows.length > 1) nodes.push(shape("polygon", { class: "band", points: points([...highs, ...lows.reverse()]) }));
  const line = seen(y);
  nodes.push(shape("polyline", { class: "line", points: points(line) }));
  if (line.length < 60) nodes.push(...line.map(([a, b]) => shape("circle", { class: "dot", cx: px(a), cy: py(b), r: 2 })));
  chart.replaceChildren(...nodes);
  const last = line.at(-1);
  element("at").textContent = last ? `${brief(last[1])} at step ${last[0]}` : "";
  element("legend").textContent = `${line.length} points shown; the line is the value over all writers, the band their min and max`;
}

function showWriters(writers) {
  element("writers").replaceChildren(...writers.map((writer) => {
    const row = document.createElement("tr");
    const badge = document.createElement("span");
    badge.className = "state";
    badge.classList.add(writer.state);
    badge.textContent = writer.unreachable ? `${writer.state} (unreachable)` : writer.state;
    row.insertCell().append(badge);
    const numbers = new Set([3, 4, 5, 6]);
    [writer.rank ?? writer.label, writer.attempt, writer.host, writer.pid, writer.last_step, writer.last_seq,
      writer.head_seq, writer.reason].forEach((value, place) => {
      const cell = row.insertCell();
      cell.textContent = value ?? "";
      if (numbers.has(place)) cell.className = "number";
    });
    return row;
  }));
}

async function refresh() {
  const [run, { writers }, accounting, { keys }] = await Promise.all([
    ask(`${path}?include=config&include=summary`), ask(`${path}/writers`), ask(`${path}/accounting`), ask(`${path}/keys`),
  ]);
  document.title = `${run.name || run.id} · ${run.state} · runfold`;
  element("name").textContent = `${run.entity}/${run.project}/${run.name || run.id}`;
  element("state").className = "state";
  element("state").classList.add(run.state);
  element("state").textContent = run.unreachable ? `${run.state} (unreachable)` : run.state;
  element("reason").textContent = run.reason;
  pairs("summary", leaves(visible(run.summary)));
  pairs("config", leaves(visible(run.config)));
  pairs("facts", [
    ["id", run.id], ["group", run.group ?? ""], ["job type", run.job_type ?? ""], ["tags", run.tags.join(", ")],
    ["notes", run.notes ?? ""], ["started", new Date(run.created_at).toLocaleString()],
    ["lasted", duration(run.duration_s)], ["last step", run.last_step], ["log() calls stored", run.row_count],
    ["records acknowledged", accounting.acknowledged], ["stored", accounting.stored],
    ["declared gaps", accounting.declared_gaps], ["dead letters", accounting.dead_letters], ["pending", accounting.pending],
    ...(run.first_failure ? [["first failure", `rank ${run.first_failure.rank}: ${run.first_failure.reason}`]] : []),
  ]);
  showWriters(writers);
  const numeric = keys.filter((each) => /[dq]/.test(each.kinds)).map((each) => each.key);
  const select = element("metric");
  if (select.options.length !== numeric.length) {
    const chosen = select.value || new URLSearchParams(location.search).get("metric");
    select.replaceChildren(...numeric.map((key) => new Option(key, key)));
    if (numeric.includes(chosen)) select.value = chosen;
  }
  await refreshChart();
}

async function refreshChart() {
  const metric = element("metric").value;
  if (!metric) return;
  const query = new URLSearchParams({ keys: metric, samples: 500, stats: "true" });
  draw(await ask(`${path}/series?${query}`), metric);
}

async function loop() {
  try {
    if (document.visibilityState === "visible") await refresh();
    element("note").textContent = "";
  } catch (error) {
    element("note").textContent = `no answer: ${error.message}`;
  }
  setTimeout(loop, REFRESH_MS);
}

element("metric").addEventListener("change", refreshChart);
loop();
