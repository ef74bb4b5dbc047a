// Torrent files for the tests: written, and read by the mock service.

const encode = (value) => {
  if (typeof value === 'number') return Buffer.from(`i${value}e`);
  if (typeof value === 'string' || Buffer.isBuffer(value)) {
    const bytes = Buffer.from(value);
    return Buffer.concat([Buffer.from(`${bytes.length}:`), bytes]);
  }
  if (Array.isArray(value)) return Buffer.concat([Buffer.from('l'), ...value.map(encode), Buffer.from('e')]);
  const keys = Object.keys(value).sort();
  return Buffer.concat([Buffer.from('d'), ...keys.flatMap((key) => [encode(key), encode(value[key])]), Buffer.from('e')]);
};

/** A torrent file with these files (path below the torrent's folder, length); its hashes are zeros. */
export function makeTorrentFile(name, files) {
  const total = files.reduce((sum, file) => sum + file.length, 0);
  const pieceLength = 1 << 18;
  const info = { name, 'piece length': pieceLength, pieces: Buffer.alloc(20 * Math.ceil(total / pieceLength)) };
  if (files.length === 1 && !files[0].path) info.length = total;
  else info.files = files.map((file) => ({ length: file.length, path: file.path.split('/') }));
  return encode({ announce: 'http://tracker.example.org/announce', info });
}

/** Reads one value; returns it with the position after it. */
function decode(bytes, at = 0) {
  const kind = String.fromCharCode(bytes[at]);
  if (kind === 'i') {
    const end = bytes.indexOf('e', at);
    return [Number(bytes.subarray(at + 1, end)), end + 1];
  }
  if (kind === 'l' || kind === 'd') {
    const items = [];
    at += 1;
    while (bytes[at] !== 0x65) {
      const [item, next] = decode(bytes, at);
      items.push(item);
      at = next;
    }
    if (kind === 'l') return [items, at + 1];
    return [Object.fromEntries(items.flatMap((item, index) => (index % 2 ? [] : [[String(item), items[index + 1]]]))), at + 1];
  }
  const colon = bytes.indexOf(':', at);
  const end = colon + 1 + Number(bytes.subarray(at, colon));
  return [bytes.subarray(colon + 1, end), end];
}

/** Name and files of a torrent file. */
export function parseTorrent(bytes) {
  const [{ info }] = decode(bytes);
  const name = String(info.name);
  const files = info.files?.map((file) => ({ name: [name, ...file.path].join('/'), length: file.length })) ?? [{ name, length: info.length }];
  return { name, files };
}
