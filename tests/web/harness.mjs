// What every test of the page needs: a server, a browser that reports what it should not have done, and a few ways of acting.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

const require = createRequire(new URL("../../web/package.json", import.meta.url));
const { chromium } = require("playwright-core");
const AXE = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

/// How long to wait for what should come at once; a real model on one slow core takes its time.
let patience = 30_000;
export const setPatience = (ms) => { patience = ms; };
/// Where the two servers are: a test runs in its build folder.
const build = existsSync("CMakeCache.txt") ? process.cwd() : new URL("../../build/release", import.meta.url).pathname;

export const EMAIL = "ada.lovelace.of.the.analytical@example.org";
export const PASSWORD = "correct horse battery";

/// A server of its own, with a data folder of its own, gone after stop().
async function start(command, args, ready) {
  const data = mkdtempSync(join(tmpdir(), "pagemill-page-"));
  const child = spawn(command, args(data), { stdio: ["ignore", "pipe", "pipe"] });
  const said = [];
  child.stderr.on("data", (text) => said.push(String(text)));
  const server = await new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`the server did not start:\n${said.join("")}`)), 120_000);
    const state = {};
    createInterface({ input: child.stdout }).on("line", (line) => {
      said.push(`${line}\n`);
      if (!ready(line, state)) return;
      clearTimeout(timer);
      resolve(state);
    });
    child.on("exit", (code) => reject(new Error(`the server ended with ${code}:\n${said.join("")}`)));
  });
  const stop = async () => {
    if (child.exitCode === null) {
      const gone = new Promise((resolve) => child.once("exit", resolve));
      child.kill("SIGTERM");
      await gone;
    }
    rmSync(data, { recursive: true, force: true });
  };
  return { ...server, data, child, stop };
}

/// The engine repeats what it is told; "long" gets 200 lines. `msPerToken`: of one byte.
export function startScripted({ auth = "accounts", msPerToken = 1, context = 8192 } = {}) {
  return start(join(build, "tests/chat/chat_scripted_server"), (data) => [data, "0", auth, String(msPerToken), String(context)], (line, state) => {
    if (!state.url) {
      state.url = line.trim();
      return false;
    }
    state.token = line.trim();
    return true;
  });
}

/// `pagemill serve` with the default model, as a user starts it; `script`: by script/server, which sees to the rest first; without `page`: the API alone.
export function startReal({ port = 0, script = false, page = true } = {}) {
  const command = script ? new URL("../../script/server", import.meta.url).pathname : join(build, "pagemill");
  const args = (data) => [...(script ? [] : ["serve"]), "--port", String(port), ...(page ? ["--data-dir", data] : ["--no-chat-page"])];
  return start(command, args, (line, state) => {
    const found = page ? /(http:\/\/\S+?)\/#setup=(\S+)/.exec(line) : /^Listening on (http:\/\/\S+)/.exec(line);
    if (!found) return false;
    [, state.url, state.token] = found;
    return true;
  });
}

let browser;
export async function openBrowser() {
  browser ??= await chromium.launch({
    executablePath: "/usr/bin/chromium",
    args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  });
  return browser;
}
export async function closeBrowser() {
  await browser?.close();
  browser = undefined;
}

/// A browser profile. Everything it does that the page must not do is kept in `faults`.
export async function newContext(server, settings = {}) {
  const context = await (await openBrowser()).newContext({ locale: "en-US", timezoneId: "Asia/Shanghai", viewport: { width: 1280, height: 800 }, baseURL: server.url, ...settings });
  context.setDefaultTimeout(patience);
  context.faults = [];
  await context.addInitScript(() => {
    addEventListener("securitypolicyviolation", (event) => console.error(`POLICY ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber} ${event.sample}`));
  });
  context.on("request", (request) => {
    const url = request.url();
    if (!url.startsWith(`${server.url}/`) && !/^(blob|data):/.test(url)) context.faults.push(`request to ${url}`);
  });
  context.on("page", (page) => {
    page.on("pageerror", (error) => context.faults.push(`error: ${error.stack ?? error}`));
    page.on("console", (message) => {
      // A refused request is the browser's own message, and some tests provoke one.
      // What an attack tries inside the diagram's frame is stopped there: it has no origin, and its policy reports what it refuses.
      const inFrame = /\/assets\/mermaid-/.test(`${message.location().url} ${message.text()}`);
      if (message.type() === "error" && !inFrame && !/Failed to load resource/.test(message.text())) context.faults.push(`console: ${message.text()}`);
    });
    page.on("dialog", (dialog) => {
      context.faults.push(`dialog: ${dialog.message()}`);
      void dialog.dismiss();
    });
  });
  return context;
}

