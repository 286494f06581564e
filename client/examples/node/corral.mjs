// A client of Corral's protocol, written from schemas/PROTOCOL.md alone: commands, output with checksums, exits, events without a hole.
// R-7 and the like are the numbers of that page's rules.
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { Decoder, Encoder } from "@msgpack/msgpack";
import { Dealer, Subscriber } from "zeromq";

const codec = { useBigInt64: true }; // `_ns` exceed 2^53
const packer = new Encoder(codec), unpacker = new Decoder(codec);
export const unpack = (frame) => plain(unpacker.decode(frame));
const REPEAT_MS = [1000, 2000, 4000, 8000];
const BUSY_MS_MAX = 1000;
const BEACON_MS_MAX = 10_000; // two heartbeats
const GRACE_MS = 5000; // a poll is answered before its deadline

/** Offsets and seqs as numbers, which they fit for the next 200 years; what does not fit stays a BigInt. */
function plain(value) {
  if (typeof value === "bigint") return value <= Number.MAX_SAFE_INTEGER ? Number(value) : value;
  if (Array.isArray(value)) return value.map(plain);
  if (value === null || typeof value !== "object" || value instanceof Uint8Array) return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, plain(inner)]));
}

export class CorralError extends Error {
  constructor({ code, message, details = {} }) {
    super(`${code}: ${message}`);
    Object.assign(this, { code, details });
  }
}

/** `{publicKey, secretKey, serverKey}` from `NAME.key` and the broker's `broker.public`. */
export function readKeys(keyFile, serverFile) {
  const field = (path, name) => readFileSync(path, "utf8").match(new RegExp(`^${name} = ["'](.{40})["']$`, "m"))[1];
  return { publicKey: field(keyFile, "public"), secretKey: field(keyFile, "secret"), serverKey: field(serverFile, "public") };
}

function open(Kind, address, keys) {
  const options = { linger: 0 }; // R-8; and no routing id
  if (keys) Object.assign(options, { curvePublicKey: keys.publicKey, curveSecretKey: keys.secretKey, curveServerKey: keys.serverKey });
  const socket = new Kind(options);
  socket.connect(address);
  return socket;
}

/** what `hello` says, relative to the dialled address. */
function joined(address, told) {
  if (told.includes("://")) return told;
  return address.startsWith("ipc://") ? address + told : address.replace(/:\d+$/, `:${told}`);
}

/** One DEALER: commands out, replies in, matched by request id. */
class Connection {
  #pending = new Map(); // request id -> how to settle its promise
  #sent = Promise.resolve(); // one send at a time
  #socket;

  constructor(address, keys) {
    this.#socket = open(Dealer, address, keys);
    this.#receive();
  }

  async #receive() {
    for await (const [header, body] of this.#socket) {
      const { id, epoch } = unpack(header);
      this.#pending.get(id)?.({ epoch, ...unpack(body) });
    }
  }

  /** `waitMs`: how long the poll itself may take, before a repeat makes sense. */
  async ask(header, args, timeoutMs, waitMs = 0) {
    const frame = packer.encode(args); // the same bytes in every repeat
    const began = performance.now();
    let busyMs = 50;
    for (let repeat = 0; ; repeat++) {
      const age = Math.round(performance.now() - began), left = timeoutMs - age;
      if (left <= 0) throw new CorralError({ code: "deadline_exceeded", message: `${header.op} was not answered` });
      const pauseMs = waitMs + REPEAT_MS[Math.min(repeat, REPEAT_MS.length - 1)];
      const reply = await this.#once({ ...header, timeout_ms: left, age_ms: age }, frame, Math.min(left + 200, pauseMs));
      if (reply === undefined) continue;
      if (!reply.error) return reply;
      if (reply.error.code !== "guest_busy") throw new CorralError(reply.error);
      await sleep(busyMs * (0.5 + Math.random()));
      busyMs = Math.min(2 * busyMs, BUSY_MS_MAX);
    }
  }

  async #once(header, frame, patienceMs) {
    const answered = new Promise((settle) => this.#pending.set(header.id, settle));
    this.#sent = this.#sent.then(() => this.#socket.send([packer.encode(header), frame]));
    await this.#sent;
    const timer = new AbortController();
    try {
      return await Promise.race([answered, sleep(patienceMs, undefined, { signal: timer.signal })]);
    } finally {
      timer.abort();
      this.#pending.delete(header.id);
    }
  }

  close() {
    this.#socket.close();
  }
}

