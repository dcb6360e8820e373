// Measures the page in the browser and prints it (docs/web.md holds the results):
//   node tests/web/measure.mjs [--real | --start]
// With --real also the time from script/server to the first token on the page, and what the page adds to the memory of `pagemill serve`; with --start these alone.
import { readFileSync } from "node:fs";
import { answers, ask, brief, closeBrowser, composer, eventually, expectClean, idle, newContext, setPatience, setUp, startReal, startScripted } from "./harness.mjs";

const RICH = `Here is **the plan** for the tokens that come now, with \`inline code\`, a [link](https://example.org) and 一些中文内容。

## Steps

1. Read the first part of the text and note what matters.
2. Compare it with the second, *carefully*, line by line.
   - a nested point
   - another one

\`\`\`python
def fibonacci(n: int) -> int:
    """The n-th number, by the naive recursion."""
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

for i in range(20):
    print(i, fibonacci(i))
\`\`\`

| name | value | note |
| --- | --- | --- |
| alpha | 1 | the first row of the table |
| beta | 2 | the second row of the table |
| gamma | 3 | the third row of the table |

The identity $e^{i\\pi} + 1 = 0$ and the integral

$$\\int_0^\\infty e^{-x^2}\\,dx = \\frac{\\sqrt{\\pi}}{2}$$

> A quotation that goes on for a while, so that it takes more than one line on the screen.

`;

setPatience(60_000);

const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
const spread = (values, digits = 0) => `${median(values).toFixed(digits)} (${Math.min(...values).toFixed(digits)}–${Math.max(...values).toFixed(digits)}, ${values.length} runs)`;
const call = (page, method, path, body) => page.evaluate(async ([method, path, body]) => {
  const me = await (await fetch("/chat/api/me")).json();
  const answer = await fetch(`/chat/api${path}`, { method, headers: { "Content-Type": "application/json", "X-CSRF-Token": me.csrf }, body: body && JSON.stringify(body) });
  return { status: answer.status, body: answer.status === 204 ? null : await answer.json() };
}, [method, path, body]);

/// Starts counting tasks over 50 ms, as the browser reports them.
const watchTasks = (page) => page.evaluate(() => {
  globalThis.longTasks = [];
  globalThis.frames = [];
  new PerformanceObserver((list) => longTasks.push(...list.getEntries().map((entry) => entry.duration))).observe({ type: "longtask" });
  let last = performance.now();
  const frame = (now) => {
    frames.push(now - last);
    last = now;
    requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
});

async function firstLoad(server) {
  const context = await newContext(server);
  const page = await context.newPage();
  const devtools = await context.newCDPSession(page);
  await devtools.send("Network.enable");
  let bytes = 0, requests = 0;
  const api = new Set();
  devtools.on("Network.requestWillBeSent", ({ requestId, request }) => { if (request.url.includes("/chat/api/")) api.add(requestId); });
  devtools.on("Network.loadingFinished", ({ requestId, encodedDataLength }) => {
    if (api.has(requestId)) return;
    bytes += encodedDataLength;
    requests += 1;
  });
  await page.goto("/");
  await page.getByRole("heading").first().waitFor();
  await page.waitForTimeout(1000);
  const paint = await page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0]?.startTime);
  console.log(`first load: ${bytes.toLocaleString("en")} bytes over the wire with headers, ${requests} files; first contentful paint after ${paint?.toFixed(0)} ms`);
  await context.close();
}

