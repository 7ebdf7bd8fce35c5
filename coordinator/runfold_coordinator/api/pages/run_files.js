// What a run brought: pictures, files, artifacts. Texts become text nodes only. A picture is an <img> of bytes that the
// server has found to begin as a PNG, JPEG, GIF or WebP; SVG and HTML are never shown, only saved.
import { ask } from "./runs.js";

const REFRESH_MS = 5000;
const PICTURES = 24;
const FILES_PAGE = 100;
const ARTIFACTS = 100;
const PICTURE = /\.(png|jpe?g|gif|webp)$/i;
const element = (id) => document.getElementById(id);
const [entity, project, , runId] = location.pathname.slice(1).split("/").map(decodeURIComponent);
const path = "/runs/" + [entity, project, runId].map(encodeURIComponent).join("/");
let shownFiles = FILES_PAGE;
let shownPictures = "";

const contentAddress = (name) => `/api/v1${path}/files/content?name=${encodeURIComponent(name)}`;

function size(bytes) {
  if (bytes === null || bytes === undefined) return "";
  if (bytes < 1000) return `${bytes} B`;
  const power = Math.min(4, Math.floor(Math.log10(bytes) / 3));
  return `${(bytes / 1000 ** power).toPrecision(3)} ${["B", "kB", "MB", "GB", "TB"][power]}`;
}

function row(cells) {
  const made = document.createElement("tr");
  for (const [content, className] of cells) {
    const cell = made.insertCell();
    if (content instanceof Node) cell.append(content); else cell.textContent = content ?? "";
    if (className) cell.className = className;
  }
  return made;
}

function download(name) {
  const link = document.createElement("a");
  link.href = contentAddress(name);
  link.download = "";
  link.textContent = name;
  return link;
}

function showFiles(stored, pending, failed, counts) {
  element("stored").hidden = !stored.length && !pending.length && !failed.length;
  const others = [[counts.pending, "still to come"], [counts.failed, "lost"]].filter(([count]) => count);
  element("file-count").textContent = others.length
    ? [[counts.stored, "stored"], ...others].map(([count, word]) => `${count} ${word}`).join(", ") : `${counts.stored}`;
  element("files").replaceChildren(
    ...stored.map((file) => row([[download(file.name)], [file.what], [size(file.size), "number"],
      [new Date(1000 * file.stored_unix_s).toLocaleString()]])),
    ...pending.map((file) => row([[file.name], [file.what], [size(file.size), "number"], ["not here yet"]])),
    ...failed.map((file) => row([[file.name], [file.what], [size(file.size), "number"], [`will never come: ${file.error}`]])));
  element("more-files").hidden = counts.stored <= shownFiles;
}

function picture(file) {
  const figure = document.createElement("figure");
  const image = document.createElement("img");
  image.loading = "lazy";
  image.alt = file.name;
  image.src = contentAddress(file.name);
  image.addEventListener("error", () => figure.remove());
  const caption = document.createElement("figcaption");
  caption.textContent = file.name.split("/").at(-1);
  figure.append(image, caption);
  return figure;
}

function showPictures(files) {
  const pictures = files.filter((file) => file.what === "media" && PICTURE.test(file.name))
    .sort((a, b) => b.stored_unix_s - a.stored_unix_s).slice(0, PICTURES);
  element("pictures").hidden = !pictures.length;
  const digests = pictures.map((file) => file.sha256).join();
  if (digests === shownPictures) return;  // what is there stays: no flicker, no second request
  shownPictures = digests;
  element("thumbnails").replaceChildren(...pictures.map(picture));
}

function showArtifacts(logged, used) {
  const listed = [...logged.artifacts.map((each) => [each, "logged"]), ...used.artifacts.map((each) => [each, "used"])];
  element("outputs").hidden = !listed.length;
  element("artifact-count").textContent = logged.pending ? `${logged.pending} not here yet` : "";
  element("artifacts").replaceChildren(...listed.map(([each, relation]) => row([
    [each.version ? `${each.collection}:${each.version}` : each.collection], [each.type], [(each.aliases ?? []).join(", ")],
    [each.count, "number"], [size(each.size), "number"], [each.state], [relation]])));
}

async function refresh() {
  const [stored, pending, failed, media, logged, used] = await Promise.all([
    ask(`${path}/files?limit=${shownFiles}`), ask(`${path}/files?state=pending&limit=${FILES_PAGE}`),
    ask(`${path}/files?state=failed&limit=${FILES_PAGE}`),
    ask(`${path}/files?limit=1000&pattern=${encodeURIComponent("media/images/%")}`),
    ask(`${path}/artifacts?relation=logged&include_pending=true&limit=${ARTIFACTS}`),
    ask(`${path}/artifacts?relation=used&limit=${ARTIFACTS}`),
  ]);
  showFiles(stored.files, pending.files, failed.files, stored.counts);
  showPictures(media.files);
  showArtifacts(logged, used);
}

async function loop() {
  try {
    if (document.visibilityState === "visible") await refresh();
  } catch (error) {
    element("note").textContent = `no answer: ${error.message}`;
  }
  setTimeout(loop, REFRESH_MS);
}

element("more-files").addEventListener("click", () => { shownFiles = Math.min(1000, shownFiles + FILES_PAGE); refresh(); });
loop();
