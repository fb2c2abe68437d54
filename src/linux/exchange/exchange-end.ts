import { createRequire } from 'node:module';
import { Worker } from 'node:worker_threads';
import { EINPROGRESS, errnoName } from '../../bpf/errno.js';
import type { ExchangeKind } from '../../core/contract/plan.js';
import { messageOf, XdpbedError } from '../../core/diagnostic.js';
import type { NetworkNamespace } from '../network-namespace.js';
import { LATENCY_BUCKETS, latencyBucket } from './latency-histogram.js';

/** Port of the first stream's server, netperf's own; those behind it are the other streams'. */
export const EXCHANGE_PORT = 12_865;
/** The kernel chooses one. */
const ANY_PORT = 0;
/** Milliseconds until an end that is to end has done so: a connection takes five seconds to fail. */
const CLOSE_WITHIN = 6000;
/** Milliseconds until an end has its socket, a client of TCP its connection. */
const OPEN_WITHIN = 20_000;

/** One end of one stream. */
export interface ExchangeEndOptions {
  readonly role: 'client' | 'server';
  readonly kind: ExchangeKind;
  /** Bytes of payload: see ExchangePlan. */
  readonly size: number;
  /** Which of several streams, from 0: they have ports of their own. */
  readonly stream: number;
  /** Dotted IPv4 addresses, one's own and that of the other end. */
  readonly local: string;
  readonly peer: string;
  /** Where its socket is. Default: where the calling thread is. */
  readonly namespace?: NetworkNamespace | undefined;
}

export interface ExchangeCounts {
  /** Of a client, messages sent or requests answered; of a server, messages received or requests answered. */
  readonly messages: number;
  /** Bytes of payload of a stream. */
  readonly bytes: number;
  /** Requests that got no answer in time. */
  readonly unanswered: number;
}

/**
 * One end of what netperf measures, in a thread of its own that does nothing else: sockets that block, no event loop. It
 * does what it does until it is closed, and counts in memory that both threads see.
 *
 * The memory: +0 i32 not 0: end · +8 f64 messages · +16 f64 bytes · +24 f64 unanswered · +32 f64 longest latency, ns
 * · +40 f64 latencies by bucket. One thread writes and an f64 is written in one go, so no lock is needed.
 */
export class ExchangeEnd {
  readonly #worker: Worker;
  readonly #stop: Int32Array;
  readonly #counts: Float64Array;
  #failure: string | undefined;
  #closing = false;
  readonly #ended: Promise<void>;

  private constructor(worker: Worker, shared: SharedArrayBuffer) {
    this.#worker = worker;
    this.#stop = new Int32Array(shared, 0, 1);
    this.#counts = new Float64Array(shared, 8);
    worker.unref();
    this.#ended = new Promise((resolve) => worker.once('exit', () => resolve()));
  }

  /**
   * A server when it can be reached, a client when it has somebody to send to. Throws `host-unsupported` where that cannot
   * be, with the kernel's reason.
   */
  static async open(options: ExchangeEndOptions): Promise<ExchangeEnd> {
    const { role, kind, size, stream, local, peer, namespace } = options;
    const shared = new SharedArrayBuffer(8 + 8 * (4 + LATENCY_BUCKETS));
    const port = EXCHANGE_PORT + stream;
    const start = (): Worker =>
      new Worker(WORKER, {
        eval: true,
        name: 'exchange',
        workerData: {
          koffi: createRequire(import.meta.url).resolve('koffi'),
          role,
          size,
          isTcp: kind === 'tcp-stream' || kind === 'tcp-rr',
          isStream: kind === 'udp-stream' || kind === 'tcp-stream',
          local: socketAddress(local, role === 'server' ? port : ANY_PORT),
          peer: socketAddress(peer, port),
          shared,
        },
      });
    // A new thread is in the namespaces of the one that makes it, and the operating system's is made at once.
    const worker = namespace === undefined ? start() : namespace.run(start);
    const end = new ExchangeEnd(worker, shared);
    try {
      await end.#ready(`${role} of ${kind}`);
      return end;
    } catch (error) {
      await end.close();
      throw error;
    }
  }

  /** Why it does nothing any more; undefined as long as it does. */
  get failure(): string | undefined {
    return this.#failure;
  }

  counts(): ExchangeCounts {
    const [messages = 0, bytes = 0, unanswered = 0] = this.#counts;
    return { messages, bytes, unanswered };
  }

  /** Requests so far by how long they took. */
  latencies(): Float64Array {
    return this.#counts.slice(4);
  }

