// Transmission's remote control in its JSON-RPC 2.0 dialect, at an address relative to the page.

const HEADER = 'X-Transmission-Session-Id';
let sessionId = '';
let lastId = 0;

/** A request that the service did not carry out. */
export class RpcError extends Error {
  constructor(message, code) {
    super(message);
    this.code = code;
  }
}

const post = (body) => fetch('transmission/rpc', {
  method: 'POST',
  headers: { 'Content-Type': 'application/json', [HEADER]: sessionId },
  body,
});

/** Asks the service for something. A request with an outdated session id is sent again with the id of the answer. */
export async function call(method, params = {}) {
  lastId += 1;
  const body = JSON.stringify({ jsonrpc: '2.0', id: lastId, method, params });
  let answer = await post(body);
  if (answer.status === 409) {
    sessionId = answer.headers.get(HEADER) ?? '';
    answer = await post(body);
  }
  if (!answer.ok) throw new RpcError(`${answer.status} ${answer.statusText}`, answer.status);
  const { result, error } = await answer.json();
  if (error) throw new RpcError(error.data?.error_string || error.message, error.code);
  return result ?? {};
}