export class Client {
  #epochs = new Map(); // guest -> epoch last seen
  #prefix = randomBytes(8).toString("hex");
  #number = 0;

  static async dial(address, keys) {
    const client = new Client();
    Object.assign(client, { address, keys, commands: new Connection(address, keys), bulk: new Connection(address, keys) });
    [client.hello] = await Promise.all([client.call("", "hello"), client.call("", "hello", {}, { bulk: true })]); // on each
    return client;
  }

  async call(guest, op, args = {}, { timeoutMs = 30_000, waitMs = 0, bulk = false } = {}) {
    const header = { id: `${this.#prefix}-${++this.#number}`, guest, op, epoch: this.#epochs.get(guest) ?? "" };
    const reply = await (bulk ? this.bulk : this.commands).ask(header, args, timeoutMs, waitMs);
    if (reply.epoch) this.#epochs.set(guest, reply.epoch);
    return reply.ok;
  }

  poll(guest, op, args, waitMs, field, bulk) {
    return this.call(guest, op, { ...args, [field]: waitMs }, { timeoutMs: waitMs + GRACE_MS, waitMs, bulk });
  }

  /** The exit of a process; `place` is what `run` or `exec` answered. */
  async wait(guest, { container, instance, process = "init", process_instance }) {
    for (;;) {
      try {
        return (await this.poll(guest, "wait", { container, instance, process, process_instance }, 60_000, "timeout_ms")).exit;
      } catch (why) {
        if (!["wait_timeout", "deadline_exceeded", "guest_unreachable"].includes(why.code)) throw why;
      }
    }
  }

  /** Pieces `{stream, data}` and `{stream, gap}` until both streams are whole and the exit is known, which comes last: `{exit}`. */
  async *output(guest, { container, instance, process = "init", process_instance }) {
    const next = { stdout: 0, stderr: 0 }, crc = { stdout: 0, stderr: 0 }; // crc null: taken as given
    for (;;) {
      const wanted = { container, instance, process, process_instance, ...next };
      const reply = await this.poll(guest, "read_stdio", wanted, 20_000, "wait_ms", true);
      const { chunks = [], gaps = [], ends = {}, exit } = reply;
      const pieces = [...chunks, ...gaps].sort((a, b) => Number(a.offset ?? a.start) - Number(b.offset ?? b.start));
      for (const piece of pieces) {
        const { stream } = piece;
        if (piece.reason !== undefined) {
          crc[stream] = null;
          yield { stream, gap: piece };
          continue;
        }
        if (crc[stream] !== null && piece.crc_before !== crc[stream]) throw new Error(`${stream} does not connect at ${piece.offset}`);
        if (crc32(piece.data, piece.crc_before) !== piece.crc) throw new Error(`${stream} is damaged at ${piece.offset}`);
        crc[stream] = piece.crc;
        yield { stream, data: piece.data };
      }
      Object.assign(next, reply.next);
      const whole = (stream) => ends[stream] && next[stream] === ends[stream].total;
      for (const stream of Object.keys(next)) {
        if (whole(stream) && !ends[stream].cut && crc[stream] !== null && ends[stream].crc !== crc[stream]) throw new Error(`${stream} is damaged`);
      }
      if (Object.keys(next).every(whole) && exit) {
        yield { exit };
        return;
      }
    }
  }

  /** A guest's events, each once and in order; `{resync, containers}` where what was believed before is void. Live once it first yields
   *  `{live: place}`. `lose` says which published events are to be thrown away, to see gaps repaired. */
  async *follow(guest, { from, lose = () => false } = {}) {
    const subscriber = open(Subscriber, joined(this.address, this.hello.events_out), this.keys);
    try {
      subscriber.receiveTimeout = BEACON_MS_MAX;
      subscriber.subscribe(`event/${guest}/`);
      await echoed(subscriber);
      const place = from ?? (await this.call(guest, "list")).place;
      yield { live: place };
      yield* this.#replay(guest, place);
      for (;;) {
        const message = await subscriber.receive().catch((why) => (why.code === "EAGAIN" ? null : Promise.reject(why)));
        if (message === null) {
          await echoed(subscriber);
          yield* this.#replay(guest, place);
          continue;
        }
        if (message[0].toString().startsWith("nonce/") || lose(message[0].toString())) continue;
        const event = unpacked(message[1], message[2]);
        if (event.kind === "guest_up" || event.kind === "guest_down") continue; // places of their own
        if (event.epoch === place.epoch && event.seq <= place.seq) continue; // a repeat
        if (event.epoch === place.epoch && event.seq === place.seq + 1 && event.kind !== "beacon") {
          yield event;
          place.seq = event.seq; // after it was handled
          continue;
        }
        if (event.kind === "beacon") await sleep(100); // perhaps they are still on their way
        yield* this.#replay(guest, place, event.epoch);
      }
    } finally {
      subscriber.close();
    }
  }

  async *#replay(guest, place, epoch = place.epoch) {
    for (;;) {
      let reply;
      try {
        if (epoch !== place.epoch) throw new CorralError({ code: "cursor_too_old", message: `${guest} has begun epoch ${epoch}` });
        reply = await this.call(guest, "replay", { epoch: place.epoch, after: place.seq }, { bulk: true });
      } catch (why) {
        if (why.code !== "cursor_too_old") throw why;
        const fresh = await this.call(guest, "list");
        Object.assign(place, { mark: 0 }, fresh.place);
        epoch = place.epoch;
        yield { resync: true, containers: fresh.containers };
        continue;
      }
      for (const [header, payload] of reply.events) {
        const event = unpacked(header, payload);
        yield { ...event, replayed: true };
        place.seq = event.seq;
      }
      place.seq = reply.upto;
      if (reply.upto === reply.last_seq) return;
    }
  }

