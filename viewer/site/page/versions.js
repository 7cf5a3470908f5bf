// What is different between a version of a report and the one before it, word by word. Versions of one report only: between two
// exams, or two hospitals, other words mean nothing.

import { h } from './dom.js';
import { t } from './text.js';

const MOST_WORDS = 20000;
const MOST_CHANGES = 800;

/**
 * The words of a text against those of the one before: `[[kind, words], …]`, kind `same`, `added` or `removed`, in order. The
 * shortest way there is (Myers 1986); where texts have little in common, all of one and all of the other.
 */
export function changes(before, after) {
  const [old, now] = [words(before), words(after)];
  let head = 0;
  while (head < Math.min(old.length, now.length) && same(old[head], now[head])) head += 1;
  let tail = 0;
  while (tail < Math.min(old.length, now.length) - head && same(old[old.length - 1 - tail], now[now.length - 1 - tail])) tail += 1;
  const between = shortest(old.slice(head, old.length - tail), now.slice(head, now.length - tail));
  return joined([...now.slice(0, head).map(word => ['same', word]), ...between, ...now.slice(now.length - tail).map(word => ['same', word])]);
}

/** A section's paragraphs with what was added and removed marked, for eyes and for ears; `before` is that section's text before. */
export function marked(before, after) {
  const paragraphs = [[]];
  for (const [kind, text] of changes(before.trim(), after.trim())) {
    text.split(/\n{2,}/).forEach((piece, index) => {
      if (index) paragraphs.push([]);
      if (piece) paragraphs.at(-1).push(kind === 'same' ? piece : mark(kind, piece));
    });
  }
  return paragraphs.filter(pieces => pieces.length).map(pieces => h('p', {}, pieces));
}

/** The sections of a version against those of the one before: `[section, text before]`, and what is there no more in its place. */
export function paired(before, after) {
  const name = section => `${section.kind} ${section.kind ? '' : section.title}`;
  const left = [...before];
  const pairs = after.map(section => {
    const at = left.findIndex(other => name(other) === name(section));
    return [section, at < 0 ? '' : left.splice(at, 1)[0].text];
  });
  for (const gone of left) {
    const previous = before[before.indexOf(gone) - 1];
    const at = previous ? pairs.findIndex(([section]) => name(section) === name(previous)) : -1;
    pairs.splice(at + 1, 0, [{ ...gone, text: '' }, gone.text]);
  }
  return pairs;
}

function mark(kind, text) {
  return h(kind === 'added' ? 'ins' : 'del', {}, h('span.unseen', {}, () => `${t(kind)}: `), text, h('span.unseen', {}, () => ` ${t('markEnds')} `));
}

/** Words and marks, each with the blanks that follow it, which count for nothing in the comparison. */
const words = text => text.match(/(?:[\p{L}\p{N}]+(?:[.,'’/-][\p{L}\p{N}]+)*|[^\s\p{L}\p{N}])\s*/gu) ?? [];

const same = (one, other) => one.trimEnd() === other.trimEnd();

function shortest(old, now) {
  const all = [...old.map(word => ['removed', word]), ...now.map(word => ['added', word])];
  if (!old.length || !now.length || old.length + now.length > MOST_WORDS) return all;
  const steps = [];
  const reached = new Map([[1, 0]]);
  for (let changed = 0; changed <= Math.min(MOST_CHANGES, old.length + now.length); changed += 1) {
    steps.push(new Map(reached));
    for (let diagonal = -changed; diagonal <= changed; diagonal += 2) {
      const from = cameFrom(reached, diagonal, changed);
      let x = reached.get(from) + (from < diagonal ? 1 : 0);
      while (x < old.length && x - diagonal < now.length && same(old[x], now[x - diagonal])) x += 1;
      reached.set(diagonal, x);
      if (x >= old.length && x - diagonal >= now.length) return wayBack(steps, old, now);
    }
  }
  return all;
}

const cameFrom = (reached, diagonal, changed) => (
  diagonal === -changed || (diagonal !== changed && reached.get(diagonal - 1) < reached.get(diagonal + 1)) ? diagonal + 1 : diagonal - 1);

function wayBack(steps, old, now) {
  const found = [];
  let [x, y] = [old.length, now.length];
  for (let changed = steps.length - 1; changed >= 0; changed -= 1) {
    const from = cameFrom(steps[changed], x - y, changed);
    const before = steps[changed].get(from);
    for (; x > before && y > before - from; x -= 1, y -= 1) found.push(['same', now[y - 1]]);
    if (changed) found.push(x === before ? ['added', now[y - 1]] : ['removed', old[x - 1]]);
    [x, y] = [before, before - from];
  }
  return found.reverse();
}

/** Pieces of one kind together. */
function joined(pieces) {
  const found = [];
  for (const [kind, text] of pieces) {
    if (found.at(-1)?.[0] === kind) found.at(-1)[1] += text;
    else found.push([kind, text]);
  }
  return found;
}
