// What the page says, in the language of who reads: catalogs in JSON, plurals and dates by Intl.

export const LANGUAGES = ['it', 'en'];
const KEPT = 'contenitore.language';
let catalog = {};
let language = 'it';
let plural = new Intl.PluralRules(language);
/** The clock of the hospitals, whatever the workstation's is set to. */
const HERE = { timeZone: 'Europe/Rome' };

/** How dates and numbers are written: in English as in Europe, not as in America. */
const locale = () => ({ it: 'it-IT', en: 'en-GB' })[language];

/** Load the reader's language: chosen before, else the browser's, else Italian. Where it does not come all stays as it is: raises. */
export async function loadTexts(wanted) {
  const asked = wanted || localStorage.getItem(KEPT) || navigator.languages.map(tag => tag.slice(0, 2)).find(tag => LANGUAGES.includes(tag));
  const meant = LANGUAGES.includes(asked) ? asked : 'it';
  const answer = await fetch(new URL(`text/${meant}.json`, import.meta.url));
  catalog = await answer.json();
  language = meant;
  if (wanted) localStorage.setItem(KEPT, language);
  plural = new Intl.PluralRules(language);
  document.documentElement.lang = language;
}

/** The language in use. */
export function currentLanguage() {
  return language;
}

/** A text with its `{places}` filled; `count` chooses the plural form. */
export function t(key, values = {}) {
  const found = catalog[key];
  const text = typeof found === 'object' && found !== null ? found[plural.select(values.count)] ?? found.other : found;
  if (text === undefined) return key;
  return text.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? '');
}

/** A reason for a prior, as the archive words it in both languages. */
export function reasonText(reason) {
  return reason[language] ?? reason.en;
}

/** YYYYMMDD (and HHMMSS) as a date as one reads it; empty when there is none. */
export function dateText(date, time = '') {
  const match = /^(\d{4})(\d{2})(\d{2})/.exec(date || '');
  if (!match) return t('undated');
  const day = new Date(Number(match[1]), Number(match[2]) - 1, Number(match[3]));
  const text = new Intl.DateTimeFormat(locale(), { day: 'numeric', month: 'short', year: 'numeric' }).format(day);
  const clock = /^(\d{2})(\d{2})/.exec(time || '');
  return clock ? `${text}, ${clock[1]}:${clock[2]}` : text;
}

/** YYYYMMDD as a day, without what is plain: "26 ott", "18 mag 2024". */
export function dayText(date) {
  const match = /^(\d{4})(\d{2})(\d{2})/.exec(date || '');
  if (!match) return t('undated');
  const day = new Date(Number(match[1]), Number(match[2]) - 1, Number(match[3]));
  return new Intl.DateTimeFormat(locale(), { day: 'numeric', month: 'short', ...(day.getFullYear() === new Date().getFullYear() ? {} : { year: 'numeric' }) }).format(day);
}

/** The day and month of YYYYMMDD: "26 ott"; empty where there is none. */
export function dayMonthText(date) {
  const match = /^(\d{4})(\d{2})(\d{2})/.exec(date || '');
  return match ? new Intl.DateTimeFormat(locale(), { day: 'numeric', month: 'short' }).format(new Date(Number(match[1]), Number(match[2]) - 1, Number(match[3]))) : '—';
}

/** A number with at most so many decimals. */
export const numberText = (value, decimals) => new Intl.NumberFormat(locale(), { maximumFractionDigits: decimals, useGrouping: false }).format(value);

/** How long before `reference` (YYYYMMDD) a date is: "6 days before". */
export function distanceText(date, reference) {
  const [one, other] = [date, reference].map(text => (/^\d{8}$/.test(text ?? '') ? Date.UTC(Number(text.slice(0, 4)), Number(text.slice(4, 6)) - 1, Number(text.slice(6, 8))) : NaN));
  if (Number.isNaN(one) || Number.isNaN(other)) return '';
  const days = Math.round((other - one) / 86400000);
  if (days === 0) return t('sameDay');
  const [value, unit] = Math.abs(days) < 60 ? [Math.abs(days), 'day'] : Math.abs(days) < 183 ? [Math.round(Math.abs(days) / 7), 'week'] : Math.abs(days) < 700 ? [Math.round(Math.abs(days) / 30.44), 'month'] : [Math.round(Math.abs(days) / 365.25), 'year'];
  const amount = new Intl.NumberFormat(locale(), { style: 'unit', unit, unitDisplay: 'long' }).format(value);
  return t(days > 0 ? 'before' : 'after', { amount });
}

/** The day of an RFC 3339 moment at the hospitals: YYYYMMDD. */
export const dayOf = moment => new Intl.DateTimeFormat('en-CA', { ...HERE, year: 'numeric', month: '2-digit', day: '2-digit' }).format(new Date(moment)).replaceAll('-', '');

/** A clock time of an RFC 3339 moment, at the hospitals. */
export function clockText(moment) {
  return new Intl.DateTimeFormat(locale(), { ...HERE, hour: '2-digit', minute: '2-digit' }).format(new Date(moment));
}

/** A day and clock time of an RFC 3339 moment, at the hospitals. */
export function momentText(moment) {
  return new Intl.DateTimeFormat(locale(), { ...HERE, day: 'numeric', month: 'short', year: 'numeric', hour: '2-digit', minute: '2-digit' }).format(new Date(moment));
}

/** Whole years between a birth date and today, or null. */
export function age(birthDate) {
  const match = /^(\d{4})(\d{2})(\d{2})$/.exec(birthDate || '');
  if (!match) return null;
  const today = new Date();
  const had = today.getMonth() + 1 > Number(match[2]) || (today.getMonth() + 1 === Number(match[2]) && today.getDate() >= Number(match[3]));
  return today.getFullYear() - Number(match[1]) - (had ? 0 : 1);
}

/** FAMILY^GIVEN^MIDDLE as one reads a name. */
export function nameText(name) {
  const [family = '', given = '', middle = ''] = (name || '').split('^');
  const rest = [given, middle].filter(Boolean).join(' ');
  const softened = rest === rest.toUpperCase() ? rest.toLowerCase().replace(/(^|[\s'-])\p{L}/gu, letter => letter.toUpperCase()) : rest;
  return [family, softened].filter(Boolean).join(' ') || t('unnamed');
}
