// Adds, lists, sets, verifies and removes a torrent with the package @ctrl/transmission:
//     node node_client.mjs URL TORRENT

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { Transmission } from '@ctrl/transmission';

const [url, file] = process.argv.slice(2);
const client = new Transmission({ baseUrl: url });

const session = await client.getSession();
assert.match(session.arguments.version, /^4\.1\.0 \(btsync/);
await client.setSession({ 'speed-limit-down': 777, 'speed-limit-down-enabled': true });
assert.equal((await client.getSession()).arguments['speed-limit-down'], 777);

// The package's own default is the folder /downloads.
const folder = { 'download-dir': session.arguments['download-dir'], paused: true };
const answer = await client.addTorrent(new Uint8Array(readFileSync(file)), folder);
const id = answer.arguments['torrent-added'].hashString;
await client.setTorrent(id, { labels: ['node'] });
const added = await client.getTorrent(id);
assert.equal(added.label, 'node');
assert.equal(added.state, 'paused');

await client.setTorrent(id, { downloadLimit: 44, downloadLimited: true, 'files-unwanted': [0], labels: ['node', 'second'] });
await client.queueTop(id);
const listed = (await client.listTorrents(id, ['downloadLimit', 'wanted', 'labels'])).arguments.torrents[0];
assert.equal(listed.downloadLimit, 44);
assert.deepEqual(listed.wanted, [0, 1]);
assert.deepEqual(listed.labels, ['node', 'second']);

await client.verifyTorrent(id);
await client.resumeTorrent(id);
const started = async () => (await client.getTorrent(id)).state !== 'paused';
for (let tries = 0; tries < 300 && !(await started()); tries += 1) await new Promise((done) => setTimeout(done, 100));
assert.ok(await started());
await client.pauseTorrent(id);
const all = await client.getAllData();
assert.equal(all.torrents.length, 1);
assert.deepEqual(all.labels.map((label) => label.name), ['node']);

const link = await client.addMagnet('magnet:?xt=urn:btih:0123456789abcdef0123456789abcdef01234567&dn=link', folder);
assert.equal(link.arguments['torrent-added'].name, 'link');
await client.removeTorrent(link.arguments['torrent-added'].hashString);
await client.removeTorrent(id, true);
assert.equal((await client.getAllData()).torrents.length, 0);
console.log('done');
