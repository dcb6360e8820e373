// Measures the page in the browser and prints it (docs/web.md holds the results):
//   node tests/web/measure.mjs [--real]
// With --real also the time from starting `pagemill serve` to the first token on the page.
import { readFileSync } from "node:fs";
import { answers, ask, closeBrowser, composer, eventually, expectClean, idle, newContext, setUp, startReal, startScripted } from "./harness.mjs";

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
  const opened = [], complete = [];
  for (let run = 0; run < 7; run++) {
    await page.goto("/");
    await composer(page).waitFor();
    await page.waitForTimeout(400);
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
    await eventually(() => page.locator("article").count(), (n) => n === 1000, "all messages");
    complete.push(Date.now() - begun);
  }
  console.log(`1,000 messages: the end is on the screen after ${spread(opened)} ms; all are in the document ${spread(complete)} ms later`);
  console.log(`sending the 500 questions: ${spread(sent, 1)} ms for two requests from the page`);
  const reply = [];
  for (let i = 0; i < 20; i++) {
    reply.push(await page.evaluate(async ([id, parent]) => {
      const me = await (await fetch("/chat/api/me")).json();
      const begun = performance.now();
      const answer = await fetch(`/chat/api/conversations/${id}/messages`, { method: "POST", headers: { "Content-Type": "application/json", "X-CSRF-Token": me.csrf }, body: JSON.stringify({ parent_id: parent, text: "one more", generate: false }) });
      await answer.json();
      return performance.now() - begun;
    }, [id, parent]));
  }
  console.log(`storing a message in it: ${spread(reply, 1)} ms as the page sees it`);
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

const fast = await startScripted({ msPerToken: 0, context: 4_000_000 });
try {
  await firstLoad(fast);
  const before = await memory(fast.child);
  const context = await newContext(fast);
  const page = await setUp(context, fast);
  await ask(page, "hello");
  console.log(`server: ${before.toFixed(1)} MB resident before the page was used, ${(await memory(fast.child)).toFixed(1)} MB with one user and an answer`);
  await longConversation(page);
  console.log(`server: ${(await memory(fast.child)).toFixed(1)} MB resident with the 1,000 messages`);
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

if (process.argv.includes("--real")) {
  const times = [];
  for (let run = 0; run < 3; run++) {
    const begun = Date.now();
    const real = await startReal();
    const context = await newContext(real);
    const page = await setUp(context, real);
    const account = Date.now();
    await composer(page).fill("Why is the sky blue?");
    await composer(page).press("Enter");
    await eventually(() => answers(page).locator(".prose").count(), (n) => n > 0);
    times.push([(Date.now() - begun) / 1000, (Date.now() - account) / 1000]);
    await context.close();
    await real.stop();
  }
  console.log(`from starting the server to the first token on the page, account included: ${spread(times.map(([all]) => all), 1)} s; from Enter: ${spread(times.map(([, enter]) => enter), 2)} s`);
}
await closeBrowser();
