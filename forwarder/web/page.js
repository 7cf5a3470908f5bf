"use strict";

const LANGUAGES = ["it", "en"];
const texts = {}; // by language, from it.json and en.json
const asked = new URLSearchParams(location.search).get("lang");
// As on the staff's pages: what was asked for, else the browser's first one that there is, else Italian.
let language = [asked, ...navigator.languages.map((tag) => tag.split("-")[0])].find((code) => LANGUAGES.includes(code)) || "it";
let last = null;
let unread = false; // it answers, but cannot read its journal

const element = (id) => document.getElementById(id);
const text = (key) => texts[language][key];
const number = (value) => new Intl.NumberFormat(language).format(value);
const bytes = (value) => {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) { value /= 1000; unit += 1; }
  return `${new Intl.NumberFormat(language, { maximumFractionDigits: 1 }).format(value)} ${units[unit]}`;
};
const duration = (seconds) => {
  if (seconds === null) return "—";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${new Intl.NumberFormat(language, { maximumFractionDigits: 1 }).format(seconds / 3600)} h`;
};
// A newer archive may know reasons that this page does not: then the name stands for itself.
const reason = (slug) => text(`reason.${slug}`) || `${text("reason.other")}: ${slug}`;

const advice = (slug) => text(`advice.${slug}`) || text("advice.other");

function list(target, pairs, wrap) {
  target.replaceChildren();
  for (const [name, value] of pairs) {
    const term = document.createElement("dt");
    const description = document.createElement("dd");
    term.textContent = name;
    description.textContent = value;
    const parent = wrap ? target.appendChild(document.createElement("div")) : target;
    parent.append(term, description);
  }
}

function table(id, heads, rows, none) {
  const target = element(id);
  target.replaceChildren();
  if (heads.length && rows.length) {
    const head = target.createTHead().insertRow();
    for (const name of heads) head.appendChild(document.createElement("th")).textContent = name;
  }
  const body = target.createTBody();
  for (const cells of rows.length ? rows : [[none]]) {
    const row = body.insertRow();
    for (const cell of cells) row.insertCell().textContent = cell;
  }
}

const moment = (seconds) => new Intl.DateTimeFormat(language, { dateStyle: "short", timeStyle: "short" }).format(seconds * 1000);
const sender = (association) => [association.calling, association.peer].filter(Boolean).join(", ") + (association.called ? ` → ${association.called}` : "");
const refusal = (refused) => [
  text(`refusal.${refused.reason}`), refused.name, refused.sop_class, (refused.transfer_syntaxes || []).join(" "), refused.detail,
].filter(Boolean).join(" · ");

function state() {
  if (!last) return [unread ? text("journal") : text("gone")];
  const again = ` (${text("again")} ${duration(last.line.again_in_seconds)})`;
  const where = last.line.host ? ` [${last.line.host}]` : "";
  return last.troubles.map((slug) => `${text(`trouble.${slug}`)}${slug === last.line.trouble ? where + again : ""} ${advice(slug)}`);
}

function draw() {
  document.documentElement.lang = language;
  for (const place of document.querySelectorAll("[data-text]")) place.textContent = text(place.dataset.text);
  element("language").textContent = text("other");
  element("sum").textContent = text("sum");
  const troubles = state();
  const line = element("line");
  const open = last && (last.line.tried ? text("open") : text("untried"));
  const sentences = troubles.length ? troubles : [last.waiting || last.reports.waiting ? open : `${open} ${text("empty")}`];
  if (line.innerText !== sentences.join("\n")) { // unchanged it is not read aloud again
    line.replaceChildren(...sentences.flatMap((sentence, place) => place ? [document.createElement("br"), sentence] : [sentence]));
  }
  line.className = troubles.length ? "bad" : "";
  if (!last) return;
  element("ae").textContent = last.ae_title;
  element("archive").textContent = last.archive;
  list(element("counts"), ["received", "waiting", "indexed", "rejected"].map((name) => [text(name), number(last[name])]), true);
  const aside = Object.entries(last.aside).map(([slug, count]) => [number(count), reason(slug), advice(slug)]);
  table("aside", [text("times"), text("why"), text("todo")], aside, text("none"));
  const left = Object.entries(last.left_in_folder).map(([slug, count]) => [number(count), reason(slug), advice(slug)]);
  table("left", [text("times"), text("why"), text("todo")], left, text("none_left"));
  element("folder").hidden = !left.length;
  deliveries(last.deliver);
  const heard = last.senders.map((association) => [moment(association.last_at), sender(association)]);
  table("senders", [text("seen"), text("who")], heard, text("no_senders"));
  const heads = [text("seen"), text("times"), text("who"), text("why")];
  const refused = last.refusals.map((entry) => [moment(entry.last_at), number(entry.count), sender(entry), refusal(entry)]);
  table("refusals", heads, refused, text("no_refusals"));
  drawAdt(last.adt);
  const orders = last.orders;
  element("orders").hidden = !orders.enabled;
  const same = orders.same.map((order) => [moment(order.at), order.control_id, order.hospitals.join(", ")]);
  table("orders_same", [text("seen"), text("adt_event"), text("orders_where")], same, text("orders_none"));
  const rates = last.rates;
  const details = [
    [text("oldest"), duration(last.oldest_waiting_seconds)],
    [text("at_archive"), number(last.at_archive)],
    [text("troubled"), number(last.troubled)],
    [text("refused"), number(last.refused)],
    [text("commitments"), number(last.commitments.open)],
    [text("in"), `${bytes(rates.bytes_in || 0)}/s`],
    [text("out"), `${bytes(rates.bytes_out || 0)}/s`],
    [text("saved"), bytes(last.traffic.bytes_saved)],
    [text("packing_failures"), number(last.traffic.packing_failures)],
    [text("uploads"), `${last.line.uploads} (≤ ${last.line.window})`],
    [text("disk"), bytes(last.disk.free_bytes)],
    [text("skew"), last.line.skew_seconds === null ? "—" : `${number(last.line.skew_seconds)} s`],
    [text("version"), last.version],
  ];
  const queries = last.queries;
  if (queries.enabled) {
    details.push([text("queries"), ["found", "retrieved", "refused"].map((name) => number(queries[name])).join(" + ")]);
    details.push([text("query_instances"), `${number(queries.instances)} (${number(queries.failed)})`]);
  }
  const reports = last.reports;
  if (reports.received || last.hl7_refused) {
    const sum = ["received", "sent", "aside", "waiting"].map((name) => number(reports[name]));
    details.push([text("reports"), `${sum[0]} = ${sum.slice(1).join(" + ")}`]);
    details.push([text("reports_oldest"), duration(reports.oldest_waiting_seconds)]);
    details.push([text("reports_refused"), number(last.hl7_refused)]);
  }
  for (const [name, count] of Object.entries(last.issuer_names)) details.push([`${text("issuer_name")}: ${name}`, number(count)]);
  const days = last.certificate_days;
  if (days !== null) details.push([text("certificate"), `${number(days)} ${text(days === 1 ? "day" : "days")}`]);
  list(element("details"), details, false);
  drawCity(last.archive_sees);
}

// What the operator of the city sees of this forwarder: the archive's own answer to the last sign of life.
function drawCity(seen) {
  if (!seen) {
    list(element("city"), [[text("city_heard"), text("city_never")]], false);
    return;
  }
  const at = Date.parse(seen.at) / 1000;
  const silent = Date.now() / 1000 - at > seen.silent_after_seconds;
  list(element("city"), [
    [text("city_heard"), moment(at)],
    [text("city_state"), silent ? text("city_silent") : text("city_alive")],
    [text("version"), seen.version],
    [text("waiting"), seen.waiting === null ? "—" : number(seen.waiting)],
    [text("oldest"), duration(seen.oldest_waiting_seconds)],
    [text("city_troubles"), seen.troubles.map((slug) => text(`trouble.${slug}`) || slug).join(" ") || text("city_none")],
  ], false);
}

function drawAdt(adt) {
  element("adt").hidden = !adt.enabled;
  if (!adt.enabled) return;
  const acts = adt.acts;
  list(element("adt_counts"), [
    [text("adt_opened"), number(acts.openings.done)],
    [text("adt_accepted"), number(acts.acceptances.done)],
    [text("adt_waiting"), number(adt.waiting)],
    [text("adt_proposals"), number(adt.proposals)],
    ...Object.entries(adt.events).filter(([, count]) => count).map(([name, count]) => [text(`adt.${name}`), number(count)]),
  ], false);
  const person = adt.for_a_person.map((act) => [moment(act.since), text(`act.${act.kind}`), text(`adt.${act.reason}`) || act.reason, act.actor]);
  table("adt_person", [text("seen"), text("adt_act"), text("why"), text("adt_event")], person, text("adt_nothing"));
  const nobody = adt.unknown_destinations.map((destination) => [moment(destination.last_at), number(destination.count), destination.code]);
  table("adt_nobody", [text("seen"), text("times"), text("adt_code")], nobody, text("adt_all_known"));
  const unreadable = adt.unreadable.map((message) => [moment(message.at), `${message.event} ${message.control_id}`, message.sender, `${message.place} ${message.detail}`]);
  table("adt_unreadable", [text("seen"), text("adt_event"), text("who"), text("why")], unreadable, text("adt_all_read"));
}

// Why something is not in the PACS, or should not be: a status of the PACS's is part of its slug.
const STATUS = /^(pacs-status)-(.+)$/;
const why = (slug) => {
  const [, kind, status] = STATUS.exec(slug) || [null, slug, ""];
  return [text(`deliver.${kind}`) || kind, status.toUpperCase()].filter(Boolean).join(" ");
};
const whatThen = (slug) => text(`advice.deliver.${slug.replace(STATUS, "$1")}`) || advice(slug);

// What was brought into the PACS, patient by patient: under names that stand for nobody.
function deliveries(deliver) {
  element("deliver").hidden = !deliver.enabled;
  if (!deliver.enabled) return;
  list(element("deliver_counts"), [
    [text("deliver_announced"), number(deliver.announced)],
    [text("deliver_delivered"), number(deliver.delivered)],
    [text("deliver_there"), number(deliver.there)],
    [text("deliver_aside"), number(deliver.aside)],
    [text("deliver_waiting"), number(deliver.waiting)],
    [text("deliver_unconfirmed"), number(deliver.unconfirmed)],
    [text("deliver_numberless"), number(deliver.numberless + deliver.not_accepted)],
    [text("deliver_proposed"), number(deliver.numbers_proposed)],
  ], true);
  const reasons = [...Object.entries(deliver.waiting_for), ...Object.entries(deliver.aside_reasons)];
  const row = ([slug, count]) => [number(count), why(slug), whatThen(slug)];
  table("deliver_why", [text("times"), text("why"), text("todo")], reasons.map(row), text("deliver_nothing"));
  const recalls = Object.entries(deliver.recalls).map(row);
  table("deliver_recalls", [text("times"), text("deliver_recall"), text("todo")], recalls, text("deliver_no_recalls"));
  const open = deliver.patients.filter((patient) => patient.missing || patient.aside);
  const rows = open.map((patient) => [
    patient.patient, `${number(patient.delivered + patient.there)} / ${number(patient.announced + patient.missing - patient.waiting)}`,
    Object.keys(patient.reasons).map(why).join(" · "), duration(patient.waiting_seconds),
    patient.seconds_left === null ? "—" : duration(patient.seconds_left),
  ]);
  const heads = [text("deliver_patient"), text("deliver_there_of"), text("why"), text("deliver_since"), text("deliver_left")];
  table("deliver_patients", heads, rows, text("deliver_all_there"));
}

async function refresh() {
  try {
    const answer = await fetch("status.json");
    last = answer.ok ? await answer.json() : null;
    unread = !answer.ok;
  } catch {
    last = null;
    unread = false;
  }
  draw();
  setTimeout(refresh, 2000);
}

async function begin() {
  for (const code of LANGUAGES) texts[code] = await (await fetch(`${code}.json`)).json();
  element("language").addEventListener("click", () => {
    language = language === "it" ? "en" : "it";
    draw();
  });
  await refresh();
}

begin();
