// Documents, other people, keys, and texts that attack: in a browser, against the whole server with a scripted engine.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { docx, pdf, textFile } from "./fixtures.mjs";
import { answers, ask, closeBrowser, composer, eventually, expectAccessible, expectClean, idle, newContext, PASSWORD, questions, setUp, signIn, startScripted, textOf } from "./harness.mjs";

// The unit tests' corpus; types are stripped by hand, as it is a list of strings.
const { XSS } = await import(`data:text/javascript,${encodeURIComponent((await import("node:fs")).readFileSync(new URL("../../web/test/xss.ts", import.meta.url), "utf8"))}`);

let server, context, page;
before(async () => {
  server = await startScripted({ msPerToken: 0 });
  context = await newContext(server);
  page = await setUp(context, server);
});
after(async () => {
  await closeBrowser();
  await server?.stop();
});

const attach = (...files) => page.locator('input[type="file"][multiple]').setInputFiles(files);
const newChat = async () => {
  await page.getByRole("link", { name: "New chat" }).click();
  await page.getByRole("heading", { name: "What is on your mind?" }).waitFor();
};

test("TXT, PDF and DOCX are read, counted before sending, and reach the model", async () => {
  await attach(
    textFile("机密 notes.txt", "The harbour master is called Ingrid Vasquez.\n港口主管叫英格丽德。"),
    { name: "report.pdf", mimeType: "application/pdf", buffer: pdf(["The lighthouse was built in 1787.", "It has 199 steps."]) },
    { name: "letter.docx", mimeType: "application/octet-stream", buffer: docx(["The ferry leaves at half past six.", "渡轮六点半出发。"]) },
  );
  await eventually(() => page.getByRole("list", { name: "Attached documents" }).innerText(), (text) => (text.match(/tokens/g) ?? []).length === 3, "three token counts");
  await page.getByText(/of 8,192 tokens used/).waitFor();
  await expectAccessible(page, "attachments");
  await ask(page, "Who is the harbour master?");
  const shown = await textOf(questions(page).last());
  for (const name of ["机密 notes.txt", "report.pdf", "letter.docx"]) assert.ok(shown.includes(name), `${name} is not shown`);
  // The engine repeats its prompt's user message, documents included.
  const said = await textOf(answers(page).last());
  for (const fact of ["Ingrid Vasquez", "英格丽德", "1787", "half past six", "渡轮"]) assert.ok(said.includes(fact), `the model has not seen "${fact}": ${said.slice(0, 400)}`);
  await page.reload();
  await eventually(() => questions(page).last().innerText(), (text) => text.includes("letter.docx"));
});

test("a document that does not fit leaves one choice, and the choice is sent", async () => {
  await newChat();
  await attach(textFile("long.txt", Array.from({ length: 900 }, (_, i) => `Paragraph ${i}: the quick brown fox.\n`).join("")));
  await page.getByText(/The whole text does not fit/).waitFor();
  assert.ok(await page.getByRole("button", { name: "Send", exact: true }).isDisabled(), "it can be sent although it does not fit");
  await composer(page).fill("Summarise.");
  await expectAccessible(page, "overflow");
  await page.getByLabel(/Beginning and end/).check();
  await page.getByText(/of 8,192 tokens used/).waitFor();
  await page.getByRole("button", { name: "Send", exact: true }).click();
  await idle(page);
  assert.match(await textOf(questions(page).last()), /Beginning and end/);
});

test("what cannot be read says why, and does not lock the message", async () => {
  await newChat();
  await attach(
    { name: "old.doc", mimeType: "application/msword", buffer: Buffer.concat([Buffer.from("D0CF11E0A1B11AE1", "hex"), Buffer.alloc(2000)]) },
    { name: "picture.png", mimeType: "image/png", buffer: Buffer.concat([Buffer.from("89504E470D0A1A0A", "hex"), Buffer.alloc(500)]) },
    { name: "broken.pdf", mimeType: "application/pdf", buffer: Buffer.from("%PDF-1.4\nnothing here") },
  );
  await page.getByText("Save it as .docx and attach it again", { exact: false }).waitFor();
  await eventually(() => page.getByRole("list", { name: "Attached documents" }).getByRole("alert").count(), (n) => n === 3, "three reasons");
  await expectAccessible(page, "failed documents");
  for (const name of ["old.doc", "picture.png", "broken.pdf"]) await page.getByRole("button", { name: `Remove ${name}` }).click();
  await ask(page, "It still works.");
});

test("a long paste becomes a document, and a dropped file is taken", async () => {
  await newChat();
  await composer(page).evaluate((area) => {
    const data = new DataTransfer();
    data.setData("text/plain", "pasted words ".repeat(400));
    area.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true }));
    const drop = new DataTransfer();
    drop.items.add(new File(["dropped words"], "dropped.txt"));
    window.dispatchEvent(new DragEvent("drop", { dataTransfer: drop, bubbles: true, cancelable: true }));
  });
  await page.getByText("pasted.txt").waitFor();
  await page.getByText("dropped.txt").waitFor();
  assert.equal(await composer(page).inputValue(), "");
  await page.getByRole("button", { name: "Remove pasted.txt" }).click();
  await page.getByRole("button", { name: "Remove dropped.txt" }).click();
});

