// The page as a user meets it: `pagemill serve` with the default model, from the printed link to answers about a document.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { docx, pdf, textFile } from "./fixtures.mjs";
import {
  answers, ask, brief, closeBrowser, composer, EMAIL, eventually, expectAccessible, expectClean, idle, newContext, PASSWORD, questions, setPatience, setUp, signIn, startReal, textOf,
} from "./harness.mjs";

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

const newChat = async () => {
  await page.getByRole("link", { name: "New chat" }).click();
  await page.getByRole("heading", { name: "What is on your mind?" }).waitFor();
};
const prose = (of = page) => textOf(answers(of).last().locator(".prose"));
const STORY = "Write a very long story about a lighthouse keeper, with many chapters.";

test("the link makes the account, and the first question gets its answer", async () => {
  page = await setUp(context, server);
  await brief(page, 48);
  await ask(page, "What is the capital of Japan?");
  assert.match(await textOf(answers(page).last()), /Tokyo/);
  await answers(page).last().getByText("tokens/s").waitFor();
  await expectAccessible(page, "conversation");
});

test("the conversation gets a title from the model", async () => {
  const title = await eventually(() => page.title(), (text) => text !== "Pagemill");
  assert.ok(title.length <= 120, title);
});

test("signing out and in again leads back", async () => {
  const url = page.url();
  await page.locator(".account-button").click();
  await page.getByRole("menuitem", { name: "Sign out" }).click();
  await page.getByRole("heading", { name: "Sign in" }).waitFor();
  await page.goto(url);
  await signIn(page, EMAIL, PASSWORD);
  await eventually(() => answers(page).count(), (n) => n === 1, "the conversation is there");
});

test("an answer goes on over a reload, and Stop ends it", async () => {
  await newChat();
  await ask(page, STORY, { wait: false });
  await answers(page).last().locator(".prose").waitFor();
  await eventually(() => prose(), (text) => text.length > 80, "the story begins");
  await page.reload();
  await answers(page).last().locator(".prose").waitFor();
  const half = (await prose()).length;
  await eventually(() => prose(), (text) => text.length > half, "it goes on after the reload");
  await page.getByRole("button", { name: "Stop" }).click();
  await page.getByText("Stopped", { exact: true }).waitFor();
  await idle(page);
  const frozen = await prose();
  await page.reload();
  await answers(page).last().locator(".prose").waitFor();
  assert.equal(await prose(), frozen, "the text grew after Stop");
});

test("a second tab sees the answer grow, and stops it", async () => {
  await newChat();
  await ask(page, STORY, { wait: false });
  await eventually(() => page.url(), (url) => /\/c\/[0-9a-f]{32}$/.test(url));
  const other = await context.newPage();
  await other.goto(page.url());
  await answers(other).last().locator(".prose").waitFor();
  const early = (await prose(other)).length;
  await eventually(() => prose(other), (text) => text.length > early + 40, "it grows in the second tab");
  await other.getByRole("button", { name: "Stop" }).click();
  await page.getByText("Stopped", { exact: true }).waitFor();
  await idle(page);
  assert.equal(await prose(), await prose(other));
  await other.close();
});

test("an edited question and a second answer are branches; an answer cut at its length goes on", async () => {
  await newChat();
  await brief(page, 12);
  await ask(page, "Explain in detail why the sea is salty.");
  await page.getByText("The answer reached its length limit.").waitFor();
  const cut = await prose();
  await page.getByRole("button", { name: "Continue" }).click();
  await idle(page);
  assert.ok((await prose()).length > cut.length, "nothing was added");
  assert.equal(await answers(page).count(), 1);
  await page.getByRole("button", { name: "Answer again" }).click();
  await eventually(() => answers(page).last().innerText(), (text) => text.includes("2/2"));
  await idle(page);
  await questions(page).first().hover();
  await page.getByRole("button", { name: "Edit", exact: true }).first().click();
  await page.getByRole("textbox", { name: "Edit" }).fill("Explain in detail why the sky is blue.");
  await page.getByRole("textbox", { name: "Edit" }).press("Control+Enter");
  const versions = questions(page).first().getByRole("group", { name: "Versions" });
  await eventually(() => versions.innerText(), (text) => text.includes("2/2"));
  await idle(page);
  await versions.getByRole("button", { name: "Previous version" }).click();
  await questions(page).first().getByText("Explain in detail why the sea is salty.").waitFor();
  await eventually(() => answers(page).last().innerText(), (text) => text.includes("2/2"), "the branch remembers its second answer");
});