  close() {
    this.commands.close();
    this.bulk.close();
  }
}

const unpacked = (header, payload) => ({ ...unpack(header), payload: unpack(payload) });

/** returns when all subscriptions made before are live. */
async function echoed(subscriber) {
  const patienceMs = subscriber.receiveTimeout;
  subscriber.receiveTimeout = 1000;
  for (;;) {
    const nonce = `nonce/${randomBytes(8).toString("hex")}`;
    subscriber.subscribe(nonce);
    const end = performance.now() + 1000;
    let echo = false;
    while (!echo && performance.now() < end) {
      const message = await subscriber.receive().catch((why) => (why.code === "EAGAIN" ? [""] : Promise.reject(why)));
      echo = message[0].toString() === nonce; // anything else is before "live": replay has it
    }
    subscriber.unsubscribe(nonce);
    if (echo) break;
  }
  subscriber.receiveTimeout = patienceMs;
}

const TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

export function crc32(bytes, before = 0) {
  let crc = ~before;
  for (const byte of bytes) crc = TABLE[(crc ^ byte) & 255] ^ (crc >>> 8);
  return ~crc >>> 0;
}

/** */
export function shellStatus(exit) {
  if (exit.type === "exited" && exit.code != null) return exit.code;
  if (exit.type === "signalled" && exit.signal != null) return 128 + exit.signal;
  const named = exit.type === "start_failed" ? (exit.reason ?? "").split(":")[0] : "";
  return { command_not_found: 127, command_not_executable: 126 }[named] ?? 125;
}

/** decimal text of a 64-bit integer, so `time_ns` has to be exact. */
export function markOf({ time_ns, kind, instance = "", process_instance = "" }) {
  return crc32(new TextEncoder().encode(`${time_ns}/${kind}/${instance}/${process_instance}`)) || 1;
}
