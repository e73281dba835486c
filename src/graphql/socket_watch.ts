import type { WebSocket } from 'ws';

const PING_MS = 20_000;
/** Answers that may wait for a client who asks on without reading them. */
const MAX_WAITING_BYTES = 1_000_000;

/** Pings, and ends a connection whose last ping wasn't answered. */
export function keepAlive(socket: WebSocket): void {
  let answered = true;
  socket.on('pong', () => (answered = true));
  const timer = setInterval(() => {
    if (answered) socket.ping();
    else socket.terminate();
    answered = false;
  }, PING_MS);
  socket.once('close', () => clearInterval(timer));
}

/** Ends a connection whose client sends on, pings for instance, and reads no answers, which would fill the memory. */
export function dropSlowConsumer(socket: WebSocket): void {
  const check = () => {
    if (socket.bufferedAmount > MAX_WAITING_BYTES) socket.terminate();
  };
  socket.on('message', check).on('ping', check);
}
