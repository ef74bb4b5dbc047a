// What users do with the page, on a desktop and on a phone, in both languages.

import assert from 'node:assert/strict';
import { PHONE } from './browser.mjs';
import { makeTorrentFile } from './torrent-file.mjs';

const MAGNET = 'magnet:?xt=urn:btih:0123456789abcdef0123456789abcdef01234567&dn=Linked+torrent';

export const row = (page, name) => page.getByRole('row').filter({ hasText: name });

/** A torrent file for the file chooser. */
export const upload = (name, files) => ({ name: `${name}.torrent`, mimeType: 'application/x-bittorrent', buffer: makeTorrentFile(name, files) });

/** Adds a torrent file with the dialog, and presses its button of that name. */
async function add(page, name, files, button) {
  await page.getByRole('button', { name: /^Add…|^Добавить…/ }).click();
  await page.locator('dialog input[type=file]').setInputFiles(upload(name, files));
  await page.getByRole('dialog').getByRole('button', { name: button, exact: true }).click();
}

async function remove(page, name) {
  await row(page, name).click();
  await page.keyboard.press('Delete');
  await page.getByRole('dialog').getByRole('button', { name: 'Remove', exact: true }).click();
  await row(page, name).waitFor({ state: 'detached' });
}

export const tests = [
  {
    name: 'a newcomer chooses a torrent and a folder, starts it, and watches the bar turn green',
    async run(stage) {
      const mock = await stage.mock({ count: 0 });
      const page = await stage.page({ url: mock.url });
      await page.getByRole('button', { name: 'Add a torrent…' }).click();
      await page.locator('dialog input[type=file]').setInputFiles(upload('holiday pictures', [{ path: 'a.jpg', length: 4e6 }]));
      await page.getByLabel('Folder', { exact: true }).fill('/srv/pictures');
      await page.getByRole('dialog').getByRole('button', { name: 'Start', exact: true }).click();
      const details = page.getByRole('region', { name: 'Details' });
      await details.getByRole('heading', { name: 'holiday pictures' }).waitFor();
      assert.equal(mock.log.find((entry) => entry.method === 'torrent_add').params.download_dir, '/srv/pictures');
      for (const name of ['Size', 'Received', 'Active peers']) await details.getByText(name, { exact: true }).waitFor();
      const [torrent] = mock.torrents.values();
      const colours = () => page.locator('.piece-bar').evaluate((canvas) => {
        const { data } = canvas.getContext('2d').getImageData(0, Math.floor(canvas.height / 2), canvas.width, 1);
        const sums = { yellow: 0, green: 0 };
        for (let at = 0; at < data.length; at += 4) {
          if (data[at] > 200 && data[at + 1] > 150 && data[at + 2] < 60) sums.yellow += 1;
          else if (data[at] < 90 && data[at + 1] > 130) sums.green += 1;
        }
        return sums;
      });
      torrent.states.fill(1);
      mock.dirty.add(torrent.id);
      await page.waitForTimeout(4000);
      torrent.states.fill(2);
      mock.dirty.add(torrent.id);
      await page.locator('.piece-bar[aria-label^="16 of 16"]').waitFor();
      const { green, yellow } = await colours();
      assert.ok(green > 500 && yellow === 0, `${green} green, ${yellow} yellow`);
      await details.getByText(/Seeding/).waitFor();
    },
  },
  {
    name: 'a torrent file is added stopped, started, stopped and removed',
    anyServer: true,
    async run(stage) {
      const page = await stage.page({ mock: { count: 3 } });
      await add(page, 'story one', [{ path: 'one.bin', length: 300_000 }, { path: 'sub/two.mp4', length: 400_000 }], 'Add stopped');
      await row(page, 'story one').getByText('Stopped').waitFor();
      await row(page, 'story one').click();
      await page.getByRole('toolbar').getByRole('button', { name: 'Start', exact: true }).click();
      await row(page, 'story one').getByText(/Downloading|Queued|Stalled/).waitFor();
      await page.getByRole('toolbar').getByRole('button', { name: 'Stop', exact: true }).click();
      await row(page, 'story one').getByText('Stopped').waitFor();
      await page.getByRole('tab', { name: 'Files' }).click();
      await page.getByRole('row', { name: /one\.bin/ }).getByRole('checkbox').uncheck();
      await page.getByRole('row', { name: /story one/ }).last().getByRole('checkbox').waitFor();
      await page.getByRole('tab', { name: 'General' }).click();
      await remove(page, 'story one');
    },
  },
  {
    name: 'a torrent is renamed and labelled, and the filters find it',
    anyServer: true,
    async run(stage) {
      const page = await stage.page({ mock: { count: 3 } });
      await add(page, 'story two', [{ path: '', length: 300_000 }], 'Add stopped');
      await row(page, 'story two').click();
      await page.keyboard.press('F2');
      await page.getByLabel('Name', { exact: true }).fill('story renamed');
      await page.keyboard.press('Enter');
      await row(page, 'story renamed').waitFor();
      await row(page, 'story renamed').click();
      await page.keyboard.press('l');
      await page.getByLabel('Labels, separated by commas').fill('test label, other');
      await page.keyboard.press('Enter');
      await page.getByRole('button', { name: /test label/ }).click();
      await page.getByLabel('Search torrents').fill('renamed');
      assert.equal(await page.locator('.body .row:visible').filter({ hasText: 'story' }).count(), 1);
      await page.getByLabel('Search torrents').fill('no such thing');
      await page.getByText('No torrent matches.').waitFor();
      await page.getByLabel('Search torrents').fill('');
      await remove(page, 'story renamed');
    },
  },
  {
    name: 'files are chosen before the start',
    async run(stage) {
      const mock = await stage.mock({ count: 1 });
      const page = await stage.page({ url: mock.url });
      await page.getByRole('button', { name: 'Add…' }).click();
      await page.locator('dialog input[type=file]').setInputFiles(upload('chosen', [{ path: 'a.bin', length: 1e6 }, { path: 'b.bin', length: 2e6 }]));
      await page.getByText('2 of 2 files, 3.00 MB').waitFor();
      await page.getByRole('dialog').getByRole('checkbox', { name: 'Download a.bin' }).uncheck();
      await page.getByText('1 of 2 files, 2.00 MB').waitFor();
      await page.getByLabel('Priority of b.bin').selectOption('High');
      await page.getByRole('dialog').getByRole('button', { name: 'Start', exact: true }).click();
      await row(page, 'chosen').waitFor();
      const { params } = mock.log.find((entry) => entry.method === 'torrent_add');
      assert.deepEqual([params.files_unwanted, params.priority_high, params.paused], [[0], [1], false]);
    },
  },
  {
    name: 'a magnet link comes by the address, by pasting and by dropping',
    async run(stage) {
      const mock = await stage.mock({ count: 1 });
      const page = await stage.page({ url: `${mock.url}?add=${encodeURIComponent(MAGNET)}` });
      const links = page.getByLabel('Magnet links or URLs');
      await links.waitFor();
      assert.equal(await links.inputValue(), MAGNET);
      assert.equal(page.url(), mock.url);
      assert.equal(mock.log.some((entry) => entry.method === 'torrent_add'), false);
      await page.getByLabel('Choose files when the metadata arrives').check();
      await page.getByRole('dialog').getByRole('button', { name: 'Start', exact: true }).click();
      await row(page, 'Linked torrent').getByText('Getting metadata').waitFor();
      mock.receiveMetadata(2);
      await page.getByRole('checkbox', { name: 'Download README.txt' }).waitFor();
      await row(page, 'Linked torrent').getByText('Stopped').waitFor();
      for (const kind of ['paste', 'drop']) {
        await page.evaluate(([type, link]) => {
          const data = new DataTransfer();
          data.setData('text/plain', link);
          const event = type === 'paste' ? new ClipboardEvent(type, { clipboardData: data, bubbles: true, cancelable: true })
            : new DragEvent(type, { dataTransfer: data, bubbles: true, cancelable: true });
          document.body.dispatchEvent(event);
        }, [kind, MAGNET]);
        assert.equal(await links.inputValue(), MAGNET, kind);
        await page.keyboard.press('Escape');
      }
    },
  },
  {
    name: 'a linked torrent does not stop before the page knows its files, whatever else happens',
    async run(stage) {
      const mock = await stage.mock({ count: 1, isStill: true });
      const page = await stage.page({ url: `${mock.url}?add=${encodeURIComponent(MAGNET)}` });
      mock.withholdsAdded = true;
      await page.getByLabel('Choose files when the metadata arrives').check();
      await page.getByRole('dialog').getByRole('button', { name: 'Start', exact: true }).click();
      await page.getByText('Linked torrent added').waitFor();
      Object.assign(mock.torrents.get(1), { name: 'another event' });
      mock.dirty.add(1);
      await row(page, 'another event').waitFor();
      assert.equal(mock.log.some((entry) => entry.method === 'torrent_stop'), false);
      mock.receiveMetadata(2);
      await row(page, 'Linked torrent').getByText('Stopped').waitFor();
    },
  },
  {
    name: 'an address with malformed escapes opens the page nevertheless',
    async run(stage) {
      const mock = await stage.mock({ count: 1, isStill: true });
      const page = await stage.page({ url: `${mock.url}#%` });
      await page.locator('.body .row').waitFor();
    },
  },
  {
    name: 'several torrents are selected and get limits, a folder and another place in the queue',
    async run(stage) {
      const mock = await stage.mock({ count: 8, isStill: true });
      const page = await stage.page({ url: mock.url });
      const rows = page.locator('.body .row');
      await rows.nth(1).click();
      await rows.nth(3).click({ modifiers: ['Shift'] });
      await rows.nth(5).click({ modifiers: ['Control'] });
      await page.getByText('4 torrents selected').waitFor();
      await page.keyboard.press('b');
      await page.getByLabel('Limit downloads', { exact: true }).check();
      await page.getByLabel('Limit downloads, kB/s').fill('321');
      await page.getByRole('button', { name: 'Save' }).click();
      await page.getByRole('dialog').waitFor({ state: 'detached' });
      const { params } = mock.log.findLast((entry) => entry.method === 'torrent_set');
      assert.deepEqual([params.ids.length, params.download_limit, params.download_limited, params.upload_limit], [4, 321, true, undefined]);
      await rows.nth(5).click({ button: 'right' });
      await page.getByRole('menuitem', { name: 'To the top of the queue' }).click();
      await rows.nth(5).click({ button: 'right' });
      await page.getByRole('menuitem', { name: /^Move…/ }).click();
      await page.getByLabel('Folder', { exact: true }).fill('relative');
      await page.getByRole('button', { name: 'Move', exact: true }).click();
      await page.getByRole('alert').getByText('relative: the path is not absolute').waitFor();
      await page.getByLabel('Folder', { exact: true }).fill('/srv/other');
      await page.getByRole('button', { name: 'Move', exact: true }).click();
      await page.getByRole('dialog').waitFor({ state: 'detached' });
      assert.equal([...mock.torrents.values()].filter((torrent) => torrent.download_dir === '/srv/other').length, 4);
      assert.deepEqual(mock.log.findLast((entry) => entry.method === 'queue_move_top').params.ids.length, 4);
    },
  },
  {
    name: 'files in the way: another folder, or overwrite',
    async run(stage) {
      const mock = await stage.mock({ torrents: [{ kind: 'error', name: 'one' }, { kind: 'error', name: 'two' }] });
      const page = await stage.page({ url: mock.url });
      await row(page, 'one').click();
      await page.getByRole('region', { name: 'Details' }).getByRole('button', { name: 'Overwrite' }).click();
      await row(page, 'one').getByText('Downloading').waitFor();
      await row(page, 'two').click();
      await page.getByRole('button', { name: 'Use another folder…' }).click();
      await page.getByLabel('Folder', { exact: true }).fill('/srv/free');
      await page.getByRole('dialog').getByRole('button', { name: 'Start', exact: true }).click();
      await row(page, 'two').getByText('Downloading').waitFor();
      assert.deepEqual(mock.log.findLast((entry) => entry.method === 'torrent_set_location').params, { ids: [2], location: '/srv/free', move: false });
    },
  },
  {
    name: 'the tabs show pieces, files, peers, trackers and rates',
    async run(stage) {
      const mock = await stage.mock({ torrents: [{ kind: 'downloading', name: 'tabs', size: 9e8, files: [{ name: 'tabs/film.mp4', length: 8e8 },
        { name: 'tabs/more/text.txt', length: 1e8 }] }] });
      const page = await stage.page({ url: mock.url });
      await row(page, 'tabs').click();
      await page.getByRole('tab', { name: 'Pieces' }).click();
      await page.getByText(/\d+ of 859 pieces verified, \d+ in progress\. Availability: \d/).waitFor();
      await page.getByRole('tab', { name: 'Files' }).click();
      await page.getByLabel('Priority of film.mp4').selectOption('High');
      await page.waitForTimeout(300);
      assert.equal(mock.torrents.get(1).files[0].priority, 1);
      const [popup] = await Promise.all([page.waitForEvent('popup'), page.getByRole('button', { name: 'Open film.mp4' }).click()]);
      assert.match(popup.url(), /\/files\/1\/0\?token=/);
      await page.getByRole('tab', { name: 'Peers' }).click();
      await page.getByRole('cell', { name: 'Transmission 4.0.6' }).first().waitFor();
      await page.getByRole('tab', { name: 'Trackers' }).click();
      await page.getByRole('cell', { name: /^\d+ peers, .* ago/ }).first().waitFor();
      await page.getByRole('button', { name: 'Edit trackers…' }).click();
      await page.getByRole('textbox', { name: 'Trackers' }).fill('https://new.example.org/announce');
      await page.getByRole('button', { name: 'Save' }).click();
      await page.getByRole('cell', { name: 'https://new.example.org/announce' }).waitFor();
      await page.getByRole('tab', { name: 'Speed' }).click();
      await page.getByRole('img', { name: /Rates\. peak: / }).waitFor();
      await page.getByLabel('Time').selectOption('360');
    },
  },
  {
    name: 'settings are changed, and only what was changed is sent',
    anyServer: true,
    async run(stage) {
      const mock = stage.server ? null : await stage.mock({ count: 2 });
      const page = await stage.page({ url: mock?.url });
      const change = async (value) => {
        await page.getByRole('button', { name: 'Settings' }).click();
        await page.getByLabel('Downloads, kB/s', { exact: true }).fill(value);
        await page.getByRole('button', { name: 'Save' }).click();
        await page.getByRole('dialog').waitFor({ state: 'detached' });
      };
      await page.getByRole('button', { name: 'Settings' }).click();
      const before = await page.getByLabel('Downloads, kB/s', { exact: true }).inputValue();
      await page.keyboard.press('Escape');
      await change('123');
      if (mock) assert.deepEqual(mock.log.findLast((entry) => entry.method === 'session_set').params, { alt_speed_down: 123 });
      await page.reload();
      await page.getByRole('button', { name: 'Settings' }).click();
      await page.waitForFunction(() => document.querySelector('dialog input'));
      assert.equal(await page.getByLabel('Downloads, kB/s', { exact: true }).inputValue(), '123');
      await page.keyboard.press('Escape');
      await change(before);
      const slow = page.getByRole('button', { name: 'Alternative limits' });
      await slow.click();
      await page.locator('button[aria-pressed=true][aria-label="Alternative limits"]').waitFor();
      await slow.click();
      await page.locator('button[aria-pressed=false][aria-label="Alternative limits"]').waitFor();
    },
  },
  {
    name: 'the page speaks Russian, and no English is left',
    async run(stage) {
      const page = await stage.page({ locale: 'ru-RU', mock: { count: 16, isStill: true } });
      const english = () => page.evaluate(() => {
        const found = [];
        const own = '.name, .chip, .chips, .filter .grow, kbd, dd, td, textarea, h1, .toast, .problem, [dir=auto], title, style, script, noscript, option[value=en], .hint:last-child';
        const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
        while (walker.nextNode()) {
          const { parentElement, textContent } = walker.currentNode;
          if (/[A-Za-z]{3,}/.test(textContent) && !parentElement.closest(own)) found.push(textContent);
        }
        for (const element of document.querySelectorAll('[aria-label], [title], [placeholder]')) {
          if (element.closest(own)) continue;
          const text = element.getAttribute('aria-label') || element.title || element.placeholder;
          if (/[A-Za-z]{3,}/.test(text)) found.push(text);
        }
        return found.filter((text) => !/[Mm]agnet|DHT|PEX|btsync|\.part|\.(mp4|mkv|flac|txt|srt)|README|Subtitles|Video|Audio|Extras|\.iso/.test(text));
      });
      await page.locator('.body .row').nth(0).click();
      assert.deepEqual(await english(), []);
      for (const tab of await page.getByRole('tab').all()) {
        await tab.click();
        await page.waitForTimeout(300);
        assert.deepEqual(await english(), []);
      }
      for (const key of ['a', 'b', 'l', 'm', 'Delete', 'F2', ',', '?', 'Shift+F10']) {
        await page.keyboard.press(key);
        await page.locator('dialog, .menu').first().waitFor();
        assert.deepEqual(await english(), [], key);
        await page.keyboard.press('Escape');
      }
      for (const n of [1, 2, 5, 21]) {
        const text = await page.evaluate(async (count) => (await import('./i18n.js')).t('{n} files', { n: count }), n);
        assert.equal(text, { 1: '1 файл', 2: '2 файла', 5: '5 файлов', 21: '21 файл' }[n]);
      }
      await page.locator('.status').getByText(/МБ/).first().waitFor();
    },
  },
  {
    name: 'the language and the theme can be switched, and stay',
    anyServer: true,
    async run(stage) {
      const page = await stage.page({ scheme: 'dark' });
      const back = () => page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
      const dark = await back();
      await page.getByRole('button', { name: 'Settings' }).click();
      await page.getByLabel('Theme').selectOption('light');
      assert.notEqual(await back(), dark);
      await page.getByLabel('Language').selectOption('Русский');
      await page.getByRole('button', { name: 'Добавить…' }).waitFor();
      assert.equal(await page.evaluate(() => document.documentElement.lang), 'ru');
      assert.notEqual(await back(), dark);
    },
  },
  {
    name: 'on a phone a card opens the details, and the icon selects',
    async run(stage) {
      const mock = await stage.mock({ count: 12, isStill: true });
      const page = await stage.page({ url: mock.url, size: PHONE, scheme: 'dark' });
      const cards = page.locator('.body .row');
      await cards.nth(1).tap();
      await page.getByRole('heading', { name: 'Big Buck Bunny' }).waitFor();
      await page.getByRole('button', { name: 'Back to the list' }).tap();
      await cards.nth(2).locator('.icon').tap();
      await page.getByText('2 torrents selected').waitFor();
      await page.getByRole('button', { name: 'Stop', exact: true }).tap();
      await page.getByRole('button', { name: 'More actions' }).tap();
      await page.getByRole('menuitem', { name: 'Verify' }).tap();
      assert.deepEqual(mock.log.findLast((entry) => entry.method === 'torrent_verify').params.ids, [2, 3]);
      await page.getByLabel('Sort by').selectOption('Name');
      const width = await page.evaluate(() => document.documentElement.scrollWidth);
      assert.ok(width <= PHONE.width, `the page is ${width} wide`);
    },
  },
];
