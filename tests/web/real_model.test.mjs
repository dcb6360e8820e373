// The page as a user meets it: `pagemill serve` with the default model, from the printed link to answers about a document.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { docx, pdf, textFile } from "./fixtures.mjs";
import { answers, ask, closeBrowser, composer, eventually, expectAccessible, expectClean, idle, newContext, questions, setPatience, setUp, startReal } from "./harness.mjs";

let server, context, page;
before(async () => {
  setPatience(240_000);
  server = await startReal();
  context = await newContext(server);
});
after(async () => {
  await closeBrowser();
  await server?.stop();
});

test("link, account, answer", async () => {
  page = await setUp(context, server);
  await ask(page, "What is the capital of France?");
  assert.match(await answers(page).last().innerText(), /Paris/);
  await answers(page).last().getByText("tokens/s").waitFor();
  await expectAccessible(page, "conversation");
});

test("the conversation gets a title from the model", async () => {
  const title = await eventually(() => page.title(), (text) => text !== "Pagemill");
  assert.ok(title.length <= 120, title);
});

test("stop, and reload in the middle of an answer", async () => {
  await ask(page, "Write a very long story about a lighthouse keeper, with many chapters.", { wait: false });
  await eventually(() => answers(page).last().innerText(), (text) => text.length > 80, "the story begins");
  await page.reload();
  await answers(page).last().waitFor();
  const half = (await answers(page).last().locator(".prose").innerText()).length;
  await eventually(() => answers(page).last().locator(".prose").innerText(), (text) => text.length > half, "it goes on after the reload");
  await page.getByRole("button", { name: "Stop" }).click();
  await page.getByText("Stopped", { exact: true }).waitFor();
  await idle(page);
});

test("questions about a TXT, a PDF and a DOCX", async () => {
  await page.getByRole("link", { name: "New chat" }).click();
  await page.getByRole("heading", { name: "What is on your mind?" }).waitFor();
  await page.locator('input[type="file"][multiple]').setInputFiles([
    textFile("harbour.txt", "The harbour master is called Ingrid."),
    { name: "lighthouse.pdf", mimeType: "application/pdf", buffer: pdf(["The lighthouse was built in 1787."]) },
    { name: "ferry.docx", mimeType: "application/octet-stream", buffer: docx(["The ferry leaves at six."]) },
  ]);
  await page.getByText(/tokens used/).waitFor();
  await eventually(() => page.getByRole("list", { name: "Attached documents" }).innerText(), (text) => (text.match(/tokens/g) ?? []).length === 3);
  await ask(page, "According to the text, what is the name of the harbour master?");
  assert.match(await answers(page).last().innerText(), /Ingrid/);
  assert.equal(await questions(page).last().locator(".documents li").count(), 3);
});

test("nothing went wrong behind the scenes", async () => {
  assert.equal(await composer(page).inputValue(), "");
  await expectClean(context);
});