test("a template asks for its variables, and the model answers what it made", async () => {
  await page.goto("/templates");
  await page.getByRole("button", { name: "New template" }).click();
  await page.getByRole("textbox", { name: /^Command/ }).fill("首都");
  await page.getByRole("textbox", { name: /^Title/ }).fill("Capital of a country");
  await page.getByRole("textbox", { name: /^Text/ }).fill("What is the capital of {{country}}?");
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByText("/首都").waitFor();
  await newChat();
  await brief(page, 16);
  await composer(page).fill("/首");
  await page.getByRole("option", { name: /首都/ }).waitFor();
  await composer(page).press("Enter");
  await page.getByRole("dialog").getByLabel("country", { exact: true }).fill("Japan");
  await page.getByRole("button", { name: "Insert" }).click();
  await eventually(() => composer(page).inputValue(), (value) => value === "What is the capital of Japan?");
  await composer(page).press("Enter");
  await answers(page).last().waitFor();
  await idle(page);
  assert.match(await prose(), /Tokyo/);
});

test("search finds 排序", async () => {
  await newChat();
  await brief(page, 16);
  await ask(page, "请解释快速排序算法的平均复杂度");
  await newChat();
  await page.keyboard.press("Control+k");
  await page.getByRole("combobox", { name: "Search" }).fill("排序");
  await page.locator("mark", { hasText: "排序" }).first().waitFor();
  await page.getByRole("option").filter({ has: page.locator(".snippet mark") }).first().click();
  await questions(page).last().getByText("请解释快速排序算法的平均复杂度").waitFor();
});

test("questions about a TXT, a PDF and a DOCX", async () => {
  await newChat();
  await brief(page, 48);
  await page.locator('input[type="file"][multiple]').setInputFiles([
    textFile("harbour.txt", "The harbour master is called Ingrid."),
    { name: "lighthouse.pdf", mimeType: "application/pdf", buffer: pdf(["The lighthouse was built in 1787."]) },
    { name: "ferry.docx", mimeType: "application/octet-stream", buffer: docx(["The ferry leaves at six."]) },
  ]);
  await page.getByText(/tokens used/).waitFor();
  await eventually(() => page.getByRole("list", { name: "Attached documents" }).innerText(), (text) => (text.match(/tokens/g) ?? []).length === 3);
  // A model of this size mixes up who is who, and may miss a question; that it speaks of what the documents say and the question does not shows that it
  // has read them.
  const said = [];
  for (const [question, proof] of [["According to the text, what is the name of the harbour master?", /Ingrid|1787|lighthouse|ferry/],
                                   ["When was the lighthouse built?", /Ingrid|1787|harbour|ferry/],
                                   ["When does the ferry leave?", /Ingrid|1787|harbour|lighthouse|six/]]) {
    await ask(page, question);
    said.push(await prose());
    if (said.at(-1).match(proof)) break;
    assert.notEqual(said.length, 3, said.join("\n"));
  }
  assert.equal(await questions(page).first().locator(".documents li").count(), 3);
});

test("an admin adds a user, who asks something; disabled, nobody gets in", async () => {
  await page.goto("/admin/users");
  await page.getByRole("button", { name: "Add user" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("E-mail", { exact: true }).fill("grace@example.org");
  await dialog.getByLabel("Name", { exact: true }).fill("Grace 郭");
  await dialog.getByRole("button", { name: "Add user" }).click();
  const link = (await page.locator(".link").innerText()).trim();
  await page.getByRole("button", { name: "Done" }).click();
  const hers = await newContext(server);
  const theirs = await hers.newPage();
  await theirs.goto(link);
  await theirs.getByLabel("New password").fill("another good phrase");
  await theirs.getByRole("button", { name: "Set password and sign in" }).click();
  await composer(theirs).waitFor();
  await ask(theirs, "What is the capital of Japan?", { wait: false });
  await answers(theirs).last().locator(".prose").waitFor();
  assert.equal(await theirs.getByRole("navigation", { name: "Conversations" }).getByRole("listitem").count(), 1, "she sees what is not hers");
  await page.getByRole("button", { name: "Options for Grace 郭" }).click();
  await page.getByRole("menuitem", { name: "Disable" }).click();
  await theirs.getByRole("heading", { name: "Sign in" }).waitFor();
  await theirs.getByLabel("E-mail").fill("grace@example.org");
  await theirs.getByLabel("Password", { exact: true }).fill("another good phrase");
  await theirs.getByRole("button", { name: "Sign in" }).click();
  await theirs.getByText("E-mail or password is wrong.").waitFor();
  await expectClean(hers);
  await hers.close();
});

test("nothing went wrong behind the scenes", async () => {
  await page.goto("/");
  await composer(page).waitFor();
  await expectClean(context);
});
