// What does not wait for the page's other modules: the token is taken out of the address, the session and the texts are asked for.

import { begin, takeToken } from './session.js';
import { loadTexts } from './text.js';

export const token = takeToken();
export const begun = begin(token);
export const texts = loadTexts();
for (const asked of [begun, texts]) asked.catch(() => {}); // the page tells of it
