// The list of runs. Every text of a user becomes a text node: nothing is ever parsed as HTML.
const REFRESH_MS = 3000;
const PAGE = 50;
const element = (id) => document.getElementById(id);
// At /entity/project and /entity/project/sweeps/id only these runs are listed.
const place = location.pathname.split("/").slice(1).map(decodeURIComponent);
const fixedProject = place.length >= 2 ? place.slice(0, 2) : null;
const sweep = place[2] === "sweeps" ? place[3] : null;
let cursor = null;      // of the page shown; null: the newest
let nextCursor = null;

function cell(row, text, className) {
  const td = row.insertCell();
  td.textContent = text ?? "";
  if (className) td.className = className;
  return td;
}

export function duration(seconds) {
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
}

export async function ask(path) {
  const answer = await fetch(`/api/v1${path}`, { headers: { Accept: "application/json" } });
  const content = await answer.json();
  if (!answer.ok) throw new Error(content.error?.message ?? `status ${answer.status}`);
  return content;
}

function runAddress(run) {
  return "/" + [run.entity, run.project, "runs", run.id].map(encodeURIComponent).join("/");
}

function showRun(run) {
  const row = document.createElement("tr");
  const badge = document.createElement("span");
  badge.className = "state";
  badge.classList.add(run.state);
  badge.textContent = run.unreachable ? `${run.state} (unreachable)` : run.state;
  row.insertCell().append(badge);
  const link = document.createElement("a");
  link.href = runAddress(run);
  link.textContent = run.name || run.id;
  row.insertCell().append(link);
  cell(row, run.project);
  cell(row, run.group);
  cell(row, run.tags.join(", "));
  cell(row, new Date(run.created_at).toLocaleString());
  cell(row, duration(run.duration_s), "number");
  cell(row, run.last_step < 0 ? "" : run.last_step, "number");
  cell(row, run.reason);
  return row;
}

async function refresh() {
  const query = new URLSearchParams({ limit: PAGE, order: "-created_at" });
  const [entity, project] = fixedProject ?? JSON.parse(element("project").value || "[null,null]");
  if (project) { query.set("entity", entity); query.set("project", project); }
  const filters = {};
  if (element("state").value) filters.state = element("state").value;
  if (sweep) filters.sweep = sweep;
  if (Object.keys(filters).length) query.set("filters", JSON.stringify(filters));
  if (cursor) query.set("cursor", cursor);
  const page = await ask(`/runs?${query}`);
  element("runs").replaceChildren(...page.runs.map(showRun));
  element("empty").hidden = page.total > 0;
  element("count").textContent = `${page.total} run${page.total === 1 ? "" : "s"}`;
  nextCursor = page.next_cursor;
  element("more").disabled = nextCursor === null;
  element("first").disabled = cursor === null;
}

async function refreshProjects() {
  if (fixedProject) {
    element("project").replaceChildren(new Option(place.filter((part) => part !== "sweeps").join("/"), ""));
    return;
  }
  const { projects } = await ask("/projects");
  const select = element("project");
  const chosen = select.value;
  const options = projects.map(({ entity, name }) => new Option(`${entity}/${name}`, JSON.stringify([entity, name])));
  select.replaceChildren(new Option("all", ""), ...options);
  select.value = options.some((option) => option.value === chosen) ? chosen : "";
}

async function loop() {
  try {
    if (document.visibilityState === "visible") { await refreshProjects(); await refresh(); }
    element("note").textContent = "";
  } catch (error) {
    element("note").textContent = `no answer: ${error.message}`;
  }
  setTimeout(loop, REFRESH_MS);
}

if (element("runs")) {
  element("more").addEventListener("click", () => { cursor = nextCursor; refresh(); });
  element("first").addEventListener("click", () => { cursor = null; refresh(); });
  for (const id of ["project", "state"]) element(id).addEventListener("change", () => { cursor = null; refresh(); });
  loop();
}
