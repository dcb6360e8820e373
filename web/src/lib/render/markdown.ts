// Markdown → HTML text, and the cutting of a growing text into blocks of which only the last can still change.
// What comes out is not trusted: sanitize.ts alone turns it into nodes.
import MarkdownItParser, { type Env, type MarkdownIt } from "markdown-it";
import cjkFriendly from "markdown-it-cjk-friendly";
import { highlight } from "./highlight.ts";
import { mathPlugin } from "./math.ts";

const LINK = /^(https?:|mailto:)/i;

function make(): MarkdownIt {
  const md = new MarkdownItParser({ html: false, linkify: true, highlight: (code, info) => highlight(code, info.trim().split(/\s+/)[0]?.toLowerCase() ?? "") });
  md.use(cjkFriendly);
  md.use(mathPlugin);
  // "example.com" and "readme.md" are words here; only what is written as a URL becomes a link.
  md.linkify.set({ fuzzyLink: false, fuzzyEmail: false });
  md.validateLink = (url) => LINK.test(url.trim()) || /^data:image\/(png|jpeg|gif|webp);base64,/i.test(url.trim());
  // A remote image is a request to a place that a model or a document chose: shown as a link, never loaded.
  md.renderer.rules.image = (tokens, i) => {
    const token = tokens[i]!;
    const source = String(token.attrGet("src") ?? "");
    const text = md.utils.escapeHtml(token.content || source.slice(0, 80));
    if (source.startsWith("data:")) return `<img src="${md.utils.escapeHtml(source)}" alt="${text}">`;
    return `<a class="image-link" href="${md.utils.escapeHtml(source)}">${text}</a>`;
  };
  // The parser aligns cells by a style attribute, which the policy forbids.
  md.renderer.rules.th_open = md.renderer.rules.td_open = (tokens, i, options, _env, self) => {
    const token = tokens[i]!;
    const align = /text-align:(left|center|right)/.exec(String(token.attrGet("style") ?? ""))?.[1];
    token.attrs = align ? [["class", `align-${align}`]] : null;
    return self.renderToken(tokens, i, options);
  };
  md.renderer.rules.list_item_open = (tokens, i, options, _env, self) => {
    const inline = tokens[i + 2];
    const text = inline?.type === "inline" ? inline.children?.[0] : undefined;
    const box = text?.type === "text" ? /^\[([ xX])\]\s+/.exec(text.content) : null;
    if (!box || !text) return self.renderToken(tokens, i, options);
    text.content = text.content.slice(box[0].length);
    return `<li class="task"><span class="task-box${box[1] === " " ? "" : " task-done"}">${box[1] === " " ? "☐" : "☑"}</span> `;
  };
  return md;
}

const md = make();

export interface Block { source: string; html: string; fence: boolean }

/// Markdown of one text that only grows. Blocks before the last never change; feeding costs what the last block costs.
export class BlockParser {
  readonly done: Block[] = [];
  last: Block | null = null;
  private source = "";
  private tailAt = 0;
  private readonly env: Env = {};

  /// Takes the whole text so far. If it is not a continuation of what came before, everything starts anew. → done blocks that stay.
  update(text: string): number {
    if (!text.startsWith(this.source.slice(0, this.tailAt)) || text.length < this.source.length) this.reset();
    const kept = this.done.length;
    this.source = text;
    const tail = text.slice(this.tailAt);
    const tokens = md.parse(tail, this.env);
    const starts: number[] = [];
    tokens.forEach((token, i) => { if (token.level === 0 && token.nesting >= 0) starts.push(i); });
    const lineAt = lineOffsets(tail);
    this.last = null;
    starts.forEach((from, n) => {
      const group = tokens.slice(from, starts[n + 1] ?? tokens.length);
      const startLine = n === 0 ? 0 : (group[0]!.map?.[0] ?? 0);
      const next = starts[n + 1];
      const endLine = next === undefined ? lineAt.length : (tokens[next]!.map?.[0] ?? lineAt.length);
      const block: Block = {
        source: tail.slice(lineAt[startLine] ?? tail.length, lineAt[endLine] ?? tail.length),
        html: md.renderer.render(group, md.options, this.env),
        fence: group[0]!.type === "fence",
      };
      if (next === undefined) {
        this.last = block;
        this.tailAt += lineAt[startLine] ?? 0;
      } else {
        this.done.push(block);
      }
    });
    return kept;
  }

  /// Definitions like "[1]: https://…" may stand below the links that use them: then the finished text is rendered once more.
  get hasReferences(): boolean {
    return Object.keys(this.env.references ?? {}).length > 0;
  }

  private reset(): void {
    this.done.length = 0;
    this.source = "";
    this.tailAt = 0;
    delete this.env.references;
  }
}

/// Offset of each line's first character.
function lineOffsets(text: string): number[] {
  const offsets = [0];
  for (let at = text.indexOf("\n"); at >= 0; at = text.indexOf("\n", at + 1)) offsets.push(at + 1);
  return offsets;
}

/// A whole text at once.
export function renderMarkdown(text: string): string {
  return md.render(text);
}
