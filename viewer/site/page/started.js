// Where a part of the page itself does not come, it is loaded once more as a whole; when that fails too, a person is told.

addEventListener('error', async ({ target }) => {
  if (!(target instanceof HTMLScriptElement)) return;
  const again = Object.assign(document.createElement('button'), { type: 'button', textContent: 'Riprova — Try again' });
  again.addEventListener('click', load);
  document.getElementById('app').replaceChildren('La pagina non è arrivata per intero. — The page did not come as a whole. ', again);
  if (performance.getEntriesByType('navigation')[0]?.type !== 'reload') await load();
}, true);

/** Load it again, with what its address said where no session has come of that yet. */
async function load() {
  const early = await import('./early.js').catch(() => null);
  await early?.begun.catch(() => early.token && history.replaceState(null, '', `#${early.token}`));
  location.reload();
}
