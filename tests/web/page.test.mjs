// The page in a browser, against the whole server with a scripted engine (tests/chat/scripted_server.cpp), which repeats what it is told.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import {
  answers, ask, closeBrowser, composer, EMAIL, eventually, expectAccessible, expectClean, idle, newContext, PASSWORD, questions, said, setUp, signIn, startScripted, textOf,
} from "./harness.mjs";

let server, context, page;
before(async () => {
  server = await startScripted({ msPerToken: 2 });
  context = await newContext(server);
});
after(async () => {
  await closeBrowser();
  await server?.stop();
});

const sidebar = () => page.getByRole("navigation", { name: "Conversations" });
const newChat = async () => {
  await page.getByRole("link", { name: "New chat" }).click();
  await page.getByRole("heading", { name: "What is on your mind?" }).waitFor();
};
const LONG_END = "Line 200 of a long answer.";

test("without the link nobody gets in; with it the first account is made", async () => {
  page = await context.newPage();
  await page.goto("/");
  await page.getByRole("heading", { name: "This server is not set up yet" }).waitFor();
  await expectAccessible(page, "not set up");
  await page.close();
  page = await context.newPage();
  await page.goto(`/#setup=${server.token}`);
  await page.getByLabel("New password").waitFor();
  await expectAccessible(page, "setup");
  await page.getByLabel("E-mail").fill(EMAIL);
  await page.getByLabel("New password").fill("short");
  await page.getByRole("button", { name: "Create account and start" }).click();
  assert.equal(await composer(page).count(), 0, "a short password was taken");
  await page.close();
  page = await setUp(context, server);
  assert.equal(new URL(page.url()).hash, "", "the token stays in the address");
  await expectAccessible(page, "empty conversation");
});

test("an answer streams, has its figures, and the conversation its address", async () => {
  await ask(page, "Hello **there**, this is `code`.");
  assert.equal(await textOf(answers(page).last().locator(".prose")), "Hello there, this is code.");
  assert.match(page.url(), /\/c\/[0-9a-f]{32}$/);
  await answers(page).last().getByText("tokens/s").click();
  await page.getByText("To the first token").waitFor();
  await page.getByText("Of these cached").waitFor();
  await expectAccessible(page, "conversation");
  await eventually(() => sidebar().getByRole("listitem").count(), (n) => n === 1);
});

test("Stop freezes the answer where it is", async () => {
  await ask(page, "long please", { wait: false });
  await said(page, "Line 5 of a long answer.").waitFor();
  await page.getByRole("button", { name: "Stop" }).click();
  await page.getByText("Stopped", { exact: true }).waitFor();
  await idle(page);
  const frozen = await textOf(answers(page).last().locator(".prose"));
  assert.ok(!frozen.includes(LONG_END));
  await page.reload();
  await answers(page).last().waitFor();
  assert.equal(await textOf(answers(page).last().locator(".prose")), frozen, "the text grew after Stop");
});

test("Continue goes on in the same message", async () => {
  const count = await answers(page).count();
  await page.getByRole("button", { name: "Continue" }).last().click();
  await idle(page);
  assert.equal(await answers(page).count(), count);
});

test("Esc stops too, and an answer survives a reload in the middle", async () => {
  await newChat();
  await ask(page, "long one for Esc", { wait: false });
  await said(page, "Line 3 of a long answer.").waitFor();
  await page.keyboard.press("Escape");
  await page.getByText("Stopped", { exact: true }).waitFor();
  await newChat();
  await ask(page, "long one to reload", { wait: false });
  await said(page, "Line 5 of a long answer.").waitFor();
  await page.reload();
  await said(page, LONG_END).waitFor();
  await idle(page);
  const text = await textOf(answers(page).last().locator(".prose"));
  const numbers = [...text.matchAll(/Line (\d+) of/g)].map((match) => Number(match[1]));
  assert.deepEqual(numbers, Array.from({ length: 200 }, (_, i) => i + 1), "lines are missing or double");
});

