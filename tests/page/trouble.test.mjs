// A lost connection, two browsers, and torrents whose makers mean harm.

import assert from 'node:assert/strict';
import { row } from './stories.test.mjs';

const EVIL = '<img src=x onerror="globalThis.wasHacked=1"><script>globalThis.wasHacked=2</script>';

export const tests = [
  {
    name: 'a page that lost events asks for everything again',
    async run(stage) {
      const mock = await stage.mock({ count: 2, isStill: true });
      const page = await stage.page({ url: mock.url });
      await page.locator('.body .row').nth(1).waitFor();
      mock.torrents.get(2).name = 'changed without an event';
      for (const stream of mock.streams) stream.write('event: lost\ndata: 1\n\n');
      await row(page, 'changed without an event').waitFor();
    },
  },
  {
    name: 'a lost connection is shown, and comes back with what changed meanwhile',
    async run(stage) {
      const mock = await stage.mock({ count: 4, isStill: true });
      const page = await stage.page({ url: mock.url });
      page.mayComplain = true;
      await row(page, 'debian').waitFor();
      await mock.close();
      await page.getByRole('alert').getByText('The connection to btsync is lost').waitFor();
      await page.keyboard.press('a');
      await page.keyboard.press('Escape');
      mock.torrents.delete(1);
      mock.torrents.get(2).name = 'Renamed meanwhile';
      await mock.listen();
      await page.getByRole('button', { name: 'Try now' }).click();
      await page.getByText('Connected again').waitFor();
      await row(page, 'Renamed meanwhile').waitFor();
      assert.equal(await row(page, 'debian').count(), 0);
    },
  },
  {
    name: 'the page works below the prefix of a reverse proxy',
    async run(stage) {
      const mock = await stage.mock({ count: 2, prefix: '/deep/down' });
      const page = await stage.page({ url: mock.url });
      await row(page, 'debian').click();
      await page.getByRole('tab', { name: 'Files' }).click();
      await page.keyboard.press('p');
      await row(page, 'debian').first().getByText('Stopped').waitFor();
      await page.getByRole('button', { name: 'Open debian' }).waitFor();
    },
  },
  {
    name: 'two browsers see each other’s changes',
    async run(stage) {
      const mock = await stage.mock({ count: 5, isStill: true });
      const [one, two] = [await stage.page({ url: mock.url }), await stage.page({ url: mock.url })];
      await row(one, 'debian').click();
      await one.keyboard.press('p');
      await row(two, 'debian').getByText('Stopped').waitFor();
      await two.getByRole('button', { name: 'Alternative limits' }).click();
      await one.locator('button[aria-pressed=true][aria-label="Alternative limits"]').waitFor();
      await one.getByText(/of 500 kB\/s/).waitFor();
      await row(two, 'archlinux').click();
      await two.keyboard.press('Delete');
      await two.getByRole('dialog').getByRole('button', { name: 'Remove', exact: true }).click();
      await row(one, 'archlinux').waitFor({ state: 'detached' });
    },
  },
  {
    name: 'names of torrents, files, peers and trackers stay text',
    async run(stage) {
      const mock = await stage.mock({ torrents: [{ kind: 'error', name: EVIL, files: [{ name: `${EVIL}/${EVIL.replace('/', '_')}`, length: 1e6 }] }],
        isStill: true });
      const [torrent] = mock.torrents.values();
      const peer = { address: '192.0.2.1', port: 1, client_name: EVIL, flag_str: 'D<b>', progress: 1, rate_to_client: 1, rate_to_peer: 1 };
      Object.assign(torrent, { labels: [EVIL], comment: EVIL, creator: EVIL, error_string: EVIL, download_dir: `/${EVIL}`, peers: [peer],
        tracker_list: `http://${EVIL}/announce\n` });
      Object.assign(torrent.trackers[0], { announce: `http://${EVIL}`, last_announce_result: EVIL, has_announced: true, last_announce_succeeded: false });
      const page = await stage.page({ url: mock.url });
      const asked = [];
      page.on('request', (request) => asked.push(new URL(request.url()).pathname));
      await row(page, 'onerror').click();
      for (const tab of await page.getByRole('tab').all()) {
        await tab.click();
        await page.waitForTimeout(300);
      }
      for (const key of ['b', 'l', 'm', 'Delete', 'F2', 'Shift+F10']) {
        await page.keyboard.press(key);
        await page.locator('dialog, .menu').first().waitFor();
        await page.keyboard.press('Escape');
      }
      await page.getByRole('button', { name: 'Add…' }).click();
      await page.getByLabel('Magnet links or URLs').fill(`magnet:?xt=urn:btih:0123456789abcdef0123456789abcdef01234567&dn=${encodeURIComponent(EVIL)}`);
      await page.getByRole('dialog').getByRole('button', { name: 'Add stopped' }).click();
      await page.getByRole('status').filter({ hasText: 'onerror' }).first().waitFor();
      assert.equal(await page.locator('img').count(), 0);
      assert.equal(await page.evaluate(() => globalThis.wasHacked), undefined);
      assert.equal(asked.some((path) => path.endsWith('/x')), false);
    },
  },
];