test("the list of documents shows what the model sees", async () => {
  await page.goto("/documents");
  await page.getByRole("button", { name: "Show the text of letter.docx" }).click();
  await page.getByText("渡轮六点半出发。").waitFor();
  await expectAccessible(page, "document text");
  await page.keyboard.press("Escape");
  await expectAccessible(page, "documents");
  await page.getByRole("button", { name: "Delete report.pdf" }).click();
  await page.getByText("report.pdf deleted").waitFor();
});

test("formulas, diagrams, tables and code are drawn, and code is copied", async () => {
  await page.goto("/");
  await ask(page, "Euler: $e^{i\\pi}+1=0$ and\n\n$$\\sqrt{\\frac{a}{b}} \\xrightarrow{x} \\widehat{abc}$$\n\n```mermaid\ngraph TD; A[开始]-->B[结束]\n```\n\n```python\nprint('hi')\n```\n\n| a | b |\n| - | - |\n| 1 | 2 |");
  const answer = answers(page).last();
  await eventually(() => answer.locator(".katex").count(), (n) => n === 2, "two formulas");
  await answer.locator("img.diagram").waitFor();
  await eventually(() => answer.locator("img.diagram").evaluate((image) => image.complete && image.naturalWidth), (width) => width > 20, "the diagram has a size");
  assert.equal(await answer.locator("table").count(), 1);
  await answer.locator(".code-copy").last().click();
  await answer.getByText("Copied").waitFor();
  await expectAccessible(page, "rich answer");
});

