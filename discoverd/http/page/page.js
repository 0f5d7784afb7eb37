// The live page. Everything that comes from the server is text: nothing is ever parsed as HTML.
"use strict";

const CHANGES_SHOWN = 100;
const RATE_SECONDS = 2;

const byId = (id) => document.getElementById(id);
const services = new Map(); // "name scope" -> { element, body, note, rows }
const instances = new Map(); // "source id" -> { value, row, service }
let loaded = false;

function make(tag, text, className) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (className) element.className = className;
  return element;
}

const keyOf = (value) => `${value.source} ${value.id}`;
const fullName = (value) => (value.scope ? `${value.service}.${value.scope}` : value.service);
const fitness = (value) => (value.state === "running" ? value.health : value.state);
const addressText = (a) => (a.network ? `${a.address} (${a.network})` : a.address);
const portText = (p) =>
  (p.name ? `${p.name} ` : "") + (p.published ? `${p.published}→` : "") + `${p.port}/${p.protocol}`;

// -- services ---------------------------------------------------------------------------------

const COLUMNS = [
  ["instance", "", (v) => v.id],
  ["health", "narrow", fitness],
  ["addresses", "", (v) => v.addresses.map(addressText).join(", ")],
  ["ports", "", (v) => v.ports.map(portText).join(", ")],
  ["source", "narrow", (v) => v.source],
  ["names", "names", (v) => v.names.concat(Object.entries(v.meta).map(([key, text]) => `${key}=${text}`)).join(" ")],
];

function serviceOf(value) {
  const name = fullName(value);
  const found = services.get(name);
  if (found) return found;
  const element = make("details", undefined, "service");
  element.open = true;
  const summary = make("summary");
  const note = make("span");
  summary.append(make("b", name), " ", note);
  const table = make("table");
  const head = make("tr");
  for (const [label, className] of COLUMNS) {
    const cell = make("th", label, className);
    cell.scope = "col";
    head.append(cell);
  }
  const body = make("tbody");
  const thead = make("thead");
  thead.append(head);
  table.append(thead, body);
  element.append(summary, table);
  const service = { name, element, body, note, rows: new Set() };
  services.set(name, service);
  place(element, name);
  return service;
}

function place(element, name) {
  element.dataset.name = name;
  const list = byId("services");
  if (!list.lastChild || list.lastChild.dataset.name < name) return list.append(element);
  for (const other of list.children) {
    if (other.dataset.name > name) return other.before(element);
  }
  return list.append(element);
}

function fill(row, value) {
  const cells = COLUMNS.map(([label, className, text]) => {
    const cell = make("td", text(value), label === "health" ? fitness(value) : className);
    cell.dataset.label = label;
    return cell;
  });
  row.replaceChildren(...cells);
  row.dataset.text = cells.map((c) => c.textContent).concat(fullName(value)).join(" ").toLowerCase();
  row.dataset.well = String(fitness(value) === "healthy");
}

function put(value, isNew) {
  const key = keyOf(value);
  const known = instances.get(key);
  const service = serviceOf(value);
  if (known && known.service !== service) drop(value);
  const row = (instances.get(key) || {}).row || make("tr");
  fill(row, value);
  row.classList.toggle("new", isNew);
  if (!row.isConnected && row.parentNode !== service.body) service.body.append(row);
  service.rows.add(row);
  instances.set(key, { value, row, service });
  touched.add(service);
}

function drop(value) {
  const known = instances.get(keyOf(value));
  if (!known) return undefined;
  instances.delete(keyOf(value));
  known.row.remove();
  known.service.rows.delete(known.row);
  touched.add(known.service);
  return known.value;
}

// What one frame changes is counted and filtered once, at its end.
const touched = new Set();
let due = false;

function settle() {
  if (due) return;
  due = true;
  requestAnimationFrame(() => {
    due = false;
    for (const service of touched) {
      if (service.rows.size === 0) {
        service.element.remove();
        services.delete(service.name);
        continue;
      }
      const well = [...service.rows].filter((row) => row.dataset.well === "true").length;
      service.note.textContent = `${well} of ${service.rows.size} healthy`;
      filterService(service);
    }
    touched.clear();
    byId("service-count").textContent = services.size;
    byId("instance-count").textContent = instances.size;
    byId("none").hidden = [...services.values()].some((s) => !s.element.hidden);
  });
}

