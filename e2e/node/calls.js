// Calls OpenAI (the stand-in) as a Node.js program does, traced by OpenTelemetry's official packages alone.
//
// Reads numbers from stdin, a line each: makes so many calls and answers with a line of their ids. At the end of stdin
// it flushes its spans and ends. OPENAI_BASE_URL says where the stand-in is, OTEL_* where the spans go.

const { NodeSDK } = require("@opentelemetry/sdk-node");
const { OpenAIInstrumentation } = require("@opentelemetry/instrumentation-openai");

const sdk = new NodeSDK({ instrumentations: [new OpenAIInstrumentation()] });
sdk.start();

const { OpenAI } = require("openai");
const { trace } = require("@opentelemetry/api");
const readline = require("node:readline");

const client = new OpenAI({ apiKey: "sk-stand-in" });
const tracer = trace.getTracer("calls");

async function plain(n) {
  const answer = await client.chat.completions.create({
    model: "gpt-4o-mini",
    messages: [{ role: "user", content: `Plainly, number ${n}?` }],
  });
  return answer.id;
}

async function streamed(n) {
  const stream = await client.chat.completions.create({
    model: "gpt-4o",
    messages: [{ role: "user", content: `In a stream, number ${n}?` }],
    stream: true,
    stream_options: { include_usage: true },
  });
  let id;
  for await (const chunk of stream) id = chunk.id;
  return id;
}

async function main() {
  let made = 0;
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const ids = [];
    for (let n = 0; n < Number(line); n++) {
      const call = made++ % 2 ? streamed : plain;
      // A span of the program's own around each call: Jaeger gets it, the ledger has no use for it.
      ids.push(await tracer.startActiveSpan("question", (span) => call(made).finally(() => span.end())));
    }
    console.log(ids.join(" "));
  }
  await sdk.shutdown();
}

main();