test("no stored text runs anything", async () => {
  await newChat();
  await ask(page, XSS.join("\n\n"));
  await page.waitForTimeout(500);
  await expectClean(context);
  for (const attack of XSS.slice(0, 8)) {
    await newChat();
    await ask(page, attack);
  }
  const evil = '<img src=x onerror=window.pwned=1>';
  await page.evaluate(async (text) => {
    const me = await (await fetch("/chat/api/me")).json();
    const send = (method, path, body) => fetch(`/chat/api${path}`, { method, headers: { "Content-Type": "application/json", "X-CSRF-Token": me.csrf }, body: JSON.stringify(body) });
    const id = location.pathname.split("/").pop();
    for (const [method, path, body] of [
      ["PATCH", `/conversations/${id}`, { title: text, system_prompt: text }], ["POST", "/folders", { name: text }], ["PATCH", "/me", { name: text }],
      ["POST", "/templates", { command: "evil", title: text, text: `${text} {{variable}}`, shared: true, variables: [{ name: "variable", label: text, type: "select", default: "", required: true, options: [text] }] }],
    ]) {
      const answer = await send(method, path, body);
      if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`);
    }
  }, evil);
  await page.reload();
  await eventually(() => page.title(), (title) => title.startsWith(evil));
  await attach(textFile(`${evil}.txt`, evil));
  await page.getByText(/tokens used/).waitFor();
  await composer(page).fill("/evil");
  await composer(page).press("Enter");
  await page.getByRole("button", { name: "Insert" }).click();
  await eventually(() => composer(page).inputValue(), (value) => value.includes("onerror"));
  await composer(page).press("Enter");
  await idle(page);
  for (const path of ["/templates", "/documents", "/settings/account", "/admin/users"]) {
    await page.goto(path);
    await page.getByText(evil, { exact: false }).first().waitFor();
  }
  await page.keyboard.press("Control+k");
  await page.getByRole("combobox", { name: "Search" }).fill("onerror");
  await page.locator("mark").first().waitFor();
  await page.keyboard.press("Escape");
  await expectClean(context);
  await page.goto("/settings/account");
  await page.getByLabel("Name", { exact: true }).fill("Ada");
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByText("Saved").waitFor();
});

test("where the renderer fails, a text is shown as text", async () => {
  const attack = "**bold** <img src=x onerror=window.pwned=1>";
  await newChat();
  await ask(page, attack);
  await eventually(() => page.url(), (url) => /\/c\/[0-9a-f]{32}$/.test(url));
  const broken = await context.newPage();
  // What the sanitiser walks the document with.
  await broken.addInitScript(() => { Document.prototype.createNodeIterator = () => { throw new Error("broken on purpose"); }; });
  await broken.goto(page.url());
  await answers(broken).last().locator(".prose").waitFor();
  assert.equal(await textOf(answers(broken).last().locator(".prose")), attack);
  assert.equal(await answers(broken).last().locator(".prose img").count(), 0);
  await broken.close();
});

test("API keys are shown once, work, and stop working when revoked", async () => {
  await page.goto("/settings/keys");
  await page.getByText("No API keys yet").waitFor();
  await expectAccessible(page, "no keys");
  await page.getByRole("button", { name: "New API key" }).click();
  await page.getByLabel("Name", { exact: true }).fill("laptop");
  await page.getByLabel("Your password, to confirm").fill(PASSWORD);
  await expectAccessible(page, "new key");
  await page.getByRole("button", { name: "Create" }).click();
  const secret = (await page.locator(".secret").innerText()).trim();
  assert.match(secret, /^pm-/);
  await expectAccessible(page, "key made");
  const status = async () => (await fetch(`${server.url}/v1/models`, { headers: { Authorization: `Bearer ${secret}` } })).status;
  assert.equal(await status(), 200);
  await page.getByRole("button", { name: "Done" }).click();
  assert.ok(!(await page.content()).includes(secret), "the secret is still in the page");
  await expectAccessible(page, "keys");
  await page.getByRole("button", { name: "Revoke laptop" }).click();
  await page.getByText("No API keys yet").waitFor();
  assert.notEqual(await status(), 200);
});

test("an admin adds a user, who chooses a password; disabling ends the session at once", async () => {
  await page.goto("/admin/users");
  await page.getByRole("button", { name: "Add user" }).click();
  await page.getByRole("dialog").getByLabel("E-mail", { exact: true }).fill("grace@example.org");
  await page.getByRole("dialog").getByLabel("Name", { exact: true }).fill("Grace 郭");
  await expectAccessible(page, "add user");
  await page.getByRole("dialog").getByRole("button", { name: "Add user" }).click();
  const link = (await page.locator(".link").innerText()).trim();
  await expectAccessible(page, "link for the user");
  await page.getByRole("button", { name: "Done" }).click();
  await page.getByText("grace@example.org", { exact: false }).waitFor();
  await expectAccessible(page, "users");

  const hers = await newContext(server);
  const theirs = await hers.newPage();
  await theirs.goto(link);
  await theirs.getByLabel("New password").fill("another good phrase");
  await expectAccessible(theirs, "password link");
  await theirs.getByRole("button", { name: "Set password and sign in" }).click();
  await composer(theirs).waitFor();
  await ask(theirs, "Hello from Grace");
  assert.equal(await theirs.getByRole("navigation", { name: "Conversations" }).getByRole("listitem").count(), 1, "she sees what is not hers");
  await theirs.goto("/admin/users");
  await theirs.getByText("Only an administrator may do this.").waitFor();
  await theirs.goto("/settings/sessions");
  await theirs.getByText("this one").waitFor();
  await expectAccessible(theirs, "sessions");

  await page.getByRole("button", { name: "Options for Grace 郭" }).click();
  await page.getByRole("menuitem", { name: "Disable" }).click();
  await theirs.getByRole("heading", { name: "Sign in" }).waitFor();
  await page.getByRole("button", { name: "Options for Grace 郭" }).click();
  await page.getByRole("menuitem", { name: "Enable" }).click();
  await signIn(theirs, "grace@example.org", "another good phrase");
  await expectClean(hers);
  await hers.close();

  // The only admin cannot step down.
  await page.getByRole("combobox", { name: /Role of Ada/ }).selectOption("user");
  await page.getByText("This is the only administrator", { exact: false }).waitFor();
});

test("whoever signs up may have to wait", async () => {
  await page.getByLabel("Who may create an account").selectOption("pending");
  const new_ = await newContext(server);
  const theirs = await new_.newPage();
  await theirs.goto("/");
  await theirs.getByRole("button", { name: "Create an account" }).click();
  await theirs.getByLabel("E-mail").fill("new@example.org");
  await theirs.getByLabel("New password").fill("a third good phrase");
  await expectAccessible(theirs, "sign-up");
  await theirs.getByRole("button", { name: "Create account" }).click();
  await theirs.getByRole("heading", { name: "Waiting to be admitted" }).waitFor();
  await expectAccessible(theirs, "pending");
  await page.getByRole("button", { name: "Admit" }).click();
  await page.getByRole("button", { name: "Admit" }).waitFor({ state: "detached" });
  await eventually(async () => {
    if (await theirs.getByRole("button", { name: "Check again" }).count()) await theirs.getByRole("button", { name: "Check again" }).click().catch(() => {});
    if (await theirs.getByLabel("Password", { exact: true }).count()) await signIn(theirs, "new@example.org", "a third good phrase");
    return composer(theirs).count();
  }, (n) => n === 1, "the admitted user gets in");
  await expectClean(new_);
  await new_.close();
});

test("the machine is seen while it works", async () => {
  await page.goto("/admin/machine");
  await page.getByText("Tokens per second").first().waitFor();
  await eventually(() => page.locator(".uplot canvas").count(), (n) => n === 4, "four charts");
  await page.waitForTimeout(1500);
  await expectAccessible(page, "machine");
});

test("nothing went wrong behind the scenes", async () => {
  await expectClean(context);
});