async function longConversation(page) {
  const { body: { id } } = await call(page, "POST", "/conversations", { title: "1,000 messages" });
  const sent = [];
  let parent = null;
  for (let i = 0; i < 500; i++) {
    const begun = await page.evaluate(() => performance.now());
    const { status, body } = await call(page, "POST", `/conversations/${id}/messages`, { parent_id: parent, text: `Question ${i}: what about this?\n\n${RICH.slice(0, 400 + ((i * 97) % 900))}` });
    if (status !== 201) throw new Error(JSON.stringify(body));
    sent.push((await page.evaluate(() => performance.now())) - begun);
    parent = body.assistant_message.id;
    await eventually(() => call(page, "GET", `/conversations?limit=1`), ({ body }) => [...body.pinned, ...body.conversations].every((one) => !one.generating));
  }
  const opened = [], complete = [], tasks = [];
  for (let run = 0; run < 7; run++) {
    await page.goto("/");
    await composer(page).waitFor();
    await page.waitForTimeout(1000);  // the page is at rest when somebody chooses a conversation
    opened.push(await page.evaluate(async (id) => {
      const link = document.querySelector(`a[href$="/c/${id}"]`);
      const begun = performance.now();
      link.click();
      // Until the last answer's text is on the screen: in the document, laid out and past the next frame.
      while (!document.querySelector("article:last-of-type .prose .block")) await new Promise((resolve) => requestAnimationFrame(resolve));
      await new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
      return performance.now() - begun;
    }, id));
    const begun = Date.now();
    await watchTasks(page);
    await page.waitForFunction(() => document.querySelectorAll("article").length === 1000, null, { polling: 200 });
    complete.push(Date.now() - begun);
    tasks.push(Math.max(0, ...await page.evaluate(() => longTasks)));
  }
  console.log(`1,000 messages: the end is on the screen after ${spread(opened)} ms; all are in the document ${spread(complete)} ms later, the longest task meanwhile ${spread(tasks)} ms (0 = none over 50 ms)`);
  console.log(`sending the 500 questions: ${spread(sent, 1)} ms for two requests from the page`);
  return id;
}

/// What the server spends on a question in a conversation of 1,000 messages: by its own connection, since the page would be measured too.
async function serverOverhead(context, server, id) {
  const cookie = (await context.cookies()).map(({ name, value }) => `${name}=${value}`).join("; ");
  const ask = async (method, path, body) => {
    const answer = await fetch(`${server.url}/chat/api${path}`, { method, headers: { "Content-Type": "application/json", "X-CSRF-Token": csrf, Cookie: cookie, Origin: server.url }, body: body && JSON.stringify(body) });
    const text = await answer.text();
    if (!answer.ok) throw new Error(text);
    return text && JSON.parse(text);
  };
  let csrf = "";
  csrf = (await ask("GET", "/me")).csrf;
  const generating = async () => { const { pinned, conversations } = await ask("GET", "/conversations?limit=1"); return [...pinned, ...conversations].some((one) => one.generating); };
  let parent = (await ask("GET", `/conversations/${id}`)).conversation.head_id;
  const stored = [], sent = [];
  for (let run = 0; run < 60; run++) {
    const begun = performance.now();
    const { user_message, assistant_message } = await ask("POST", `/conversations/${id}/messages`, { parent_id: parent, text: "one more", generate: run % 2 === 1 });
    (run % 2 ? sent : stored).push(performance.now() - begun);
    parent = (assistant_message ?? user_message).id;
    await eventually(generating, (is) => !is);
  }
  console.log(`one more question in it, from the request to the server's answer: ${spread(sent, 1)} ms with the prompt composed and queued, ${spread(stored, 1)} ms when only stored`);
}

async function streaming(page, tokensPerSecond) {
  const text = RICH.repeat(3).slice(0, 3600);
  const tasks = [], frames = [];
  for (let run = 0; run < 5; run++) {
    await page.goto("/");
    await composer(page).waitFor();
    await page.waitForTimeout(500);
    await composer(page).fill(text);
    await watchTasks(page);
    const begun = Date.now();
    await page.getByRole("button", { name: "Send", exact: true }).click();
    await answers(page).first().waitFor();
    await idle(page);
    const seconds = (Date.now() - begun) / 1000;
    const seen = await page.evaluate(() => ({ tasks: longTasks, frames }));
    tasks.push(Math.max(0, ...seen.tasks));
    frames.push([...seen.frames].sort((a, b) => a - b)[Math.floor(seen.frames.length * 0.99)]);
    if (run === 0) console.log(`streaming ${text.length} characters in ${seconds.toFixed(1)} s = ${(text.length / seconds).toFixed(0)} characters/s, ${tokensPerSecond}`);
  }
  console.log(`  longest task ${spread(tasks)} ms (0 = none over 50 ms); 99 % of frames within ${spread(frames)} ms`);
}

