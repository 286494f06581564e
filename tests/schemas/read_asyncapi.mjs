// Reads an AsyncAPI document with AsyncAPI's own parser and prints what is wrong with it. Arguments: the parser's directory, the document.
import { createRequire } from "node:module";

const [directory, file] = process.argv.slice(2);
const { Parser, fromFile } = createRequire(`${directory}/package.json`)("@asyncapi/parser");
const { document, diagnostics } = await fromFile(new Parser(), file).parse();
const wrong = diagnostics.filter((one) => one.severity <= 1); // errors and warnings
for (const one of wrong) console.log(`${one.path.join(".")}: ${one.message}`);
console.log(`${document?.operations().all().length ?? 0} operations`);
process.exit(wrong.length ? 1 : 0);
