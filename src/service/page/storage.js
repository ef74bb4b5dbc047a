// What the browser remembers for the page: language, theme, order, sizes. Private windows may refuse; the defaults hold then.

export function stored(key, otherwise) {
  try {
    const value = JSON.parse(localStorage.getItem(`btsync.${key}`) ?? 'null');
    return typeof value === typeof otherwise ? value : otherwise;
  } catch {
    return otherwise;
  }
}

export function store(key, value) {
  try {
    localStorage.setItem(`btsync.${key}`, JSON.stringify(value));
  } catch {}
}
