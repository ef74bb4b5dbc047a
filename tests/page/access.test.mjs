// The page for people who use the keyboard, a screen reader, or other colours.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { DESKTOP, PHONE } from './browser.mjs';
import { row } from './stories.test.mjs';

const axeSource = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** Fails with what axe finds in the page as it is. */
async function assertAccessible(page, view) {
  await page.evaluate(axeSource);
  const violations = await page.evaluate(async () => {
    const { violations: found } = await globalThis.axe.run(document, { resultTypes: ['violations'] });
    return found.map((one) => `${one.id}: ${one.nodes.map((node) => `${node.html.slice(0, 120)} ${node.any[0]?.message ?? node.all[0]?.message ?? ''}`).join(' | ')}`);
  });
  assert.deepEqual(violations, [], `${view}: axe complains`);
}

/** The views with the keys that lead to them, from a list in which a torrent is selected. */
const VIEWS = { add: 'a', limits: 'b', labels: 'l', move: 'm', remove: 'Delete', rename: 'F2', settings: ',', keyboard: '?', menu: 'Shift+F10' };

async function visitAll(stage, options) {
  const page = await stage.page({ mock: { count: 16, isStill: true }, bypassCSP: true, ...options });
  await assertAccessible(page, 'list');
  await page.locator('.body .row').first().click();
  for (const tab of await page.getByRole('tab').all()) {
    await tab.click();
    await page.waitForTimeout(300);
    await assertAccessible(page, await tab.textContent());
  }
  if (options.size === PHONE) await page.locator('.back').click();
  await page.locator('#list').focus();
  for (const [view, key] of Object.entries(VIEWS)) {
    await page.keyboard.press(key);
    await page.locator('dialog, .menu').first().waitFor();
    await assertAccessible(page, view);
    await page.keyboard.press('Escape');
  }
  await row(page, 'NASA').click();
  await page.locator('.problem').waitFor();
  await assertAccessible(page, 'an error');
}

export const tests = [
  { name: 'axe finds nothing on a light desktop', run: (stage) => visitAll(stage, { size: DESKTOP, scheme: 'light' }) },
  { name: 'axe finds nothing on a dark desktop in Russian', run: (stage) => visitAll(stage, { size: DESKTOP, scheme: 'dark', locale: 'ru-RU' }) },
  { name: 'axe finds nothing on a dark phone', run: (stage) => visitAll(stage, { size: PHONE, scheme: 'dark' }) },
  { name: 'axe finds nothing on a light phone in Russian', run: (stage) => visitAll(stage, { size: PHONE, scheme: 'light', locale: 'ru-RU' }) },
  {
    name: 'axe finds nothing on an empty page, nor with a lost connection',
    async run(stage) {
      const mock = await stage.mock({ count: 0 });
      const page = await stage.page({ url: mock.url, bypassCSP: true });
      page.mayComplain = true;
      await page.getByText('No torrents yet').waitFor();
      await assertAccessible(page, 'empty');
      await mock.close();
      await page.getByText('The connection to btsync is lost').waitFor();
      await assertAccessible(page, 'lost');
      await mock.listen();
    },
  },
  {
    name: 'everything is done by the keyboard alone',
    async run(stage) {
      const mock = await stage.mock({ count: 12, isStill: true });
      const page = await stage.page({ url: mock.url });
      const press = async (...keys) => {
        for (const key of keys) await page.keyboard.press(key);
      };
      await row(page, 'debian').waitFor();
      await page.evaluate(() => document.body.focus());
      for (let n = 0; n < 40 && !(await page.evaluate(() => document.activeElement?.id === 'list')); n += 1) await press('Tab');
      await press('Home', 'ArrowDown', 'Shift+ArrowDown', 'Shift+ArrowDown');
      await page.getByText('3 torrents selected').waitFor();
      const active = await page.evaluate(() => document.getElementById(document.activeElement.getAttribute('aria-activedescendant'))?.textContent);
      assert.match(active, /Sintel/);
      await press('p');
      await row(page, 'Sintel').getByText('Finished').waitFor();
      assert.deepEqual(mock.log.findLast((entry) => entry.method === 'torrent_stop').params.ids, [2, 3, 4]);
      await press('Control+ArrowDown', 'Control+ArrowDown', 'Space');
      await page.getByText('4 torrents selected').waitFor();
      await press('Shift+F10', 'ArrowDown', 'Enter');
      await mock.logged('torrent_start_now');
      await press('End', 'Enter');
      await page.getByRole('heading', { name: 'NASA' }).waitFor();
      await press('3');
      assert.equal(await page.getByRole('tab', { name: 'Files' }).getAttribute('aria-selected'), 'true');
      for (let n = 0; n < 12 && !(await page.evaluate(() => document.activeElement?.id === 'files')); n += 1) await press('Tab');
      await page.locator('#files .row').nth(3).waitFor();
      await press('Home', 'ArrowDown', 'Space');
      assert.equal((await mock.logged('torrent_set')).params.files_unwanted?.length, 1);
      await press('ArrowLeft', 'ArrowLeft');
      assert.equal(await page.locator('#files .row').count(), 1);
      await press('Escape', 'Escape');
      await press('/');
      await page.keyboard.type('debian');
      await press('Escape', 'Home', 'Delete');
      const dialog = page.getByRole('dialog', { name: 'Remove the torrent?' });
      await dialog.waitFor();
      await page.keyboard.press('Enter');
      await page.getByText('No torrent matches.').waitFor();
      assert.deepEqual(mock.log.findLast((entry) => entry.method === 'torrent_remove').params, { ids: [1], delete_local_data: false });
      await press('?');
      await page.getByRole('dialog', { name: 'Keyboard' }).waitFor();
    },
  },
];
