// The files of the page: their size, translations, types and rules, and how they are served.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readdir, readFile, stat } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { POLICY } from './mock.mjs';

const HERE = fileURLToPath(new URL('.', import.meta.url));
const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const PAGE = `${ROOT}src/service/page/`;
const LARGEST_PAGE = 120_000;

const run = promisify(execFile);
const pageFiles = async () => (await readdir(PAGE, { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile())
  .map((entry) => `${entry.parentPath}/${entry.name}`);
const language = async (name) => JSON.parse(await readFile(`${PAGE}lang/${name}.json`, 'utf8'));

/** Runs a checker; its output is the reason of a failure. */
async function check(program, words, cwd) {
  try {
    await run(`${HERE}node_modules/.bin/${program}`, words, { cwd });
  } catch (error) {
    throw new Error(`${error.stdout}${error.stderr}`);
  }
}

const placeholders = (message) => [...new Set(JSON.stringify(message).match(/\{\w+\}/g) ?? [])].sort().join();

export const tests = [
  {
    name: 'the page has at most 120 KB',
    async run(stage) {
      const sizes = await Promise.all((await pageFiles()).map(async (path) => (await stat(path)).size));
      const sum = sizes.reduce((total, size) => total + size, 0);
      stage.note(`${sum} bytes in ${sizes.length} files`);
      assert.ok(sum <= LARGEST_PAGE, `${sum} bytes`);
    },
  },
  {
    name: 'the scripts pass the type check',
    run: () => check('tsc', ['--noEmit', '-p', HERE], HERE),
  },
  {
    name: 'the scripts pass the rules',
    run: () => check('eslint', ['-c', 'tests/page/eslint.config.mjs', 'src/service/page', 'tests/page'], ROOT),
  },
  {
    name: 'translations have the text, the placeholders and the plural forms of the source',
    async run() {
      const source = (await Promise.all((await pageFiles()).filter((path) => path.endsWith('.js')).map((path) => readFile(path, 'utf8')))).join('\n');
      const [english, russian] = [await language('en'), await language('ru')];
      const literals = [...source.matchAll(/\bt\('((?:[^'\\]|\\.)*)'/g)].map((match) => match[1]);
      assert.ok(literals.length > 100);
      for (const key of [...literals, ...Object.keys(english)]) assert.ok(key in russian, `ru.json lacks “${key}”`);
      for (const [key, message] of Object.entries({ ...english, ...russian })) {
        assert.ok(source.includes(`'${key}'`) || source.includes(`${key}: [`) || source.includes(`${key}'`), `no source has “${key}”`);
        assert.equal(placeholders(message), placeholders(key), key);
      }
      const forms = (messages) => Object.entries(messages).filter(([, message]) => typeof message === 'object');
      for (const [key, message] of forms(english)) assert.deepEqual(Object.keys(message), ['one', 'other'], key);
      for (const [key, message] of forms(russian)) {
        assert.deepEqual(Object.keys(message), ['one', 'few', 'many'], key);
      }
    },
  },
  {
    name: 'every file of the page is served under a strict policy, and no other place is asked',
    anyServer: true,
    async run(stage) {
      const asked = [];
      const page = await stage.page();
      const answer = await page.request.get(page.url());
      const { 'content-security-policy': policy, 'x-content-type-options': sniffing } = answer.headers();
      assert.deepEqual(policy.split(';').map((part) => part.trim()).sort(), POLICY.split(';').map((part) => part.trim()).sort());
      assert.equal(sniffing, 'nosniff');
      page.on('request', (request) => asked.push(request.url()));
      await page.reload();
      await page.getByRole('toolbar').waitFor();
      const origin = new URL(page.url()).origin;
      assert.deepEqual(asked.filter((url) => new URL(url).origin !== origin), []);
      for (const path of await pageFiles()) {
        const found = await page.request.get(new URL(path.slice(PAGE.length), page.url()).href);
        assert.equal(found.status(), 200, path);
      }
      assert.doesNotMatch(await answer.text(), /style=|<script>|javascript:| on\w+=/);
    },
  },
];
