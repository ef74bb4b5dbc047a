// Reads torrent files and magnet links to show their content before the service, which checks them again, gets them.

const DECODER = new TextDecoder();
const DEEPEST = 40;
const text = (bytes) => (bytes instanceof Uint8Array ? DECODER.decode(bytes) : '');

/** Reads bencode; strings stay bytes. */
class Reader {
  constructor(bytes) {
    this.bytes = bytes;
    this.at = 0;
  }

  numberUntil(byte) {
    const end = this.bytes.indexOf(byte, this.at);
    const value = end < 0 ? NaN : Number(DECODER.decode(this.bytes.subarray(this.at, end)));
    if (Number.isNaN(value)) throw new Error();
    this.at = end + 1;
    return value;
  }

  value(depth = 0) {
    if (depth > DEEPEST) throw new Error();
    const kind = String.fromCharCode(this.bytes[this.at]);
    if ('dli'.includes(kind)) this.at += 1;
    if (kind === 'i') return this.numberUntil(0x65);
    if (kind === 'l' || kind === 'd') return this.items(kind === 'd', depth + 1);
    const length = this.numberUntil(0x3a);
    if (!(length >= 0 && this.at + length <= this.bytes.length)) throw new Error();
    this.at += length;
    return this.bytes.subarray(this.at - length, this.at);
  }

  items(isDictionary, depth) {
    const list = [];
    const entries = new Map();
    while (this.bytes[this.at] !== 0x65) {
      const value = this.value(depth);
      if (isDictionary) entries.set(text(value), this.value(depth));
      else list.push(value);
    }
    this.at += 1;
    return isDictionary ? entries : list;
  }
}

/** The name and files of a torrent file, without padding; fails if it is none. */
export function readTorrent(bytes) {
  const info = new Reader(bytes).value().get('info');
  const name = text(info.get('name.utf-8') ?? info.get('name'));
  const list = info.get('files');
  if (!Array.isArray(list)) return { name, files: [{ path: name, length: Number(info.get('length')) }] };
  return { name, files: list.filter((file) => !text(file.get('attr')).includes('p')).map((file) => ({
    path: [name, ...(file.get('path.utf-8') ?? file.get('path')).map(text)].join('/'),
    length: Number(file.get('length')),
  })) };
}

export function linksIn(input) {
  return input.split(/\s+/).map((word) => (/^([0-9a-f]{40}|[a-z2-7]{32})$/i.test(word) ? `magnet:?xt=urn:btih:${word}` : word))
    .filter((word) => /^(magnet:\?|https?:\/\/)/i.test(word));
}

export function base64(bytes) {
  let binary = '';
  for (let at = 0; at < bytes.length; at += 0x8000) binary += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
  return btoa(binary);
}
