// Takes the pictures of the page for the documents: node tests/page/pictures.mjs [FOLDER]

import { stat } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { launch, openPage, PHONE } from './browser.mjs';
import { Mock } from './mock.mjs';

const LARGEST = 150_000;
const folder = process.argv[2] ?? fileURLToPath(new URL('../../docs/pictures/', import.meta.url));

const mock = new Mock();
const url = await mock.listen();
const browser = await launch();

async function take(name, options, prepare) {
  const page = await openPage(browser, url, options);
  await page.locator('.body .row').first().waitFor();
  await prepare(page);
  const path = `${folder.replace(/\/$/, '')}/${name}.png`;
  await page.screenshot({ path });
  const { size } = await stat(path);
  console.log(`${path}: ${size} bytes`);
  if (size > LARGEST) process.exitCode = 1;
  await page.context().close();
}

const openPieces = async (page) => {
  await page.locator('.body .row').first().click();
  await page.getByRole('tab', { name: 'Pieces' }).click();
  await page.waitForTimeout(2500);
};
await take('page', { scheme: 'light', size: { width: 1200, height: 760 } }, openPieces);
await take('page-phone', { scheme: 'dark', size: PHONE }, (page) => page.waitForTimeout(1500));
await browser.close();
await mock.close();
