"use strict";

const words = {
  it: {
    title: "Forwarder", to: "verso", aside: "Messi da parte", details: "Dettagli", other: "English",
    received: "ricevute", waiting: "in attesa", indexed: "in archivio", rejected: "respinte",
    sum: "ricevute = in archivio + respinte + in attesa", none: "nessuna istanza è stata messa da parte",
    open: "La linea è aperta.", closed: "L'archivio non è raggiungibile", again: "nuovo tentativo tra", empty: "Non c'è nulla in coda.",
    low: "Il disco è quasi pieno: il PACS riceve 0xA700.", gone: "Il forwarder non risponde.",
    oldest: "la più vecchia in attesa", in: "in arrivo", out: "in uscita", saved: "risparmiati con la compressione",
    disk: "spazio libero", uploads: "invii in corso", skew: "differenza dell'orologio", certificate: "certificato TLS valido per",
    days: "giorni", at_archive: "in archivio, in attesa di verifica", version: "versione", troubled: "con errori, ritentate più tardi",
  },
  en: {
    title: "Forwarder", to: "to", aside: "Put aside", details: "Details", other: "Italiano",
    received: "received", waiting: "waiting", indexed: "in the archive", rejected: "rejected",
    sum: "received = in the archive + rejected + waiting", none: "no instance was put aside",
    open: "The line is open.", closed: "The archive cannot be reached", again: "next try in", empty: "Nothing is waiting.",
    low: "The disk is nearly full: the PACS is answered 0xA700.", gone: "The forwarder does not answer.",
    oldest: "oldest waiting", in: "coming in", out: "going out", saved: "saved by compressing",
    disk: "free space", uploads: "uploads under way", skew: "clock difference", certificate: "TLS certificate holds for",
    days: "days", at_archive: "at the archive, not judged yet", version: "version", troubled: "failed, tried later",
  },
};

const asked = new URLSearchParams(location.search).get("lang");
let language = asked in words ? asked : (navigator.language.startsWith("it") ? "it" : "en");
let last = null;

const element = (id) => document.getElementById(id);
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

function list(target, pairs, wrap) {
  target.replaceChildren();
  for (const [name, value] of pairs) {
    const term = document.createElement("dt");
    const text = document.createElement("dd");
    term.textContent = name;
    text.textContent = value;
    const parent = wrap ? target.appendChild(document.createElement("div")) : target;
    parent.append(term, text);
  }
}

function draw() {
  const word = words[language];
  document.documentElement.lang = language;
  for (const place of document.querySelectorAll("[data-text]")) place.textContent = word[place.dataset.text];
  element("language").textContent = word.other;
  element("sum").textContent = word.sum;
  const line = element("line");
  if (!last) {
    line.textContent = word.gone;
    line.className = "bad";
    return;
  }
  element("ae").textContent = last.ae_title;
  element("archive").textContent = last.archive;
  const trouble = last.disk.low ? word.low
    : !last.line.open ? `${word.closed}: ${last.line.error} (${word.again} ${duration(last.line.again_in_seconds)})` : "";
  line.textContent = trouble || (last.waiting ? word.open : `${word.open} ${word.empty}`);
  line.className = trouble ? "bad" : "";
  list(element("counts"), ["received", "waiting", "indexed", "rejected"].map((name) => [word[name], number(last[name])]), true);
  const table = element("aside");
  table.replaceChildren();
  const rows = Object.entries(last.aside);
  for (const cells of rows.length ? rows : [[word.none, ""]]) {
    const row = table.insertRow();
    for (const cell of cells) row.insertCell().textContent = cell;
  }
  const rates = last.rates;
  const details = [
    [word.oldest, duration(last.oldest_waiting_seconds)],
    [word.at_archive, number(last.at_archive)],
    [word.troubled, number(last.troubled)],
    [word.in, `${bytes(rates.bytes_in || 0)}/s`],
    [word.out, `${bytes(rates.bytes_out || 0)}/s`],
    [word.saved, bytes(last.traffic.bytes_saved)],
    [word.uploads, `${last.line.uploads} (≤ ${last.line.window})`],
    [word.disk, bytes(last.disk.free_bytes)],
    [word.skew, last.line.skew_seconds === null ? "—" : `${number(last.line.skew_seconds)} s`],
    [word.version, last.version],
  ];
  if (last.certificate_days !== null) details.push([word.certificate, `${last.certificate_days} ${word.days}`]);
  list(element("details"), details, false);
}

async function refresh() {
  try {
    const answer = await fetch("status.json");
    last = answer.ok ? await answer.json() : null;
  } catch {
    last = null;
  }
  draw();
  setTimeout(refresh, 2000);
}

element("language").addEventListener("click", () => {
  language = language === "it" ? "en" : "it";
  draw();
});
refresh();
