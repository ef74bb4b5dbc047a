// Runs the tests of the page and prints a line for each:
//     node tests/page/run.mjs [--server URL] [--only TEXT] [--no-figures]
// Without a server, each test starts a mock of its own. With one, only those tests run that need nothing but the service's own
// interface; they add torrents to it and remove them again. --no-figures leaves out the tests that measure time, for machines that
// do other work, too. The exit code is 1 if a test failed.

import { launch, openPage } from './browser.mjs';
import { Mock } from './mock.mjs';
import { tests as assets } from './assets.test.mjs';
import { tests as stories } from './stories.test.mjs';
import { tests as access } from './access.test.mjs';
import { tests as trouble } from './trouble.test.mjs';
import { tests as speed } from './speed.test.mjs';

const TEST_MS = 120_000;

const option = (name) => (process.argv.includes(name) ? process.argv[process.argv.indexOf(name) + 1] : '');
const server = option('--server');
const only = option('--only');

/** What a test gets: mocks and pages, which are closed after it, and notes for its line. */
class Stage {
  constructor(browser) {
    this.browser = browser;
    this.cleanups = [];
    this.notes = [];
    this.server = server;
  }

  async mock(options) {
    const mock = new Mock(options);
    await mock.listen();
    this.cleanups.push(() => mock.close());
    return mock;
  }

  /** A page of the server that was given, or else of a new mock. */
  async page(options = {}) {
    const url = options.url ?? (server || (await this.mock(options.mock)).url);
    const page = await openPage(this.browser, url, options);
    this.cleanups.push(() => page.context().close());
    this.pages = [...(this.pages ?? []), page];
    return page;
  }

  note(text) {
    this.notes.push(text);
  }

  async end() {
    for (const cleanup of this.cleanups.reverse()) await cleanup();
  }
}

/** What pages complained about, apart from answers that tests provoke. */
function complaints(stage) {
  return (stage.pages ?? []).filter((page) => !page.mayComplain).flatMap((page) => page.errors).filter((text) => !/409|favicon/.test(text));
}

async function runTest(test, browser) {
  const stage = new Stage(browser);
  const started = Date.now();
  let timer;
  try {
    const limit = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error('took too long')), TEST_MS); });
    await Promise.race([test.run(stage), limit]);
    const errors = complaints(stage);
    if (errors.length) throw new Error(`the browser complained: ${errors.join('; ')}`);
    console.log(`ok      ${test.name}${stage.notes.length ? ` (${stage.notes.join(', ')})` : ''} ${Date.now() - started} ms`);
    return true;
  } catch (error) {
    console.log(`FAILED  ${test.name}: ${error.stack ?? error}`);
    return false;
  } finally {
    clearTimeout(timer);
    await stage.end().catch(() => {});
  }
}

const measured = process.argv.includes('--no-figures') ? [] : speed;
const chosen = [...assets, ...stories, ...access, ...trouble, ...measured]
  .filter((test) => (!server || test.anyServer) && test.name.includes(only));
const browser = await launch();
let failed = 0;
for (const test of chosen) if (!(await runTest(test, browser))) failed += 1;
await browser.close();
console.log(`${chosen.length - failed} of ${chosen.length} tests passed`);
process.exit(failed || !chosen.length ? 1 : 0);
