// Elements without markup: whatever text comes in from a hospital stays text.

/** What says a text once more, in the language of then: by the node whose text it is, or some of whose attributes. */
const spoken = new WeakMap();

function speaks(node, say) {
  spoken.set(node, [...(spoken.get(node) ?? []), say]);
  say();
  return node;
}

/** The children that there are; of a function what it answers, which `respeak` asks it again. */
function nodes(children) {
  return children.flat().filter(child => child !== null && child !== undefined && child !== false).map(child => {
    if (typeof child !== 'function') return child;
    const text = document.createTextNode('');
    return speaks(text, () => { text.data = child() || ''; });
  });
}

/** Another language is spoken: every text below that is a function's is asked for again. Whatever it stands in stays as it is. */
export function respeak(root = document.body) {
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_ELEMENT | NodeFilter.SHOW_TEXT);
  const all = [];
  for (let node = root; node; node = walker.nextNode()) if (spoken.has(node)) all.push(node);
  const [attributes, texts] = [all.filter(node => node.nodeType === Node.ELEMENT_NODE), all.filter(node => node.nodeType === Node.TEXT_NODE)];
  for (const node of [...attributes, ...texts]) for (const say of spoken.get(node)) say();
}

/** An element: `h('p.note', {id: 'x', onclick: f}, 'text', child)`. Children that are null or false are left out; what is said in the
 *  reader's language and stays is a function: `h('p', {title: () => t('pinWhy')}, () => t('pin'))`. */
export function h(name, properties = {}, ...children) {
  const [tag, ...classes] = name.split('.');
  const element = document.createElement(tag);
  if (classes.length) element.className = classes.join(' ');
  for (const [key, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === 'function' && !key.startsWith('on')) speaks(element, () => element.setAttribute(key, String(value())));
    else if (key.startsWith('on')) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? '' : String(value));
  }
  element.append(...nodes(children));
  return element;
}

/** Replace what an element holds. */
export function fill(element, ...children) {
  element.replaceChildren(...nodes(children));
  return element;
}

/** Tell a screen reader, without moving anybody's focus. */
export function say(text) {
  document.getElementById('said').textContent = text;
}