  /** Nanoseconds of the longest since {@link forgetLongest}. */
  get longest(): number {
    return this.#counts[3]!;
  }

  forgetLongest(): void {
    this.#counts[3] = 0;
  }

  /** Resolves when its sockets are closed. */
  async close(): Promise<void> {
    this.#closing = true;
    // What blocks looks up after its timeout.
    Atomics.store(this.#stop, 0, 1);
    const timer = setTimeout(() => void this.#worker.terminate(), CLOSE_WITHIN);
    await this.#ended;
    clearTimeout(timer);
  }

  #ready(what: string): Promise<void> {
    return new Promise((resolve, reject) => {
      const refuse = (reason: string): void => {
        this.#failure ??= reason;
        clearTimeout(timer);
        reject(new XdpbedError('host-unsupported', `${what}: ${reason}`));
      };
      const timer = setTimeout(() => refuse(`not there within ${OPEN_WITHIN} ms`), OPEN_WITHIN);
      this.#worker.on('message', (message: 'ready' | FailedCall) => {
        if (message !== 'ready') return refuse(reasonOf(message));
        clearTimeout(timer);
        resolve();
      });
      this.#worker.on('error', (cause) => refuse(messageOf(cause)));
      this.#worker.on('exit', () => {
        if (!this.#closing) refuse('it has ended');
      });
    });
  }
}

interface FailedCall {
  readonly call: string;
  readonly errno: number;
}

function reasonOf({ call, errno }: FailedCall): string {
  // A connection that is not there after as long as the socket waits goes on to be made.
  return call === 'connect' && errno === EINPROGRESS ? 'nobody answers' : `${call}: ${errnoName(errno)}`;
}

/** `struct sockaddr_in`: +0 family u16 · +2 port, big-endian · +4 address, 16 bytes. */
function socketAddress(address: string, port: number): Uint8Array {
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, AF_INET, true);
  view.setUint16(2, port);
  bytes.set(address.split('.').map(Number), 4);
  return bytes;
}

const AF_INET = 2;

