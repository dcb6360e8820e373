// Draws docs/screenshots: node tests/web/screenshots.mjs [FOLDER [all]]. The page is the program's own; what it is told comes from sample_data.mjs.
// Without "all": the few that are kept.
import { mkdirSync } from "node:fs";
import { closeBrowser, expectClean, newContext, startScripted } from "./harness.mjs";
import { answer, ids, me, nobody } from "./sample_data.mjs";

const folder = process.argv[2] ?? new URL("../../docs/screenshots", import.meta.url).pathname;
const everything = process.argv[3] === "all";
mkdirSync(folder, { recursive: true });

const DESKTOP = { viewport: { width: 1200, height: 760 } };
const PHONE = { viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true };
const VARIANTS = {
  light: { ...DESKTOP, colorScheme: "light" }, dark: { ...DESKTOP, colorScheme: "dark", locale: "zh-CN" },
  "phone-light": { ...PHONE, colorScheme: "light" }, "phone-dark": { ...PHONE, colorScheme: "dark", locale: "zh-CN" },
};
/// Name → how to get there; `in`: which variants are kept.
const SHOTS = {
  setup: { path: "/#setup=x", who: { ...nobody, setup_needed: true }, in: ["light"] },
  empty: { path: "/", empty: true, in: ["light", "phone-dark"] },
  chat: { path: `/c/${ids.chat}`, in: ["light", "dark", "phone-light"] },
  error: { path: `/c/${ids.error}`, in: ["light"] },
  drawer: { path: `/c/${ids.error}`, in: ["phone-light"], async act(page) { if ((page.viewportSize()?.width ?? 0) < 500) await page.locator("main header button").first().click(); } },
  search: { path: "/", in: ["dark"], async act(page) { await page.keyboard.press("Control+k"); await page.keyboard.type("排序"); await page.locator("mark").first().waitFor(); } },
  documents: {
    path: "/", in: ["light"],
    async act(page) {
      await page.locator('input[type="file"][multiple]').setInputFiles(["annual report of the harbour.txt", "scanned letter of 1787.pdf"].map((name) => ({ name, mimeType: "text/plain", buffer: Buffer.from("x") })));
      await page.locator("fieldset").waitFor();
    },
  },
  options: { path: `/c/${ids.chat}`, in: [], async act(page) { await page.locator("header .icon-button").last().click(); } },
  users: { path: "/admin/users", in: ["light", "phone-dark"] },
  machine: { path: "/admin/machine", in: ["dark"] },
  templates: { path: "/templates", in: [] },
  "document-list": { path: "/documents", in: [] },
  settings: { path: "/settings/general", in: [] },
  sessions: { path: "/settings/sessions", in: [] },
};

const server = await startScripted();
for (const [variant, settings] of Object.entries(VARIANTS)) {
  const context = await newContext(server, settings);
  for (const [name, shot] of Object.entries(SHOTS)) {
    if (!everything && !shot.in.includes(variant)) continue;
    const page = await context.newPage();
    await page.route("**/chat/api/**", async (route) => {
      const request = route.request();
      const url = new URL(request.url());
      const path = url.pathname.slice("/chat/api".length);
      if (path === "/events") return route.fulfill({ contentType: "text/event-stream", body: "retry: 100000\n\n" });
      if (path === "/me") return route.fulfill({ json: shot.who ?? me });
      let body = null;
      try { body = request.postDataJSON(); } catch { /* a file's bytes */ }
      const [status, json] = answer(request.method(), path, url.searchParams, body, shot.empty);
      return route.fulfill({ status, json });
    });
    await page.goto(shot.path);
    await page.waitForLoadState("networkidle").catch(() => {});
    await shot.act?.(page);
    await page.waitForTimeout(400);
    await page.screenshot({ path: `${folder}/${name}-${variant}.png` });
    await page.close();
  }
  await expectClean(context);
  await context.close();
}
await closeBrowser();
await server.stop();
