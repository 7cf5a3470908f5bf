// Stock OHIF for the viewer's site, from its npm package: fetched, checked, trimmed, minified; never built or changed.
//
//   npm ci && npm run build        writes dist/ohif (about 27 MB, and gzipped copies of what compresses)
//
// What is left out: source maps, the ONNX runtime (ort/) of a segmentation tool that downloads models, the microscopy viewer,
// the stock configuration, which points to a public demo, and hosting files of others. Licences stay.

import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, extname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { constants, gzipSync } from 'node:zlib';
import { transform } from 'esbuild';

const PACKAGE = '@ohif/app@3.13.2';
const INTEGRITY = 'sha512-WZdxmpmG7rqFgW9ZJLcbgr3XCtLi1KDNPoMaeY5PPe6j4G4fjEjjkycZM6C6Zk2F87BKxFfpq+jd5xXZB9E8EA==';
const LEFT_OUT = [/\.map$/, /^ort\//, /^dicom-microscopy-viewer\//, /^app-config\.js$/, /^_headers$/, /^_redirects$/, /^google\.js$/, /^oidc-client\.min\.js$/, /^silent-refresh\.html$/, /^serve\.json$/, /^init-service-worker\.js$/, /^sw\.js$/];
const COMPRESSIBLE = new Set(['.js', '.css', '.wasm', '.html', '.json', '.svg']);

const here = dirname(fileURLToPath(import.meta.url));
const target = join(here, 'dist', 'ohif');

function* files(folder) {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) yield* files(path);
    else if (entry.isFile()) yield path;
  }
}

function fetchPackage(folder) {
  execFileSync('npm', ['pack', PACKAGE, '--silent', '--ignore-scripts', '--pack-destination', folder], { stdio: ['ignore', 'ignore', 'inherit'] });
  const [archive] = readdirSync(folder).filter(name => name.endsWith('.tgz'));
  const found = 'sha512-' + createHash('sha512').update(readFileSync(join(folder, archive))).digest('base64');
  if (found !== INTEGRITY) throw new Error(`${PACKAGE} is not what it was: ${found}`);
  execFileSync('tar', ['xzf', join(folder, archive), '-C', folder]);
  return join(folder, 'package');
}

async function minify(path) {
  const loader = extname(path) === '.css' ? 'css' : 'js';
  const { code } = await transform(readFileSync(path, 'utf8'), { loader, minify: true, legalComments: 'eof', logLevel: 'error' });
  writeFileSync(path, code);
}

// What a comparison loads of OHIF, beside its main bundle, in five waves one after the other: announced in its index, so that all are
// on their way at once. By webpack's numbers, which are this package's.
const STARTS = [100, 1180, 1483, 1673, 2623, 2779, 3500, 3760, 4683, 5406, 5696, 6489, 6495, 6749, 6938, 7248, 7499, 781, 8478, 89, 9116, 9290, 9383, 9415, 8492];
const OURS = ['codestream', 'in-ohif', 'levels', 'looks', 'measurements', 'mended', 'session', 'text', 'dom'];

function announceChunks(folder) {
  const names = readdirSync(folder);
  const links = STARTS.map(number => {
    const found = names.filter(name => name.startsWith(`${number}.bundle.`) && name.endsWith('.js'));
    if (found.length !== 1) throw new Error(`Which file is chunk ${number}? ${found}`);
    return `<link rel="preload" as="script" href="/${found[0]}">`;
  });
  const ours = OURS.map(name => `<link rel="modulepreload" href="/page/${name}.js">`);
  const path = join(folder, 'index.html');
  writeFileSync(path, readFileSync(path, 'utf8').replace('</head>', `${links.join('')}${ours.join('')}</head>`));
}

// Our policy lets no inline script run, and OHIF's index has two: they move, unchanged, into files. Its service worker, which
// would keep files beyond our caching rules, is not installed.
function moveInlineScripts(folder) {
  const path = join(folder, 'index.html');
  let count = 0;
  const html = readFileSync(path, 'utf8').replace(/<script[^>]*init-service-worker\.js"[^>]*><\/script>/, '').replace(/<script>([\s\S]*?)<\/script>/g, (_, code) => {
    count += 1;
    writeFileSync(join(folder, `inline-${count}.js`), code);
    return `<script src="/inline-${count}.js"></script>`;
  });
  writeFileSync(path, html);
}

const work = mkdtempSync(join(tmpdir(), 'ohif-'));
try {
  const unpacked = fetchPackage(work);
  const dist = join(unpacked, 'dist');
  const staged = join(work, 'staged');
  mkdirSync(staged);
  for (const path of files(dist)) {
    const name = relative(dist, path);
    if (LEFT_OUT.some(pattern => pattern.test(name))) continue;
    cpSync(path, join(staged, name), { recursive: true });
  }
  for (const name of readdirSync(unpacked).filter(name => /^(LICENSE|NOTICE)/i.test(name))) cpSync(join(unpacked, name), join(staged, `ohif-${name}.txt`));
  moveInlineScripts(staged);
  announceChunks(staged);
  for (const path of files(staged)) if (['.js', '.css'].includes(extname(path))) await minify(path);
  // The codecs' glue code makes functions from text. Only the worker that decodes may, under a policy of its own, see docs/viewer.md.
  const decoder = readdirSync(staged).filter(name => /^\d+\.bundle\.[0-9a-f]+\.js$/.test(name) && readFileSync(join(staged, name), 'utf8').includes('decodeTask'));
  if (decoder.length !== 1) throw new Error(`Which file decodes? ${decoder}`);
  writeFileSync(join(staged, 'ohif.json'), JSON.stringify({ package: PACKAGE, integrity: INTEGRITY, decoder: decoder[0] }) + '\n');
  let bytes = 0;
  for (const path of [...files(staged)]) {
    bytes += statSync(path).size;
    if (!COMPRESSIBLE.has(extname(path)) || statSync(path).size < 1024) continue;
    writeFileSync(path + '.gz', gzipSync(readFileSync(path), { level: constants.Z_BEST_COMPRESSION }));
  }
  mkdirSync(dirname(target), { recursive: true });
  if (existsSync(target)) rmSync(target, { recursive: true });
  cpSync(staged, target, { recursive: true });
  console.log(`${PACKAGE} in ${relative(process.cwd(), target) || '.'}: ${(bytes / 1e6).toFixed(1)} MB`);
} finally {
  rmSync(work, { recursive: true, force: true });
}