/// No error, no report of the policy, no request beyond the origin, nothing secret within reach of a script.
export async function expectClean(context) {
  for (const page of context.pages()) {
    const reach = await page.evaluate(() => ({ cookie: document.cookie, pwned: window.pwned, stored: JSON.stringify({ ...localStorage, ...sessionStorage }) }));
    assert.equal(reach.cookie, "");
    assert.equal(reach.pwned, undefined);
    assert.doesNotMatch(reach.stored, /pagemill_session|csrf|pm-[0-9a-f]{6}/);
  }
  assert.deepEqual(context.faults, []);
}

/// No violation of axe-core's rules, best practices included.
export async function expectAccessible(page, name) {
  await page.evaluate(AXE);
  const result = await page.evaluate(async () => {
    await Promise.all(document.getAnimations().filter((one) => one.effect?.getComputedTiming().iterations !== Infinity).map((one) => one.finished.catch(() => {})));
    const { violations } = await globalThis.axe.run(document, { resultTypes: ["violations"] });
    return violations.map((one) => `${one.id}: ${one.help}\n    ${one.nodes.slice(0, 4).map((node) => `${node.html.slice(0, 200)} ${node.any.concat(node.all).map((check) => check.message).join("; ").slice(0, 300)}`).join("\n    ")}`);
  });
  assert.deepEqual(result, [], `${name}:\n${result.join("\n")}`);
}

export async function setUp(context, server) {
  const page = await context.newPage();
  await page.goto(`/#setup=${server.token}`);
  await page.getByLabel("E-mail").fill(EMAIL);
  await page.getByLabel("New password").fill(PASSWORD);
  await page.getByRole("button", { name: "Create account and start" }).click();
  await composer(page).waitFor();
  return page;
}

export async function signIn(page, email = EMAIL, password = PASSWORD) {
  await page.getByLabel("E-mail").fill(email);
  await page.getByLabel("Password", { exact: true }).fill(password);
  await page.getByRole("button", { name: "Sign in" }).click();
  // Back to where the address says, which need not be a conversation.
  await page.locator("#main").waitFor();
}

export const composer = (page) => page.locator("textarea[placeholder]").last();
export const answers = (page) => page.getByRole("article", { name: "Answer", exact: true });
export const questions = (page) => page.getByRole("article", { name: "Your message", exact: true });

/// Sends a text and, unless told otherwise, waits for the end of the answer.
export async function ask(page, text, { wait = true } = {}) {
  const before = await answers(page).count();
  await composer(page).fill(text);
  await page.getByRole("button", { name: "Send", exact: true }).click();
  await eventually(() => answers(page).count(), (n) => n > before, "the answer begins");
  if (wait) await idle(page);
}

/// The conversation that begins now answers in few words, the likeliest ones.
export async function brief(page, tokens) {
  await page.getByRole("button", { name: "Instructions and sampling" }).click();
  await page.getByLabel("Temperature").fill("0");
  await page.getByLabel("Longest answer").fill(String(tokens));
  await page.getByRole("button", { name: "Save" }).click();
}

/// What can be read there. A browser that has not yet laid out a message (content-visibility) says that it reads "", also on the screen.
export const textOf = (locator) => eventually(async () => (await locator.innerText()).trim(), (text) => text !== "", "a text");

/// Text of the last answer, as a locator.
export const said = (page, text) => answers(page).last().locator(".prose").getByText(text);

/// The answer has ended.
export async function idle(page) {
  await page.locator('article[aria-busy="true"]').waitFor({ state: "detached" });
  await page.getByRole("button", { name: "Send", exact: true }).waitFor();
  await answers(page).last().waitFor();
}

/// Waits until a condition holds; what is read is shown when it never does.
export async function eventually(read, holds, what = "") {
  const end = Date.now() + patience;
  let value;
  do {
    value = await read();
    if (holds(value)) return value;
    await new Promise((resolve) => setTimeout(resolve, 30));
  } while (Date.now() < end);
  assert.fail(`${what || "never came true"}; last: ${JSON.stringify(value)?.slice(0, 800)}`);
}
