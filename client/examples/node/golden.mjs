// Holds this client's decoder against the golden samples of its conformance level: `node golden.mjs PATH/TO/tests/schemas/golden`.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { unpack } from "./corral.mjs";

const golden = process.argv[2];
const read = (path) => JSON.parse(readFileSync(`${golden}/${path}`, "utf8"));

/** The JSON form: bin as base64, and integers as inexact as JSON.parse has them. */
function json(value) {
  if (typeof value === "bigint") return Number(value);
  if (value instanceof Uint8Array) return Buffer.from(value).toString("base64");
  if (Array.isArray(value)) return value.map(json);
  return value !== null && typeof value === "object" ? Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, json(inner)])) : value;
}

let samples = 0;
for (const level of ["subscriber", "client"]) {
  for (const file of readdirSync(`${golden}/${level}`)) {
    const { good, bad } = read(`${level}/${file}`);
    for (const [label, sample] of Object.entries(good)) {
      assert.deepEqual(json(unpack(Buffer.from(sample.msgpack, "hex"))), sample.json, `${file} ${label}`);
      samples++;
    }
    for (const [label, sample] of Object.entries(bad)) {
      if (sample.json !== undefined) continue; // its bytes are msgpack, and wrong for the receiver
      assert.throws(() => unpack(Buffer.from(sample.msgpack, "hex")), undefined, `${file} ${label}`);
      samples++;
    }
  }
}
for (const [name, { frames, decoder }] of Object.entries(read("exchanges/good.json"))) {
  if (decoder === "subscription") continue;
  for (const frame of frames.map((digits) => Buffer.from(digits, "hex"))) {
    if (frame[0] >= 0x80 && frame[0] <= 0x8f) assert.equal(typeof unpack(frame), "object", name);
  }
  samples++;
}
console.log(`${samples} golden samples`);
