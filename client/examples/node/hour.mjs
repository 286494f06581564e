// A container run, read, waited for and followed: `node hour.mjs ADDRESS GUEST ROOTFS [KEY_FILE BROKER_PUBLIC]`. Every third published event
// is thrown away on the way in, and comes by replay all the same. Ends with the container's status as a shell would show it.
import { Client, markOf, readKeys, shellStatus } from "./corral.mjs";

const [address, guest, rootfs, keyFile, serverFile] = process.argv.slice(2);
const client = await Client.dial(address, keyFile && readKeys(keyFile, serverFile));
console.error(`broker ${client.hello.version} speaks protocol ${client.hello.protocol}`);

const name = `hour-${process.pid}`;
let published = 0;
const lose = (topic) => !topic.includes("/beacon/") && ++published % 3 === 0;
const seen = [];
let isLive;
const live = new Promise((settle) => (isLive = settle));
const followed = (async () => {
  for await (const event of client.follow(guest, { lose })) {
    if (event.live) isLive();
    if (!event.kind) continue;
    seen.push(event);
    if (event.kind === "deleted" && event.container === name) return;
  }
})();
await Promise.race([live, followed]);

const spec = { rootfs, args: ["sh", "-c", "seq 1 100000; echo done >&2; exit 7"] };
const made = await client.call(guest, "run", { container: name, spec });
const bytes = { stdout: 0, stderr: 0 };
for await (const { stream, data, gap } of client.output(guest, made)) {
  if (gap) console.error(`${gap.end - gap.start} bytes of ${stream} are missing: ${gap.reason}`);
  if (data) {
    bytes[stream] += data.length;
    process[stream].write(data);
  }
}
const exit = await client.wait(guest, made);
await client.call(guest, "delete", { container: name, instance: made.instance });
await followed;
client.close();

const kinds = seen.filter((event) => event.container === name).map((event) => event.kind);
const whole = seen.every((event, index) => index === 0 || event.seq === seen[index - 1].seq + 1);
const replayed = seen.filter((event) => event.replayed).length;
console.error(JSON.stringify({ bytes, kinds, whole, replayed, mark: markOf(seen.at(-1)) }));
process.exitCode = shellStatus(exit);
