// OpenAI's own client for Node, unmodified, against a running server: node openai_client.cjs URL KEY LIMITED-KEY
// LIMITED-KEY may have one request under way at a time. Ends with 1 if anything fails.
"use strict";

const OpenAI = require("openai");
const { VERSION } = require("openai/version");

const [url, key, limitedKey] = process.argv.slice(2);
const baseURL = url.replace(/\/$/, "") + "/v1";
const QUESTION = [{ role: "user", content: "Say hello." }];
let failures = 0;

function check(condition, what) {
  console.log(condition ? "ok    " : "FAILED", what);
  if (!condition) ++failures;
}

async function textOf(stream) {
  let text = "", last;
  for await (const chunk of stream) {
    for (const choice of chunk.choices) text += choice.delta.content ?? "";
    last = chunk;
  }
  return { text, last };
}

async function chat(client, model) {
  const request = { model, messages: QUESTION, max_tokens: 8, temperature: 0 };
  const answer = await client.chat.completions.create(request);
  check(answer.object === "chat.completion" && answer.choices[0].message.role === "assistant", "chat");
  check(answer.usage.total_tokens === answer.usage.prompt_tokens + answer.usage.completion_tokens, "usage adds up");
  const { text, last } = await textOf(await client.chat.completions.create({ ...request, stream: true, stream_options: { include_usage: true } }));
  check(text === answer.choices[0].message.content, "a stream says the same as a whole answer");
  check(last.usage.completion_tokens === answer.usage.completion_tokens, "usage at the end of a stream");
  const helped = await client.chat.completions.stream(request).finalContent();
  check(helped === text, "the client's stream helper");
}

async function choicesAndLogprobs(client, model) {
  const request = { model, messages: QUESTION, max_tokens: 4, n: 2, seed: 7, logprobs: true, top_logprobs: 3 };
  const answer = await client.chat.completions.create(request);
  check(answer.choices.map((choice) => choice.index).join() === "0,1", "n=2");
  const entries = answer.choices[0].logprobs.content;
  check(entries.every((entry) => entry.logprob <= 0 && entry.top_logprobs.length === 3), "logprobs");
  const completion = await client.completions.create({ model, prompt: "One, two,", max_tokens: 3, temperature: 0, logprobs: 1 });
  check(completion.choices[0].logprobs.tokens.length === 3, "completions");
}

async function embeddings(client, model) {
  const coded = await client.embeddings.create({ model, input: ["a cat", "physics"] });
  const plain = await client.embeddings.create({ model, input: ["a cat", "physics"], encoding_format: "float" });
  const first = Array.from(coded.data[0].embedding), second = plain.data[0].embedding;
  check(Math.abs(first.reduce((sum, x) => sum + x * x, 0) - 1) < 1e-3, "embeddings have length 1");
  check(first.every((x, i) => Math.abs(x - second[i]) < 1e-5), "base64 and float agree");
}

async function refused(promise, kind, param) {
  try {
    await promise;
    check(false, `${kind.name} for ${param}`);
  } catch (error) {
    check(error instanceof kind && (param === undefined || error.param === param), `${kind.name} names ${param}`);
  }
}

async function errors(client, model) {
  const ask = (fields) => client.chat.completions.create({ model, messages: QUESTION, ...fields });
  await refused(ask({ model: "no-such-model" }), OpenAI.NotFoundError, "model");
  await refused(ask({ temperature: 5 }), OpenAI.BadRequestError, "temperature");
  await refused(ask({ messages: [] }), OpenAI.BadRequestError, "messages");
  await refused(ask({ messages: [{ role: "user", content: "word ".repeat(20000) }] }), OpenAI.BadRequestError, "input_tokens");
  await refused(new OpenAI({ baseURL, apiKey: "sk-unknown" }).models.list(), OpenAI.AuthenticationError);
}

async function waitUntilIdle(client, what) {
  let load;
  for (let i = 0; i < 600; ++i) {
    load = await client.get("/load");
    if (load.running === 0 && load.kv_blocks_live === 0) break;
    await new Promise((wake) => setTimeout(wake, 100));
  }
  check(load.running === 0 && load.kv_blocks_live === 0, what);
}

async function abortAndRetry(client, model) {
  const long = { model, messages: QUESTION, max_tokens: 1900, ignore_eos: true, stream: true };
  const stream = await client.chat.completions.create(long);
  for await (const _ of stream) break;  // leaving the loop aborts the request
  await waitUntilIdle(client, "an aborted stream frees its blocks");

  const limited = new OpenAI({ baseURL, apiKey: limitedKey, maxRetries: 20 });
  const held = await limited.chat.completions.create(long);
  const short = { model, messages: QUESTION, max_tokens: 1 };
  await refused(limited.chat.completions.create(short, { maxRetries: 0 }), OpenAI.RateLimitError);
  setTimeout(() => held.controller.abort(), 500);
  const answer = await limited.chat.completions.create(short);
  check(answer.usage.completion_tokens === 1, "the client retries after 429 and succeeds");
  await waitUntilIdle(client, "nothing is left of the stream that was held");
}

async function main() {
  const client = new OpenAI({ baseURL, apiKey: key, timeout: 300_000 });
  const model = (await client.models.list()).data[0].id;
  check((await client.models.retrieve(model)).id === model, `models: ${model}`);
  for (const part of [chat, choicesAndLogprobs, embeddings, errors, abortAndRetry]) await part(client, model);
  console.log(`openai for Node ${VERSION}: ${failures} failures`);
  process.exit(failures ? 1 : 0);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