test("a second tab sees the answer grow and stops it", async () => {
  const other = await context.newPage();
  await newChat();
  await ask(page, "long for two tabs", { wait: false });
  await said(page, "Line 2 of a long answer.").waitFor();
  await other.goto(page.url());
  await said(other, "Line 4 of a long answer.").waitFor();
  await other.getByRole("button", { name: "Stop" }).click();
  await page.getByText("Stopped", { exact: true }).waitFor();
  await idle(page);
  assert.equal(await textOf(answers(page).last().locator(".prose")), await textOf(answers(other).last().locator(".prose")));
  // What is sent in one tab appears in the other.
  await ask(other, "from the other tab");
  await eventually(() => questions(page).last().innerText(), (text) => text.includes("from the other tab"));
  await other.close();
});

test("editing and answering again make branches that the arrows reach", async () => {
  await newChat();
  await ask(page, "first wording");
  await questions(page).first().hover();
  await page.getByRole("button", { name: "Edit", exact: true }).first().click();
  await page.getByRole("textbox", { name: "Edit" }).fill("second wording");
  await page.getByRole("textbox", { name: "Edit" }).press("Control+Enter");
  await eventually(() => answers(page).last().innerText(), (text) => text.includes("second wording"));
  await idle(page);
  const branches = questions(page).first().getByRole("group", { name: "Versions" });
  assert.match(await textOf(branches), /2\/2/);
  await branches.getByRole("button", { name: "Previous version" }).click();
  await eventually(() => answers(page).last().innerText(), (text) => text.includes("first wording"));
  assert.match(await textOf(branches), /1\/2/);
  await page.getByRole("button", { name: "Answer again" }).click();
  await eventually(() => answers(page).last().innerText(), (text) => text.includes("2/2"));
  await idle(page);
  await page.reload();
  await answers(page).last().waitFor();
  assert.match(await textOf(questions(page).first()), /first wording[\s\S]*1\/2/, "the branch was not remembered");
  assert.match(await textOf(answers(page).last()), /2\/2/);
  await expectAccessible(page, "branches");
});

test("an answer to a request that comes after the stream's news leaves the reader where he has gone meanwhile", async () => {
  await newChat();
  await ask(page, "first of two");
  let late;
  await page.route("**/messages", async (route) => {
    const response = await route.fetch();
    await new Promise((resolve) => { late = resolve; });
    await route.fulfill({ response });
  });
  await questions(page).first().hover();
  await page.getByRole("button", { name: "Edit", exact: true }).first().click();
  await page.getByRole("textbox", { name: "Edit" }).fill("second of two");
  await page.getByRole("textbox", { name: "Edit" }).press("Control+Enter");
  await eventually(() => answers(page).last().innerText(), (text) => text.includes("second of two"));
  await idle(page);
  await questions(page).first().getByRole("button", { name: "Previous version" }).click();
  await eventually(() => answers(page).last().innerText(), (text) => text.includes("first of two"));
  const answered = page.waitForResponse("**/messages");
  late();
  await (await answered).finished();
  await page.unroute("**/messages");
  await page.waitForTimeout(300);
  assert.match(await textOf(answers(page).last()), /first of two/, "the view went back to the other branch");
});

test("Enter sends, but not while an input method composes, and Shift+Enter makes a line", async () => {
  await newChat();
  const field = composer(page);
  await field.fill("你好");
  const before = await questions(page).count();
  await field.evaluate((area) => {
    area.dispatchEvent(new CompositionEvent("compositionstart", { bubbles: true }));
    area.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", isComposing: true, bubbles: true, cancelable: true }));
    area.dispatchEvent(new CompositionEvent("compositionend", { bubbles: true }));
    // Safari: the Enter that ended the composition comes afterwards, with code 229.
    area.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", keyCode: 229, bubbles: true, cancelable: true }));
  });
  await field.press("Shift+Enter");
  await field.pressSequentially("世界");
  assert.equal(await questions(page).count(), before);
  assert.equal(await field.inputValue(), "你好\n世界");
  await field.press("Enter");
  await idle(page);
  assert.equal(await textOf(questions(page).last().locator(".bubble")), "你好\n世界");
});

test("a draft outlives a reload and another conversation", async () => {
  await composer(page).fill("half a thought, 草稿");
  const url = page.url();
  await page.reload();
  await eventually(() => composer(page).inputValue(), (value) => value === "half a thought, 草稿");
  await newChat();
  assert.equal(await composer(page).inputValue(), "");
  await page.goto(url);
  await eventually(() => composer(page).inputValue(), (value) => value === "half a thought, 草稿");
  await composer(page).fill("");
});