/** What runs in the thread. It answers once with what became of its socket, and again if that fails later. */
const WORKER = `
const { parentPort, workerData } = require('node:worker_threads');
const koffi = require(workerData.koffi);
const c = koffi.load(null);
const socket = c.func('int socket(int domain, int type, int protocol)');
const bind = c.func('int bind(int fd, void *address, uint32_t length)');
const connect = c.func('int connect(int fd, void *address, uint32_t length)');
const listen = c.func('int listen(int fd, int backlog)');
const accept = c.func('int accept4(int fd, void *address, void *length, int flags)');
const setsockopt = c.func('int setsockopt(int fd, int level, int name, void *value, uint32_t length)');
const send = c.func('long send(int fd, void *bytes, size_t length, int flags)');
const recv = c.func('long recv(int fd, void *bytes, size_t length, int flags)');
const recvfrom = c.func('long recvfrom(int fd, void *bytes, size_t length, int flags, void *address, void *addressLength)');
const sendto = c.func('long sendto(int fd, void *bytes, size_t length, int flags, void *address, uint32_t addressLength)');
const close = c.func('int close(int fd)');

const { role, size, isTcp, isStream, local, peer, shared } = workerData;
const stop = new Int32Array(shared, 0, 1);
const counts = new Float64Array(shared, 8);
const bucketOf = ${latencyBucket.toString()};
const EINTR = 4, EAGAIN = 11, ENOBUFS = 105;
const SOL_SOCKET = 1, SO_REUSEADDR = 2, SO_RCVTIMEO = 20, SO_SNDTIMEO = 21, IPPROTO_TCP = 6, TCP_NODELAY = 1;
const CLOEXEC = 0x80000, NOSIGNAL = 0x4000;
const WAIT_US = 200000, CONNECT_S = 5;

class Failed extends Error {
  constructor(call) {
    super(call);
    this.call = call;
    this.errno = koffi.errno();
  }
}
function check(result, call) {
  if (result < 0) throw new Failed(call);
  return result;
}
// Whether a call that failed is to be tried again: nothing came, or went, in time.
function isLater(call) {
  const errno = koffi.errno();
  if (errno === EAGAIN || errno === EINTR || errno === ENOBUFS) return true;
  throw new Failed(call);
}
function isOver() {
  return Atomics.load(stop, 0) !== 0;
}
function setNumber(fd, level, name, value) {
  check(setsockopt(fd, level, name, new Uint8Array(Int32Array.of(value).buffer), 4), 'setsockopt');
}
function setTimeouts(fd, seconds, microseconds) {
  const time = new Uint8Array(BigInt64Array.of(BigInt(seconds), BigInt(microseconds)).buffer);
  check(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, time, 16), 'setsockopt');
  check(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, time, 16), 'setsockopt');
}
const input = new Uint8Array(65536);
const output = new Uint8Array(size);

function serveUdpStream(fd) {
  while (!isOver()) {
    const length = recv(fd, input, input.length, 0);
    if (length < 0) isLater('recv');
    else if (length === size) {
      counts[0]++;
      counts[1] += length;
    }
  }
}
function serveUdpRequests(fd) {
  const from = new Uint8Array(16);
  const fromLength = new Uint8Array(4);
  while (!isOver()) {
    fromLength[0] = 16;
    const length = recvfrom(fd, input, input.length, 0, from, fromLength);
    if (length < 0) isLater('recvfrom');
    else if (length === size) {
      if (sendto(fd, input, length, NOSIGNAL, from, 16) < 0) isLater('sendto');
      else counts[0]++;
    }
  }
}
// False at the end of the stream.
function receiveWhole(fd, length) {
  for (let got = 0; got < length; ) {
    const some = recv(fd, got === 0 ? input : input.subarray(got), length - got, 0);
    if (some === 0) return false;
    if (some > 0) got += some;
    else if (isLater('recv') && isOver()) return false;
  }
  return true;
}
function sendWhole(fd, bytes, length) {
  for (let sent = 0; sent < length; ) {
    const some = send(fd, sent === 0 ? bytes : bytes.subarray(sent), length - sent, NOSIGNAL);
    if (some >= 0) sent += some;
    else if (isLater('send') && isOver()) return false;
  }
  return true;
}
function serveTcp(fd) {
  while (!isOver()) {
    const one = accept(fd, null, null, CLOEXEC);
    if (one < 0) {
      isLater('accept');
      continue;
    }
    try {
      setTimeouts(one, 0, WAIT_US);
      setNumber(one, IPPROTO_TCP, TCP_NODELAY, 1);
      if (isStream) {
        for (let length = -1; length !== 0 && !isOver(); ) {
          length = recv(one, input, input.length, 0);
          if (length > 0) counts[1] += length;
          else if (length < 0) isLater('recv');
        }
      } else {
        while (!isOver() && receiveWhole(one, size) && sendWhole(one, input, size)) counts[0]++;
      }
    } finally {
      close(one);
    }
  }
}
function connectTo(fd) {
  if (isTcp) {
    setTimeouts(fd, CONNECT_S, 0);
    setNumber(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  }
  check(connect(fd, peer, 16), 'connect');
  setTimeouts(fd, 0, WAIT_US);
}
function sendStream(fd) {
  while (!isOver()) {
    const length = send(fd, output, size, NOSIGNAL);
    if (length < 0) isLater('send');
    else {
      counts[0]++;
      counts[1] += length;
    }
  }
}
function sendRequests(fd) {
  for (let number = 1; !isOver(); number = (number + 1) & 255) {
    output[0] = number;
    const from = performance.now();
    if (!sendWhole(fd, output, size)) return;
    let answered = false;
    while (!answered) {
      if (isTcp) {
        if (!receiveWhole(fd, size)) return;
        answered = true;
      } else {
        // What comes late is the answer to another one.
        const length = recv(fd, input, input.length, 0);
        if (length < 0 && isLater('recv')) break;
        answered = length === size && input[0] === number;
      }
    }
    if (!answered) {
      if (!isOver()) counts[2]++;
      continue;
    }
    const took = (performance.now() - from) * 1e6;
    counts[0]++;
    if (took > counts[3]) counts[3] = took;
    counts[4 + bucketOf(took)]++;
  }
}
let fd = -1;
try {
  fd = check(socket(2, (isTcp ? 1 : 2) | CLOEXEC, 0), 'socket');
  setNumber(fd, SOL_SOCKET, SO_REUSEADDR, 1);
  setTimeouts(fd, 0, WAIT_US);
  check(bind(fd, local, 16), 'bind');
  if (role === 'client') connectTo(fd);
  else if (isTcp) check(listen(fd, 4), 'listen');
  parentPort.postMessage('ready');
  if (role === 'client') (isStream ? sendStream : sendRequests)(fd);
  else if (isTcp) serveTcp(fd);
  else (isStream ? serveUdpStream : serveUdpRequests)(fd);
} catch (error) {
  if (!(error instanceof Failed)) throw error;
  parentPort.postMessage({ call: error.call, errno: error.errno });
} finally {
  if (fd >= 0) close(fd);
}
`;
