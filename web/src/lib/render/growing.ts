// A Markdown text on the page that may still grow: blocks that are finished stay as they are, only the last is rendered again,
// and never more often than leaves the page time to breathe.
import { t } from "../i18n/index.svelte.ts";
import { BlockParser, renderMarkdown, type Block } from "./markdown.ts";
import { diagram } from "./diagram.ts";
import { typeset } from "./math.ts";
import { toFragment } from "./sanitize.ts";

const FLUSH_MS_MIN = 33;   // 30 a second
const BUSY_SHARE = 4;      // after a render that took t, wait at least 4 t
const PLAIN_TAIL = 6_000;  // an open code block longer than this grows as plain text; it is highlighted once it is whole
const CATCH_UP_MS = 12;    // rendering many blocks at once is spread over frames

export class GrowingMarkdown {
  private parser = new BlockParser();
  private text = "";
  private shown = 0;                 // finished blocks on the page
  private tail: HTMLElement | null = null;
  private timer: ReturnType<typeof setTimeout> | 0 = 0;
  private nextAt = 0;
  private live = false;
  private grew = false;             // it was growing before its eyes: its end is news
  private plain: { code: globalThis.Text; length: number } | null = null;
  private dead = false;
  private broken = false;           // the parser has failed on this text: it is shown as text

  constructor(private readonly host: HTMLElement, private readonly onBlock: (text: string) => void = () => {}) {}

  /// `growing`: more will come. The last call, with false, leaves the text complete.
  set(text: string, growing: boolean): void {
    const ended = this.live && !growing;
    if (text === this.text && !ended && this.tail !== null) return;
    this.text = text;
    this.live = growing;
    if (growing) this.grew = true;
    if (!growing) {
      clearTimeout(this.timer);
      this.timer = 0;
      this.render();
      if (this.parser.hasReferences && !this.broken) this.renderWhole();
    } else if (!this.timer) {
      this.timer = setTimeout(() => {
        this.timer = 0;
        this.render();
      }, Math.max(0, this.nextAt - performance.now()));
    }
  }

  destroy(): void {
    this.dead = true;
    clearTimeout(this.timer);
  }

  private render(): void {
    const started = performance.now();
    let kept = 0;
    try {
      if (!this.broken) kept = this.parser.update(this.text);
    } catch {
      this.broken = true;
    }
    if (this.broken) {
      this.host.textContent = this.text;
      return;
    }
    if (kept < this.shown || this.parser.done.length < this.shown) {
      this.host.replaceChildren();
      this.shown = 0;
      this.tail = null;
    }
    const done = this.parser.done;
    while (this.shown < done.length) {
      // Text that arrives all at once, such as after a reload, is put on the page a frame's worth at a time.
      if (performance.now() - started > CATCH_UP_MS && this.shown > 0 && this.timer === 0 && done.length - this.shown > 1) {
        this.timer = setTimeout(() => {
          this.timer = 0;
          if (!this.dead) this.render();
        });
        return;
      }
      const block = done[this.shown]!;
      const element = this.tail ?? this.place();
      this.fill(element, block, false);
      this.tail = null;
      this.plain = null;
      this.shown += 1;
      if (this.live) this.onBlock(element.textContent ?? "");
    }
    const last = this.parser.last;
    if (last) {
      this.tail ??= this.place();
      this.fill(this.tail, last, this.live);
      if (!this.live && this.grew) this.onBlock(this.tail.textContent ?? "");
    } else {
      this.tail?.remove();
      this.tail = null;
    }
    const now = performance.now();
    this.nextAt = now + Math.max(FLUSH_MS_MIN, (now - started) * BUSY_SHARE);
  }

  /// A text with link definitions, once it has ended.
  private renderWhole(): void {
    this.host.replaceChildren();
    const element = this.place();
    this.fill(element, { source: this.text, html: renderMarkdown(this.text), fence: false }, false);
    this.shown = 0;
    this.tail = element;
  }

  private place(): HTMLElement {
    const element = document.createElement("div");
    element.className = "block";
    this.host.append(element);
    return element;
  }

  private fill(element: HTMLElement, block: Block, growing: boolean): void {
    if (growing && block.fence && block.source.length > PLAIN_TAIL) {
      this.growPlain(element, block);
      return;
    }
    this.plain = null;
    try {
      element.replaceChildren(toFragment(block.html));
    } catch {
      // Whatever fails, the reader gets the text, as text.
      element.textContent = block.source;
      return;
    }
    dress(element, growing);
  }

  private growPlain(element: HTMLElement, block: Block): void {
    const newline = block.source.indexOf("\n") + 1;
    const code = block.source.slice(newline);
    if (!this.plain) {
      const pre = document.createElement("pre");
      const inner = document.createElement("code");
      const text = document.createTextNode(code);
      inner.className = `language-${block.source.slice(0, newline).replace(/[`~]+/, "").trim().split(/\s/)[0]}`;
      inner.append(text);
      pre.append(inner);
      element.replaceChildren(pre);
      this.plain = { code: text, length: code.length };
      dress(element, true);
      return;
    }
    this.plain.code.appendData(code.slice(this.plain.length));
    this.plain.length = code.length;
  }
}

/// What the parser's HTML lacks: a bar over code, boxes that scroll around wide tables, formulas, diagrams.
function dress(root: HTMLElement, growing: boolean): void {
  for (const code of root.querySelectorAll<HTMLElement>("pre > code")) {
    const pre = code.parentElement!;
    const language = /language-([\w+#.-]+)/.exec(code.className)?.[1] ?? "";
    const box = document.createElement("div");
    box.className = "code";
    const bar = document.createElement("div");
    bar.className = "code-bar";
    const name = document.createElement("span");
    name.textContent = language || t("code.plain");
    const copy = document.createElement("button");
    copy.type = "button";
    copy.className = "code-copy";
    copy.textContent = t("action.copy");
    bar.append(name, copy);
    pre.replaceWith(box);
    pre.tabIndex = 0;
    box.append(bar, pre);
    if (language === "mermaid" && !growing) void diagram(box, code.textContent ?? "");
  }
  for (const table of root.querySelectorAll("table")) {
    const box = document.createElement("div");
    box.className = "table-box";
    box.tabIndex = 0;
    box.setAttribute("role", "group");
    box.setAttribute("aria-label", t("table.label"));
    table.replaceWith(box);
    box.append(table);
  }
  void typeset(root);
}