async function memory(child) {
  const read = () => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${child.pid}/status`, "utf8"))[1]) / 1024;
  return read();
}

async function scripted() {
  const fast = await startScripted({ msPerToken: 0, context: 4_000_000 });
  try {
    await firstLoad(fast);
    const before = await memory(fast.child);
    const context = await newContext(fast);
    const page = await setUp(context, fast);
    await ask(page, "hello");
    console.log(`server: ${before.toFixed(1)} MB resident before the page was used, ${(await memory(fast.child)).toFixed(1)} MB with one user and an answer`);
    const id = await longConversation(page);
    console.log(`server: ${(await memory(fast.child)).toFixed(1)} MB resident with the 1,000 messages`);
    await page.close();
    await serverOverhead(context, fast, id);
    await expectClean(context);
    await context.close();
  } finally { await fast.stop(); }

  const paced = await startScripted({ msPerToken: 0.833 });
  try {
    const context = await newContext(paced);
    const page = await setUp(context, paced);
    await streaming(page, "as 300 tokens/s of four characters do");
    await expectClean(context);
    await context.close();
  } finally { await paced.stop(); }
}

/// What a newcomer does: script/server on a built tree, the printed link, an account, a question. Only pressing the mouse counts as a click.
async function firstToken() {
  const begun = Date.now();
  const real = await startReal({ script: true });
  const printed = Date.now();
  const context = await newContext(real);
  const page = await context.newPage();
  let clicks = 0;
  const click = async (locator) => {
    clicks++;
    await locator?.click();
  };
  await click();
  await page.goto(`/#setup=${real.token}`);
  await page.getByLabel("E-mail").fill("me@example.org");
  await page.getByLabel("New password").fill("a few good words");
  await click(page.getByRole("button", { name: "Create account and start" }));
  await composer(page).waitFor();
  const account = Date.now();
  await page.keyboard.type("Why is the sky blue?");
  await page.keyboard.press("Enter");
  await eventually(() => answers(page).locator(".prose").count(), (n) => n > 0);
  const end = Date.now();
  await expectClean(context);
  await context.close();
  await real.stop();
  return { whole: (end - begun) / 1000, link: (printed - begun) / 1000, enter: (end - account) / 1000, clicks };
}

/// Private memory of the server with the default model after one short answer; the page in use, or not there at all.
async function realMemory(page) {
  const real = await startReal({ page });
  const anonymous = () => Number(/RssAnon:\s+(\d+)/.exec(readFileSync(`/proc/${real.child.pid}/status`, "utf8"))[1]) / 1024;
  try {
    if (page) {
      const context = await newContext(real);
      const tab = await setUp(context, real);
      await brief(tab, 64);
      await ask(tab, "What is the capital of Japan?");
      await context.close();
    } else {
      const send = () => fetch(`${real.url}/v1/chat/completions`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ messages: [{ role: "user", content: "What is the capital of Japan?" }], max_tokens: 64 }) });
      await eventually(async () => (await send()).status, (status) => status === 200);
    }
    return anonymous();
  } finally { await real.stop(); }
}

const startOnly = process.argv.includes("--start");
if (!startOnly) await scripted();
if (startOnly || process.argv.includes("--real")) {
  const runs = [];
  for (let run = 0; run < 3; run++) runs.push(await firstToken());
  console.log(`script/server on a built tree: the link after ${spread(runs.map((one) => one.link), 1)} s, the first token on the page after ${spread(runs.map((one) => one.whole), 1)} s, account included; ${spread(runs.map((one) => one.enter), 2)} s after Enter; ${runs[0].clicks} clicks and Enter`);
}
if (!startOnly && process.argv.includes("--real")) {
  const without = await realMemory(false), used = await realMemory(true);
  console.log(`server with the default model: ${without.toFixed(1)} MB of its own without the page, ${used.toFixed(1)} MB with the page in use: ${(used - without).toFixed(1)} MB more`);
}
await closeBrowser();