test("search finds a Chinese word of two characters in a message and leads to it", async () => {
  await newChat();
  await ask(page, "请解释快速排序算法的平均复杂度");
  await newChat();
  await page.keyboard.press("Control+k");
  await page.getByRole("combobox", { name: "Search" }).fill("排序");
  await page.locator("mark", { hasText: "排序" }).first().waitFor();
  await expectAccessible(page, "search");
  await page.getByRole("option").filter({ has: page.locator(".snippet mark") }).first().click();
  await eventually(() => page.url(), (url) => /\/c\/[0-9a-f]{32}#m-[0-9a-f]{32}$/.test(url));
  await questions(page).last().getByText("请解释快速排序算法的平均复杂度").waitFor();
  await page.keyboard.press("Control+k");
  await page.getByRole("combobox", { name: "Search" }).fill("没有这个词语");
  await page.getByText("Nothing found").waitFor();
  await page.keyboard.press("Escape");
});

test("a conversation is renamed, pinned, put into a folder, archived and deleted, each with a way back", async () => {
  const item = () => sidebar().getByRole("listitem").filter({ has: page.locator('a[aria-current="page"]') });
  const menu = async (choice) => {
    await item().hover();
    await item().getByRole("button", { name: /Options for/ }).click();
    await page.getByRole("menuitem", { name: choice }).click();
  };
  await menu("Rename");
  await page.getByRole("textbox", { name: "Title" }).fill("算法 notes");
  await page.getByRole("textbox", { name: "Title" }).press("Enter");
  await item().getByText("算法 notes").waitFor();
  await menu("Pin");
  await sidebar().getByRole("heading", { name: "Pinned" }).waitFor();
  await item().hover();
  await item().getByRole("button", { name: /Options for/ }).click();
  await expectAccessible(page, "menu");
  await page.keyboard.press("Escape");
  await menu("Move to folder…");
  await page.getByRole("textbox", { name: "New folder" }).fill("学习");
  await expectAccessible(page, "folders");
  await page.getByRole("button", { name: "Create" }).click();
  await sidebar().getByRole("button", { name: "All conversations" }).click();
  await page.getByRole("menuitemradio", { name: "学习" }).click();
  await eventually(() => sidebar().getByRole("listitem").count(), (n) => n === 1, "the folder holds one conversation");
  await menu("Archive");
  await page.getByRole("button", { name: "Undo" }).click();
  await item().getByText("算法 notes").waitFor();
  await menu("Delete");
  await page.getByText("This folder is empty.").waitFor();
  await page.getByRole("heading", { name: "What is on your mind?" }).waitFor();
  await page.getByRole("button", { name: "Undo" }).last().click();
  await item().getByText("算法 notes").waitFor();
  await sidebar().getByRole("button", { name: "学习" }).first().click();
  await page.getByRole("menuitemradio", { name: "All conversations" }).click();
});

test("a template asks for its variables and fills in the date", async () => {
  await page.getByRole("button", { name: "Account and settings" }).or(page.locator(".account-button")).first().click();
  await page.getByRole("menuitem", { name: "Prompt templates" }).click();
  await page.getByText("No templates yet").waitFor();
  await expectAccessible(page, "no templates");
  await page.getByRole("button", { name: "New template" }).click();
  await page.getByLabel("Command").fill("翻译");
  await page.getByLabel("Title").fill("Translate a text");
  await page.getByLabel("Text", { exact: true }).fill("Translate into {{language}} on {{CURRENT_DATE}}: {{text}}");
  await expectAccessible(page, "template editor");
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByText("/翻译").waitFor();
  await expectAccessible(page, "templates");
  await newChat();
  await composer(page).fill("/翻");
  await page.getByRole("option", { name: /翻译/ }).waitFor();
  await expectAccessible(page, "template list");
  await composer(page).press("Enter");
  await page.getByLabel("language").fill("French");
  await page.getByLabel("text", { exact: true }).fill("good morning");
  await expectAccessible(page, "template form");
  await page.getByRole("button", { name: "Insert" }).click();
  const filled = await eventually(() => composer(page).inputValue(), (value) => value.includes("good morning"));
  assert.match(filled, /^Translate into French on \d{4}-\d{2}-\d{2}: good morning$/);
  await composer(page).press("Enter");
  await idle(page);
});

test("system prompt and sampling belong to the conversation", async () => {
  await page.getByRole("button", { name: "Instructions and sampling" }).click();
  await page.getByLabel("System prompt").fill("Answer briefly. 请简短回答。");
  await page.getByLabel("Temperature").fill("0.3");
  await expectAccessible(page, "conversation settings");
  await page.getByRole("button", { name: "Save" }).click();
  await page.reload();
  await answers(page).last().waitFor();
  await page.getByRole("button", { name: "Instructions and sampling" }).click();
  assert.equal(await page.getByLabel("System prompt").inputValue(), "Answer briefly. 请简短回答。");
  assert.equal(await page.getByLabel("Temperature").inputValue(), "0.3");
  await page.keyboard.press("Escape");
});

test("language and appearance follow the settings, and stay", async () => {
  await page.goto("/settings/general");
  await page.getByRole("heading", { name: "Settings" }).waitFor();
  await expectAccessible(page, "settings");
  await page.getByLabel("Language").selectOption("zh-CN");
  await page.getByRole("heading", { name: "设置" }).waitFor();
  assert.equal(await page.evaluate(() => document.documentElement.lang), "zh-CN");
  await page.getByLabel("外观").selectOption("dark");
  await page.reload();
  await page.getByRole("heading", { name: "设置" }).waitFor();
  await expectAccessible(page, "settings, dark, Chinese");
  await page.goto("/");
  await page.getByRole("heading", { name: "今天想聊点什么？" }).waitFor();
  await expectAccessible(page, "empty conversation, dark, Chinese");
  await page.goto("/settings/general");
  await page.getByLabel("外观").selectOption("system");
  await page.getByLabel("语言").selectOption("en");
  await page.getByRole("heading", { name: "Settings" }).waitFor();
});

test("signing out and in again keeps the draft", async () => {
  await page.goto("/");
  await composer(page).fill("kept over a sign-out");
  await eventually(() => page.evaluate(() => Object.keys(localStorage).some((key) => key.startsWith("pagemill.draft"))), Boolean);
  await page.locator(".account-button").click();
  await page.getByRole("menuitem", { name: "Sign out" }).click();
  await page.getByRole("heading", { name: "Sign in" }).waitFor();
  await expectAccessible(page, "sign-in");
  await page.getByLabel("E-mail").fill(EMAIL);
  await page.getByLabel("Password", { exact: true }).fill("wrong password");
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByText("E-mail or password is wrong.").waitFor();
  await expectAccessible(page, "sign-in failed");
  await signIn(page, EMAIL, PASSWORD);
  await eventually(() => composer(page).inputValue(), (value) => value === "kept over a sign-out");
  await composer(page).fill("");
});

test("a deep link leads to its conversation after signing in; a wrong one says so", async () => {
  await page.goto("/c/0123456789abcdef0123456789abcdef");
  await page.getByText("This conversation does not exist").waitFor();
  await expectAccessible(page, "not found");
  await page.getByRole("main").getByRole("button", { name: "New chat" }).click();
  await page.getByRole("heading", { name: "What is on your mind?" }).waitFor();
});

test("on a phone the list is a drawer and nothing is wider than the screen", async () => {
  const phone = await newContext(server, { viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true });
  page = await phone.newPage();
  await page.goto("/");
  await signIn(page);
  await page.getByRole("button", { name: "Show the sidebar" }).click();
  await expectAccessible(page, "drawer");
  await page.keyboard.press("Escape");
  await page.getByRole("navigation", { name: "Conversations" }).waitFor({ state: "detached" });
  await ask(page, `| a | b | c |\n| - | - | - |\n| ${"wide ".repeat(30)} | ${"wide ".repeat(30)} | x |\n\n${"unbroken".repeat(40)}\n\n\`\`\`\n${"long line ".repeat(40)}\n\`\`\``);
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth && document.querySelector("main").scrollWidth <= innerWidth), "the page scrolls sideways");
  await expectAccessible(page, "phone");
  await expectClean(phone);
  await phone.close();
});

test("nothing went wrong behind the scenes", async () => {
  await expectClean(context);
});