function filterService(service) {
  const words = byId("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const unwell = byId("unwell").checked;
  let shown = 0;
  for (const row of service.rows) {
    const fits = words.every((w) => row.dataset.text.includes(w)) && !(unwell && row.dataset.well === "true");
    row.hidden = !fits;
    shown += fits;
  }
  service.element.hidden = shown === 0;
}

function filterAll() {
  for (const service of services.values()) touched.add(service);
  settle();
}

// -- changes ----------------------------------------------------------------------------------

function tell(sign, value) {
  const list = byId("changes");
  const item = make("li");
  const now = new Date();
  const time = make("time", now.toTimeString().slice(0, 8));
  time.dateTime = now.toISOString();
  const where = value.addresses.map((a) => a.address).join(", ");
  item.append(time, " ", make("span", `${sign} `, fitness(value)), `${fullName(value)} ${value.id} ${where} ${fitness(value)}`);
  list.prepend(item);
  while (list.children.length > CHANGES_SHOWN) list.lastChild.remove();
}

function showSources(sources) {
  const items = sources.map((source) => {
    const item = make("li", `${source.name} `);
    item.append(make("b", source.state, source.state), ` ${source.instances}`);
    if (source.state !== "live" && source.last_error) item.append(make("span", source.last_error, "why"));
    return item;
  });
  byId("sources").replaceChildren(...items);
}

function snapshot(data) {
  const now = new Map();
  for (const service of data.services) for (const value of service.instances) now.set(keyOf(value), value);
  for (const [key, { value }] of [...instances]) {
    if (!now.has(key)) {
      drop(value);
      tell("−", value);
    }
  }
  for (const [key, value] of now) {
    if (loaded && !instances.has(key)) tell("+", value);
    put(value, false);
  }
  loaded = true;
  showSources(data.sources);
  settle();
}

function change(data) {
  for (const value of data.added) {
    put(value, true);
    tell("+", value);
  }
  for (const value of data.updated) {
    put(value, true);
    tell("~", value);
  }
  for (const value of data.removed) {
    const was = drop(value);
    if (was) tell("−", was);
  }
  settle();
}

function follow() {
  const state = (name) => {
    byId("state").textContent = name;
    byId("state").dataset.state = name;
  };
  const events = new EventSource("/v1/events");
  events.addEventListener("open", () => state("live"));
  events.addEventListener("error", () => {
    state("reconnecting");
    if (events.readyState === EventSource.CLOSED) setTimeout(follow, 2000);
  });
  events.addEventListener("snapshot", (event) => snapshot(JSON.parse(event.data)));
  events.addEventListener("change", (event) => change(JSON.parse(event.data)));
  events.addEventListener("sources", (event) => showSources(JSON.parse(event.data).sources));
}

// -- answers a second -------------------------------------------------------------------------

let before;

async function rate() {
  try {
    const [text, sources] = await Promise.all([
      fetch("/metrics").then((r) => r.text()),
      fetch("/v1/sources").then((r) => r.json()),
    ]);
    let count = 0;
    for (const line of text.matchAll(/^discoverd_dns_(?:udp_|tcp_)?queries_total(?:\{[^\n]*\})? (\S+)$/gm)) count += Number(line[1]);
    const now = performance.now();
    if (before) byId("rate").textContent = Math.max(0, Math.round((count - before.count) / ((now - before.at) / 1000)));
    before = { count, at: now };
    showSources(sources.sources);
  } catch {
    byId("rate").textContent = "–";
    before = undefined;
  }
}

// -- look up ----------------------------------------------------------------------------------

async function lookUp(event) {
  event.preventDefault();
  const query = new URLSearchParams();
  for (const [name, value] of new FormData(event.target)) if (value.trim()) query.set(name, value.trim());
  let said;
  try {
    said = await fetch(`/v1/resolve?${query}`).then((r) => r.json());
  } catch {
    said = { error: "the server does not answer" };
  }
  byId("answer").replaceChildren(...(said.error ? [make("p", said.error, "error")] : explained(said)));
}

function explained(said) {
  const networks = said.view.network_names.length ? `: ${said.view.network_names.join(", ")}` : "";
  const who = said.view.client ? `${said.client} (${said.view.client})` : said.client;
  const parts = [
    make("p", `${said.name} ${said.type}, asked by ${who}, ${said.view.place}${networks}`),
    make("p", `${said.status}: ${said.reason}`, said.status === "NOERROR" ? "healthy" : "error"),
    ...said.answers.concat(said.additional).map((r) => make("code", `${r.name} ${r.ttl} ${r.type} ${r.data}`)),
    ...said.hints.map((hint) => make("p", `Hint: ${hint}`)),
  ];
  if (said.considered.length) {
    const table = make("table");
    for (const one of said.considered) {
      const row = table.insertRow();
      const fit = one.state === "running" ? one.health : one.state;
      row.append(make("td", one.name || one.id), make("td", fit, fit));
      row.append(make("td", one.chosen ? "served" : `left out: ${one.why}`, one.chosen ? "served" : ""));
    }
    parts.push(table);
  }
  return parts;
}

byId("lookup").addEventListener("submit", lookUp);
byId("filter").addEventListener("input", filterAll);
byId("unwell").addEventListener("change", filterAll);
document.addEventListener("keydown", (event) => {
  const typing = event.target.matches("input, select, textarea");
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    byId("filter").focus();
  }
});
follow();
rate();
setInterval(() => document.hidden || rate(), RATE_SECONDS * 1000);
